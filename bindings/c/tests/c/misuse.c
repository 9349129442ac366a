/* Everything that can be done wrong and be told: misuse ENDPOINT */
#include "check.h"

#include <threads.h>

enum { SIDE = 16 };

static void null_is_refused(resized_client *client, resized_stream *stream, resized_slot *slot) {
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_GRAY8, SIDE, SIDE, SIDE, SIDE);
    resized_stream *no_stream;
    resized_slot *no_slot;
    resized_plane plane = { 0 };
    resized_view view = { 0 };
    resized_placement placement;
    resized_receipt receipt;
    const resized_crop crop = { 0, 0, 1, 1 };
    uint8_t bytes[SIDE * SIDE];
    char name[100];
    double x = 0;

    FAILS(ARGUMENT, "client is NULL", resized_connect(NULL, NULL));
    FAILS(HANDLE, "no such client", resized_disconnect(NULL));
    FAILS(HANDLE, "no such client", resized_device_name(NULL, 0, name, sizeof name));
    FAILS(ARGUMENT, "buffer is NULL", resized_device_name(client, 0, NULL, sizeof name));
    FAILS(ARGUMENT, "spec is NULL", resized_stream_spec_init(NULL, sizeof spec, 0, 1, 1, 1, 1));
    FAILS(ARGUMENT, "spec is NULL", resized_stream_spec_lengths(NULL, NULL, NULL));
    FAILS(ARGUMENT, "spec is NULL", resized_stream_spec_with_format(NULL, RESIZED_FORMAT_RGB24));
    GOOD(resized_stream_spec_lengths(&spec, NULL, NULL));
    FAILS(HANDLE, "no such client", resized_stream_open(NULL, &spec, &no_stream));
    CHECK(no_stream == NULL);
    FAILS(ARGUMENT, "spec is NULL", resized_stream_open(client, NULL, &no_stream));
    FAILS(ARGUMENT, "stream is NULL", resized_stream_open(client, &spec, NULL));
    FAILS(HANDLE, "no such stream", resized_stream_close(NULL));
    FAILS(HANDLE, "no such stream", resized_stream_loan(NULL, 0, &no_slot));
    CHECK(no_slot == NULL);
    FAILS(ARGUMENT, "slot is NULL", resized_stream_loan(stream, 0, NULL));
    FAILS(HANDLE, "no such slot", resized_slot_plane(NULL, 0, &plane));
    FAILS(ARGUMENT, "plane is NULL", resized_slot_plane(slot, 0, NULL));
    FAILS(HANDLE, "no such slot", resized_slot_write(NULL, bytes, sizeof bytes));
    FAILS(ARGUMENT, "source frame is NULL", resized_slot_write(slot, NULL, sizeof bytes));
    FAILS(ARGUMENT, "jpeg is NULL", resized_slot_write_jpeg(slot, NULL, 9));
    FAILS(HANDLE, "no such slot", resized_slot_crop(NULL, &crop));
    FAILS(ARGUMENT, "crop is NULL", resized_slot_crop(slot, NULL));
    FAILS(HANDLE, "no such slot", resized_slot_submit(NULL));
    FAILS(HANDLE, "no such slot", resized_slot_wait(NULL, 0));
    FAILS(HANDLE, "no such slot", resized_slot_view(NULL, 0, &view));
    FAILS(ARGUMENT, "view is NULL", resized_slot_view(slot, 0, NULL));
    FAILS(HANDLE, "no such slot", resized_slot_read(NULL, bytes, sizeof bytes));
    FAILS(HANDLE, "no such slot", resized_slot_jpeg(NULL, &view));
    FAILS(ARGUMENT, "view is NULL", resized_slot_jpeg(slot, NULL));
    FAILS(HANDLE, "no such slot", resized_slot_placement(NULL, &placement));
    FAILS(ARGUMENT, "placement is NULL", resized_slot_placement(slot, NULL));
    FAILS(ARGUMENT, "placement is NULL", resized_placement_to_source(NULL, &x, &x));
    FAILS(ARGUMENT, "y is NULL", resized_placement_to_source(&placement, &x, NULL));
    FAILS(HANDLE, "no such slot", resized_slot_receipt(NULL, &receipt));
    FAILS(ARGUMENT, "receipt is NULL", resized_slot_receipt(slot, NULL));
    FAILS(HANDLE, "no such slot", resized_slot_release(NULL));
    view.data = bytes, view.len = sizeof bytes, view.stride = SIDE;
    plane.data = bytes, plane.len = sizeof bytes, plane.stride = SIDE;
    FAILS(ARGUMENT, "spec is NULL", resized_resize(client, NULL, &view, 1, &plane, 1));
    FAILS(HANDLE, "no such client", resized_resize(NULL, &spec, &view, 1, &plane, 1));
    FAILS(ARGUMENT, "source is NULL", resized_resize(client, &spec, NULL, 1, &plane, 1));
    FAILS(ARGUMENT, "destination is NULL", resized_resize(client, &spec, &view, 1, NULL, 1));
    plane.data = NULL;
    FAILS(ARGUMENT, "destination is NULL", resized_resize(client, &spec, &view, 1, &plane, 1));
    FAILS(ARGUMENT, "source is NULL",
        resized_resize_packed(client, &spec, NULL, sizeof bytes, bytes, sizeof bytes));
}

