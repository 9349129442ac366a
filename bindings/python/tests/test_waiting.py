"""Waiting: other threads, coroutines, signals, forks, and daemons that die."""

import _thread
import asyncio
import gc
import os
import signal
import threading

import pytest
import resized
from conftest import exact, near, noise, until

FRAME = noise(54, 96, 3)


def right(array):
    return near(array, exact(FRAME, (48, 27)))


@pytest.fixture
def stream(daemon):
    return resized.Client(daemon.endpoint).stream("rgb", (96, 54), (48, 27))


def test_other_threads_run_while_one_waits(daemon, stream):
    held = [stream.loan() for _ in range(3)]
    daemon.signal(signal.SIGSTOP)
    results = []
    waiter = threading.Thread(target=lambda: results.append(stream.resize(FRAME)))
    waiter.start()
    # It has the last slot: who waited with the interpreter's lock would never let the daemon go on.
    until("one waits", lambda: stream.try_loan() is None)
    assert results == []
    daemon.signal(signal.SIGCONT)
    waiter.join()
    assert right(results[0].array)


def test_waits_have_time_outs(daemon, stream):
    daemon.signal(signal.SIGSTOP)
    pending = stream.submit(FRAME)
    for timeout in (0, 0.01, 0.15):
        with pytest.raises(TimeoutError):
            pending.result(timeout=timeout)
    with pytest.raises(ValueError):
        pending.result(timeout=-1)
    assert not pending.done()
    daemon.signal(signal.SIGCONT)
    until("it is done", pending.done)
    assert right(pending.result(timeout=0).array)


def test_waits_are_interrupted(daemon, stream, request):
    # A shell has what it starts in the background ignore interrupts, and Python leaves it at that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    daemon.signal(signal.SIGSTOP)
    pending = stream.submit(FRAME)
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        pending.result()
    held = [stream.loan() for _ in range(3)]
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        stream.loan()
    del held
    daemon.signal(signal.SIGCONT)
    assert right(pending.result().array)


def test_one_thread_at_a_time_waits_for_a_frame(daemon, stream):
    daemon.signal(signal.SIGSTOP)
    pending, results = stream.submit(FRAME), []
    waiter = threading.Thread(target=lambda: results.append(pending.result()))
    waiter.start()

    def waits():
        try:
            pending.result(timeout=0)
        except ValueError:
            return True
        except TimeoutError:
            return False

    until("the other waits", waits)
    assert not pending.done() and not pending.cancel()
    daemon.signal(signal.SIGCONT)
    waiter.join()
    assert right(results[0].array)


def test_coroutines_await_frames(client):
    stream = client.stream("rgb", (96, 54), (48, 27))
    frames = [noise(54, 96, 3, seed=seed) for seed in range(40)]
    # One slot is nobody's: all the others go round.
    held = stream.loan()

    async def main():
        beats = 0

        async def resize(frame):
            with await stream.resize_async(frame) as result:
                return result.array.copy()

        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        heart = asyncio.create_task(beat())
        results = await asyncio.gather(*map(resize, frames))
        heart.cancel()
        assert beats > 40
        with pytest.raises(ValueError):
            await stream.resize_async(noise(3, 3, 3))
        return results

    for frame, result in zip(frames, asyncio.run(main())):
        assert near(result, exact(frame, (48, 27)))
    held.release()


def test_waiting_for_slots_keeps_nobody_from_freeing_them(client):
    stream = client.stream("rgb", (96, 54), (48, 27), slots=2)

    async def main():
        async def resize():
            with await stream.resize_async(FRAME) as frame:
                assert right(frame.array)

        pendings = [stream.submit(FRAME), stream.submit(FRAME)]
        # More than there are threads, all waiting for the slots of these two.
        waiting = asyncio.gather(*(resize() for _ in range(70)))
        for pending in pendings:
            (await pending).release()
        await waiting

    asyncio.run(main())


def test_a_coroutine_that_waits_does_not_stop_the_loop(daemon, stream):
    daemon.signal(signal.SIGSTOP)

    async def main():
        async def go_on():
            daemon.signal(signal.SIGCONT)

        frame, _ = await asyncio.gather(stream.submit(FRAME), go_on())
        # One that is done needs no thread.
        pending = stream.submit(FRAME)
        until("it is done", pending.done)
        assert right((await pending).array)
        with pytest.raises(ValueError):
            await pending
        return frame

    assert right(asyncio.run(main()).array)


def test_coroutines_get_errors(daemon):
    client = resized.Client(daemon.endpoint, reconnect=0)
    stream = client.stream("rgb", (96, 54), (48, 27))
    daemon.signal(signal.SIGSTOP)

    async def main():
        pending = stream.submit(FRAME)
        waiting = asyncio.ensure_future(wait(pending))
        await asyncio.sleep(0)
        daemon.kill()
        await waiting

    async def wait(pending):
        await pending

    with pytest.raises(resized.Error):
        asyncio.run(main())
    daemon.start()
    with pytest.raises(resized.Error):
        client.stats()


def test_a_daemon_that_dies_costs_no_frame(daemon, stream):
    assert right(stream.resize(FRAME).array)
    kept = stream.resize(FRAME)
    array = kept.array
    daemon.signal(signal.SIGSTOP)
    slot = stream.loan()
    slot.array[...] = FRAME
    pending = stream.submit(FRAME)
    daemon.kill()
    daemon.start()
    # In flight when it died, loaned then, and made after it.
    assert right(pending.result().array)
    assert right(slot.submit().result().array)
    assert right(stream.resize(FRAME).array)
    assert right(array)


def test_a_daemon_that_stays_away_is_given_up(daemon):
    client = resized.Client(daemon.endpoint, reconnect=0.05)
    daemon.kill()
    with pytest.raises(resized.GivenUp):
        client.resize(FRAME, (48, 27))


def forked(body):
    """What the exit status of a child is in which that ran."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Of a process with threads, as it says: that is what is tested.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_makes_its_own(client):
    stream = client.stream("rgb", (96, 54), (48, 27))
    array = stream.resize(FRAME).array
    slot, pending = stream.loan(), stream.submit(FRAME)

    def child():
        nonlocal stream, client, slot, pending
        for use in (lambda: client.resize(FRAME, (9, 9)), lambda: stream.loan(), pending.result, slot.submit):
            with pytest.raises(RuntimeError, match="fork"):
                use()
        # Memory that is shared stays so; what goes here does not go there.
        assert right(array)
        endpoint = client.endpoint
        del stream, client, slot, pending
        gc.collect()
        assert right(resized.Client(endpoint or "embedded").resize(FRAME, (48, 27)))

    assert forked(child) == 0
    assert right(pending.result().array)
    slot.array[...] = FRAME
    assert right(slot.submit().result().array)
    assert right(client.resize(FRAME, (48, 27)))
