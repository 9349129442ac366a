/* Everything that there is, as it is meant to be used: whole ENDPOINT */
#include "check.h"

#include <threads.h>

enum { WIDTH = 50, HEIGHT = 30 };

/* Frames of the size that they have already come back as they were: so every byte can be compared. */
static void several_frames_are_in_flight(resized_client *client) {
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_I420, WIDTH, HEIGHT, WIDTH, HEIGHT);
    CHECK(spec.slots == 4 && spec.filter == RESIZED_FILTER_BICUBIC && spec.weight == 1);
    CHECK(spec.source.range == RESIZED_RANGE_LIMITED && spec.source.matrix == RESIZED_MATRIX_BT601);
    spec.slots = 3;
    resized_stream *stream;
    GOOD(resized_stream_open(client, &spec, &stream));

    resized_slot *slots[3];
    for (unsigned n = 0; n < 3; n++) {
        GOOD(resized_stream_loan(stream, -1, &slots[n]));
        for (uint32_t index = 0; index < 3; index++) {
            resized_plane plane;
            GOOD(resized_slot_plane(slots[n], index, &plane));
            CHECK(plane.row_bytes == (index == 0 ? WIDTH : WIDTH / 2));
            CHECK(plane.rows == (index == 0 ? HEIGHT : HEIGHT / 2));
            CHECK(plane.stride % 64 == 0 && plane.len == plane.stride * plane.rows);
            check_pattern(plane.data, plane.len, n + index);
        }
        GOOD(resized_slot_submit(slots[n]));
    }
    resized_slot *none;
    ENDS(TIMEOUT, resized_stream_loan(stream, 0, &none));
    CHECK(none == NULL);
    ENDS(TIMEOUT, resized_stream_loan(stream, 5, &none));

    for (unsigned n = 3; n-- > 0;) {
        resized_status status;
        while ((status = resized_slot_wait(slots[n], n == 2 ? 0 : 1000)) == RESIZED_STATUS_TIMEOUT) {
            thrd_yield();
        }
        GOOD(status);
        GOOD(resized_slot_wait(slots[n], 0)); /* it still is */
        for (uint32_t index = 0; index < 3; index++) {
            resized_view view;
            GOOD(resized_slot_view(slots[n], index, &view));
            uint8_t wanted[64 * HEIGHT];
            CHECK(view.len <= sizeof wanted);
            check_pattern(wanted, view.len, n + index);
            for (size_t row = 0; row < view.rows; row++) {
                const size_t at = row * view.stride;
                CHECK(memcmp(view.data + at, wanted + at, view.row_bytes) == 0);
            }
        }
        resized_receipt receipt;
        GOOD(resized_slot_receipt(slots[n], &receipt));
        char device[200];
        GOOD(resized_device_name(client, receipt.device, device, sizeof device));
        CHECK(strlen(device) > 0 && receipt.worked_ns > 0);
        GOOD(resized_slot_release(slots[n]));
    }
    GOOD(resized_stream_loan(stream, 0, &none));
    GOOD(resized_slot_release(none));
    GOOD(resized_stream_close(stream));
}

