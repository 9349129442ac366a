"""Streams: slots as arrays, nothing copied, and nobody's memory taken from under an array."""

import ast
import gc
import math
import pathlib
import threading
import tracemalloc
import zlib

import numpy as np
import pytest
import resized
from conftest import exact, near, noise, until


def traced(walk, times):
    """What is left allocated by so many walks, and the most that was at once, by tracemalloc: numpy tells it of its
    arrays' memory."""
    tracemalloc.start()
    try:
        walk()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(times):
            walk()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before, peak - before


def test_nothing_is_copied_or_allocated_in_a_loop_over_slots(daemon):
    client = resized.Client(daemon.endpoint)
    stream = client.stream("rgb", (640, 360), (320, 180))
    frame = noise(360, 640, 3)
    wanted = exact(frame, (320, 180))

    def walk():
        with stream.loan() as slot:
            # Stands for a decoder: the only copy there is, and it is the caller's.
            slot.array[...] = frame
            pending = slot.submit()
        with pending.result() as resized_frame:
            assert resized_frame.receipt.copied_bytes == 0
            return int(resized_frame.array[7, 11, 1])

    assert abs(walk() - wanted[7, 11, 1]) <= 1.01
    left, most = traced(walk, 100)
    # A row of these frames has 1920 bytes, a result 172,800.
    assert left < 4096 and most < 64 * 1024, (left, most)
    # In this process, and in the daemon.
    assert client.copied_bytes == 0
    stats = client.stats()
    assert stats["copied_bytes"] == 0 and stats["devices"][0]["frames"] == 102

    # A copy would have been seen: by the trace, by the receipt, by the client.
    def copying():
        with stream.submit(frame).result() as resized_frame:
            assert resized_frame.receipt.copied_bytes == frame.nbytes
            return resized_frame.array.copy()

    _, most = traced(copying, 1)
    assert most > wanted.size
    assert client.copied_bytes == 2 * frame.nbytes


def test_slots_are_written_and_frames_read_where_they_lie(client):
    stream = client.stream("nv12", (192, 108), (96, 54), siting="centre", range="full")
    assert (stream.source_format, stream.source_size) == ("nv12", (192, 108))
    assert (stream.format, stream.size, stream.slots) == ("nv12", (96, 54), 4)
    luma, chroma = noise(108, 192), noise(54, 96, 2)
    with stream.loan() as slot:
        one, (upper, lower) = slot.array, slot.planes
        assert np.shares_memory(one, upper) and np.shares_memory(one, lower)
        upper[...], lower[...] = luma, chroma
        assert (one[:108] == luma).all()
        del one, upper, lower
        frame = slot.submit().result()
    upper, lower = frame.planes
    assert near(upper, exact(luma, (96, 54))) and near(lower, exact(chroma, (48, 27)))
    assert np.shares_memory(frame.array, frame.array)


def shades(count):
    return (np.full((8, 8), shade, np.uint8) for shade in range(count))


def test_frames_of_an_iterator_come_in_order(client):
    for slots in (1, 2, 4):
        stream = client.stream("gray", (8, 8), (4, 4), slots=slots)
        seen = []
        for frame in stream.map(shades(20)):
            with frame:
                seen.append(int(frame.array[0, 0]))
        assert seen == list(range(20))
        assert list(stream.map([])) == []
    # Without `with`: one is kept until the next is there.
    assert [int(frame.array[0, 0]) for frame in stream.map(shades(20))] == list(range(20))
    with pytest.raises(TypeError):
        stream.map(7)


def test_an_iterator_of_frames_ends_where_something_is_wrong(client):
    stream = client.stream("gray", (8, 8), (4, 4))

    def broken():
        yield from shades(2)
        raise KeyError("no third")

    for arrays, error in [(broken(), KeyError), ([*shades(2), np.zeros((8, 9), np.uint8)], ValueError)]:
        frames = stream.map(arrays)
        assert [int(next(frames).array[0, 0]) for _ in range(2)] == [0, 1]
        with pytest.raises(error):
            next(frames)
        with pytest.raises(StopIteration):
            next(frames)
    # The arrays' own code may ask for the next, and is told.
    frames = stream.map(next(frames) for _ in range(1))
    with pytest.raises(ValueError, match="another"):
        next(frames)


