/* Daemons that go away: gone ENDPOINT. Says on standard output what should become of the daemon, and waits for a line. */
#include "check.h"

#include <stdatomic.h>
#include <threads.h>

enum { SIDE = 32 };

static atomic_bool over;
static atomic_uint done;

static void have_it(const char *what) {
    char line[16];
    printf("%s\n", what);
    fflush(stdout);
    CHECK(fgets(line, sizeof line, stdin) != NULL);
}

static resized_stream *open_stream(resized_client *client) {
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_GRAY8, SIDE, SIDE, SIDE, SIDE);
    resized_stream *stream;
    GOOD(resized_stream_open(client, &spec, &stream));
    return stream;
}

/* Goes on whatever becomes of the daemon, asking for each frame rather than waiting for it. */
static int keep_resizing(void *endpoint) {
    resized_client *client;
    GOOD(resized_connect_with(endpoint, 60000, &client));
    resized_stream *stream = open_stream(client);
    for (unsigned n = 0; !over; n++) {
        uint8_t from[SIDE * SIDE], to[SIDE * SIDE];
        check_pattern(from, sizeof from, n);
        resized_slot *slot;
        GOOD(resized_stream_loan(stream, -1, &slot));
        GOOD(resized_slot_write(slot, from, sizeof from));
        GOOD(resized_slot_submit(slot));
        resized_status status;
        while ((status = resized_slot_wait(slot, n % 2)) == RESIZED_STATUS_TIMEOUT) {
            thrd_yield();
        }
        GOOD(status);
        GOOD(resized_slot_read(slot, to, sizeof to));
        CHECK(memcmp(from, to, sizeof from) == 0);
        GOOD(resized_slot_release(slot));
        done++;
    }
    GOOD(resized_stream_close(stream));
    GOOD(resized_disconnect(client));
    return 0;
}

static void await_more(unsigned frames) {
    const unsigned wanted = done + frames;
    while (done < wanted) {
        thrd_yield();
    }
}

/* All that can be done with what is left of a connection. */
static void everything_fails(resized_client *client, resized_stream *stream, const char *words) {
    resized_slot *slot, *other;
    uint8_t bytes[SIDE * SIDE] = { 0 };
    resized_view view;
    resized_stream *none;
    GOOD(resized_stream_loan(stream, 0, &slot));
    GOOD(resized_stream_loan(stream, 0, &other));
    /* The memory stays. */
    GOOD(resized_slot_write(slot, bytes, sizeof bytes));
    resized_status status = resized_slot_submit(slot);
    if (status == RESIZED_STATUS_OK) {
        status = resized_slot_wait(slot, -1);
    }
    FAILS(LOST, words, status);
    FAILS(STATE, "over", resized_slot_wait(slot, -1));
    FAILS(STATE, "over", resized_slot_submit(slot));
    FAILS(STATE, "over", resized_slot_view(slot, 0, &view));
    GOOD(resized_slot_release(slot));
    FAILS(HANDLE, "released before", resized_slot_release(slot));
    GOOD(resized_slot_release(other));
    resized_stream_spec spec = check_spec(RESIZED_FORMAT_GRAY8, SIDE, SIDE, SIDE, SIDE);
    FAILS(LOST, words, resized_stream_open(client, &spec, &none));
    FAILS(LOST, words, resized_resize_packed(client, &spec, bytes, sizeof bytes, bytes, sizeof bytes));
    GOOD(resized_stream_close(stream));
    GOOD(resized_disconnect(client));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    thrd_t patient;
    resized_client *faithful, *hasty, *nobody;
    CHECK(thrd_create(&patient, keep_resizing, argv[1]) == thrd_success);
    GOOD(resized_connect_with(argv[1], 0, &faithful));
    resized_stream *faithfuls = open_stream(faithful);
    await_more(10);

    have_it("stop");
    FAILS(CONNECT, "can't connect", resized_connect(argv[1], &nobody));
    everything_fails(faithful, faithfuls, "the daemon");
    have_it("start");
    await_more(10);
    over = 1;
    thrd_join(patient, NULL);

    GOOD(resized_connect_with(argv[1], 200, &hasty));
    resized_stream *hastys = open_stream(hasty);
    have_it("stop");
    everything_fails(hasty, hastys, "did not find it again");
    return 0;
}
