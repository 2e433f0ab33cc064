"""The build pipeline on real data: digits, quantized both ways, measured, packed, judged."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from models import card_codec, tflite
from models.build.evaluate import Dataset, accuracy
from models.build.pack import About, Budget, Prepared, pack
from models.build.quantize import quantize
from models.errors import RefusedError
from models.values import ModelRef, digest_of

ROOT = Path(__file__).parents[2]
TFLITE_PYTHON = ROOT / ".venv-tflite/bin/python"
REF = ModelRef("digits", "1.0.0")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JUDGE = """
import json, sys
from pathlib import Path
from models import card_codec
from models.judge import judge
from models.runtime import open_model
model, card, golden = (Path(sys.argv[1], each).read_bytes() for each in ("model", "card", "golden"))
verdict = judge(card_codec.parse(card), golden, open_model(model))
print(json.dumps({"passed": verdict.passed, "reason": verdict.reason}))
"""


class Digits(NamedTuple):
    """A trained model in three formats, and the rows held back."""

    float32: bytes
    int8: bytes
    dynamic: bytes
    held_back: Dataset


def rows(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes the keyword for allow_pickle
    return file.getvalue()


def written(network: MLPClassifier) -> bytes:
    """Write a trained perceptron as a float `.tflite`."""
    model = schema.ModelT()
    model.version, model.description, model.buffers = 3, "digits", [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", [], []

    def tensor(name: str, shape: list[int], content: np.ndarray | None = None) -> int:
        one = schema.TensorT()
        one.name, one.shape, one.type, one.buffer = name, shape, schema.TensorType.FLOAT32, 0
        if content is not None:
            raw = schema.BufferT()
            raw.data = np.frombuffer(content.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(raw)
            one.buffer = len(model.buffers) - 1
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    def step(code: int, inputs: list[int], output: int, kind: int, options: object) -> None:
        one = schema.OperatorT()
        one.opcodeIndex, one.inputs, one.outputs = code, inputs, [output]
        one.builtinOptionsType, one.builtinOptions = kind, options
        graph.operators.append(one)

    model.operatorCodes = []
    for builtin in (schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.SOFTMAX):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = int(builtin)
        code.version = 1
        model.operatorCodes.append(code)
    first = at = tensor("input", [1, 64])
    last = len(network.coefs_) - 1
    for layer, (weights, biases) in enumerate(
        zip(network.coefs_, network.intercepts_, strict=True)
    ):
        shape = list(weights.T.shape)
        inputs = [at, tensor(f"w{layer}", shape, np.ascontiguousarray(weights.T))]
        inputs.append(tensor(f"b{layer}", list(biases.shape), biases))
        at = tensor(f"y{layer}", [1, shape[0]])
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = int(layer != last)
        step(0, inputs, at, schema.BuiltinOptions.FullyConnectedOptions, options)
    scores = tensor("scores", [1, 10])
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    step(1, [at], scores, schema.BuiltinOptions.SoftmaxOptions, softmax)
    graph.inputs, graph.outputs, model.subgraphs = [first], [scores], [graph]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    maps = []
    for name, place in (("input", first), ("scores", scores)):
        named = schema.TensorMapT()
        named.name, named.tensorIndex = name, place
        maps.append(named)
    signature.inputs, signature.outputs = maps[:1], maps[1:]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def digits() -> Digits:
    pictures, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        pictures.astype(np.float32) / 16, labels, test_size=0.3, stratify=labels, random_state=7
    )
    network = MLPClassifier((64, 32), random_state=7, max_iter=500).fit(train, train_labels)
    float32 = written(network)
    return Digits(
        float32=float32,
        int8=quantize(float32, "int8", calibration=rows(input=train[:200])),
        dynamic=quantize(float32, "dynamic-range"),
        held_back=Dataset(name="digits-test", npz=rows(input=test, labels=test_labels)),
    )


def judged(packed: Prepared, folder: Path, python: str) -> dict[str, object]:
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
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_each_format_is_what_its_recipe_says(digits: Digits) -> None:
    """Quantizing gives int8 in and out, or float around 8-bit weights."""
    formats = [tflite.read(content).format for content in digits[:3]]

    assert ["float32", "int8", "dynamic-range"] == formats
    assert len(digits.dynamic) < len(digits.int8) < len(digits.float32)


def test_int8_with_float_ends_is_a_drop_in(digits: Digits) -> None:
    """Clients of the float file notice nothing: the same inputs and outputs, int8 within."""
    calibration = np.load(io.BytesIO(digits.held_back.npz))["input"][:200]
    content = quantize(digits.float32, "int8-float-io", calibration=rows(input=calibration))
    before, after = tflite.read(digits.float32), tflite.read(content)

    assert ("int8", before.inputs, before.outputs) == (after.format, after.inputs, after.outputs)
    assert len(content) < len(digits.float32) / 2
    assert accuracy(content, digits.held_back).value > 0.95


def test_quantizing_costs_less_than_a_point(digits: Digits) -> None:
    """All three formats know the digits held back, on the current runtime."""
    before = accuracy(digits.float32, digits.held_back)
    for content in (digits.int8, digits.dynamic):
        after = accuracy(content, digits.held_back)

        assert after.value > before.value - 0.01 > 0.95
        assert after.samples == before.samples == 540
        assert after.runtime == "ai-edge-litert 2.3.0"


def test_a_card_carries_what_was_measured(digits: Digits, tmp_path: Path) -> None:
    """A packed model's card has metrics, labels, budget kept; it passes its own golden vectors."""
    before = accuracy(digits.float32, digits.held_back)
    after = accuracy(digits.int8, digits.held_back)
    packed = pack(
        [digits.int8],
        REF,
        about=About(
            labels=tuple("0123456789"),
            licence="BSD-3-Clause",
            metrics={digest_of(digits.int8): (after,)},
            budget=Budget(before=before, loss=0.01),
        ),
        rows=digits.held_back.npz,
    )

    assert (after,) == packed.card.variants[0].metrics
    assert 10 == packed.card.golden.classes_seen
    assert int(packed.card.golden.origin.partition(" of the rows given")[0]) >= 32
    assert judged(packed, tmp_path, sys.executable) == {"passed": True, "reason": None}
    assert ["output-0-class", "input-0-mean", "input-0-deviation"] == [
        each.subject for each in packed.card.drift
    ]
    classes, *inputs = packed.card.drift
    assert classes.shares == pytest.approx([0.1] * 10, abs=0.02)
    assert {(540, 10)} == {(each.samples, len(each.shares)) for each in inputs}
    assert packed.card == card_codec.parse(card_codec.render(packed.card))


