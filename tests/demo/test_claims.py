"""A demo whose claim isn't so says which one, and ends with 1: each is broken from outside.

From outside means: by killing or stopping a process, by changing a file, or by
another program in its place. One run a claim, of as few devices as show it.
"""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self, TypeVar

import psutil
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("mosquitto", "skopeo", "tflite"),
    pytest.mark.timeout(300),
]

SKERRY = Path(sys.executable).with_name("skerry")
TFLITE_PYTHON = Path(sys.prefix).with_name(".venv-tflite") / "bin" / "python"
LIMIT_S = 240.0

Found = TypeVar("Found")


class Demo:
    """`skerry demo --once` as it goes on: its lines as they come, its folder, its processes."""

    def __init__(self, folder: Path, *words: str | Path, path: Path | None = None) -> None:
        self.folder = folder
        self.lines: list[str] = []
        before = "" if path is None else f"{path}{os.pathsep}"
        self.process = subprocess.Popen(
            [SKERRY, "demo", "--once", "--port", "0", "--keep", folder, *words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": before + os.environ["PATH"]},
        )
        self._reader = threading.Thread(target=self._read, name="lines of the demo")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            finally:
                self.process.kill()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, look: Callable[[], Found | None]) -> Found:
        deadline = time.monotonic() + LIMIT_S  # noqa: TID251  # other processes, real time
        while not (found := look()):
            assert self.process.poll() is None, "\n".join(self.lines)
            assert time.monotonic() < deadline, self.lines  # noqa: TID251  # as above
            time.sleep(0.03)  # noqa: TID251  # as above
        return found

    def shows(self, step: str) -> None:
        """Wait until a step is shown."""
        self.until(lambda: any(line[4:14].strip() == step for line in list(self.lines)))

    def running(self, *words: str | Path) -> psutil.Process | None:
        """Return the demo's process that has all these words in its command line."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return None
        for each in children:
            try:
                if set(map(str, words)) <= set(each.cmdline()):
                    return each
            except psutil.NoSuchProcess:
                continue
        return None

    def agent(self, name: str) -> psutil.Process:
        """Wait until a device's agent runs, and return it."""
        home = self.folder / "agents" / name
        return self.until(lambda: self.running("agent", "run", "--home", home))

    def ended(self) -> tuple[int, list[str]]:
        """Return its exit status, and the claims that it says have failed."""
        status = self.process.wait(LIMIT_S)
        self._reader.join(10)
        print("\n".join(self.lines))  # noqa: T201  # shown where the test fails
        failed = [line[4:].partition(":")[0] for line in self.lines if line.startswith("  ✗ ")]
        assert not [line for line in self.lines if "Traceback" in line or "INTERNAL" in line]
        return status, failed

    def why(self) -> str:
        """Return what it says of the claim that failed."""
        place = next(n for n, line in enumerate(self.lines) if line.startswith("  ✗ "))
        return "\n".join(self.lines[place:])


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo that ends with the test."""
    made: list[Demo] = []

    def start(*words: str | Path, path: Path | None = None) -> Demo:
        made.append(Demo(tmp_path / "kept", *words, path=path))
        return made[-1]

    yield start
    for demo in made:
        with demo:
            pass


def test_a_centre_that_dies_is_named(play: Callable[..., Demo]) -> None:
    """The centre is killed while it starts."""
    demo = play("--devices", "1")
    demo.until(lambda: demo.running(SKERRY, "up")).kill()

    assert (1, ["centre"]) == demo.ended()


def test_models_that_cannot_be_measured_are_named(
    play: Callable[..., Demo], tmp_path: Path
) -> None:
    """The older runtime, where one is promised, can't be measured on."""
    broken = tmp_path / "python"
    broken.write_text(
        f'#!/bin/sh\ncase "$*" in *agent*) exec {TFLITE_PYTHON} "$@" ;; esac\nexit 3\n'
    )
    broken.chmod(0o755)
    demo = play("--tflite-python", broken, "--devices", "1")

    assert (1, ["models"]) == demo.ended()
    assert not any("bundles" in line for line in demo.lines)


def test_bundles_that_cannot_be_signed_are_named(play: Callable[..., Demo]) -> None:
    """The key is taken away before anything was signed."""
    demo = play("--devices", "1")
    demo.shows("centre")
    (demo.folder / "centre" / "trust" / "bundle.key").unlink()

    assert (1, ["bundles"]) == demo.ended()


def test_a_registry_that_gives_something_else_is_named(
    play: Callable[..., Demo], tmp_path: Path
) -> None:
    """What skopeo copied out of the registry isn't what was packed."""
    between = tmp_path / "bin"
    between.mkdir()
    skopeo = between / "skopeo"
    skopeo.write_text(
        "#!/bin/sh\n"
        f'PATH="${{PATH#{between}:}}" skopeo "$@" || exit\n'
        'for each in "$PWD"/skopeo-copy/blobs/sha256/*; do echo >> "$each"; done 2> /dev/null\n'
        "exit 0\n"
    )
    skopeo.chmod(0o755)
    demo = play("--devices", "1", path=between)

    assert (1, ["publish"]) == demo.ended()
    assert "skopeo copied another" in demo.why()


