"""What the documentation shows, run; and the example, where there is an OpenCV."""

import ast
import inspect
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import resized

ROOT = pathlib.Path(__file__).parents[3]
# A test of the guides (examples/tests) looks for pages here.
PAGES = ["docs/python.md", "README.md"]


def snippets(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run(page, daemon, bridge, monkeypatch):
    monkeypatch.setenv("RESIZED_ENDPOINT", daemon.endpoint)
    assert snippets(page)
    names = {}
    for snippet in snippets(page):
        snippet = snippet.replace("tls://camera-hub.example:7788", bridge.endpoint)
        exec(compile(snippet, page, "exec"), names)
    assert names["small"].shape == (360, 640, 3)


@pytest.mark.parametrize("page", PAGES)
def test_three_lines_are_enough_where_no_daemon_runs(page, tmp_path):
    if os.path.exists("/run/resized/resized.sock"):
        pytest.skip("a daemon of the machine's may run here")
    first = snippets(page)[0]
    assert len(first.splitlines()) == 3
    # In an interpreter of its own, that has nothing but what is installed, and ends as it should.
    environment = {key: value for key, value in os.environ.items() if key != "RESIZED_ENDPOINT"}
    environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    program = first + "print(small.shape, small.dtype, client.endpoint)"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "(360, 640, 3) uint8 None\n")


def test_the_example_copies_the_first_frame_only(daemon, tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setenv("RESIZED_ENDPOINT", daemon.endpoint)
    made, small = tmp_path / "made.avi", tmp_path / "small.mp4"
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 180))
    for shade in range(20):
        writer.write(np.full((180, 320, 3), (10 * shade, 128, 255 - 10 * shade), np.uint8))
    writer.release()
    program = ROOT / "examples/python/video_capture.py"
    run = subprocess.run(
        [sys.executable, program, made, "-s", "64x36", "-o", small], capture_output=True, text=True, check=True
    )
    assert re.match(rf"20 frames by {daemon.endpoint} .* {320 * 180 * 3} bytes copied$", run.stdout.strip())
    capture = cv2.VideoCapture(str(small))
    shades = []
    while (read := capture.read())[0]:
        assert read[1].shape == (36, 64, 3)
        shades.append(read[1][18, 32, 0])
    assert len(shades) == 20
    assert all(abs(int(shade) - 10 * index) < 25 for index, shade in enumerate(shades))


def described():
    """Of each option the words that it may be, and what the stubs say of it."""
    body = ast.parse((ROOT / "bindings/python/resized.pyi").read_text()).body
    aliases = {node.target.id: node.value for node in body if isinstance(node, ast.AnnAssign) and node.value}
    options = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == "Options").body

    def words(annotation):
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Name) and node.id in ("Format", "Range", "Matrix", "Siting"):
                yield from words(aliases[node.id])

    for option, text in zip(options, options[1:]):
        if isinstance(option, ast.AnnAssign):
            yield option.target.id, list(words(option.annotation)), " ".join(text.value.value.split())


@pytest.mark.parametrize("call", [resized.Client.resize, resized.Client.stream])
def test_help_names_every_option_as_the_stubs_do(call):
    said = dict(re.findall(r"^(\w+): (.*\n(?:    .*\n)+)", inspect.getdoc(call) + "\n", re.MULTILINE))
    options = list(described())
    assert options and list(said) == [name for name, _, _ in options]
    for name, words, text in options:
        assert all(f'"{word}"' in said[name] for word in words), name
        assert " ".join(said[name].split()).endswith(text), name
