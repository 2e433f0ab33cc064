"""Serving on tflite-runtime: another Python, a checkout that is not installed, an older runtime."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from agent.workers.frames import render_launch
from agent.workers.values import Launch
from models.card import Tensor
from models.values import Datatype
from tests.agent.packages import Array, Package, dense_net, packaged, quantized

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-tflite/bin/python"

SERVE = """
import asyncio, json, sys
from pathlib import Path
from agent.serving.oip import OipApplication
from agent.serving.server import serve
from agent.serving.switchboard import Switchboard
from agent.workers.frames import parse_launch
from agent.workers.pool import WorkerError, start_worker

async def main():
    launch = parse_launch(Path(sys.argv[1]).read_bytes())
    try:
        worker = await start_worker(launch)
    except WorkerError as error:
        print(json.dumps({"reason": error.reason, "message": error.message}), flush=True)
        return
    report = {"library": worker.report.library, "version": worker.report.library_version}

    def listening(addresses):
        print(json.dumps(report | {"address": addresses[0]}), flush=True)

    async with Switchboard() as board, asyncio.TaskGroup() as group:
        await board.install(worker, launch.deployment)
        application = OipApplication(board, version="0")
        serving = group.create_task(
            serve(application, host="127.0.0.1", port=0, on_listening=listening)
        )
        await asyncio.to_thread(sys.stdin.read)
        serving.cancel()

asyncio.run(main())
"""

RAW = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(model_content=open(sys.argv[1], "rb").read(), num_threads=1)
interpreter.allocate_tensors()
(given,), (answered,) = interpreter.get_input_details(), interpreter.get_output_details()
for line in sys.stdin:
    array = np.frombuffer(bytes.fromhex(line), given["dtype"]).reshape(given["shape"])
    interpreter.set_tensor(given["index"], array)
    interpreter.invoke()
    print(interpreter.get_tensor(answered["index"]).tobytes().hex())
"""


@contextmanager
def served(launch: Launch, folder: Path) -> Iterator[dict[str, Any]]:
    """Start an agent's serving side under the other Python; yield what it says of itself."""
    (folder / "launch.json").write_bytes(render_launch(launch))
    with subprocess.Popen(
        [PYTHON, "-P", "-c", SERVE, folder / "launch.json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        env={"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    assert 0 == process.returncode


def raw_answers(package: Package, arrays: list[Array]) -> list[bytes]:
    """Ask the raw older interpreter, which does not fit into this Python."""
    done = subprocess.run(
        [PYTHON, "-c", RAW, package.launch().model],
        input="".join(f"{array.tobytes().hex()}\n" for array in arrays),
        capture_output=True,
        check=True,
        text=True,
    )
    return [bytes.fromhex(line) for line in done.stdout.split()]


@pytest.mark.real("tflite")
def test_the_older_runtime_answers_its_own_raw_bytes(dense: Package, tmp_path: Path) -> None:
    """The same package, judged by the same vectors, served by tflite-runtime to the real client."""
    arrays = dense.inputs(10, seed=21)
    with served(dense.launch(library="tflite"), tmp_path) as said:
        answers = []
        with triton.InferenceServerClient(said["address"]) as client:
            for array in arrays:
                given = triton.InferInput("x", [1, 64], "INT8")
                given.set_data_from_numpy(array)
                answers.append(client.infer("digits", [given]).as_numpy("y").tobytes())

    assert ("tflite", "2.14.0") == (said["library"], said["version"])
    assert raw_answers(dense, arrays) == answers


@pytest.mark.real("tflite")
def test_what_answers_wrongly_on_the_older_runtime_is_refused_there(tmp_path: Path) -> None:
    """A dynamic-range model loads without a word on both, and is right on one: the vectors tell."""
    content = quantized(dense_net((64, 32, 10)), 64, tmp_path, how="dynamic-range")
    package = packaged(
        content,
        tmp_path / "dynamic",
        inputs=(Tensor(name="x", datatype=Datatype.FP32, shape=(1, 64)),),
        outputs=(Tensor(name="y", datatype=Datatype.FP32, shape=(1, 10)),),
        largest=0.05,
    )
    with served(package.launch(), tmp_path) as missing:
        assert "RUNTIME_MISSING" == missing["reason"]
    with served(package.launch(library="tflite"), tmp_path) as said:
        assert "GOLDEN_MISMATCH" == said["reason"]
        assert "golden vectors" in said["message"]
    assert np.float32 == package.raw()(np.zeros((1, 64), np.float32)).dtype