def test_an_iterator_of_frames_that_is_dropped_gives_them_up(client):
    stream = client.stream("gray", (8, 8), (4, 4))
    frames = stream.map(shades(20))
    kept = [next(frames), next(frames)]
    assert [int(frame.array[0, 0]) for frame in kept] == [0, 1]
    del frames, kept
    assert len([stream.loan(timeout=60) for _ in range(stream.slots)]) == 4


def test_odd_sides_have_planes_but_no_array(client):
    stream = client.stream("i420", (95, 53), (33, 21), siting="centre", range="full")
    slot = stream.loan()
    sources = [noise(53, 95), noise(27, 48, seed=1), noise(27, 48, seed=2)]
    for plane, source in zip(slot.planes, sources):
        plane[...] = source
    del plane
    with pytest.raises(ValueError, match="even"):
        slot.array
    frame = slot.submit().result()
    for plane, source, size in zip(frame.planes, sources, [(33, 21), (17, 11), (17, 11)]):
        assert plane.shape == size[::-1]
    assert near(frame.planes[0], exact(sources[0], (33, 21)))
    with pytest.raises(ValueError, match="planes"):
        client.stream("i420", (96, 54), (40, 20)).loan().array
    assert client.stream("rgb", (95, 53), (33, 21)).loan().array.shape == (53, 95, 3)


def test_a_slot_is_not_given_away_while_it_is_seen(client):
    stream = client.stream("gray", (96, 54), (48, 27))
    slot = stream.loan()
    array = slot.array
    row = array[3]
    view = memoryview(array)
    for seen in (array, row, view):
        with pytest.raises(BufferError, match="1 array"):
            slot.submit()
        with pytest.raises(BufferError):
            slot.release()
        with pytest.raises(BufferError):
            slot.write(noise(54, 96))
    # As long as any of them is there.
    del array, view, seen
    with pytest.raises(BufferError):
        slot.submit()
    row[:] = 9
    del row
    pending = slot.submit()
    for use in (lambda: slot.array, lambda: slot.planes, slot.submit, lambda: slot.set_crop(0, 0, 9, 9)):
        with pytest.raises(ValueError, match="submitted or released"):
            use()
    slot.release()
    assert pending.result().array.shape == (27, 48)


def test_a_slot_is_not_given_away_while_a_thread_writes_it(client):
    stream = client.stream("rgba", (4096, 2048), (48, 27), slots=1)
    # Nobody is done with that many bytes at once.
    frame = np.zeros((2048, 4096, 4), np.uint8)
    uses = [lambda slot: slot.release(), lambda slot: slot.submit(), lambda slot: slot.array, lambda slot: slot.planes,
            lambda slot: slot.set_crop(0, 0, 9, 9), lambda slot: slot.write(frame)]
    for use in uses:
        for _ in range(50):
            slot, late = stream.loan(), []

            def write():
                try:
                    slot.write(frame)
                except (BufferError, ValueError) as error:
                    late.append(error)

            writer = threading.Thread(target=write)
            writer.start()
            said = None
            try:
                use(slot)
            except ValueError as error:
                said = str(error)
            writer.join()
            # What was refused changed nothing.
            slot.release()
            if said is not None:
                break
        assert said is not None and "another thread writes this slot" in said
        assert late == []


def test_a_frame_keeps_its_slot_as_long_as_it_is_seen(client):
    stream = client.stream("rgb", (96, 54), (48, 27), slots=1)
    frame = stream.resize(noise(54, 96, 3))
    array, wanted = frame.array, frame.array.copy()
    with pytest.raises(BufferError, match="frame's memory"):
        frame.release()
    part = array[1:3, ::2, 0]
    assert stream.try_loan() is None
    with pytest.raises(TimeoutError):
        stream.loan(timeout=0.01)
    # The array alone, then a part of it alone.
    del frame
    gc.collect()
    assert stream.try_loan() is None
    del array
    assert stream.try_loan() is None
    assert (part == wanted[1:3, ::2, 0]).all()
    del part
    slot = stream.try_loan()
    assert slot is not None
    slot.release()
    frame = stream.resize(noise(54, 96, 3))
    frame.release()
    frame.release()
    with pytest.raises(ValueError, match="released"):
        frame.array
    assert frame.receipt.worked > 0