static void what_is_no_handle_is_refused(resized_stream *stream, resized_slot *slot) {
    /* Of another kind, made up, or an address. */
    FAILS(HANDLE, "no such slot", resized_slot_submit((resized_slot *)stream));
    FAILS(HANDLE, "no such stream", resized_stream_close((resized_stream *)slot));
    FAILS(HANDLE, "no such slot", resized_slot_release((resized_slot *)(uintptr_t)0xDEAD0000u));
    FAILS(HANDLE, "no such slot", resized_slot_release((resized_slot *)&slot));
}

static void what_is_between_two_numbers_is_refused(resized_client *client, resized_slot *slot) {
    union {
        resized_plane plane;
        char bytes[sizeof(resized_plane) + 1];
    } out;
    void *odd = out.bytes + 1;
    FAILS(ARGUMENT, "aligned", resized_slot_plane(slot, 0, odd));
    FAILS(ARGUMENT, "aligned", resized_stream_open(client, odd, (resized_stream **)&out));
}

static void nothing_is_ended_twice(resized_client *client, const char *endpoint) {
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_GRAY8, SIDE, SIDE, SIDE, SIDE);
    resized_stream *stream;
    resized_slot *slot, *other;
    GOOD(resized_stream_open(client, &spec, &stream));
    GOOD(resized_stream_loan(stream, 0, &slot));
    GOOD(resized_slot_release(slot));
    FAILS(HANDLE, "released before", resized_slot_release(slot));
    GOOD(resized_stream_loan(stream, 0, &other));
    CHECK(other != slot); /* though it is the same memory */
    FAILS(HANDLE, "released before", resized_slot_submit(slot));
    FAILS(HANDLE, "released before", resized_slot_release(slot));
    GOOD(resized_slot_submit(other));
    GOOD(resized_slot_release(other)); /* cancelled */
    FAILS(HANDLE, "released before", resized_slot_wait(other, -1));
    GOOD(resized_stream_close(stream));
    FAILS(HANDLE, "released before", resized_stream_close(stream));
    FAILS(HANDLE, "released before", resized_stream_loan(stream, 0, &slot));

    resized_client *again;
    GOOD(resized_connect(endpoint, &again));
    GOOD(resized_disconnect(again));
    FAILS(HANDLE, "released before", resized_disconnect(again));
    FAILS(HANDLE, "released before", resized_stream_open(again, &spec, &stream));
}

static void a_slot_is_used_in_its_turn(resized_slot *slot) {
    uint8_t bytes[SIDE * SIDE] = { 0 };
    resized_plane plane;
    resized_view view;
    resized_receipt receipt;
    resized_placement placement;
    const resized_crop crop = { 0, 0, 1, 1 };
    FAILS(STATE, "loaned, not submitted", resized_slot_wait(slot, 0));
    FAILS(STATE, "loaned, not resized", resized_slot_view(slot, 0, &view));
    CHECK(view.data == NULL && view.len == 0);
    FAILS(STATE, "loaned, not resized", resized_slot_read(slot, bytes, sizeof bytes));
    FAILS(STATE, "loaned, not resized", resized_slot_jpeg(slot, &view));
    FAILS(STATE, "loaned, not resized", resized_slot_receipt(slot, &receipt));
    FAILS(STATE, "loaned, not resized", resized_slot_placement(slot, &placement));
    GOOD(resized_slot_submit(slot));
    FAILS(STATE, "submitted, not loaned", resized_slot_submit(slot));
    FAILS(STATE, "submitted, not loaned", resized_slot_plane(slot, 0, &plane));
    CHECK(plane.data == NULL && plane.rows == 0);
    FAILS(STATE, "submitted, not loaned", resized_slot_write(slot, bytes, sizeof bytes));
    FAILS(STATE, "submitted, not loaned", resized_slot_crop(slot, &crop));
    FAILS(STATE, "submitted, not resized", resized_slot_view(slot, 0, &view));
    GOOD(resized_slot_wait(slot, -1));
    FAILS(STATE, "resized, not loaned", resized_slot_submit(slot));
    FAILS(STATE, "resized, not loaned", resized_slot_plane(slot, 0, &plane));
    GOOD(resized_slot_view(slot, 0, &view));
    GOOD(resized_slot_release(slot));
}

