"""Golden vectors of float models bite: whatever the scale of its answers, a wrong one is refused.

Nothing says what a float model's inputs look like, so candidates go over four
decades; where answers grow with them, the loudest must not set the tolerance.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from models import card_codec, tflite
from models.build.pack import Prepared, pack
from models.build.pool import Pool, alike
from models.judge import judge
from models.runtime import Array, Runner, open_model
from models.values import ModelRef

ROOT = Path(__file__).parents[2]
TFLITE_PYTHON = ROOT / ".venv-tflite/bin/python"
REF = ModelRef("points", "1.0.0")

JUDGE = """
import json, sys
from pathlib import Path
from models import card_codec
from models.judge import judge
from models.runtime import open_model
model, card, golden = (Path(sys.argv[1], each).read_bytes() for each in ("model", "card", "golden"))
verdict = judge(card_codec.parse(card), golden, open_model(model))
print(json.dumps([verdict.passed, verdict.reason]))
"""


def network(*, softmax: bool) -> bytes:
    """Write a float perceptron: boxes and scores that grow with the input, or else classes."""
    random = np.random.default_rng(5)
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", [], []

    def tensor(name: str, shape: list[int], content: Array | None = None) -> int:
        one = schema.TensorT()
        one.name, one.shape, one.type, one.buffer = name, shape, schema.TensorType.FLOAT32, 0
        if content is not None:
            raw = schema.BufferT()
            raw.data = np.frombuffer(content.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(raw)
            one.buffer = len(model.buffers) - 1
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    def step(code: int, inputs: list[int], output: int, kind: int, options: object) -> int:
        one = schema.OperatorT()
        one.opcodeIndex, one.inputs, one.outputs = code, inputs, [output]
        one.builtinOptionsType, one.builtinOptions = kind, options
        graph.operators.append(one)
        return output

    def dense(name: str, source: int, sizes: tuple[int, int], activation: int) -> int:
        wide, narrow = sizes
        weights = random.normal(0, (2 / wide) ** 0.5, (narrow, wide))
        inputs = [source, tensor(f"{name}.w", [narrow, wide], weights)]
        inputs.append(tensor(f"{name}.b", [narrow], random.normal(0, 0.1, narrow)))
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        kind = schema.BuiltinOptions.FullyConnectedOptions
        return step(0, inputs, tensor(name, [1, narrow]), kind, options)

    for builtin in (schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.SOFTMAX):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = int(builtin)
        code.version = 1
        model.operatorCodes.append(code)
    first = tensor("input", [1, 64])
    hidden = dense("hidden", first, (64, 48), 1)
    outputs = [dense("boxes", hidden, (48, 12), 0)]
    if softmax:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        kind = schema.BuiltinOptions.SoftmaxOptions
        outputs = [step(1, outputs, tensor("classes", [1, 12]), kind, options)]
    else:
        outputs.append(dense("scores", hidden, (48, 4), 0))
    graph.inputs, graph.outputs, model.subgraphs = [first], outputs, [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class Wrong:
    """A model that loads, and answers something made of the right answers."""

    def __init__(self, whole: Runner, made: Callable[[Array], Array]) -> None:
        self._whole, self._made = whole, made
        self.library, self.version = whole.library, whole.version
        self.inputs, self.outputs = whole.inputs, whole.outputs

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        return [np.asarray(self._made(one), one.dtype) for one in self._whole.run(inputs)]

    def reset(self) -> None:
        self._whole.reset()


def harmed(content: bytes) -> bytes:
    """Turn the signs of all its weights round."""
    copy = bytearray(content)
    for span in tflite.read(content).weights:
        values = np.frombuffer(content, np.float32, span.length // 4, span.offset)
        copy[span.offset : span.offset + span.length] = (-values).tobytes()
    return bytes(copy)


def verdict(packed: Prepared, folder: Path, python: str) -> list[object]:
    """Judge a packed model in an interpreter of its own."""
    for name, content in (
        ("model", packed.files[packed.card.variants[0].digest]),
        ("card", card_codec.render(packed.card)),
        ("golden", packed.golden),
    ):
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [python, "-P", "-c", JUDGE, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT)},
    )
    answer: list[object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module", params=["boxes", "classes"])
def packed(request: pytest.FixtureRequest) -> Prepared:
    return pack([network(softmax=request.param == "classes")], REF)


@pytest.mark.parametrize(
    "made",
    [np.zeros_like, np.negative, lambda one: np.full_like(one, one.mean()), lambda one: one * 0.7],
    ids=["zeros", "signs turned", "its mean", "too small"],
)
def test_an_answer_that_is_clearly_wrong_is_refused(
    packed: Prepared, made: Callable[[Array], Array]
) -> None:
    """Zeros, turned signs, a constant and a wrong scale fail, where the whole model passes."""
    whole = open_model(packed.files[packed.card.variants[0].digest])

    assert judge(packed.card, packed.golden, whole).passed
    assert "GOLDEN_MISMATCH" == judge(packed.card, packed.golden, Wrong(whole, made)).reason
    assert () == packed.warnings


def test_harmed_weights_are_refused(packed: Prepared) -> None:
    """A copy that loads as well and has the same signature fails."""
    copy = open_model(harmed(packed.files[packed.card.variants[0].digest]))

    assert "GOLDEN_MISMATCH" == judge(packed.card, packed.golden, copy).reason


@pytest.mark.real("tflite")
def test_the_whole_model_passes_on_both_runtimes(packed: Prepared, tmp_path: Path) -> None:
    """Teeth are no use if they bite the right answer."""
    for python in (sys.executable, str(TFLITE_PYTHON)):
        assert [True, None] == verdict(packed, tmp_path, python)


def pool(answers: Sequence[float], kind: type[np.generic], given: int = 0) -> Pool:
    rows = [[np.array([[place]], np.float32)] for place in range(len(answers))]
    return Pool(inputs=rows, outputs=[[np.array([[each]], kind)] for each in answers], given=given)


def test_float_answers_on_another_scale_are_left_out() -> None:
    """Within a decade around most stay; integers have one scale, and all of them stay."""
    answers = [0.01, 5.0, 10.0, -12.0, 20.0, 100.0, 0.0]

    assert [5.0, 10.0, -12.0, 20.0] == [
        float(output[0].item()) for output in alike(pool(answers, np.float32), 2).outputs
    ]
    assert len(answers) == len(alike(pool(answers, np.int8), 2).outputs)
    assert len(answers) == len(alike(pool([0.0] * 7, np.float32), 2).outputs)


def test_rows_given_say_the_scale_and_stay() -> None:
    """The engineer's rows are what the model is for; the nearest stay where few are near."""
    left = alike(pool([0.001, 0.1, 0.1, 90.0, 100.0, 120.0, 0.2], np.float32, given=3), 5)

    assert 3 == left.given
    assert [0.001, 0.1, 0.1, 0.2, 90.0] == sorted(
        round(float(output[0].item()), 3) for output in left.outputs
    )