def test_memory_outlives_everything_but_its_arrays(daemon):
    client = resized.Client(daemon.endpoint)
    stream = client.stream("rgb", (96, 54), (48, 27))
    frame = noise(54, 96, 3)
    array = stream.resize(frame).array
    del stream, client
    gc.collect()
    daemon.kill()
    assert near(array, exact(frame, (48, 27)))
    array[...] = 1


def test_buffers_are_given_only_as_they_are(client):
    stream = client.stream("gray", (95, 54), (48, 27))
    slot = stream.loan()
    view = slot.array.base.obj
    assert isinstance(view, resized.View)
    seen = memoryview(view)
    assert (seen.shape, seen.strides, seen.format) == ((54, 95), (128, 1), "B")
    assert not seen.c_contiguous and not seen.readonly
    # What asks for bytes without strides is not given padding.
    with pytest.raises(BufferError, match="padding"):
        zlib.crc32(view)
    del seen
    dense = client.stream("gray", (128, 54), (64, 27)).loan()
    assert np.frombuffer(dense.array.base.obj, np.uint8).size == 128 * 54


def test_with_does_not_hide_what_went_wrong(client):
    stream = client.stream("gray", (96, 54), (48, 27), slots=1)
    with pytest.raises(ZeroDivisionError):
        with stream.loan() as slot:
            array = slot.array
            1 / 0
    del array, slot
    with pytest.raises(BufferError):
        with stream.loan() as slot:
            array = slot.array
    del array, slot
    gc.collect()
    with stream.loan():
        assert stream.try_loan() is None
    assert stream.try_loan() is not None


def test_crops_and_boxes_are_mapped_back(client):
    stream = client.stream("rgb", (192, 108), (64, 64), mode="fit", dtype="float32")
    frame = stream.resize(noise(108, 192, 3))
    assert frame.placement.destination == stream.placement.destination == (0, 14, 64, 36)
    assert frame.placement.source == (0, 0, 192, 108)
    assert frame.placement.to_source(0, 14) == (0, 0)
    assert frame.placement.to_source(64.0, 50.0) == (192, 108)
    boxes = np.array([[0, 14, 64, 50], [32, 32, 33, 33]], float)
    x, y = frame.placement.to_source(boxes[:, 0::2], boxes[:, 1::2])
    assert x.tolist() == [[0, 192], [96, 99]] and y.tolist() == [[0, 108], [54, 57]]
    x, y = frame.placement.to_source([0, 32], (14, 32))
    assert x.tolist() == [0, 96] and y.tolist() == [0, 54]
    slot = stream.loan()
    slot.write(noise(108, 192, 3))
    slot.set_crop(96, 54, 54, 54)
    frame = slot.submit().result()
    assert frame.placement.to_source(64, 64) == (150, 108)
    assert frame.receipt.copied_bytes == 108 * 192 * 3
    slot = stream.loan()
    with pytest.raises(resized.Refused):
        slot.set_crop(190, 0, 10, 10)


def test_what_was_closed_takes_no_calls_and_what_is_seen_stays(daemon):
    source = noise(54, 96, 3)
    with resized.Client(daemon.endpoint) as client:
        with client.stream("rgb", (96, 54), (48, 27)) as stream:
            frame, slot = stream.resize(source), stream.loan()
        kept = client.resize(source, (48, 27))
    for _ in range(2):
        client.close()
        stream.close()
    calls = [lambda: stream.loan(), lambda: stream.resize(source), lambda: stream.slots,
             lambda: client.resize(source, (48, 27)), lambda: client.stats(), stream.__enter__, client.__enter__]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()
    assert "closed" in repr(client) and "closed" in repr(stream)
    slot.write(source)
    with slot.submit().result() as late:
        assert np.array_equal(late.array, frame.array) and np.array_equal(late.array, kept)
    watcher = resized.Client(daemon.endpoint)
    # What resize kept was closed with the client: its first result is a copy.
    assert watcher.stats()["streams"] == 1
    # With the last that is seen of it.
    del slot, late, frame, kept
    until("the connection is closed", lambda: watcher.stats()["sessions"] == 1)