static void lengths_and_planes_are_measured(resized_client *client, resized_slot *slot) {
    uint8_t bytes[3 * SIDE * SIDE] = { 0 };
    resized_plane plane;
    resized_view view;
    FAILS(ARGUMENT, "no plane 1: the frame has 1", resized_slot_plane(slot, 1, &plane));
    FAILS(ARGUMENT, "no plane 4294967295", resized_slot_plane(slot, UINT32_MAX, &plane));
    FAILS(LENGTH, "255 bytes long, 256 are needed", resized_slot_write(slot, bytes, 255));
    FAILS(LENGTH, "257 bytes long, 256 are needed", resized_slot_write(slot, bytes, 257));
    FAILS(LENGTH, "0 bytes long", resized_slot_write(slot, bytes, 0));
    FAILS(LENGTH, "bytes long", resized_slot_write(slot, bytes, SIZE_MAX));
    FAILS(ARGUMENT, "no JPEGs", resized_slot_write_jpeg(slot, bytes, 9));
    FAILS(LENGTH, "jpeg", resized_slot_write_jpeg(slot, bytes, SIZE_MAX));
    GOOD(resized_slot_submit(slot));
    GOOD(resized_slot_wait(slot, -1));
    FAILS(ARGUMENT, "no plane 1", resized_slot_view(slot, 1, &view));
    FAILS(LENGTH, "255 bytes long", resized_slot_read(slot, bytes, 255));
    FAILS(LENGTH, "768 bytes long", resized_slot_read(slot, bytes, sizeof bytes));
    FAILS(ARGUMENT, "no JPEGs", resized_slot_jpeg(slot, &view));

    char name[100];
    GOOD(resized_device_name(client, 0, name, sizeof name));
    FAILS(LENGTH, "bytes long", resized_device_name(client, 0, name, strlen(name)));
    FAILS(LENGTH, "0 bytes long", resized_device_name(client, 0, name, 0));
    GOOD(resized_device_name(client, 0, name, strlen(name) + 1));
    FAILS(ARGUMENT, "device can't be 99", resized_device_name(client, 99, name, sizeof name));

    resized_stream_spec spec = check_spec(RESIZED_FORMAT_RGB24, SIDE, SIDE, SIDE / 2, SIDE / 2);
    uint8_t small[3 * SIDE * SIDE / 4];
    FAILS(LENGTH, "source is 767 bytes long, 768 are needed",
        resized_resize_packed(client, &spec, bytes, 767, small, sizeof small));
    FAILS(LENGTH, "destination is 768 bytes long, 192 are needed",
        resized_resize_packed(client, &spec, bytes, sizeof bytes, small, sizeof bytes));
    view = (resized_view){ .data = bytes, .len = sizeof bytes, .stride = 3 * SIDE };
    plane = (resized_plane){ .data = small, .len = sizeof small, .stride = 3 * SIDE / 2 };
    FAILS(ARGUMENT, "2 planes were given, the source has 1",
        resized_resize(client, &spec, &view, 2, &plane, 1));
    FAILS(ARGUMENT, "0 planes were given, the destination has 1",
        resized_resize(client, &spec, &view, 1, &plane, 0));
    view.stride = 3 * SIDE - 1;
    FAILS(LENGTH, "47 bytes apart and 48 long", resized_resize(client, &spec, &view, 1, &plane, 1));
    view.stride = SIZE_MAX;
    FAILS(LENGTH, "plane 0 of the source", resized_resize(client, &spec, &view, 1, &plane, 1));
    view.stride = 3 * SIDE, plane.len--;
    FAILS(LENGTH, "plane 0 of the destination is 191 bytes long, 192 are needed",
        resized_resize(client, &spec, &view, 1, &plane, 1));
    GOOD(resized_slot_release(slot));
}

static void refuses(resized_client *client, resized_stream_spec spec, resized_status status, const char *words) {
    resized_stream *stream;
    const resized_status found = resized_stream_open(client, &spec, &stream);
    if (found != status || strstr(resized_last_error(), words) == NULL || stream != NULL) {
        fprintf(stderr, "%s: %s (%s)\n", words, resized_status_name(found), resized_last_error());
        exit(1);
    }
}