def test_a_bundle_that_lost_more_than_its_budget_does_not_pack(digits: Digits) -> None:
    """A budget is a refusal, not a remark."""
    before = accuracy(digits.float32, digits.held_back)
    after = accuracy(digits.int8, digits.held_back)
    worse = type(after)(
        name=after.name,
        value=before.value - 0.02,
        dataset=after.dataset,
        samples=after.samples,
        runtime=after.runtime,
        architecture=after.architecture,
    )
    about = About(
        metrics={digest_of(digits.int8): (worse,)}, budget=Budget(before=before, loss=0.01)
    )

    with pytest.raises(RefusedError, match=r"the budget is 0\.01") as refused:
        pack([digits.int8], REF, about=about)
    assert "ACCURACY_BUDGET" == refused.value.reason


def test_a_budget_nobody_measured_is_not_kept(digits: Digits) -> None:
    """A budget without a measurement of the quantized file refuses, too."""
    about = About(budget=Budget(before=accuracy(digits.float32, digits.held_back), loss=0.5))

    with pytest.raises(RefusedError, match="was not measured") as refused:
        pack([digits.int8], REF, about=about)
    assert "ACCURACY_BUDGET" == refused.value.reason


@pytest.mark.real("tflite")
def test_a_runtime_that_answers_at_chance_is_refused(digits: Digits, tmp_path: Path) -> None:
    """tflite-runtime loads the dynamic-range file without a word and knows one digit in ten."""
    at_chance = accuracy(digits.dynamic, digits.held_back, python=str(TFLITE_PYTHON))
    packed = pack([digits.dynamic], REF)

    assert at_chance.value < 0.2
    assert judged(packed, tmp_path, sys.executable) == {"passed": True, "reason": None}
    assert judged(packed, tmp_path, str(TFLITE_PYTHON)) == {
        "passed": False,
        "reason": "GOLDEN_MISMATCH",
    }


