#!/usr/bin/env python3
"""Frames as numpy arrays beside OpenCV and Pillow, in one process: make bench-python.

Calls are made in turn with each other, so that what else the machine does meets all of them: each for a tenth of a
second, as for the frames of a video; or, where that is said, each once, so that it finds the others' pictures in the
caches and the daemon's cores asleep. What is shown is the median of each, and of the ratios of each turn. The daemon is
$RESIZED_PROGRAM as a process, then one inside this.
"""

import asyncio
import collections
import os
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
import PIL
import resized
from PIL import Image

TURNS = int(os.environ.get("TURNS", 30))
ROW = 0.1
SIZE = (640, 360)


def picture(height, width):
    """Something like a photograph: soft shapes, edges and a little noise."""
    random = np.random.default_rng(1)
    soft = cv2.resize(random.integers(0, 256, (height // 40, width // 40, 3), np.uint8), (width, height))
    soft[height // 3 : height // 2, width // 4 : width // 2] //= 3
    return np.clip(soft + random.normal(0, 3, soft.shape), 0, 255).astype(np.uint8)


def timed(call):
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


def each(call, seconds):
    """What a call takes of as many as that long does for."""
    begun, made = time.perf_counter(), 0
    while (taken := time.perf_counter() - begun) < seconds or not made:
        call()
        made += 1
    return taken / made


def table(title, calls, base, seconds=ROW):
    """Times calls in turns, and shows each beside `base`."""
    for call in calls.values():
        for _ in range(5):
            call()
    times = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            times[name].append(each(call, seconds))
    print(f"\n{title}" if seconds else f"\n{title}, each once")
    for name, taken in times.items():
        ratio = statistics.median(t / own for t, own in zip(taken, times[base]))
        quartiles = statistics.quantiles(taken, n=4)
        spread = f"{quartiles[0] * 1e3:.2f} to {quartiles[2] * 1e3:.2f}"
        print(f"  {name:44} {statistics.median(taken) * 1e3:8.3f} ms  (middle half {spread:>14})  {ratio:6.2f}x")


def check(frame, client):
    """What is compared is the same picture."""
    ours = client.resize(frame, SIZE).astype(int)
    pillow = np.asarray(Image.fromarray(frame).resize(SIZE, Image.BICUBIC)).astype(int)
    area = cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA).astype(int)
    largest = [np.abs(ours - other).max() for other in (pillow, area)]
    print(f"the largest difference of a sample: {largest[0]} from Pillow's, {largest[1]} from INTER_AREA's")


def streamed(client, frame, frames=600):
    """Frames a second over slots: written by a copy, or not at all; one at a time, or as many as there are slots."""
    print("\nover slots, 1080p to 640x360, frames a second")
    height, width, _ = frame.shape
    stream = client.stream("bgr", (width, height), SIZE, slots=6)

    def written():
        return stream.submit(frame)

    def decoded():
        # As after a decoder that wrote into the slot: whatever is there is resized.
        return stream.loan().submit()

    for name, submit in (("copied into the slot", written), ("decoded into the slot", decoded)):
        for ahead in (1, 3, 5):
            pendings = collections.deque()
            begun = time.perf_counter()
            for _ in range(frames):
                pendings.append(submit())
                if len(pendings) >= ahead:
                    pendings.popleft().result().release()
            while pendings:
                pendings.popleft().result().release()
            print(f"  {name}, {ahead} in flight {frames / (time.perf_counter() - begun):10.0f}")

    async def one(room):
        async with room:
            (await decoded()).release()

    async def main(ahead):
        room = asyncio.Semaphore(ahead)
        await asyncio.gather(*(one(room) for _ in range(frames)))

    for ahead in (1, 5):
        taken, _ = timed(lambda: asyncio.run(main(ahead)))
        print(f"  decoded, awaited, {ahead} in flight {frames / taken:14.0f}")


def measure(client, where):
    frame = picture(1080, 1920)
    print(f"\n== {where}: {', '.join(client.devices)}")
    check(frame, client)
    image = Image.fromarray(frame)
    ours = f"client.resize, {where}"
    calls = {
        ours: lambda: client.resize(frame, SIZE),
        "OpenCV INTER_AREA": lambda: cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA),
        "OpenCV INTER_CUBIC, not antialiased": lambda: cv2.resize(frame, SIZE, interpolation=cv2.INTER_CUBIC),
        "Pillow BICUBIC": lambda: image.resize(SIZE, Image.BICUBIC),
    }
    bilinear = f"client.resize bilinear, {where}"
    # cv2.resize as most call it.
    default = {
        bilinear: lambda: client.resize(frame, SIZE, filter="bilinear"),
        "OpenCV INTER_LINEAR, not antialiased": lambda: cv2.resize(frame, SIZE, interpolation=cv2.INTER_LINEAR),
    }
    for threads in (cv2.getNumberOfCPUs(), 1):
        cv2.setNumThreads(threads)
        for seconds in (ROW, 0):
            table(f"1080p RGB to 640x360, OpenCV on {threads} thread(s)", calls, ours, seconds)
            table(f"the same, bilinear, OpenCV on {threads} thread(s)", default, bilinear, seconds)
    slot = np.empty_like(frame)
    copying = {ours: calls[ours], "numpy.copyto of such a frame": lambda: np.copyto(slot, frame)}
    table("what of it is copying", copying, ours)
    mean, scale = (123.675, 116.28, 103.53), (0.01712, 0.01751, 0.01743)
    letterbox = f"client.resize to a tensor, {where}"

    def by_hand():
        canvas = np.full((640, 640, 3), 114, np.uint8)
        canvas[140:500] = cv2.resize(frame, (640, 360), interpolation=cv2.INTER_AREA)
        tensor = (canvas[..., ::-1].astype(np.float32) - np.float32(mean)) * np.float32(scale)
        return np.ascontiguousarray(tensor.transpose(2, 0, 1))

    table("letterboxed float32 tensor of 640x640", {
        letterbox: lambda: client.resize(
            frame, (640, 640), "bgr", mode="fit", pad=(114, 114, 114), dtype="float32", mean=mean, scale=scale
        ),
        "OpenCV and numpy, as commonly written": by_hand,
    }, letterbox)
    streamed(client, frame)


def main():
    print(f"Python {sys.version.split()[0]}, resized {resized.__version__}, numpy {np.__version__}, "
          f"OpenCV {cv2.__version__}, Pillow {PIL.__version__}; medians of {TURNS} turns")
    program = os.environ.get("RESIZED_PROGRAM")
    if program:
        with tempfile.TemporaryDirectory() as folder:
            socket = f"{folder}/resized.sock"
            daemon = subprocess.Popen([program, "--socket", socket], stderr=subprocess.DEVNULL)
            try:
                while True:
                    try:
                        client = resized.Client(f"unix:{socket}", reconnect=0)
                        break
                    except resized.ConnectError:
                        time.sleep(0.01)
                measure(client, "a daemon beside")
                del client
            finally:
                daemon.terminate()
                daemon.wait()
    measure(resized.Client("embedded"), "a daemon inside")


if __name__ == "__main__":
    main()
