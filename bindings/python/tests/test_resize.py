"""client.resize: which arrays it takes, what comes of them, and whose memory that is."""

import concurrent.futures
import gc
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
import resized
from conftest import Daemon, Relay, exact, near, noise, until


@pytest.mark.parametrize("shape, format", [
    ((54, 96), None),
    ((54, 96, 3), None),
    ((54, 96, 4), None),
    ((54, 96, 3), "bgr"),
    ((53, 95, 4), "bgra"),
    ((53, 95), "gray"),
])
def test_packed_formats_become_what_exact_arithmetic_says(client, shape, format):
    frame = noise(*shape)
    result = client.resize(frame, (40, 23), format)
    assert result.dtype == np.uint8
    assert near(result, exact(frame, (40, 23)))
    larger = client.resize(frame, (131, 77), format=format)
    assert near(larger, exact(frame, (131, 77)))


def i420_planes(array, width, height):
    """The planes of an (H * 3/2, W) array, as OpenCV lays them out."""
    flat, luma = array.reshape(-1), width * height
    chroma = (height // 2, width // 2)
    u, v = flat[luma:luma * 5 // 4].reshape(chroma), flat[luma * 5 // 4:].reshape(chroma)
    return flat[:luma].reshape(height, width), u, v


# 128 columns and those that are no multiple of it: the planes of the latter are not together in a slot.
@pytest.mark.parametrize("size", [(48, 26), (128, 50)])
@pytest.mark.parametrize("format, dtype, most", [("i420", np.uint8, 255), ("i420p10", np.uint16, 1023)])
def test_i420(client, format, dtype, most, size):
    frame = noise(54 * 3, 192, dtype=dtype)
    result = client.resize(frame, size, format, siting="centre", range="full")
    assert result.dtype == dtype
    found, planes = i420_planes(result, *size), i420_planes(frame, 192, 108)
    assert near(found[0], exact(planes[0], size), most)
    for plane, source in zip(found[1:], planes[1:]):
        assert near(plane, exact(source, (size[0] // 2, size[1] // 2)), most)


@pytest.mark.parametrize("format, dtype, shift", [("nv12", np.uint8, 0), ("p010", np.uint16, 6)])
def test_nv12(client, format, dtype, shift):
    # Every second row of a larger array: rows need not follow each other.
    frame = (noise(108 * 3, 192, dtype=dtype) << shift)[::2]
    size, most = (50, 26), 255 if shift == 0 else 1023
    result = client.resize(frame, size, format=format, siting="centre", range="full") >> shift
    frame = frame >> shift
    assert near(result[:26], exact(frame[:108], size), most)
    found, source = result[26:].reshape(13, 25, 2), frame[108:].reshape(54, 96, 2)
    assert near(found, exact(source, (25, 13)), most)


def test_formats_are_converted_in_the_same_pass(client):
    frame = noise(54, 96, 3)
    assert near(client.resize(frame, (40, 22), to="bgr"), exact(frame, (40, 22))[..., ::-1])
    # ITU-R BT.601, full range.
    luma = exact(frame, (40, 22)) @ [0.299, 0.587, 0.114]
    assert near(client.resize(frame, (40, 22), to="gray"), luma)
    rgba = client.resize(frame, (40, 22), to="rgba")
    assert near(rgba[..., :3], exact(frame, (40, 22))) and (rgba[..., 3] == 255).all()
    # There and back, where chroma of half the resolution loses nothing.
    flat = np.full((54, 96, 3), (200, 90, 30), np.uint8)
    for planar in "i420", "nv12":
        there = client.resize(flat, (192, 108), to=planar)
        back = client.resize(there, (96, 54), planar, to="rgb").astype(int)
        assert np.abs(back - flat).max() <= 3


def test_gray_of_a_video_is_its_luma(client):
    # BT.709 by its height, where the result's would be BT.601: with the matrix, chroma would count.
    video = np.concatenate([np.full((720, 1280), 100, np.uint8), np.full((360, 1280), 200, np.uint8)])
    gray = client.resize(video, (64, 36), "i420", to="gray")
    assert (gray == round((100 - 16) * 255 / 219)).all()
    for shade, pixel in [(16, 0), (235, 255)]:
        flat = np.concatenate([np.full((54, 96), shade, np.uint8), np.full((27, 96), 128, np.uint8)])
        assert (client.resize(flat, (96, 54), "nv12", to="rgb") == pixel).all()


@pytest.mark.parametrize("dtype, within", [("float32", 1e-3), (np.float16, 1e-2), (np.dtype("float32"), 1e-3)])
@pytest.mark.parametrize("layout", ["chw", "hwc"])
def test_tensors(client, dtype, within, layout):
    frame = noise(54, 96, 3)
    mean, scale = (123.675, 116.28, 103.53), (0.0171, 0.0175, 0.0174)
    tensor = client.resize(
        frame, (40, 22), "bgr", dtype=dtype, layout=layout, order="rgb", mean=mean, scale=scale
    )
    assert tensor.dtype == np.dtype(dtype)
    wanted = (exact(frame, (40, 22))[..., ::-1] - mean) * scale
    if layout == "chw":
        wanted = np.moveaxis(wanted, 2, 0)
    # The kernels' two rounded steps, a sample each.
    assert tensor.shape == wanted.shape
    assert np.abs(tensor - wanted).max() < 1.01 * max(scale) + within


def test_pictures_of_bytes_may_be_asked_for(client):
    frame = noise(54, 96, 3)
    assert (client.resize(frame, (40, 22), dtype=np.uint8) == client.resize(frame, (40, 22))).all()
    ten = noise(54, 96, dtype=np.uint16)
    assert client.resize(ten, (40, 22), "p010", to="nv12", dtype="uint8").dtype == np.uint8


@pytest.mark.parametrize("layout", ["chw", "hwc"])
def test_tensors_of_bytes(client, layout):
    frame = noise(54, 96, 3)
    mean, scale = (128, 120, 125), (1, 0.5, 4)
    tensor = client.resize(frame, (40, 22), dtype="int8", layout=layout, mean=mean, scale=scale)
    assert tensor.dtype == np.int8
    # What is beyond a byte's range is its end.
    wanted = np.clip((exact(frame, (40, 22)) - mean) * scale, -128, 127)
    assert (wanted == 127).any() and (wanted == -128).any()
    if layout == "chw":
        wanted = np.moveaxis(wanted, 2, 0)
    assert tensor.shape == wanted.shape
    # As above, and rounded.
    assert np.abs(tensor - wanted).max() < 1.01 * max(scale) + 0.5


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_tensors_are_given_to_others_without_a_copy(client, dtype):
    frame = noise(54, 96, 3)
    # The first of a kind is numpy's own, the second lies in its slot.
    client.resize(frame, (40, 22), dtype=dtype)
    tensor = client.resize(frame, (40, 22), dtype=dtype)
    assert isinstance(tensor.base.obj, resized.View)
    assert tensor.flags.writeable and tensor.flags.c_contiguous and tensor.flags.aligned
    shared = np.from_dlpack(tensor)
    assert shared.ctypes.data == tensor.ctypes.data and shared.ctypes.data % 4096 == 0
    wanted = tensor.copy()
    del tensor
    gc.collect()
    # Whoever took it keeps it.
    for seed in range(6):
        client.resize(noise(54, 96, 3, seed=seed), (40, 22), dtype=dtype)
    assert shared.dtype == wanted.dtype and (shared == wanted).all()


def through_dlpack(array):
    """As torch.from_dlpack takes it."""
    # Memory of the CPU's, by the standard's number.
    assert array.__dlpack_device__() == (1, 0)
    return np.from_dlpack(array)


def through_the_interface(array):
    """As torch.from_numpy takes it: by its address, shape and strides, and whoever has that keeps it."""

    class Tensor:
        __array_interface__, kept = array.__array_interface__, array

    # torch takes nothing that is read only, of the other byte order, or that does not go forward in whole numbers.
    interface = Tensor.__array_interface__
    assert interface["data"][1] is False and interface["typestr"][0] != ">"
    assert all(stride > 0 and stride % array.itemsize == 0 for stride in array.strides)
    return np.asarray(Tensor())


@pytest.mark.parametrize("take", [through_dlpack, through_the_interface])
@pytest.mark.parametrize("options", [
    {"dtype": "float32"}, {"dtype": "float16"}, {"dtype": "int8", "layout": "hwc"}, {"to": "bgr"}, {"to": "gray"},
])
def test_frames_are_given_to_others_where_they_lie(client, options, take):
    stream = client.stream("rgb", (96, 54), (40, 22), slots=1, **options)
    frame = stream.resize(noise(54, 96, 3))
    address, wanted = frame.array.ctypes.data, frame.array.copy()
    taken = take(frame.array)
    assert taken.ctypes.data == address and taken.dtype == wanted.dtype and (taken == wanted).all()
    with pytest.raises(BufferError):
        frame.release()
    del taken
    gc.collect()
    frame.release()


def test_arrays_are_taken_however_they_lie_in_memory(client):
    frame = noise(54, 96, 3)
    wanted = client.resize(frame, (40, 22)).copy()
    wide = noise(54, 200, 3)
    wide[:, 50:146] = frame
    # Rows apart, rows upwards, channels backwards, and columns first.
    assert (client.resize(wide[:, 50:146], (40, 22)) == wanted).all()
    assert (client.resize(frame[::-1].copy()[::-1], (40, 22)) == wanted).all()
    assert (client.resize(frame[..., ::-1].copy()[..., ::-1], (40, 22)) == wanted).all()
    assert (client.resize(np.asfortranarray(frame), (40, 22)) == wanted).all()
    # No numpy at all, and something that numpy makes an array of.
    assert (client.resize(memoryview(frame), (40, 22)) == wanted).all()

    class Picture:
        __array_interface__ = frame.__array_interface__

    assert (client.resize(Picture(), (40, 22)) == wanted).all()
    frame.flags.writeable = False
    assert (client.resize(frame, (40, 22)) == wanted).all()


def test_sizes_and_crops_are_any_sequence(client):
    frame = noise(54, 96, 3)
    wanted = client.resize(frame, (40, 22), crop=(10, 5, 40, 40)).copy()
    for kind in (list, np.array, lambda it: tuple(map(np.int64, it))):
        assert (client.resize(frame, kind((40, 22)), crop=kind((10, 5, 40, 40))) == wanted).all()
        stream = client.stream("rgb", kind((96, 54)), kind((40, 22)))
        assert (stream.source_size, stream.size) == ((96, 54), (40, 22))


def test_a_side_that_is_not_given_follows_from_the_shape(client):
    frame = noise(54, 96, 3)
    for size, shape in [((64, None), (36, 64)), ((None, 36), (36, 64)), ((10, None), (6, 10)), ((1, None), (1, 1))]:
        wanted = client.resize(frame, shape[::-1])
        assert wanted.shape == (*shape, 3) and (client.resize(frame, size) == wanted).all()
    # What is seen has that shape, be it a part.
    assert client.resize(frame, (20, None), crop=(10, 5, 40, 20)).shape == (10, 20, 3)
    assert client.resize(frame, np.array((None, 30)), crop=(10, 5, 40, 20)).shape == (30, 60, 3)
    # Exactly between two: up, as elsewhere.
    assert client.resize(noise(169, 40), (100, None)).shape == (423, 100)
    # Frames with halved chroma have even sides.
    assert client.resize(frame, (50, None), to="gray").shape == (28, 50)
    assert client.resize(frame, (48, None), to="gray").shape == (27, 48)
    assert client.resize(frame, (48, None), to="nv12").shape == (42, 48)
    assert client.resize(frame, (2, None), to="i420").shape == (3, 2)
    assert client.stream("i420", (1920, 1080), (None, 359)).size == (638, 359)


def test_copies_are_counted(client):
    frame = noise(54, 96, 3)
    before = client.copied_bytes
    # The first of a kind is copied out, as are those for which there is no room.
    first = client.resize(frame, (64, 36))
    assert client.copied_bytes - before == frame.nbytes + first.nbytes
    before = client.copied_bytes
    second = client.resize(frame, (64, 36))
    assert client.copied_bytes - before == frame.nbytes
    assert (second == first).all()
    before = client.copied_bytes
    client.resize(frame[..., ::-1], (64, 36))
    assert client.copied_bytes - before == 2 * frame.nbytes


@pytest.mark.parametrize("size", [(64, 36), (40, 22), (34, 22), (128, 36)])
@pytest.mark.parametrize("options", [
    {}, {"to": "gray"}, {"to": "rgba"}, {"to": "i420"}, {"to": "nv12"}, {"dtype": "float16"}, {"dtype": "int8", "layout": "hwc"},
])
def test_every_result_is_without_gaps(client, size, options):
    frame, results = noise(54, 96, 3), []
    # The first of a kind, two that could be seen where they lie, and one for which there is no room.
    for _ in range(4):
        results.append(client.resize(frame, size, **options))
        assert results[-1].flags.c_contiguous
        assert results[-1].tobytes() == results[0].tobytes()


def test_results_that_are_small_beside_their_source_keep_nothing(client):
    frame = noise(256, 256)
    for height, seen in ((72, True), (64, False)):
        client.resize(frame, (64, height))
        before = client.copied_bytes
        result = client.resize(frame, (64, height))
        assert client.copied_bytes - before == frame.nbytes + (0 if seen else result.nbytes)


def test_results_are_the_callers_however_many_are_kept(client):
    frames = [noise(54, 96, 3, seed=seed) for seed in range(30)]
    results = [client.resize(frame, (40, 22)) for frame in frames]
    for frame, result in zip(frames, results):
        assert near(result, exact(frame, (40, 22)))
        assert result.flags.writeable
    # Of many sizes, too: each was the first of its kind, then the second.
    results = [[client.resize(frames[0], (side, side)) for _ in range(2)] for side in range(10, 40)]
    for side, (one, other) in zip(range(10, 40), results):
        assert near(one, exact(frames[0], (side, side))) and (one == other).all()


def test_few_streams_are_kept_open(daemon):
    client, frame = resized.Client(daemon.endpoint), noise(54, 96, 3)
    for _ in range(3):
        for side in range(10, 30):
            client.resize(frame, (side, side))
    assert client.stats()["streams"] == 8
    for _ in range(20):
        client.resize(frame, (29, 29))
    assert client.stats()["streams"] == 8
    del client
    other = resized.Client(daemon.endpoint)
    until("the streams are closed", lambda: other.stats()["streams"] == 0)


def test_no_picture_is_refused_for_what_is_kept_for_others(tmp_path):
    with Daemon(tmp_path, "--user-streams", "3") as daemon:
        client = resized.Client(daemon.endpoint)
        for side in [*range(10, 20), *range(10, 20)]:
            frame = noise(54, 96, 3, seed=side)
            for _ in range(2):
                assert near(client.resize(frame, (side, side)), exact(frame, (side, side)))
        assert 1 <= client.stats()["streams"] <= 3
        # Nor is a stream, but those are not closed for a picture.
        streams = [client.stream("gray", (side, side), (9, 9)) for side in range(10, 13)]
        with pytest.raises(resized.Refused, match="another stream is asked for"):
            client.resize(frame, (20, 20))
        assert len(streams) == client.stats()["streams"] == 3


def test_a_kept_stream_whose_memory_is_gone_gives_its_place_to_another(daemon, tmp_path):
    relay = Relay(tmp_path, daemon)
    client, frame = resized.Client(relay.endpoint), noise(54, 96, 3)
    for _ in range(2):
        for _ in range(3):
            assert near(client.resize(frame, (40, 22)), exact(frame, (40, 22)))
        assert client.stats()["streams"] == 1
        relay.lost = relay.newest
        with pytest.raises(resized.Failed):
            client.resize(frame, (40, 22))


def test_threads_that_are_short_at_once_are_all_served(tmp_path):
    with Daemon(tmp_path, "--user-streams", "2") as daemon:
        client = resized.Client(daemon.endpoint)

        def work(thread):
            for turn in range(300):
                client.resize(noise(2 + thread, 8, seed=0), (1 + turn % 5, 1))

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            list(threads.map(work, range(2)))


def test_a_kind_goes_on_with_the_slots_that_are_granted(tmp_path):
    with Daemon(tmp_path, "--user-slots", "3") as daemon:
        client, frame = resized.Client(daemon.endpoint), noise(54, 96, 3)
        for _ in range(4):
            assert near(client.resize(frame, (40, 22)), exact(frame, (40, 22)))
        # More was asked for once, not for every frame.
        assert (client.stats()["streams"], client.stats()["refused"]) == (1, 1)


def test_a_kind_goes_on_while_there_is_no_descriptor_for_more(daemon):
    client, frame = resized.Client(daemon.endpoint), noise(54, 96, 3)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    results = [client.resize(frame, (64, 36))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        results += [client.resize(frame, (64, 36)) for _ in range(3)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for result in results:
        assert near(result, exact(frame, (64, 36)))
    # Once there is, it has more, and results are seen where they lie.
    for _ in range(200):
        client.resize(frame, (64, 36))
    copied = client.copied_bytes
    client.resize(frame, (64, 36))
    assert client.copied_bytes - copied == frame.nbytes


def test_threads_share_a_client(client):
    wrong = []

    def work(seed):
        frame = noise(54, 96, 3, seed=seed)
        wanted = exact(frame, (40, 22))
        for _ in range(25):
            try:
                near(client.resize(frame, (40, 22)), wanted)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_framing(client):
    frame = noise(54, 96, 3)
    fitted = client.resize(frame, (40, 40), mode="fit", pad=(1, 2, 3))
    assert (fitted[:8] == (1, 2, 3)).all() and (fitted[31:] == (1, 2, 3)).all()
    assert near(fitted[8:31], exact(frame, (40, 23)))
    top = client.resize(frame, (40, 40), mode="fit", align="start")
    assert near(top[:23], exact(frame, (40, 23))) and (top[23:] == 0).all()
    filled = client.resize(frame, (27, 27), mode="fill", filter="area")
    assert near(filled, frame[:, 21:75].reshape(27, 2, 27, 2, 3).mean(axis=(1, 3)))
    cropped = client.resize(frame, (20, 20), crop=(10, 5, 40, 40), filter="area")
    assert near(cropped, frame[5:45, 10:50].reshape(20, 2, 20, 2, 3).mean(axis=(1, 3)))


@pytest.mark.parametrize("error, call", [
    (ValueError, lambda it: it.resize(noise(54, 96, 5), (4, 4))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4), "rgba")),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4), filter="sharp")),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4), mean=(1, 2, 3))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4), pad=(1, 2, 3))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4), to="rgb", dtype="int8")),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (5, 4), to="nv12")),
    (ValueError, lambda it: it.resize(noise(55, 96), (4, 4), "i420")),
    (ValueError, lambda it: it.resize(noise(54, 95), (4, 4), "i420")),
    (ValueError, lambda it: it.stream("rgb", (96, 54), (4, 4), deadline=-1)),
    (TypeError, lambda it: it.resize(noise(54, 96, 3), (4, 4), antialias=True)),
    (TypeError, lambda it: it.resize(noise(54, 96, 3).astype(float), (4, 4))),
    (TypeError, lambda it: it.resize(noise(54, 96, dtype=np.uint16).astype(">u2"), (4, 4), "p010")),
    (TypeError, lambda it: it.resize([[1, 2], [3, 4]], (4, 4))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (-4, 4))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4, 4))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4), crop=(1, 2, 3))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (None, None))),
    (TypeError, lambda it: it.stream("rgb", (96, None), (4, 4))),
    (ValueError, lambda it: it.resize(noise(54, 96, 3), (4, 4), to="p010", dtype="uint8")),
    (TypeError, lambda it: it.resize(noise(54, 96, 3), 4)),
    (TypeError, lambda it: it.resize(noise(54, 96, 3), (4.5, 4))),
    (TypeError, lambda it: it.resize(np.uint8(7), (4, 4))),
    (TypeError, lambda it: it.resize(None, (4, 4))),
    (resized.Refused, lambda it: it.resize(noise(0, 96, 3), (4, 4))),
    (resized.Refused, lambda it: it.resize(noise(0, 96, 3), (None, 4))),
    (resized.Refused, lambda it: it.resize(noise(54, 96, 3), (4, None), crop=(0, 0, 0, 9))),
    (resized.Refused, lambda it: it.resize(noise(54, 0), (4, 4))),
    # Larger than memory may be, if it were copied to have its rows together.
    (resized.Refused, lambda it: it.resize(np.broadcast_to(np.uint8(0), (20000, 20000)), (4, 4))),
    (resized.Refused, lambda it: it.resize(noise(54, 96, 3), (0, 4))),
    (resized.Refused, lambda it: it.resize(noise(54, 96, 3), (99999, 4))),
    (resized.Refused, lambda it: it.resize(noise(54, 96, 3), (4, 4), crop=(90, 0, 20, 20))),
    (resized.Refused, lambda it: it.resize(noise(54, 96, 3), (4, 4), weight=101)),
    (resized.Refused, lambda it: it.stream("rgb", (96, 54), (4, 4), slots=257)),
])
def test_what_can_not_be_done_is_said(client, error, call):
    with pytest.raises(error) as raised:
        call(client)
    assert str(raised.value)
    assert near(client.resize(noise(54, 96, 3), (9, 9)), exact(noise(54, 96, 3), (9, 9)))


