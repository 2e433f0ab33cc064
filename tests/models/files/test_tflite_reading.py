"""What `tflite.read` says of a file is what the runtime makes of it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymicro_wakeword
import pytest
from ai_edge_litert import schema_py_generated as schema

from models import tflite
from models.card import Operator, Quantization, Tensor
from models.errors import RefusedError
from models.values import Datatype, digest_of

Make = Callable[..., bytes]

WAKE_WORDS = sorted(Path(pymicro_wakeword.__file__).parent.rglob("*.tflite"))
RUNTIME_NAMES = {"float32": "FP32", "int8": "INT8", "uint8": "UINT8"}

# What the runtime itself says; in a child, because reading a model with it is running it.
ASK_THE_RUNTIME = """
import json, sys
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_content=open(sys.argv[1], "rb").read())
interpreter.allocate_tensors()
print(json.dumps([
    [each["name"], each["dtype"].__name__, each["shape_signature"].tolist(), each["quantization"]]
    for each in [*interpreter.get_input_details(), *interpreter.get_output_details()]
]))
"""


def test_a_small_model_is_read_in_full(model: bytes) -> None:
    """Every field is what the file was written with."""
    file = tflite.read(model)

    quantization = Quantization(scale=0.5, zero_point=-3)
    assert (
        Tensor(name="x", datatype=Datatype.INT8, shape=(-1, 8), quantization=quantization),
    ) == file.inputs
    assert (
        Tensor(name="scores", datatype=Datatype.INT8, shape=(-1, 4), quantization=quantization),
    ) == file.outputs
    assert (
        Operator(name="FULLY_CONNECTED", version=1, count=1),
        Operator(name="RESHAPE", version=1, count=1),
    ) == file.operators
    assert (digest_of(model), len(model), 3, "a small model", "2.5.0", "int8") == (
        file.digest,
        file.size_bytes,
        file.version,
        file.description,
        file.runtime_version,
        file.format,
    )
    assert not file.stateful
    assert () == file.avoid_runtimes
    assert () == file.custom_operators


def test_memory_is_weights_and_what_lives_at_once(model: bytes) -> None:
    """32 bytes of kernel, 8 of shape; at once 8 in and 4 out."""
    assert 32 + 8 + 12 == tflite.read(model).memory_bytes


def test_spans_of_weights_lead_to_the_weights(model: bytes) -> None:
    """The bytes a span names are those of the constant."""
    kernel = np.random.default_rng(5).integers(-127, 127, (4, 8), dtype=np.int8).tobytes()
    spans = {span.tensor: span for span in tflite.read(model).weights}
    span = spans["dense/kernel"]

    assert kernel == model[span.offset : span.offset + span.length]
    assert {"dense/kernel": "INT8", "shape": "INT32"} == {
        name: span.datatype for name, span in spans.items()
    }


def test_weights_that_an_old_runtime_gets_wrong_are_named(make_model: Make) -> None:
    """Per-channel dynamic-range weights answer at chance on tflite-runtime 2.14.0."""
    file = tflite.read(make_model(dynamic=True))

    assert "dynamic-range" == file.format
    assert ("tflite-runtime<=2.14.0",) == file.avoid_runtimes


def test_without_a_signature_tensors_names_are_made_plain_and_unique(make_model: Make) -> None:
    """`serving_default_x:0` is `x`; two outputs of one name stay apart."""

    def change(model: schema.ModelT) -> None:
        model.signatureDefs = []
        model.subgraphs[0].tensors[2].name = "StatefulPartitionedCall:1;fused"
        model.subgraphs[0].outputs = [4, 2]

    file = tflite.read(make_model(change))

    assert ["x"] == [each.name for each in file.inputs]
    assert ["StatefulPartitionedCall", "StatefulPartitionedCall_1"] == [
        each.name for each in file.outputs
    ]


def test_a_tensor_without_a_name_gets_one(make_model: Make) -> None:
    """Clients always have something to call."""

    def change(model: schema.ModelT) -> None:
        model.signatureDefs = []
        model.subgraphs[0].tensors[0].name = ""

    assert ["input_0"] == [each.name for each in tflite.read(make_model(change)).inputs]


def test_a_custom_operator_is_read_and_named(make_model: Make) -> None:
    """Whether anything can run it is fit's and the self-test's to say."""

    def change(model: schema.ModelT) -> None:
        code = model.operatorCodes[1]
        code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "edgetpu-custom-op"

    assert ("edgetpu-custom-op",) == tflite.read(make_model(change)).custom_operators


def test_bytes_appended_to_a_model_are_let_be(model: bytes) -> None:
    """TFLite metadata appends an archive of labels; runtimes ignore it, the digest covers it."""
    file = tflite.read(model + b"PK\x05\x06 labels")

    assert len(model) + 11 == file.size_bytes
    assert tflite.read(model).inputs == file.inputs


def test_content_past_the_flatbuffer_is_found(make_model: Make) -> None:
    """Large files keep constants behind the flatbuffer, by offset and size."""

    def change(model: schema.ModelT) -> None:
        model.buffers[1].data = None
        model.buffers[1].offset, model.buffers[1].size = 4096, 32

    raw = make_model(change)
    file = tflite.read(raw.ljust(4096, b"\0") + bytes(range(32)))

    assert (4096, 32) in [(span.offset, span.length) for span in file.weights]
    with pytest.raises(RefusedError, match="a constant lies from byte 4096"):
        tflite.read(raw.ljust(4096, b"\0") + bytes(31))


@pytest.mark.parametrize("path", WAKE_WORDS, ids=lambda path: path.stem)
def test_published_wake_words_are_stateful_int8(path: Path) -> None:
    """Real files with resource variables and an initialising subgraph."""
    file = tflite.read(path.read_bytes())

    assert ("int8", True, ()) == (file.format, file.stateful, file.avoid_runtimes)
    assert [(1, 3, 40)] == [each.shape for each in file.inputs]
    assert [Datatype.UINT8] == [each.datatype for each in file.outputs]


@pytest.mark.parametrize("which", ["int8", "dynamic", *(path.stem for path in WAKE_WORDS)])
def test_the_runtime_sees_the_same_inputs_and_outputs(
    which: str, make_model: Make, tmp_path: Path
) -> None:
    """Types, shapes, scales and order are those of the interpreter, tensor by tensor."""
    paths = {path.stem: path for path in WAKE_WORDS}
    path = paths.get(which, tmp_path / "model.tflite")
    if which not in paths:
        path.write_bytes(make_model(dynamic=which == "dynamic"))
    asked = subprocess.run(
        [sys.executable, "-P", "-c", ASK_THE_RUNTIME, str(path)],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    file = tflite.read(path.read_bytes())

    seen = json.loads(asked.stdout)
    said = [
        [
            RUNTIME_NAMES[kind],
            shape,
            quantization if quantization != [0.0, 0] else None,
        ]
        for _, kind, shape, quantization in seen
    ]
    assert said == [
        [
            each.datatype.value,
            list(each.shape),
            [each.quantization.scale, each.quantization.zero_point] if each.quantization else None,
        ]
        for each in (*file.inputs, *file.outputs)
    ]
