"""Waiting: other threads, coroutines, signals, forks, and daemons that die."""

import _thread
import asyncio
import gc
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import resized
from conftest import DEADLINE, exact, near, noise, until

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
    for timeout in (-1, float("-inf"), float("nan")):
        with pytest.raises(ValueError):
            pending.result(timeout=timeout)
    assert not pending.done()
    daemon.signal(signal.SIGCONT)
    until("it is done", pending.done)
    assert right(pending.result(timeout=0).array)
    for forever in (float("inf"), 1e18):
        assert stream.loan(forever).array.shape == FRAME.shape
    assert right(resized.Client(daemon.endpoint, reconnect=float("inf")).resize(FRAME, (48, 27)))


def test_who_holds_all_slots_is_told_in_time(client):
    stream = client.stream("rgb", (96, 54), (48, 27), slots=1)
    source = np.zeros((54, 96, 3), np.uint8)
    kept = stream.resize(source)

    async def later():
        with pytest.raises(TimeoutError):
            await stream.resize_async(source, timeout=0.01)

    for call in (stream.loan, lambda timeout: stream.submit(source, timeout),
                 lambda timeout: stream.resize(source, timeout=timeout)):
        with pytest.raises(TimeoutError):
            call(timeout=0.01)
    asyncio.run(later())
    kept.release()
    assert stream.submit(source, timeout=60).result().array.shape == (27, 48, 3)


def test_waits_are_interrupted(daemon, request):
    client = resized.Client(daemon.endpoint)
    stream = client.stream("rgb", (96, 54), (48, 27))
    # A shell has what it starts in the background ignore interrupts, and Python leaves it at that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    daemon.signal(signal.SIGSTOP)
    pending = stream.submit(FRAME)
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, _thread.interrupt_main).start()
        pending.result()
    held = [stream.loan() for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, _thread.interrupt_main).start()
        stream.loan()
    del held
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, _thread.interrupt_main).start()
        client.stream("gray", (8, 8), (4, 4))
    daemon.signal(signal.SIGCONT)
    assert right(pending.result().array)


def test_what_is_dropped_stops_nobody_though_the_daemon_hangs(daemon):
    stream = resized.Client(daemon.endpoint).stream("gray", (8, 8), (4, 4), slots=200)
    daemon.signal(signal.SIGSTOP)
    # More than the system takes for who does not read: some 280 messages.
    pendings = [stream.submit(noise(8, 8)) for _ in range(200)]
    # If this waits it does so with the interpreter's lock: another process has to end it.
    code = f"import os, time; time.sleep(60); os.kill({daemon.process.pid}, {int(signal.SIGCONT)})"
    end = subprocess.Popen([sys.executable, "-c", code])
    del pendings[:]
    assert end.poll() is None
    end.kill()
    end.wait()
    left = [stream]
    del stream
    # That one has to be told.
    closing = threading.Thread(target=left.clear)
    closing.start()
    daemon.signal(signal.SIGCONT)
    closing.join()


def test_other_threads_run_while_the_daemon_of_this_process_ends():
    program = """
import sys, threading, time, numpy, resized
beats, over, ran = 0, False, False
def beat():
    global beats
    while not over:
        beats += 1
        time.sleep(0.001)
# Nobody runs but while another gives up the interpreter's lock.
sys.setswitchinterval(1000)
thread = threading.Thread(target=beat)
thread.start()
# More than once: it may be at an end before the other thread is awake.
for _ in range(20):
    client = resized.Client("embedded")
    # A frame of these keeps it from ending for a while.
    stream = client.stream("rgba", (640, 640), (480, 480), alpha="weighs", filter="lanczos3")
    pending = stream.submit(numpy.zeros((640, 640, 4), "uint8"))
    while client.stats()["queued"]:
        time.sleep(0.001)
    del stream, pending
    before = beats
    del client
    if ran := beats > before:
        break
over = True
thread.join()
print("ran" if ran else "stood still")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "ran\n"


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


def test_a_coroutine_that_is_cancelled_gives_its_frame_up(daemon, stream):
    daemon.signal(signal.SIGSTOP)
    pending = stream.submit(FRAME)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pending, 0.05)

    asyncio.run(main())
    # Though the daemon does not answer: no thread waits for it any more.
    until("it was given up", pending.done)
    with pytest.raises(ValueError, match="cancelled"):
        pending.result()
    daemon.signal(signal.SIGCONT)
    held = [stream.loan() for _ in range(4)]
    assert len(held) == stream.slots


def test_cancelled_coroutines_take_no_slots(daemon):
    client = resized.Client(daemon.endpoint)
    stream = client.stream("rgb", (96, 54), (48, 27), slots=2)

    async def main():
        held = [stream.loan(), stream.loan()]
        # More than there are threads.
        for _ in range(40):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.resize_async(FRAME), 0.001)
        while held:
            held.pop().release()
        return await stream.resize_async(FRAME)

    assert right(asyncio.run(main()).array)
    assert client.stats()["devices"][0]["frames"] == 1


def test_an_interpreter_ends_whatever_it_leaves(daemon):
    program = """