static void specs_are_looked_at(resized_client *client, resized_slot *slot) {
    const resized_stream_spec good = check_spec(RESIZED_FORMAT_GRAY8, SIDE, SIDE, SIDE, SIDE);
    resized_stream_spec spec;
#define REFUSES(status, words, change) \
    (spec = good, change, refuses(client, spec, RESIZED_STATUS_##status, words))
    REFUSES(ARGUMENT, "format can't be 10", spec.source.format = 10);
    REFUSES(ARGUMENT, "filter can't be 6", spec.filter = 6);
    REFUSES(ARGUMENT, "unused can't be 1", spec.unused[0] = 1);
    REFUSES(ARGUMENT, "says that it has 0 bytes", spec.size = 0);
    REFUSES(ARGUMENT, "says that it has 175 bytes", spec.size = sizeof spec - 1);
    REFUSES(REFUSED, "no pixels", spec.source.width = 0);
    REFUSES(REFUSED, "longer than 16384", spec.destination.height = 16385);
    REFUSES(REFUSED, "can't be resized, only made", spec.source.format = RESIZED_FORMAT_TENSOR);
    REFUSES(REFUSED, "0 slots", spec.slots = 0);
    REFUSES(REFUSED, "257 slots", spec.slots = 257);
    REFUSES(REFUSED, "weight of 101", spec.weight = 101);
    REFUSES(REFUSED, "no crop", spec.crop.width = SIDE + 1);
    REFUSES(REFUSED, "JPEG", spec.jpeg_in = 1);
    REFUSES(ARGUMENT, "jpeg_in can't be 2", spec.jpeg_in = 2);
#undef REFUSES
    FAILS(ARGUMENT, "format can't be 99", resized_stream_spec_init(&spec, sizeof spec, 99, 1, 1, 1, 1));
    FAILS(ARGUMENT, "0 bytes", resized_stream_spec_init(&spec, 0, 0, 1, 1, 1, 1));
    FAILS(ARGUMENT, "format can't be 99", resized_stream_spec_with_format(&spec, 99));

    const resized_crop outside = { SIDE / 2, 0, SIDE, SIDE };
    FAILS(REFUSED, "no crop", resized_slot_crop(slot, &outside));
    GOOD(resized_slot_submit(slot)); /* and nothing has changed */
    GOOD(resized_slot_wait(slot, -1));
    GOOD(resized_slot_release(slot));

    /* A program that was compiled with a later header: what it does not use is no matter. */
    struct {
        resized_stream_spec spec;
        uint64_t later;
    } grown;
    memset(&grown, 0xA5, sizeof grown);
    GOOD(resized_stream_spec_init(&grown.spec, sizeof grown, RESIZED_FORMAT_GRAY8, 2, 2, 1, 1));
    CHECK(grown.spec.size == sizeof grown && grown.later == 0);
    resized_stream *stream;
    GOOD(resized_stream_open(client, &grown.spec, &stream));
    GOOD(resized_stream_close(stream));
    grown.later = 1;
    FAILS(ARGUMENT, "too old", resized_stream_open(client, &grown.spec, &stream));
}

/* Waits for a slot again and again, until it is released. */
static int take_over(void *slot) {
    resized_status status;
    while ((status = resized_slot_wait(slot, 1)) != RESIZED_STATUS_HANDLE) {
        CHECK(status == RESIZED_STATUS_OK || status == RESIZED_STATUS_TIMEOUT
            || status == RESIZED_STATUS_STATE);
        thrd_yield();
    }
    return 0;
}

/* Two threads at one slot: each call ends in one of the ways that it may, and the slot is released once. */
static void threads_get_in_each_others_way(resized_stream *stream) {
    for (int round = 0; round < 100; round++) {
        resized_slot *slot;
        thrd_t other;
        GOOD(resized_stream_loan(stream, -1, &slot));
        CHECK(thrd_create(&other, take_over, slot) == thrd_success);
        GOOD(resized_slot_submit(slot));
        resized_status status;
        while ((status = resized_slot_release(slot)) == RESIZED_STATUS_STATE) {
            thrd_yield();
        }
        GOOD(status);
        thrd_join(other, NULL);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    resized_client *client, *nobody;
    FAILS(ENDPOINT, "is no endpoint", resized_connect("somewhere", &nobody));
    CHECK(nobody == NULL);
    FAILS(CONNECT, "can't connect", resized_connect("unix:/nowhere/resized.sock", &nobody));
    FAILS(ARGUMENT, "endpoint is not UTF-8", resized_connect("unix:/\xFF", &nobody));
    GOOD(resized_connect(argv[1], &client));
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_GRAY8, SIDE, SIDE, SIDE, SIDE);
    resized_stream *stream;
    resized_slot *slots[3];
    GOOD(resized_stream_open(client, &spec, &stream));
    for (int n = 0; n < 3; n++) {
        GOOD(resized_stream_loan(stream, 0, &slots[n]));
    }
    null_is_refused(client, stream, slots[0]);
    what_is_no_handle_is_refused(stream, slots[0]);
    what_is_between_two_numbers_is_refused(client, slots[0]);
    nothing_is_ended_twice(client, argv[1]);
    a_slot_is_used_in_its_turn(slots[0]);
    lengths_and_planes_are_measured(client, slots[1]);
    specs_are_looked_at(client, slots[2]);
    threads_get_in_each_others_way(stream);
    GOOD(resized_stream_close(stream));
    GOOD(resized_disconnect(client));
    return 0;
}
