"""A bad accelerator's driver: whatever it does, the agent lives, and nothing wrong is answered."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.workers import frames
from models.delegate import Delegate, parse
from tests.agent.delegate.stub import build, stub
from tests.agent.packages import DENSE_INPUTS, DENSE_OUTPUTS, dense_net, packaged, quantized

ROOT = Path(__file__).parents[3]
GOLDEN_CALLS = "8"  # so many calls go well while it is judged, each start anew

AT_THE_START = {
    "no_device": "ACCELERATOR_MISSING",
    "crash_create": "WORKER_CRASHED",
    "fail_prepare": "LOAD_FAILED",
    "claims_nothing": "ACCELERATOR_FALLBACK",
    "corrupt": "GOLDEN_MISMATCH",
    "fail_invoke": "LOAD_FAILED",
    "crash_invoke": "WORKER_CRASHED",
    "hang_invoke": "WORKER_STUCK",
}
"""What it is refused for before it ever answers."""

WHILE_SERVING = {
    "fail_invoke": (500, "device lost", 500, None),
    "crash_invoke": (500, "died over this request", "gone", "WORKER_CRASHED"),
    "hang_invoke": (504, "did not answer within 1 s", "gone", "WORKER_STUCK"),
}
"""What the client hears of a driver that fails later, what the next one does, and what is told."""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("driver"))


@pytest.fixture(
    scope="session", params=["litert", pytest.param("tflite", marks=pytest.mark.real("tflite"))]
)
def found(
    request: pytest.FixtureRequest, driver: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """How each driver fared on one runtime."""
    folder = tmp_path_factory.mktemp("reshaped")
    content = quantized(dense_net((64, 32, 10), reshapes=True), 64, folder)
    package = packaged(content, folder / "p", inputs=DENSE_INPUTS, outputs=DENSE_OUTPUTS, largest=4)
    launch = package.launch(library=request.param)
    cases: dict[str, tuple[Delegate | None, bool]] = {
        "on the CPU": (None, True),
        "well": (stub(driver, "copy"), True),
        "slow": (stub(driver, "slow"), True),
        "not a driver": (Delegate(accelerator="stub", library="libm.so.6"), True),
        "not there": (Delegate(accelerator="stub", library="/nowhere/lib.so"), True),
        "unknown option": (stub(driver, "copy", colour="red"), True),
    }
    cases |= {mode: (stub(driver, mode), True) for mode in AT_THE_START}
    cases |= {
        f"{mode} later": (stub(driver, mode, after=GOLDEN_CALLS), False) for mode in WHILE_SERVING
    }
    job = {
        "launch": json.loads(frames.render_launch(launch)),
        "body_bytes": 64,
        "cases": {
            name: {"delegate": delegate and delegate.to_json(), "examines": examines}
            for name, (delegate, examines) in cases.items()
        },
    }
    python = sys.executable if request.param == "litert" else ROOT / ".venv-tflite/bin/python"
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("trial.py"))],
        check=True,
        input=json.dumps(job).encode(),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.real("gcc")
@pytest.mark.slow
def test_what_becomes_of_each_driver(found: dict[str, Any]) -> None:
    """Eight ways to fail before it serves, three while it does; and one that does well."""
    assert "is it" == found["on the CPU"]["reference"]
    assert "agrees" == found["well"]["reference"]
    assert found["on the CPU"]["answer"] == found["well"]["answer"]
    assert found["well"]["latency_p50_s"] < 0.04 <= found["slow"]["latency_p50_s"]

    assert {name: found[name].get("reason") for name in AT_THE_START} == AT_THE_START
    for name in ("not a driver", "not there", "unknown option"):
        assert "ACCELERATOR_MISSING" == found[name]["reason"], found[name]
    assert "no device found" in found["no_device"]["message"]
    assert "would run on the CPU" in found["claims_nothing"]["message"]

    for mode, (status, error, then, cause) in WHILE_SERVING.items():
        told = found[f"{mode} later"]
        assert (status, then, cause) == (told["status"], told["then"], told.get("cause")), mode
        assert error in told["error"]


def test_a_driver_in_one_word() -> None:
    """As it is given on the command line."""
    read = parse("npu=/opt/vendor/libnpu.so,device=/dev/npu0,device=/dev/dma,mode=fast")
    wanted = Delegate(
        accelerator="npu",
        library="/opt/vendor/libnpu.so",
        options=(("mode", "fast"),),
        devices=("/dev/npu0", "/dev/dma"),
    )
    assert wanted == read
    assert wanted == Delegate.from_json(json.loads(json.dumps(wanted.to_json())))


@pytest.mark.parametrize("text", ["", "npu", "npu=", "=lib.so", "cpu=lib.so", "n p=x", "npu=x,y"])
def test_what_is_no_driver_is_refused(text: str) -> None:
    """With what it should be."""
    with pytest.raises(ValueError, match=r"NAME=LIBRARY|is no name|has no library"):
        parse(text)