def test_a_device_that_does_not_come_is_named(play: Callable[..., Demo]) -> None:
    """An agent is killed as soon as it runs."""
    demo = play("--devices", "2")
    demo.agent("lerwick-1").kill()

    assert (1, ["join"]) == demo.ended()
    assert "lerwick-1 ended with -9" in demo.why()


def test_a_bundle_that_was_damaged_in_the_registry_is_named(play: Callable[..., Demo]) -> None:
    """A byte of the first version's model is changed in the centre's registry."""
    demo = play("--devices", "1")

    demo.shows("publish")
    name = hashlib.sha256((demo.folder / "models" / "1.0.0.tflite").read_bytes()).hexdigest()
    blob = demo.folder / "centre" / "registry" / "blobs" / "sha256" / name
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 0x01
    blob.chmod(0o644)
    blob.write_bytes(content)

    assert (1, ["deploy"]) == demo.ended()
    assert "DIGEST_MISMATCH" in demo.why()


def test_a_request_that_fails_in_a_wave_is_named(play: Callable[..., Demo]) -> None:
    """A device's agent is killed while the better version is rolled out."""
    demo = play("--devices", "3")
    demo.shows("deploy")
    demo.agent("lerwick-1").kill()

    assert (1, ["waves"]) == demo.ended()
    assert "lerwick-1" in demo.why()


def test_a_canary_that_says_nothing_is_named(play: Callable[..., Demo]) -> None:
    """The devices of the older runtime are stopped: nobody refuses the bad model."""
    demo = play("--devices", "3")
    demo.shows("waves")
    for name in ("porto-2", "lerwick-1"):
        demo.agent(name).send_signal(signal.SIGSTOP)

    assert (1, ["bad model"]) == demo.ended()


def test_a_record_that_was_lost_is_named(play: Callable[..., Demo]) -> None:
    """While the centre is dead, one record of the device is taken out of its store."""
    demo = play("--devices", "3")
    demo.shows("bad model")
    demo.until(lambda: demo.running(SKERRY, "up") is None)
    joined = json.loads((demo.folder / "agents" / "porto-1" / "identity" / "join.json").read_text())
    with closing(sqlite3.connect(demo.folder / "centre" / "store.db", timeout=10)) as store, store:
        taken = store.execute(
            "DELETE FROM events WHERE device = ? AND number = 2", (joined["device"],)
        )
        assert 1 == taken.rowcount

    assert (1, ["cable"]) == demo.ended()
    assert "1 records were lost; the first is 2" in demo.why()


def test_a_rollback_that_is_two_alerts_is_named(play: Callable[..., Demo]) -> None:
    """When all else is shown, the centre's store comes to have the bad model's alert twice."""
    demo = play("--devices", "3")
    demo.shows("cable")
    with closing(sqlite3.connect(demo.folder / "centre" / "store.db", timeout=10)) as store, store:
        doubled = store.execute(
            "INSERT INTO alerts SELECT 'a-again', rule, scope, subject, severity, state, ended_at,"
            " position, replace(document, id, 'a-again') FROM alerts"
            " WHERE rule = 'SkerryRolloutRolledBack'"
        )
        assert 1 == doubled.rowcount

    assert (1, ["health"]) == demo.ended()
    assert "one rollout went back, and 2 alerts say so" in demo.why()


def test_a_device_that_falls_silent_is_named(play: Callable[..., Demo]) -> None:
    """An agent is stopped when all else is shown: it says no more how it is."""
    demo = play("--devices", "3")
    demo.shows("cable")
    demo.agent("lerwick-1").send_signal(signal.SIGSTOP)

    assert (1, ["health"]) == demo.ended()


def test_without_the_older_runtime_it_says_so(play: Callable[..., Demo], tmp_path: Path) -> None:
    """The bad model then has damaged weights, and is refused and rolled back all the same."""
    other = tmp_path / "none" / "bin" / "python"
    demo = play("--devices", "2", "--tflite-python", other)

    assert (0, []) == demo.ended()
    assert any(f"No tflite-runtime: there is no {other}" in line for line in demo.lines)
    (line,) = [line for line in demo.lines if line.startswith("  ↶ bad model")]
    assert "its weights were damaged before it was signed" in line
    assert "nobody ever served it" in line


def test_interrupting_it_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle is no failed claim: 130, and no folder or process stays."""
    with subprocess.Popen(
        [SKERRY, "demo", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "TMPDIR": str(tmp_path)},
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout)
            assert any(line[4:14].strip() == "centre" for line in lines)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()  # or leaving the block would wait for ever
    assert process.returncode == 130

    assert "✗" not in rest
    assert list(tmp_path.glob("skerry-demo-*")) == []
