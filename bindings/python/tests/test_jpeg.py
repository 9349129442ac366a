"""Streams of JPEGs, through a bridge: in, out, and both ways."""

import asyncio
import io

import numpy as np
import pytest
import resized
from conftest import exact, noise

# Shades that JPEGs may change, in the mean: another matrix or range changes four and more.
WITHIN = 2


@pytest.fixture
def remote(bridge):
    return resized.Client(bridge.endpoint)


def gradient(width, height):
    """A picture that JPEGs keep well: red grows to the right, green downwards, blue to the left."""
    x, y = np.linspace(20, 230, width), np.linspace(30, 220, height)
    across, down = np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))
    return np.stack([across, down, across[:, ::-1]], 2).astype(np.uint8)


def jpeg_of(remote, frame, format="rgb", **options):
    """A JPEG of an array, as the bridge makes one."""
    size = frame.shape[1::-1]
    return remote.stream(format, size, size, jpeg_out=True, slots=1, **options).resize(frame).jpeg


def is_like(found, wanted):
    assert found.shape == wanted.shape
    return np.abs(found.astype(float) - wanted).mean() <= WITHIN


@pytest.mark.parametrize("format", ["rgb", "bgr", "rgba", "bgra", "gray"])
def test_arrays_become_jpegs_and_jpegs_arrays(remote, format):
    frame, opaque = gradient(192, 108), np.full((108, 192), 255, np.uint8)
    if format == "gray":
        frame = frame[..., 0].copy()
    elif format.endswith("a"):
        frame = np.dstack([frame, opaque])
    there = remote.stream(format, (192, 108), (96, None), jpeg_out=True, quality=100, subsampling="4:4:4")
    back = remote.stream(format, (96, 54), (48, 27), jpeg_in=True)
    assert (there.jpeg_in, there.jpeg_out, back.jpeg_in, back.jpeg_out) == (False, True, True, False)
    assert repr(there) == f"<resized.Stream 192x108 {format} to 96x54 JPEG>"
    with there.resize(frame) as result:
        jpeg = result.jpeg
        assert result.receipt.copied_bytes == frame.nbytes and result.placement.destination == (0, 0, 96, 54)
    assert isinstance(jpeg, bytes) and jpeg[:3] == b"\xff\xd8\xff" and jpeg[-2:] == b"\xff\xd9"
    with back.resize(jpeg) as result:
        assert result.receipt.copied_bytes == len(jpeg)
        assert is_like(result.array, exact(frame, (48, 27)))


