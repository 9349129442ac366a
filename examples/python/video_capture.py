#!/usr/bin/env python3
"""Resizes what a camera or a video gives: OpenCV writes each frame into memory that is shared with the daemon.

    video_capture.py holiday.mp4 -s 640x360 -o small.mp4
    video_capture.py 0
"""

import argparse
import collections
import time

import cv2
import resized


def captured(capture, stream):
    """Submits frame after frame, as many ahead as there are slots for."""
    while True:
        with stream.loan() as slot:
            # Not `ok, frame =`: the array that OpenCV gives back is the slot's, which can't be submitted while it is seen.
            if not capture.read(slot.array)[0]:
                return
            yield slot.submit()


def main():
    parser = argparse.ArgumentParser(description="Resizes a video, or what a camera sees.")
    parser.add_argument("source", help="a file, an address, or a camera's number")
    parser.add_argument("-s", "--size", default="640x360", help="width and height [%(default)s]")
    parser.add_argument("-o", "--output", help="a video to write")
    arguments = parser.parse_args()
    size = tuple(map(int, arguments.size.split("x")))

    source = int(arguments.source) if arguments.source.isdigit() else arguments.source
    capture = cv2.VideoCapture(source)
    ok, first = capture.read()
    if not ok:
        parser.error(f"no frames in {source}")
    height, width, _ = first.shape
    rate = capture.get(cv2.CAP_PROP_FPS) or 25
    writer = arguments.output and cv2.VideoWriter(
        arguments.output, cv2.VideoWriter_fourcc(*"mp4v"), rate, size
    )

    client = resized.Client()
    stream = client.stream("bgr", (width, height), size, mode="fit")
    pendings = collections.deque([stream.submit(first)])
    frames, copied, begun = 0, 0, time.monotonic()

    def finish(pending):
        nonlocal frames, copied
        with pending.result() as frame:
            frames += 1
            copied += frame.receipt.copied_bytes
            if writer:
                writer.write(frame.array)

    for pending in captured(capture, stream):
        pendings.append(pending)
        # One slot stays free, for the next frame to be decoded into while others are resized.
        if len(pendings) == stream.slots - 1:
            finish(pendings.popleft())
    while pendings:
        finish(pendings.popleft())
    if writer:
        writer.release()
    seconds = time.monotonic() - begun
    daemon = client.endpoint or "a daemon of its own"
    print(f"{frames} frames by {daemon} in {seconds:.2f} s: {frames / seconds:.0f} a second, {copied} bytes copied")


if __name__ == "__main__":
    main()