@pytest.mark.real("tflite")
def test_a_wrong_opinion_does_not_widen_the_tolerance(digits: Digits) -> None:
    """A runtime that answers something else is named, and the tolerance stays as it was."""
    alone = pack([digits.dynamic], REF)
    asked = pack([digits.dynamic], REF, also=[str(TFLITE_PYTHON)])

    assert alone.card.golden.tolerances == asked.card.golden.tolerances
    assert "tflite-runtime==2.14.0" in asked.card.variants[0].requirements.avoid_runtimes
    assert ("tflite-runtime 2.14.0 answers otherwise: devices with it are left out",) == (
        asked.warnings
    )


def test_a_person_may_overrule_the_static_rule(digits: Digits) -> None:
    """The rule's constraint is left out, recorded and said; without the word it stays."""
    ruled = pack([digits.dynamic], REF)
    other = pack([digits.dynamic], REF, allow=["ai-edge-litert"])
    allowed = pack([digits.dynamic], REF, allow=["tflite-runtime"])

    for packed in (ruled, other):
        assert ("tflite-runtime<=2.14.0",) == packed.card.variants[0].requirements.avoid_runtimes
        assert () == packed.card.provenance.allowed_runtimes
        assert () == packed.warnings
    assert () == allowed.card.variants[0].requirements.avoid_runtimes
    assert ("tflite-runtime<=2.14.0",) == allowed.card.provenance.allowed_runtimes
    (said,) = allowed.warnings
    assert "by your word tflite-runtime<=2.14.0 is not excluded" in said
    assert allowed.card == card_codec.parse(card_codec.render(allowed.card))
    assert ruled.golden == allowed.golden


def test_where_no_rule_is_in_the_way_nothing_is_allowed(digits: Digits) -> None:
    """The word about a file that nothing excludes changes nothing."""
    assert pack([digits.int8], REF).card == pack([digits.int8], REF, allow=["tflite-runtime"]).card


@pytest.mark.real("tflite")
def test_what_was_measured_to_be_wrong_stays_excluded(digits: Digits) -> None:
    """A person's word is against a rule, not against a measurement."""
    packed = pack([digits.dynamic], REF, also=[str(TFLITE_PYTHON)], allow=["tflite-runtime"])

    assert ("tflite-runtime==2.14.0",) == packed.card.variants[0].requirements.avoid_runtimes


@pytest.mark.real("tflite")
@pytest.mark.parametrize("format_", ["float32", "int8"])
def test_the_other_runtime_passes_what_it_answers_rightly(
    digits: Digits, tmp_path: Path, format_: str
) -> None:
    """A whole model is refused on no runtime that answers it rightly."""
    packed = pack([getattr(digits, format_)], REF)

    assert judged(packed, tmp_path, str(TFLITE_PYTHON)) == {"passed": True, "reason": None}


def test_two_variants_of_one_signature_share_their_vectors(digits: Digits) -> None:
    """Float and dynamic-range are one bundle; int8, which takes other inputs, is another."""
    packed = pack([digits.float32, digits.dynamic], REF)

    assert ["float32", "dynamic-range"] == [each.format for each in packed.card.variants]
    with pytest.raises(RefusedError, match="pack it under a name of its own"):
        pack([digits.float32, digits.int8], REF)


def test_calibration_rows_that_do_not_fit_are_named(digits: Digits) -> None:
    """What is wrong with the rows is said, without a trace of the quantizer."""
    with pytest.raises(RefusedError, match=r"no \.npz|no array|can't quantize") as refused:
        quantize(digits.float32, "int8", calibration=b"not rows")
    assert "Traceback" not in str(refused.value)
    with pytest.raises(RefusedError, match="needs rows"):
        quantize(digits.float32, "int8")
