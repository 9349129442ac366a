"""A resizer of Python's world, one turn a line, for src/peer/python.rs.

    server.py RESIZER WORK
    server.py versions

WORK is JSON: `bytes` and `channels` of the source; `source` and `target`, the width and height of both
frames; `picture`, left, top, width and height within the target; `pad`, `mean` and `scale`, a number for
each channel. Says "ready", or why it can't; then takes the source's bytes, and lines: "turn" resizes and
is answered by the milliseconds that took, "made" by the bytes of the last result. Ends with its input.
"""

import gc
import json
import sys
import time
from types import SimpleNamespace


def opencv():
    import cv2

    cv2.setNumThreads(1)
    return cv2


def resize(interpolation):
    def opened(source, work):
        import numpy

        cv2 = opencv()
        flag = getattr(cv2, interpolation)
        source = source.reshape(work.source[1], work.source[0], work.channels)
        result = numpy.empty((work.target[1], work.target[0], work.channels), numpy.uint8)
        return lambda: cv2.resize(source, work.target, dst=result, interpolation=flag)

    return opened


def pillow(source, work):
    from PIL import Image

    # RGBX: four channels as they are. RGBA would be premultiplied.
    mode = "RGB" if work.channels == 3 else "RGBX"
    image = Image.frombytes(mode, work.source, source.tobytes())
    return lambda: image.resize(work.target, Image.Resampling.BICUBIC)


def tensor_by_numpy(interpolation):
    """I420 to a tensor as it is mostly written: OpenCV up to the padded picture, then numpy. What
    OpenCV makes goes into memory that is kept, which is more than most do."""

    def opened(source, work):
        import numpy

        framed = letterbox(source, work, interpolation)
        mean, scale = numpy.float32(work.mean), numpy.float32(work.scale)

        def turn():
            numbers = framed().astype(numpy.float32)
            numbers -= mean
            numbers *= scale
            return numpy.ascontiguousarray(numbers.transpose(2, 0, 1))

        return turn

    return opened


def tensor_by_blob(interpolation):
    """The same up to the padded picture, then what OpenCV itself has for networks."""

    def opened(source, work):
        import numpy

        cv2 = opencv()
        framed = letterbox(source, work, interpolation)
        parameters = cv2.dnn.Image2BlobParams()
        parameters.mean = (*work.mean, 0.0)
        parameters.scalefactor = (*work.scale, 1.0)
        result = numpy.empty((1, 3, work.target[1], work.target[0]), numpy.float32)
        return lambda: cv2.dnn.blobFromImageWithParams(framed(), result, parameters)

    return opened


def letterbox(source, work, interpolation):
    """Converts the whole frame, resizes the colours and pads them, into memory that it keeps."""
    import numpy

    cv2 = opencv()
    flag = getattr(cv2, interpolation)
    left, top, width, height = work.picture
    right, bottom = work.target[0] - width - left, work.target[1] - height - top
    source = source.reshape(-1, work.source[0])
    colours = numpy.empty((work.source[1], work.source[0], 3), numpy.uint8)
    picture = numpy.empty((height, width, 3), numpy.uint8)
    whole = numpy.empty((work.target[1], work.target[0], 3), numpy.uint8)
    edges = (top, bottom, left, right, cv2.BORDER_CONSTANT)

    def turn():
        cv2.cvtColor(source, cv2.COLOR_YUV2RGB_I420, dst=colours)
        cv2.resize(colours, (width, height), dst=picture, interpolation=flag)
        return cv2.copyMakeBorder(picture, *edges, dst=whole, value=work.pad)

    return turn


def tensor_tuned(interpolation):
    """The fastest that OpenCV was found to allow: the planes are resized, so that few pixels are
    converted and their chroma has half the width and height; colours go straight to their places in a
    tensor that was padded once."""

    def opened(source, work):
        import numpy

        cv2 = opencv()
        flag = getattr(cv2, interpolation)
        left, top, width, height = work.picture
        mean, scale = numpy.float32(work.mean), numpy.float32(work.scale)
        from_planes = i420_planes(source, *work.source)
        small = numpy.empty(width * height * 3 // 2, numpy.uint8)
        to_planes = i420_planes(small, width, height)
        colours = numpy.empty((height, width, 3), numpy.uint8)
        channels = [numpy.empty((height, width), numpy.uint8) for _ in range(3)]
        result = numpy.empty((3, work.target[1], work.target[0]), numpy.float32)
        result[:] = ((numpy.float32(work.pad) - mean) * scale)[:, None, None]
        places = [plane[top : top + height, left : left + width] for plane in result]
        lines = [(place, float(s), float(-m * s)) for place, m, s in zip(places, mean, scale)]

        def turn():
            for plane, target in zip(from_planes, to_planes):
                cv2.resize(plane, target.shape[::-1], dst=target, interpolation=flag)
            cv2.cvtColor(small.reshape(-1, width), cv2.COLOR_YUV2RGB_I420, dst=colours)
            cv2.split(colours, channels)
            for channel, (place, slope, start) in zip(channels, lines):
                cv2.addWeighted(channel, slope, channel, 0.0, start, place, cv2.CV_32F)
            return result

        return turn

    return opened


def i420_planes(frame, width, height):
    luma, chroma = width * height, width * height // 4
    cuts = frame[:luma], frame[luma : luma + chroma], frame[luma + chroma :]
    shapes = (height, width), (height // 2, width // 2), (height // 2, width // 2)
    return [cut.reshape(shape) for cut, shape in zip(cuts, shapes)]


INTERPOLATIONS = ["INTER_LINEAR", "INTER_CUBIC", "INTER_AREA"]
RESIZERS = {"Pillow": pillow}
for name in INTERPOLATIONS:
    RESIZERS[f"OpenCV {name}"] = resize(name)
    RESIZERS[f"OpenCV {name}, numpy"] = tensor_by_numpy(name)
    RESIZERS[f"OpenCV {name}, blob"] = tensor_by_blob(name)
    RESIZERS[f"OpenCV {name}, tuned"] = tensor_tuned(name)


def serve(resizer, work):
    try:
        import numpy

        __import__("PIL" if resizer == "Pillow" else "cv2")
    except ImportError as error:
        print(error, flush=True)
        return
    print("ready", flush=True)
    pixels = sys.stdin.buffer.read(work.bytes)
    turn = RESIZERS[resizer](numpy.frombuffer(pixels, numpy.uint8), work)
    gc.disable()
    for line in sys.stdin.buffer:
        if line == b"turn\n":
            begun = time.perf_counter()
            result = turn()
            print((time.perf_counter() - begun) * 1e3, flush=True)
        else:
            sys.stdout.buffer.write(numpy.asarray(result).tobytes())
            sys.stdout.buffer.flush()


def versions():
    for name, module in [("OpenCV", "cv2"), ("Pillow", "PIL")]:
        try:
            yield f"{name} {__import__(module).__version__}"
        except ImportError:
            yield f"no {name}"


if sys.argv[1] == "versions":
    print(", ".join(versions()))
else:
    serve(sys.argv[1], SimpleNamespace(**json.loads(sys.argv[2])))