@pytest.mark.parametrize("words, call", [
    ("size='640x360': wanted is (width, height)", lambda it, a: it.resize(a, "640x360")),
    ("source_size=96: wanted is (width, height)", lambda it, a: it.stream("rgb", 96, (4, 4))),
    ("pad=(300, 0, 0): wanted is three numbers from 0 to 255",
     lambda it, a: it.resize(a, (4, 4), mode="fit", pad=(300, 0, 0))),
    ("mean=1: wanted is three numbers", lambda it, a: it.resize(a, (4, 4), dtype="int8", mean=1)),
    ("filter=3: wanted is one of", lambda it, a: it.resize(a, (4, 4), filter=3)),
    ("crop=(1, 2): wanted is (left, top, width, height)", lambda it, a: it.resize(a, (4, 4), crop=(1, 2))),
    ("arrays of rgb frames hold uint8, not float64 (if it is from 0 to 1, multiply by 255",
     lambda it, a: it.resize(a.astype(float), (4, 4))),
    ("arrays of rgb frames hold uint8, not int64", lambda it, a: it.resize(a.astype(np.int64), (4, 4))),
    ("size=(None, None): wanted is (width, height), in pixels; one may be None",
     lambda it, a: it.resize(a, (None, None))),
    ("dtype='uint8', but p010 frames hold uint16: give to='nv12'",
     lambda it, a: it.resize(noise(54, 96, dtype=np.uint16), (4, 4), "p010", dtype=np.uint8)),
    ("dtype='uint8', but i420p10 frames hold uint16: give to='i420'",
     lambda it, a: it.stream("rgb", (4, 4), (4, 4), to="i420p10", dtype="uint8")),
    ("arrays of p010 frames hold uint16, not uint16 of the other byte order",
     lambda it, a: it.resize(noise(54, 96).astype(">u2"), (4, 4), "p010")),
    ("a frame is an array, not NoneType", lambda it, a: it.resize(None, (4, 4))),
    ("a frame is an array, not str", lambda it, a: it.resize("hello", (4, 4))),
    ("deadline=-1: wanted is a number of seconds, 0 or more",
     lambda it, a: it.stream("rgb", (4, 4), (4, 4), deadline=-1)),
    ("timeout=-1: wanted is a number of seconds, 0 or more",
     lambda it, a: it.stream("rgb", (4, 4), (4, 4)).loan(timeout=-1)),
])
def test_errors_name_what_is_wrong(client, words, call):
    with pytest.raises((TypeError, ValueError)) as raised:
        call(client, noise(54, 96, 3))
    assert words in str(raised.value)