import asyncio, os, signal, sys, threading, numpy, resized
client = resized.Client(sys.argv[1])
stream = client.stream("gray", (96, 54), (48, 27))
frame = numpy.zeros((54, 96), numpy.uint8)
kept, loaned = stream.resize(frame).array, stream.loan()
os.kill(int(sys.argv[2]), signal.SIGSTOP)
# Two that will never be done: a thread's, and one whose coroutine has gone.
threading.Thread(target=stream.submit(frame).result, daemon=True).start()
pending = stream.submit(frame)
try:
    asyncio.run(asyncio.wait_for(pending, 0.01))
except asyncio.TimeoutError:
    print("over")
"""
    command = [sys.executable, "-W", "error", "-c", program, daemon.endpoint, str(daemon.process.pid)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE / 2)
    assert (run.returncode, run.stdout, run.stderr) == (0, "over\n", "")


@pytest.mark.parametrize("left", ["stream.resize_async(frame)", "stream.submit(frame).__await__()"])
def test_an_interpreter_ends_though_futures_are_left(daemon, left):
    program = f"""
import asyncio, os, signal, sys, numpy, resized
stream = resized.Client(sys.argv[1]).stream("gray", (96, 54), (48, 27))
frame = numpy.zeros((54, 96), numpy.uint8)

async def main():
    os.kill(int(sys.argv[2]), signal.SIGSTOP)
    global left
    left = {left}

asyncio.run(main())
print("over")
"""
    command = [sys.executable, "-c", program, daemon.endpoint, str(daemon.process.pid)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE / 2)
    assert (run.returncode, run.stdout) == (0, "over\n"), run.stderr


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


def test_a_receipt_names_no_other_daemons_device(daemon, stream):
    ready = stream.submit(FRAME)
    until("it is done", ready.done)
    daemon.kill()
    daemon.start()
    assert stream.resize(FRAME).receipt.device
    frame = ready.result()
    assert right(frame.array) and frame.receipt.device is None and "device=None" in repr(frame.receipt)


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
    frame = stream.resize(FRAME)
    array = frame.array
    slot, pending, ready = stream.loan(), stream.submit(FRAME), stream.submit(FRAME)
    until("it is done", ready.done)

    def child():
        nonlocal stream, client, slot, pending, ready

        async def later():
            await stream.resize_async(FRAME)

        uses = [
            lambda: client.resize(FRAME, (9, 9)), stream.loan, pending.result, pending.done, pending.cancel,
            ready.result, slot.submit, slot.release, frame.release, lambda: asyncio.run(later()),
        ]
        # However often.
        for use in 2 * uses:
            with pytest.raises(RuntimeError, match="fork"):
                use()
        # Memory that is shared stays so; what goes here does not go there.
        assert right(array) and right(frame.array) and slot.array.shape == FRAME.shape
        assert frame.receipt.device and frame.placement.destination == (0, 0, 48, 27)
        endpoint = client.endpoint
        del stream, client, slot, pending, ready, uses, use
        gc.collect()
        assert right(resized.Client(endpoint or "embedded").resize(FRAME, (48, 27)))

    assert forked(child) == 0
    assert right(pending.result().array) and right(ready.result().array)
    slot.array[...] = FRAME
    assert right(slot.submit().result().array)
    assert right(client.resize(FRAME, (48, 27)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_the_parents(daemon):
    client = resized.Client(daemon.endpoint)
    for side in range(1, 9):
        client.resize(FRAME, (side, side))
    stream = client.stream("gray", (8, 8), (4, 4), slots=200)
    daemon.signal(signal.SIGSTOP)
    # More than the system takes for who does not read: so the stream that makes room for another waits as it closes.
    del [stream.submit(noise(8, 8)) for _ in range(200)][:]
    waiter = threading.Thread(target=client.resize, args=(FRAME, (9, 9)))
    waiter.start()
    sleeps = 0

    def waits():
        nonlocal sleeps
        state = pathlib.Path(f"/proc/self/task/{waiter.native_id}/stat").read_text().rpartition(")")[2].split()[0]
        sleeps = sleeps + 1 if state == "S" else 0
        return sleeps > 20

    until("it waits", waits)

    def child():
        # Ends it, should it wait.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        for use in (lambda: client.resize(FRAME, (10, 10)), lambda: client.stream("gray", (8, 8), (3, 3))):
            with pytest.raises(RuntimeError, match="fork"):
                use()

    status = forked(child)
    daemon.signal(signal.SIGCONT)
    waiter.join()
    assert status == 0
