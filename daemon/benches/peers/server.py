"""A resizer of Python's world, one turn a line, for src/peer/python.rs.

    server.py RESIZER FROM_WIDTH FROM_HEIGHT TO_WIDTH TO_HEIGHT CHANNELS
    server.py versions

Says "ready", or why it can't; then takes the source's bytes, and lines: "turn" resizes and is answered
by the milliseconds that took, "made" by the bytes of the last result. Ends with its input.
"""

import gc
import sys
import time


def opencv(interpolation):
    import cv2
    import numpy

    cv2.setNumThreads(1)
    interpolation = getattr(cv2, interpolation)

    def opened(source, size):
        result = numpy.empty((size[1], size[0], source.shape[2]), numpy.uint8)
        return lambda: cv2.resize(source, size, dst=result, interpolation=interpolation)

    return opened


def pillow():
    from PIL import Image

    def opened(source, size):
        # RGBX: four channels as they are. RGBA would be premultiplied.
        mode = "RGB" if source.shape[2] == 3 else "RGBX"
        image = Image.frombytes(mode, (source.shape[1], source.shape[0]), source.tobytes())
        return lambda: image.resize(size, Image.Resampling.BICUBIC)

    return opened


RESIZERS = {
    "OpenCV INTER_CUBIC": lambda: opencv("INTER_CUBIC"),
    "OpenCV INTER_AREA": lambda: opencv("INTER_AREA"),
    "Pillow": pillow,
}


def serve(resizer, from_width, from_height, to_width, to_height, channels):
    try:
        opened = RESIZERS[resizer]()

        import numpy
    except ImportError as error:
        print(error, flush=True)
        return
    print("ready", flush=True)
    pixels = sys.stdin.buffer.read(from_width * from_height * channels)
    source = numpy.frombuffer(pixels, numpy.uint8).reshape(from_height, from_width, channels)
    turn = opened(source, (to_width, to_height))
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
    serve(sys.argv[1], *map(int, sys.argv[2:]))
