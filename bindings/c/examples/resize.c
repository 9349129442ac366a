/*
 * Resizes a picture: resize IN.ppm WIDTHxHEIGHT OUT.ppm
 *
 *     cc -std=c11 resize.c -o resize $(pkg-config --cflags --libs resized)
 *
 * Pixels are read from the file into memory that the daemon has too, and written to the other file from there: nothing
 * is copied in between.
 */
#include <ctype.h>
#include <resized.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, resized_last_error());
    return EXIT_FAILURE;
}

/* The next number of a PPM's head: behind white space and comments. Zero if there is none. */
static uint32_t number(FILE *file) {
    int byte = getc(file);
    while (byte == '#' || isspace(byte)) {
        if (byte == '#') {
            while (byte != '\n' && byte != EOF) {
                byte = getc(file);
            }
        }
        byte = getc(file);
    }
    uint32_t value = 0;
    while (isdigit(byte) && value < 100000) {
        value = 10 * value + (uint32_t)(byte - '0');
        byte = getc(file);
    }
    /* One byte of white space was behind it. */
    return isspace(byte) ? value : 0;
}

static int read_rows(const resized_plane *plane, FILE *file) {
    for (size_t row = 0; row < plane->rows; row++) {
        if (fread(plane->data + row * plane->stride, 1, plane->row_bytes, file) != plane->row_bytes) {
            fprintf(stderr, "the picture ends too early\n");
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}

static int write_rows(const resized_view *view, FILE *file) {
    for (size_t row = 0; row < view->rows; row++) {
        fwrite(view->data + row * view->stride, 1, view->row_bytes, file);
    }
    if (fflush(file) != 0 || ferror(file)) {
        perror("can't write");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

/* One frame through a loaned slot. A program that has more goes on like this, with several slots in flight. */
static int resize_frame(resized_slot *slot, FILE *in, FILE *out, uint32_t width, uint32_t height) {
    resized_plane plane;
    resized_view view;
    if (resized_slot_plane(slot, 0, &plane) != RESIZED_STATUS_OK) {
        return failed("plane");
    }
    if (read_rows(&plane, in) != EXIT_SUCCESS) {
        return EXIT_FAILURE;
    }
    if (resized_slot_submit(slot) != RESIZED_STATUS_OK
        || resized_slot_wait(slot, -1) != RESIZED_STATUS_OK
        || resized_slot_view(slot, 0, &view) != RESIZED_STATUS_OK) {
        return failed("resize");
    }
    fprintf(out, "P6\n%u %u\n255\n", (unsigned)width, (unsigned)height);
    return write_rows(&view, out);
}

static int resize(resized_client *client, FILE *in, FILE *out, uint32_t width, uint32_t height) {
    if (getc(in) != 'P' || getc(in) != '6') {
        fprintf(stderr, "this is no PPM (P6)\n");
        return EXIT_FAILURE;
    }
    const uint32_t from_width = number(in), from_height = number(in);
    if (number(in) != 255) {
        fprintf(stderr, "this is no PPM of 8 bits\n");
        return EXIT_FAILURE;
    }

    resized_stream_spec spec;
    resized_stream *stream;
    resized_slot *slot;
    if (resized_stream_spec_init(&spec, sizeof spec, RESIZED_FORMAT_RGB24, from_width, from_height, width, height)
        != RESIZED_STATUS_OK) {
        return failed("spec");
    }
    spec.filter = RESIZED_FILTER_LANCZOS3;
    spec.slots = 1; /* more would only take memory */
    if (resized_stream_open(client, &spec, &stream) != RESIZED_STATUS_OK) {
        return failed("open");
    }
    int result = EXIT_FAILURE;
    if (resized_stream_loan(stream, -1, &slot) != RESIZED_STATUS_OK) {
        failed("loan");
    } else {
        result = resize_frame(slot, in, out, width, height);
        resized_slot_release(slot);
    }
    resized_stream_close(stream);
    return result;
}

int main(int argc, char **argv) {
    unsigned width, height;
    if (argc != 4 || sscanf(argv[2], "%5ux%5u", &width, &height) != 2) {
        fprintf(stderr, "usage: resize IN.ppm WIDTHxHEIGHT OUT.ppm\n");
        return EXIT_FAILURE;
    }
    resized_client *client;
    if (resized_connect(NULL, &client) != RESIZED_STATUS_OK) {
        return failed("connect");
    }
    int result = EXIT_FAILURE;
    FILE *in = fopen(argv[1], "rb");
    FILE *out = in == NULL ? NULL : fopen(argv[3], "wb");
    if (out == NULL) {
        perror(in == NULL ? argv[1] : argv[3]);
    } else {
        result = resize(client, in, out, width, height);
        fclose(out);
    }
    if (in != NULL) {
        fclose(in);
    }
    resized_disconnect(client);
    return result;
}
