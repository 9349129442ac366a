"""Daemons to test with: the `resized` program ($RESIZED_PROGRAM) on a socket of its own, and one in this process; and a
bridge, whose program lies beside the daemon's."""

import faulthandler
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import resized

# After this a test hangs: far longer than anything here takes on a loaded machine.
DEADLINE = 240


@pytest.fixture(autouse=True)
def bounded():
    """Ends the process, with all threads' stacks, if a test hangs: one that hangs may hold the interpreter's lock."""
    faulthandler.dump_traceback_later(DEADLINE, file=sys.__stderr__, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Daemon:
    """The `resized` program, running."""

    def __init__(self, folder: pathlib.Path, *flags: str):
        self.flags = flags
        self.socket, self.log = folder / "resized.sock", folder / "log"
        self.endpoint = f"unix:{self.socket}"
        self.process = None
        self.start()

    def start(self):
        program = os.environ["RESIZED_PROGRAM"]
        unwanted = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "RESIZED_CPU")
        environment = {key: value for key, value in os.environ.items() if key not in unwanted}
        environment["RESIZED_CONFIG"] = "/dev/null"
        command = [program, "--socket", self.socket, "--devices", "cpu", *self.flags]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=log)
        until("the daemon answers", self.answers)

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            resized.Client(self.endpoint, reconnect=0)
        except resized.Error:
            return False
        return True

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.signal(signal.SIGCONT)
        self.kill()


class Bridge:
    """The `resized-bridge` program, running beside a daemon, for clients of this machine."""

    def __init__(self, folder: pathlib.Path, daemon: Daemon):
        log = folder / "bridge.log"
        program = pathlib.Path(os.environ["RESIZED_PROGRAM"]).with_name("resized-bridge")
        unwanted = ("NOTIFY_SOCKET", "RESIZED_BRIDGE", "RESIZED_LOG")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
        command = [program, "--listen", "127.0.0.1:0", "--daemon", daemon.endpoint]
        with open(log, "ab") as to:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=to)

        def listens():
            assert self.process.poll() is None, log.read_text()
            return re.search(r"listening.*address=(\S+)", log.read_text())

        until("the bridge listens", listens)
        self.endpoint = f"tcp://{listens()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Relay:
    """Stands between a client and its daemon, and says of frames of some streams that they failed, as a daemon does once the
    memory of their rings is gone: no client can have that happen to memory that is sealed."""

    def __init__(self, folder: pathlib.Path, daemon: Daemon):
        self.daemon = daemon
        # The stream opened last; and that up to which the memory of all is gone.
        self.newest, self.lost = -1, -1
        self.endpoint = f"unix:{folder / 'relay.sock'}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "relay.sock"))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, daemon = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
            daemon.connect(str(self.daemon.socket))
            threading.Thread(target=self.ask, args=(client, daemon), daemon=True).start()
            threading.Thread(target=self.answer, args=(client, daemon), daemon=True).start()

    def ask(self, client, daemon):
        while data := client.recv(1 << 16):
            daemon.sendall(data)
        daemon.shutdown(socket.SHUT_RDWR)

    def answer(self, client, daemon):
        """Passes on one message after the other: a length, then words of four bytes."""
        arrived = b""
        while True:
            data, rings, _, _ = socket.recv_fds(daemon, 1 << 16, 1)
            if not data:
                return client.close()
            arrived += data
            while len(arrived) >= 4 and len(arrived) >= (end := 4 + int.from_bytes(arrived[:4], "little")):
                message, arrived = arrived[:end], arrived[end:]
                words = np.frombuffer(message, "<u4", end // 4).copy()
                match words[1:].tolist():
                    case [0, 1, stream, *_]:  # a reply: opened
                        self.newest = stream
                    case [1, stream, _, _, *_] if stream <= self.lost:  # completed: it failed
                        words[4] = 2
                socket.send_fds(client, [words, message[end // 4 * 4:]], rings)
                while rings:
                    os.close(rings.pop())


def until(what, so):
    """Waits until it is so."""
    for _ in range(DEADLINE * 100):
        if so():
            return
        time.sleep(0.005)
    raise AssertionError(f"never: {what}")


@pytest.fixture
def daemon(tmp_path):
    with Daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def bridge(tmp_path, daemon):
    with Bridge(tmp_path, daemon) as bridge:
        yield bridge


@pytest.fixture(params=["process", "embedded"])
def client(request):
    """Of a daemon that is a process, and of one that is not."""
    if request.param == "embedded":
        return resized.Client("embedded")
    return resized.Client(request.getfixturevalue("daemon").endpoint)


def noise(*shape, dtype=np.uint8, seed=7):
    """An array of noise, softened: what pictures are like, with all values in it."""
    random = np.random.default_rng(seed)
    most = 1023 if dtype == np.uint16 else np.iinfo(dtype).max
    return random.integers(0, most, shape, dtype, endpoint=True)


def cubic(x):
    """Catmull and Rom's cubic: Keys, "Cubic convolution interpolation", 1981, a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def weights(length, wanted):
    """What each of `length` samples weighs in each of `wanted`: antialiased, windows cut at the borders."""
    scale = length / wanted
    centres = (np.arange(wanted)[:, None] + 0.5) * scale - 0.5
    found = cubic((np.arange(length)[None, :] - centres) / max(scale, 1))
    return found / found.sum(axis=1, keepdims=True)


def exact(plane, size):
    """A plane, or planes interleaved, resized bicubic in double precision; not rounded."""
    width, height = size
    rows = np.tensordot(weights(plane.shape[0], height), plane.astype(np.float64), 1)
    return np.moveaxis(np.tensordot(weights(plane.shape[1], width), rows, (1, 1)), 0, 1)


def near(found, wanted, most=255):
    """Whether samples are as exact ones are, rounded twice."""
    wanted = np.clip(wanted, 0, most)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(np.float64) - wanted).max() <= 1.01
    return True
