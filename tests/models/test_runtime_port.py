"""The runtime port on the real runtime of this environment."""

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

from models import runtime
from models.errors import RefusedError
from models.runtime.interpreter import _ABS

WAKE_WORD = "models/okay_nabu.tflite"


def wake_word() -> bytes:
    return files("pymicro_wakeword").joinpath(WAKE_WORD).read_bytes()


def test_the_installed_runtime_works() -> None:
    """A runtime counts as working when it has run a model, and tells its version."""
    assert "litert" in runtime.available()
    assert "2.3.0" == runtime.check("litert")


def test_a_runtime_that_is_not_here_is_missing() -> None:
    """What is not installed is named, in both ways to ask."""
    for asked in (
        lambda: runtime.check("tflite"),
        lambda: runtime.open_model(_ABS, library="tflite"),
    ):
        with pytest.raises(RefusedError) as refused:
            asked()
        assert "RUNTIME_MISSING" == refused.value.reason


@pytest.mark.parametrize("reference", [False, True])
def test_a_model_answers(*, reference: bool) -> None:
    """Arrays in, arrays of the caller's own out."""
    runner = runtime.open_model(_ABS, reference=reference)
    first = runner.run([np.array([-2], np.float32)])[0]
    second = runner.run([np.array([5], np.float32)])[0]

    assert (2.0, 5.0) == (float(first[0]), float(second[0]))
    assert ("litert", "2.3.0") == (runner.library, runner.version)
    assert ((1,), np.dtype("f4")) == (runner.inputs[0].shape, runner.outputs[0].dtype)


@pytest.mark.parametrize(
    "inputs",
    [[], [np.zeros(1, np.int8)], [np.zeros(2, np.float32)], [np.zeros(1, np.float32)] * 2],
    ids=["none", "type", "shape", "two"],
)
def test_inputs_that_do_not_fit_are_refused(inputs: list[np.ndarray]) -> None:
    """Nothing is cast or resized silently; the model goes on answering."""
    runner = runtime.open_model(_ABS)
    with pytest.raises(RefusedError):
        runner.run(inputs)

    assert 1.0 == float(runner.run([np.array([-1], np.float32)])[0][0])


def test_a_file_no_runtime_takes_is_a_failed_load() -> None:
    """It is the file that is refused, not the runtime that is called broken."""
    with pytest.raises(RefusedError) as refused:
        runtime.open_model(_ABS[:100])
    assert "LOAD_FAILED" == refused.value.reason


def test_a_reset_forgets_all_state() -> None:
    """A stateful model answers a sequence as at first, resource variables and all."""
    runner = runtime.open_model(wake_word())
    slot = runner.inputs[0]
    random = np.random.default_rng(3)
    steps = [random.integers(-128, 128, slot.shape).astype(slot.dtype) for _ in range(40)]
    first = [runner.run([step])[0].tobytes() for step in steps]
    runner.reset()
    again = [runner.run([step])[0].tobytes() for step in steps]

    assert first == again


def test_the_port_imports_without_numpy() -> None:
    """A supervisor may name the port; numpy and a runtime come only with a model."""
    code = (
        "import sys, models.runtime, models.golden, models.child, models.build.pack; "
        "print(sorted({'numpy', 'ai_edge_litert', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert "[]" == done.stdout.strip()