def test_an_error_of_the_values_own_stays_what_it_is(client):
    class Broken:
        def __index__(self):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        client.resize(noise(54, 96, 3), (Broken(), 4))


def test_who_is_not_there_is_said(tmp_path, monkeypatch):
    with pytest.raises(resized.ConnectError, match="nowhere"):
        resized.Client(f"unix:{tmp_path}/nowhere")
    with pytest.raises(resized.EndpointError, match="unix:/path.*'embedded'"):
        resized.Client("http://x")
    monkeypatch.setenv("RESIZED_ENDPOINT", "x")
    with pytest.raises(resized.EndpointError, match="RESIZED_ENDPOINT"):
        resized.Client()
    assert issubclass(resized.ConnectError, resized.Error)


def test_the_daemon_that_runs_is_found(daemon, monkeypatch):
    monkeypatch.setenv("RESIZED_ENDPOINT", daemon.endpoint)
    client = resized.Client()
    assert client.endpoint == daemon.endpoint
    assert client.stats()["sessions"] == 1
    assert client.devices == [device["name"] for device in client.stats()["devices"]]


def test_where_none_runs_one_is_embedded(tmp_path, monkeypatch):
    monkeypatch.delenv("RESIZED_ENDPOINT", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    client = resized.Client()
    # The machine's own, where this is a machine that has one.
    assert client.endpoint in (None, "unix:/run/resized/resized.sock")
    assert near(client.resize(noise(54, 96, 3), (9, 9)), exact(noise(54, 96, 3), (9, 9)))
    if client.endpoint is None:
        other = resized.Client("embedded")
        assert client.stats()["sessions"] == other.stats()["sessions"] >= 2


def test_one_daemon_is_embedded_whoever_is_first():
    program = """
import resized, threading
begin, clients = threading.Barrier(4), []
def connect():
    begin.wait()
    clients.append(resized.Client("embedded"))
threads = [threading.Thread(target=connect) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print([client.stats()["sessions"] for client in clients])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[4, 4, 4, 4]", run


def test_other_interpreters_of_a_process_are_refused():
    interpreters = pytest.importorskip("_xxsubinterpreters")
    other = interpreters.create()
    try:
        with pytest.raises(interpreters.RunFailedError, match="another interpreter"):
            interpreters.run_string(other, "import resized")
    finally:
        interpreters.destroy(other)
    # The same may import it again.
    # Installed it is a package with the module in it.
    forget = "[sys.modules.pop(name) for name in list(sys.modules) if name.partition('.')[0] == 'resized']"
    again = f"import sys, resized; {forget}; import resized; print(resized.Client('embedded'))"
    run = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "<resized.Client embedded>"