def test_jpegs_become_jpegs_planes_and_tensors(remote):
    frame = gradient(192, 108)
    jpeg = jpeg_of(remote, frame, quality=95)
    small = remote.stream("i420", (192, 108), (96, 54), jpeg_in=True, jpeg_out=True)
    assert repr(small) == "<resized.Stream 192x108 JPEG to 96x54 JPEG>"
    again = remote.stream("rgb", (96, 54), (48, 27), jpeg_in=True)
    assert is_like(again.resize(small.resize(jpeg).jpeg).array, exact(frame, (48, 27)))
    # Of the colour that a JPEG has: its luma is all of 0 to 255, by BT.601.
    luma = remote.stream("i420", (192, 108), (96, 54), jpeg_in=True).resize(jpeg).planes[0]
    assert is_like(luma, exact(frame, (96, 54)) @ [0.299, 0.587, 0.114])
    bgr = remote.stream("i420", (192, 108), (96, 54), jpeg_in=True, to="bgr").resize(jpeg).array
    assert is_like(bgr, exact(frame, (96, 54))[..., ::-1])
    stream = remote.stream("i420", (192, 108), (96, 54), jpeg_in=True, dtype="float32", scale=(1, 1, 1))
    tensor = stream.resize(jpeg).array
    assert tensor.dtype == np.float32 and is_like(np.moveaxis(tensor, 0, 2), exact(frame, (96, 54)))
    # Of video, whose colour is another, JPEGs of a JPEG's.
    video = np.full((108 * 3 // 2, 192), 128, np.uint8)
    video[:108] = 235
    white = remote.stream("i420", (192, 108), (96, 54), jpeg_out=True).resize(video).jpeg
    assert is_like(remote.stream("gray", (96, 54), (48, 27), jpeg_in=True).resize(white).array, np.full((27, 48), 255))


def test_quality_and_subsampling_are_as_they_were_asked_for(remote):
    Image = pytest.importorskip("PIL.Image")
    frame, lengths = noise(54, 96, 3), []
    for quality, subsampling, sampled in [(10, "4:2:0", (2, 2)), (85, "4:2:2", (2, 1)), (None, "4:4:4", (1, 1))]:
        jpeg = jpeg_of(remote, frame, quality=quality, subsampling=subsampling)
        lengths.append(len(jpeg))
        image = Image.open(io.BytesIO(jpeg))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (96, 54))
        assert [layer[1:3] for layer in image.layer] == [sampled, (1, 1), (1, 1)]
    assert lengths == sorted(lengths)
    usual = jpeg_of(remote, frame)
    assert usual == jpeg_of(remote, frame, quality=85, subsampling="4:2:0")


@pytest.mark.parametrize("like", [bytes, bytearray, memoryview, lambda it: memoryview(bytearray(2) + it)[2:],
                                  lambda it: np.frombuffer(it, np.uint8)])
def test_whatever_has_bytes_is_a_jpeg(remote, like):
    stream = remote.stream("rgb", (96, 54), (48, 27), jpeg_in=True)
    jpeg = like(jpeg_of(remote, gradient(96, 54)))
    slot = stream.loan()
    slot.write(jpeg)
    results = [stream.resize(jpeg), stream.submit(jpeg).result(), slot.submit().result()]
    for result in results:
        assert np.array_equal(result.array, results[0].array) and result.receipt.copied_bytes == len(jpeg)


def test_jpegs_of_an_iterator_and_of_coroutines(remote):
    jpegs = [jpeg_of(remote, np.full((54, 96), shade, np.uint8), "gray") for shade in range(0, 240, 20)]
    stream = remote.stream("gray", (96, 54), (48, 27), jpeg_in=True)
    assert [int(frame.array.mean().round()) for frame in stream.map(jpegs)] == list(range(0, 240, 20))

    async def main():
        async def one(jpeg):
            with await stream.resize_async(jpeg) as result:
                return int(result.array.mean().round())

        return await asyncio.gather(*map(one, jpegs))

    assert asyncio.run(main()) == list(range(0, 240, 20))


def test_a_result_that_is_no_shorter_as_a_jpeg_fails_alone(remote):
    stream = remote.stream("rgb", (192, 108), (192, 108), jpeg_out=True, quality=100, subsampling="4:4:4")
    with pytest.raises(resized.Failed):
        stream.resize(noise(108, 192, 3))
    assert stream.resize(gradient(192, 108)).jpeg[:2] == b"\xff\xd8"


def test_a_slot_takes_a_crop_of_a_jpeg(remote):
    frame = gradient(192, 108)
    stream = remote.stream("rgb", (192, 108), (48, 27), jpeg_in=True)
    slot = stream.loan()
    assert repr(slot) == "<resized.Slot 192x108 JPEG>"
    slot.write(jpeg_of(remote, frame, quality=95))
    slot.set_crop(96, 54, 96, 54)
    with slot.submit().result() as result:
        assert result.placement.source == (96, 54, 96, 54)
        assert abs(int(result.array[..., 0].mean()) - int(frame[54:, 96:, 0].mean())) <= WITHIN


def test_what_is_no_jpeg_costs_that_frame_alone(remote):
    stream = remote.stream("rgb", (96, 54), (48, 27), jpeg_in=True)
    good = jpeg_of(remote, gradient(96, 54))
    other = jpeg_of(remote, gradient(54, 96))
    pendings = [stream.submit(jpeg) for jpeg in (good, b"no JPEG", other, good)]
    first, *bad, last = pendings
    for pending in bad:
        with pytest.raises(resized.Unreadable, match="no JPEG of the stream's extent"):
            pending.result()
    assert np.array_equal(first.result().array, last.result().array)
    for jpeg in (b"", good[:40], good[:-200]):
        with pytest.raises(resized.Unreadable):
            stream.resize(jpeg)
    # An iterator ends with it.
    results = stream.map([good, b"", good])
    assert next(results).array.shape == (27, 48, 3)
    with pytest.raises(resized.Unreadable):
        next(results)


def test_what_a_stream_of_jpegs_does_not_take_leaves_its_slot_free(remote):
    stream = remote.stream("rgb", (96, 54), (48, 27), jpeg_in=True, slots=1)
    good = jpeg_of(remote, gradient(96, 54))
    longest = 54 * 96 * 3 + 4092
    wrong = [(bytes(longest + 1), resized.LengthError, f"{longest + 1} bytes was given, the stream takes {longest} at the"),
             (noise(54, 96, 3), TypeError, r"JPEGs, which are bytes, not an array of shape \(54, 96, 3\)"),
             (np.frombuffer(bytes(8), np.uint16), TypeError, r"not an array of shape \(4,\)"),
             ("photo.jpg", TypeError, "JPEGs, which are bytes, not str"),
             (None, TypeError, "not NoneType")]
    for given, error, words in wrong:
        slot = stream.loan()
        with pytest.raises(error, match=words):
            slot.write(given)
        slot.release()
        for call in (stream.resize, stream.submit, lambda it: next(stream.map([it]))):
            with pytest.raises(error, match=words):
                call(given)
    with pytest.raises(resized.Unreadable):
        stream.resize(bytes(longest))
    assert stream.resize(good).array.shape == (27, 48, 3)


def test_a_jpeg_has_no_arrays_and_an_array_no_jpeg(remote):
    takes = remote.stream("rgb", (96, 54), (48, 27), jpeg_in=True)
    gives = remote.stream("rgb", (96, 54), (96, 54), jpeg_out=True)
    slot, frame = takes.loan(), gives.resize(gradient(96, 54))
    for look in (lambda: slot.array, lambda: slot.planes):
        with pytest.raises(ValueError, match="this slot takes a JPEG: use write"):
            look()
    for look in (lambda: frame.array, lambda: frame.planes):
        with pytest.raises(ValueError, match="this frame is a JPEG: use jpeg"):
            look()
    with pytest.raises(ValueError, match="this frame is no JPEG: use array"):
        takes.resize(frame.jpeg).jpeg
    # The slot is free again, and the bytes are there still.
    jpeg = frame.jpeg
    frame.release()
    with pytest.raises(ValueError, match="released"):
        frame.jpeg
    assert takes.resize(jpeg).array.shape == (27, 48, 3)
    # Bytes are no array.
    for call in (gives.resize, lambda it: remote.resize(it, (48, 27))):
        with pytest.raises(ValueError, match="JPEGs are for streams with jpeg_in=True"):
            call(jpeg)


def test_words_that_do_not_go_together_are_told(remote):
    wrong = [
        ({"jpeg_out": 85}, TypeError, "jpeg_out=85: wanted is True or False"),
        ({"jpeg_in": "yes"}, TypeError, "jpeg_in='yes'"),
        ({"jpeg_out": True, "quality": 0}, ValueError, "quality=0: wanted is a whole number from 1 to 100"),
        ({"jpeg_out": True, "quality": 300}, ValueError, "quality=300"),
        ({"jpeg_out": True, "subsampling": "4:1:1"}, ValueError, "subsampling='4:1:1': wanted is one of '4:4:4'"),
        ({"quality": 85}, ValueError, "quality= is for results that are JPEGs: give jpeg_out=True"),
        ({"jpeg_in": True, "subsampling": "4:2:0"}, ValueError, "subsampling= is for results"),
        ({"jpeg_out": True, "dtype": "float32"}, ValueError, "not both"),
        ({"jpeg_out": True, "to": "nv12"}, resized.Refused, "no JPEG is made"),
        ({"jpeg_out": True, "to": "i420", "subsampling": "4:4:4"}, resized.Refused, "halved in both directions"),
        ({"jpeg_in": True, "range": "limited"}, resized.Refused, "colour is full range"),
    ]
    for words, error, said in wrong:
        with pytest.raises(error, match=said):
            remote.stream("rgb", (96, 54), (48, 27), **words)
    assert not remote.stream("rgb", (96, 54), (48, 27), jpeg_in=False, jpeg_out=False).jpeg_out
    with pytest.raises(ValueError, match="for Client.stream"):
        remote.resize(noise(54, 96, 3), (48, 27), jpeg_out=True)


@pytest.mark.parametrize("words", [{"jpeg_in": True}, {"jpeg_out": True}])
def test_a_daemon_itself_takes_and_gives_none(client, words):
    with pytest.raises(resized.Refused, match="JPEGs are for streams through a bridge"):
        client.stream("rgb", (96, 54), (48, 27), **words)
    assert client.stream("rgb", (96, 54), (48, 27)).resize(noise(54, 96, 3)).array.shape == (27, 48, 3)