static void a_letterboxed_tensor_says_where_its_picture_is(resized_client *client) {
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_RGB24, 40, 20, 32, 32);
    spec.framing = RESIZED_FRAMING_FIT;
    spec.align = RESIZED_ALIGN_CENTRE;
    memset(spec.pad, 51, sizeof spec.pad);
    GOOD(resized_stream_spec_with_format(&spec, RESIZED_FORMAT_TENSOR));
    CHECK(spec.tensor_element == RESIZED_ELEMENT_F32);
    CHECK(spec.tensor_arrangement == RESIZED_ARRANGEMENT_PLANAR);
    size_t source_len, tensor_len;
    GOOD(resized_stream_spec_lengths(&spec, &source_len, &tensor_len));
    CHECK(source_len == 40 * 20 * 3 && tensor_len == 3 * 32 * 32 * sizeof(float));

    resized_stream *stream;
    resized_slot *slot;
    GOOD(resized_stream_open(client, &spec, &stream));
    GOOD(resized_stream_loan(stream, -1, &slot));
    GOOD(resized_stream_close(stream)); /* the slot keeps it open */
    uint8_t white[40 * 20 * 3];
    memset(white, 255, sizeof white);
    GOOD(resized_slot_write(slot, white, sizeof white));
    const resized_crop left = { 0, 0, 20, 20 };
    GOOD(resized_slot_crop(slot, &left));
    const resized_crop most = { 0, 0, 40, 10 };
    GOOD(resized_slot_crop(slot, &most)); /* the last one counts */
    GOOD(resized_slot_submit(slot));
    GOOD(resized_slot_wait(slot, -1));

    resized_placement placement;
    GOOD(resized_slot_placement(slot, &placement));
    CHECK(placement.source.width == 40 && placement.source.height == 10);
    CHECK(placement.destination.left == 0 && placement.destination.top == 12);
    CHECK(placement.destination.width == 32 && placement.destination.height == 8);
    double x = 16, y = 16;
    GOOD(resized_placement_to_source(&placement, &x, &y));
    CHECK(x == 20 && y == 5);

    float tensor[3 * 32 * 32];
    GOOD(resized_slot_read(slot, (uint8_t *)tensor, sizeof tensor));
    for (int at = 0; at < 3 * 32 * 32; at++) {
        const int row = at / 32 % 32;
        const float wanted = row >= 12 && row < 20 ? 1.0f : 0.2f;
        const float off = tensor[at] - wanted;
        CHECK(off < 0.003f && off > -0.003f);
    }
    GOOD(resized_slot_release(slot));
}

/* Black and white of videos are those of pictures. */
static void another_format_has_its_usual_colour(resized_client *client) {
    enum { SIDE = 16, LUMA = SIDE * SIDE };
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_NV12, SIDE, SIDE, SIDE, SIDE);
    GOOD(resized_stream_spec_with_format(&spec, RESIZED_FORMAT_RGB24));
    CHECK(spec.source.range == RESIZED_RANGE_LIMITED && spec.destination.range == RESIZED_RANGE_FULL);
    CHECK(spec.destination.width == SIDE && spec.destination.height == SIDE);
    uint8_t video[LUMA * 3 / 2], pixels[LUMA * 3];
    memset(video, 16, LUMA / 2);
    memset(video + LUMA / 2, 235, LUMA / 2);
    memset(video + LUMA, 128, LUMA / 2);
    GOOD(resized_resize_packed(client, &spec, video, sizeof video, pixels, sizeof pixels));
    for (size_t at = 0; at < sizeof pixels; at++) {
        CHECK(pixels[at] == (at < sizeof pixels / 2 ? 0 : 255));
    }

    spec.source.range = RESIZED_RANGE_FULL;
    spec.source.matrix = RESIZED_MATRIX_BT2020;
    GOOD(resized_stream_spec_with_format(&spec, RESIZED_FORMAT_P010)); /* from the source, whatever it was before */
    CHECK(spec.destination.format == RESIZED_FORMAT_P010);
    CHECK(spec.destination.range == RESIZED_RANGE_FULL && spec.destination.matrix == RESIZED_MATRIX_BT2020);
    spec.tensor_element = RESIZED_ELEMENT_I8;
    GOOD(resized_stream_spec_with_format(&spec, RESIZED_FORMAT_TENSOR));
    CHECK(spec.destination.format == RESIZED_FORMAT_TENSOR && spec.tensor_element == RESIZED_ELEMENT_I8);
}

static void frames_are_resized_in_one_call(resized_client *client) {
    /* Packed; more kinds than are kept, and again. */
    for (uint32_t round = 0; round < 12; round++) {
        const uint32_t width = 20 + round % 6;
        resized_stream_spec spec = check_spec(RESIZED_FORMAT_NV12, width, 8, width, 8);
        size_t len;
        GOOD(resized_stream_spec_lengths(&spec, &len, NULL));
        uint8_t *bytes = malloc(2 * len);
        CHECK(bytes != NULL);
        check_pattern(bytes, len, round);
        GOOD(resized_resize_packed(client, &spec, bytes, len, bytes + len, len));
        CHECK(memcmp(bytes, bytes + len, len) == 0);
        free(bytes);
    }
    /* Planes with strides of the caller's, whose last row ends with its pixels; in place. */
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_I420, 5, 3, 5, 3);
    uint8_t luma[7 * 2 + 5], chroma[2][4 + 3], wanted[sizeof luma];
    check_pattern(luma, sizeof luma, 1);
    memcpy(wanted, luma, sizeof luma);
    memset(chroma, 128, sizeof chroma);
    const resized_view source[3] = {
        { .data = luma, .len = sizeof luma, .stride = 7 },
        { .data = chroma[0], .len = sizeof chroma[0], .stride = 4 },
        { .data = chroma[1], .len = sizeof chroma[1], .stride = 4 },
    };
    uint8_t halves[2][2 * 9];
    memset(halves, 7, sizeof halves);
    const resized_plane destination[3] = {
        { .data = luma, .len = sizeof luma, .stride = 7 },
        { .data = halves[0], .len = sizeof halves[0], .stride = 9 },
        { .data = halves[1], .len = sizeof halves[1], .stride = 9 },
    };
    GOOD(resized_resize(client, &spec, source, 3, destination, 3));
    CHECK(memcmp(luma, wanted, sizeof luma) == 0);
    for (int at = 0; at < 18; at++) {
        CHECK(halves[1][at] == (at % 9 < 3 ? 128 : 7)); /* nothing between the rows is written */
    }
}

