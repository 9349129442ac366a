/* Through a bridge, as JPEGs too: remote ENDPOINT. Then the bridge goes away: says so, and waits for a line. */
#include "check.h"

enum { WIDTH = 160, HEIGHT = 120 };

static resized_slot *loaned(resized_client *client, const resized_stream_spec *spec) {
    resized_stream *stream;
    resized_slot *slot;
    GOOD(resized_stream_open(client, spec, &stream));
    GOOD(resized_stream_loan(stream, -1, &slot));
    GOOD(resized_stream_close(stream));
    return slot;
}

static void finished(resized_slot *slot) {
    GOOD(resized_slot_submit(slot));
    GOOD(resized_slot_wait(slot, -1));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    resized_client *client;
    /* A busy machine may take longer than the library waits for a bridge that does not answer. */
    resized_status connected = RESIZED_STATUS_CONNECT;
    for (int tried = 0; tried < 10 && connected == RESIZED_STATUS_CONNECT; tried++) {
        connected = resized_connect_with(argv[1], 0, &client);
    }
    GOOD(connected);

    /* A grey ramp, planes to JPEG. */
    resized_stream_spec out = check_spec(RESIZED_FORMAT_GRAY8, WIDTH, HEIGHT, WIDTH, HEIGHT);
    out.jpeg_quality = 95;
    resized_slot *slot = loaned(client, &out);
    resized_plane plane;
    resized_view view, jpeg;
    GOOD(resized_slot_plane(slot, 0, &plane));
    for (size_t row = 0; row < plane.rows; row++) {
        for (size_t x = 0; x < plane.row_bytes; x++) {
            plane.data[row * plane.stride + x] = (uint8_t)(x + row / 2);
        }
    }
    FAILS(STATE, "loaned, not resized", resized_slot_jpeg(slot, &jpeg));
    finished(slot);
    FAILS(ARGUMENT, "JPEGs have no planes", resized_slot_view(slot, 0, &view));
    GOOD(resized_slot_jpeg(slot, &jpeg));
    CHECK(jpeg.len > 100 && jpeg.data[0] == 0xFF && jpeg.data[1] == 0xD8);
    size_t most;
    GOOD(resized_stream_spec_lengths(&out, NULL, &most));
    CHECK(jpeg.len <= most);

    /* And back, to half the size. */
    resized_stream_spec in = check_spec(RESIZED_FORMAT_GRAY8, WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 2);
    in.jpeg_in = 1;
    resized_slot *back = loaned(client, &in);
    FAILS(ARGUMENT, "JPEGs have no planes", resized_slot_plane(back, 0, &plane));
    FAILS(ARGUMENT, "JPEGs have no planes", resized_slot_write(back, jpeg.data, jpeg.len));
    GOOD(resized_slot_write_jpeg(back, jpeg.data, jpeg.len));
    finished(back);
    GOOD(resized_slot_view(back, 0, &view));
    for (size_t row = 4; row < view.rows - 4; row++) {
        for (size_t x = 4; x < view.row_bytes - 4; x++) {
            const int wanted = (int)(2 * x + row + 1), found = view.data[row * view.stride + x];
            CHECK(abs(found - wanted) <= 4);
        }
    }
    GOOD(resized_slot_release(back));
    GOOD(resized_slot_release(slot));

    /* What is no JPEG costs that frame. */
    slot = loaned(client, &in);
    GOOD(resized_stream_spec_lengths(&in, &most, NULL));
    uint8_t *rubbish = calloc(most + 1, 1);
    CHECK(rubbish != NULL);
    FAILS(LENGTH, "the stream takes", resized_slot_write_jpeg(slot, rubbish, most + 1));
    GOOD(resized_slot_write_jpeg(slot, rubbish, most));
    GOOD(resized_slot_submit(slot));
    FAILS(UNREADABLE, "no JPEG", resized_slot_wait(slot, -1));
    GOOD(resized_slot_release(slot));
    free(rubbish);
    out.jpeg_quality = 101;
    resized_stream *none;
    FAILS(ARGUMENT, "quality", resized_stream_open(client, &out, &none));

    /* No signal ends a program whose bridge is gone. */
    resized_stream_spec raw = check_spec(RESIZED_FORMAT_RGB24, 2000, 1000, 20, 10);
    raw.slots = 8;
    resized_stream *stream;
    resized_slot *slots[8];
    GOOD(resized_stream_open(client, &raw, &stream));
    for (int n = 0; n < 8; n++) {
        GOOD(resized_stream_loan(stream, -1, &slots[n]));
    }
    printf("stop\n");
    fflush(stdout);
    CHECK(getchar() != EOF);
    for (int n = 0; n < 8; n++) {
        resized_status status = resized_slot_submit(slots[n]);
        if (status == RESIZED_STATUS_OK) {
            status = resized_slot_wait(slots[n], -1);
        }
        ENDS(LOST, status);
        GOOD(resized_slot_release(slots[n]));
    }
    GOOD(resized_stream_close(stream));
    GOOD(resized_disconnect(client));
    return 0;
}
