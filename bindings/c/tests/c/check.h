/* What the programs of these tests check with: the first that does not hold ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <resized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                 \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

/* The call ends like that. */
#define ENDS(status, call) check_ends(__FILE__, __LINE__, #call, RESIZED_STATUS_##status, call)
#define GOOD(call) ENDS(OK, call)

static inline void check_ends(
    const char *file, int line, const char *call, resized_status wanted, resized_status found) {
    if (found != wanted) {
        fprintf(stderr, "%s:%d: %s: %s (%s), not %s\n", file, line, call, resized_status_name(found),
            resized_last_error(), resized_status_name(wanted));
        exit(1);
    }
}

/* It failed like that, and says this. */
#define FAILS(status, words, call)                                                          \
    do {                                                                                    \
        ENDS(status, call);                                                                 \
        if (strstr(resized_last_error(), words) == NULL) {                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, resized_last_error());       \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

/* A spec for frames of one size and format. */
static inline resized_stream_spec check_spec(
    resized_format format, uint32_t width, uint32_t height, uint32_t to_width, uint32_t to_height) {
    resized_stream_spec spec;
    memset(&spec, 0xA5, sizeof spec);
    GOOD(resized_stream_spec_init(&spec, sizeof spec, format, width, height, to_width, to_height));
    return spec;
}

/* Bytes that differ from their neighbours. */
static inline void check_pattern(uint8_t *bytes, size_t len, unsigned seed) {
    for (size_t at = 0; at < len; at++) {
        bytes[at] = (uint8_t)(17 * at + at / 251 + 3 * seed);
    }
}

#endif