def test_wrong_frames_are_refused_and_slots_stay_free(client):
    stream = client.stream("rgb", (96, 54), (48, 27), slots=1)
    for wrong in (noise(54, 95, 3), noise(54, 96), noise(54, 96, 4)):
        with pytest.raises(ValueError):
            stream.resize(wrong)
        with pytest.raises(ValueError):
            stream.submit(wrong)
        slot = stream.loan()
        with pytest.raises(ValueError):
            slot.write(wrong)
        slot.release()
    frame = noise(54, 96, 3)
    assert near(stream.resize(frame).array, exact(frame, (48, 27)))


def test_results_are_had_once(client):
    stream = client.stream("gray", (96, 54), (48, 27), slots=1)
    pending = stream.submit(noise(54, 96))
    frame = pending.result()
    assert pending.done() and not pending.cancel()
    with pytest.raises(ValueError, match="had"):
        pending.result()
    del frame
    pending = stream.submit(noise(54, 96))
    assert pending.cancel() and not pending.cancel()
    with pytest.raises(ValueError, match="cancelled"):
        pending.result()
    # Its slot is free again; so is that of a frame that was there already.
    pending = stream.submit(noise(54, 96))
    until("it is done", pending.done)
    assert pending.cancel() and pending.done()
    stream.loan().release()


def test_late_frames_raise(daemon):
    client = resized.Client(daemon.endpoint)
    stream = client.stream("rgb", (1920, 1080), (640, 360), deadline=0.0, slots=8)
    pendings = [stream.loan().submit() for _ in range(8)]
    late = 0
    for pending in pendings:
        try:
            pending.result()
        except resized.Late:
            late += 1
    assert late > 0
    patient = client.stream("rgb", (1920, 1080), (640, 360), deadline=math.inf, slots=8)
    for pending in [patient.loan().submit() for _ in range(8)]:
        pending.result()


def test_the_stubs_say_what_there_is():
    stubs = ast.parse((pathlib.Path(__file__).parent.parent / "resized.pyi").read_text())
    classes = {node.name: node for node in stubs.body if isinstance(node, ast.ClassDef)}
    for options in "Options", "StreamOptions":
        classes.pop(options)
    assert set(classes) == {name for name in dir(resized) if isinstance(getattr(resized, name), type)}
    for name, node in classes.items():
        said = {it.name for it in node.body if isinstance(it, ast.FunctionDef)}
        there = {it for it in vars(getattr(resized, name)) if not it.startswith("__") or it in said}
        # Those that can't be made have none; __buffer__ has a name since Python 3.12.
        nameless = {"__new__", "__buffer__"}
        assert said - nameless == there - nameless, name
        kind = getattr(resized, name)
        if issubclass(kind, Exception):
            continue
        assert [ast.unparse(it) for it in node.decorator_list] == ["final"], name
        with pytest.raises(TypeError, match="base type"):
            type(name, (kind,), {})
        made = next(it for it in node.body if getattr(it, "name", "") == "__new__")
        if "Never" in ast.unparse(made.args):
            with pytest.raises(TypeError, match="cannot create|constructor"):
                kind()
        else:
            assert kind is resized.Client


def test_the_stubs_know_all_options(client):
    stubs = ast.parse((pathlib.Path(__file__).parent.parent / "resized.pyi").read_text())
    options = [node for node in stubs.body if getattr(node, "name", "") in ("Options", "StreamOptions")]
    names = [it.target.id for node in options for it in node.body if isinstance(it, ast.AnnAssign)]
    assert len(names) == 25
    for name in names:
        client.stream("rgb", (96, 54), (48, 27), **{name: None})
        with pytest.raises((TypeError, ValueError)):
            client.stream("rgb", (96, 54), (48, 27), **{name: object()})