/* A slot's own memory is a buffer like any other. */
static void a_slot_may_be_copied_onto_itself(resized_client *client) {
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_GRAY8, 64, 16, 64, 16);
    resized_stream *stream;
    resized_slot *slot;
    resized_plane plane;
    resized_view view;
    uint8_t wanted[64 * 16];
    GOOD(resized_stream_open(client, &spec, &stream));
    GOOD(resized_stream_loan(stream, -1, &slot));
    GOOD(resized_slot_plane(slot, 0, &plane));
    CHECK(plane.len == sizeof wanted);
    check_pattern(wanted, sizeof wanted, 5);
    memcpy(plane.data, wanted, sizeof wanted);
    GOOD(resized_slot_write(slot, plane.data, plane.len));
    CHECK(memcmp(plane.data, wanted, sizeof wanted) == 0);
    GOOD(resized_slot_submit(slot));
    GOOD(resized_slot_wait(slot, -1));
    GOOD(resized_slot_view(slot, 0, &view));
    GOOD(resized_slot_read(slot, (uint8_t *)view.data, view.len));
    CHECK(memcmp(view.data, wanted, sizeof wanted) == 0);
    /* And onto another's. */
    resized_slot *other;
    GOOD(resized_stream_loan(stream, -1, &other));
    GOOD(resized_slot_write(other, view.data, view.len));
    GOOD(resized_slot_release(other));
    GOOD(resized_slot_release(slot));
    GOOD(resized_stream_close(stream));
}

static int resize_many(void *client) {
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_GRAY8, 64, 16, 64, 16);
    spec.slots = 2; /* of four threads that want one */
    uint8_t from[64 * 16], to[64 * 16];
    for (unsigned n = 0; n < 50; n++) {
        check_pattern(from, sizeof from, n);
        GOOD(resized_resize_packed(client, &spec, from, sizeof from, to, sizeof to));
        CHECK(memcmp(from, to, sizeof from) == 0);
    }
    ENDS(HANDLE, resized_slot_submit(NULL));
    CHECK(strstr(resized_last_error(), "no such slot") != NULL);
    return 0;
}

static void threads_share_a_client(resized_client *client) {
    thrd_t threads[4];
    ENDS(ARGUMENT, resized_stream_open(client, NULL, NULL));
    for (int n = 0; n < 4; n++) {
        CHECK(thrd_create(&threads[n], resize_many, client) == thrd_success);
    }
    for (int n = 0; n < 4; n++) {
        thrd_join(threads[n], NULL);
    }
    /* Others' failures are not this thread's. */
    CHECK(strstr(resized_last_error(), "stream is NULL") != NULL);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(strlen(resized_version()) >= 5);
    CHECK(strcmp(resized_last_error(), "") == 0);
    CHECK(strcmp(resized_status_name(RESIZED_STATUS_REFUSED), "refused") == 0);
    CHECK(strcmp(resized_status_name(77), "unknown") == 0);
    resized_client *client;
    GOOD(resized_connect(argv[1], &client));
    several_frames_are_in_flight(client);
    a_letterboxed_tensor_says_where_its_picture_is(client);
    another_format_has_its_usual_colour(client);
    frames_are_resized_in_one_call(client);
    a_slot_may_be_copied_onto_itself(client);
    threads_share_a_client(client);
    GOOD(resized_disconnect(client));
    return 0;
}
