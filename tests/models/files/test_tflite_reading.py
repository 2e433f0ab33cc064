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


def _through_dequantize(element: int) -> Callable[[schema.ModelT], None]:
    """Return what stores the kernel as `element` and turns it into floats in a step of its own."""

    def change(model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        code = schema.OperatorCodeT()
        code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.DEQUANTIZE
        model.operatorCodes.append(code)
        kernel = graph.tensors[1]
        if element == schema.TensorType.FLOAT16:
            model.buffers[1].data = np.zeros(64, dtype=np.uint8)
            kernel.type, kernel.quantization = element, None
        floats = schema.TensorT()
        floats.name, floats.shape, floats.type = "floats", kernel.shape, schema.TensorType.FLOAT32
        graph.tensors.append(floats)
        step = schema.OperatorT()
        step.opcodeIndex, step.inputs, step.outputs = 2, [1], [5]
        graph.operators.insert(0, step)
        graph.operators[1].inputs = [0, 5]

    return change


def _typed(outside: int, kernel: int) -> Callable[[schema.ModelT], None]:
    """Return what gives activations and kernel other element types."""

    def change(model: schema.ModelT) -> None:
        for number, tensor in enumerate(model.subgraphs[0].tensors):
            if number == 1:
                tensor.type, tensor.quantization = kernel, None
                bits = {"FLOAT32": 32, "INT4": 4}.get(_name(kernel), 8)
                model.buffers[1].data = np.zeros(4 * bits, dtype=np.uint8)
            elif number != 3:
                tensor.type, tensor.quantization = outside, None

    return change


def _name(element: int) -> str:
    return next(str(name) for name, number in vars(schema.TensorType).items() if number == element)


def _only_reshape(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    del graph.operators[0]
    graph.inputs, model.signatureDefs = [2], []


def _only_reshape_of_int16(model: schema.ModelT) -> None:
    _only_reshape(model)
    _typed(schema.TensorType.INT16, schema.TensorType.INT8)(model)


@pytest.mark.parametrize(
    ("change", "dynamic", "expected"),
    [
        (_typed(schema.TensorType.FLOAT32, schema.TensorType.FLOAT32), True, "float32"),
        (_typed(schema.TensorType.INT16, schema.TensorType.INT8), False, "int16x8"),
        (_typed(schema.TensorType.INT8, schema.TensorType.INT4), False, "int8"),
        (_typed(schema.TensorType.INT16, schema.TensorType.FLOAT32), False, "mixed"),
        (_through_dequantize(schema.TensorType.FLOAT16), True, "float16"),
        (_through_dequantize(schema.TensorType.INT8), True, "dynamic-range"),
        (_only_reshape, False, "int8"),
        (_only_reshape, True, "float32"),
        (_only_reshape_of_int16, False, "mixed"),
    ],
)
def test_the_format_is_how_it_computes(
    make_model: Make, change: Callable[[schema.ModelT], None], *, dynamic: bool, expected: str
) -> None:
    """By what its kernels are stored as and meet; without kernels, by what it works on."""
    assert expected == tflite.read(make_model(change, dynamic=dynamic)).format


def test_weights_made_float_on_the_way_are_right_everywhere(make_model: Make) -> None:
    """Only weights that a step takes as they are stored are read with the wrong scale."""
    change = _through_dequantize(schema.TensorType.INT8)

    assert () == tflite.read(make_model(change, dynamic=True)).avoid_runtimes


def test_a_sparse_constant_is_shorter_than_its_shape(make_model: Make) -> None:
    """Its own index says where the values go; it is followed to its end like the rest."""

    def change(model: schema.ModelT) -> None:
        sparsity, dimension = schema.SparsityParametersT(), schema.DimensionMetadataT()
        sparsity.traversalOrder, sparsity.dimMetadata = [0, 1], [dimension]
        dimension.arraySegmentsType = schema.SparseIndexVector.Int32Vector
        dimension.arraySegments = schema.Int32VectorT()
        dimension.arraySegments.values = [0, 4]
        model.subgraphs[0].tensors[1].sparsity = sparsity
        model.buffers[1].data = np.zeros(5, dtype=np.uint8)

    raw = make_model(change)

    assert 5 in [span.length for span in tflite.read(raw).weights]
    for length in range(len(raw)):
        with pytest.raises(RefusedError):
            tflite.read(raw[:length])


def test_a_blockwise_quantized_constant_is_followed(make_model: Make) -> None:
    """Its scales are a tensor of their own."""

    def change(model: schema.ModelT) -> None:
        quantization = schema.QuantizationParametersT()
        quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        quantization.details = schema.BlockwiseQuantizationT()
        model.subgraphs[0].tensors[1].quantization = quantization

    assert "int8" == tflite.read(make_model(change)).format


def test_graphs_that_run_each_other_are_read(make_model: Make) -> None:
    """And a step that runs a graph there isn't is refused."""

    def calling(number: int) -> Callable[[schema.ModelT], None]:
        def change(model: schema.ModelT) -> None:
            inner = schema.SubGraphT()
            inner.tensors, inner.inputs, inner.outputs, inner.operators = [], [], [], []
            model.subgraphs.append(inner)
            code = schema.OperatorCodeT()
            code.deprecatedBuiltinCode = 127
            code.builtinCode = schema.BuiltinOperator.CALL_ONCE
            model.operatorCodes.append(code)
            step = schema.OperatorT()
            step.opcodeIndex, step.inputs, step.outputs = 2, [], []
            step.builtinOptionsType = schema.BuiltinOptions.CallOnceOptions
            step.builtinOptions = schema.CallOnceOptionsT()
            step.builtinOptions.initSubgraphIndex = number
            model.subgraphs[0].operators.insert(0, step)

        return change

    assert "CALL_ONCE" in {each.name for each in tflite.read(make_model(calling(1))).operators}
    with pytest.raises(RefusedError, match="runs graph 2 of 2"):
        tflite.read(make_model(calling(2)))


def test_a_custom_operator_is_read_and_named(make_model: Make) -> None:
    """Whether anything can run it is fit's and the self-test's to say."""

    def change(model: schema.ModelT) -> None:
        code = model.operatorCodes[0]
        code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "edgetpu-custom-op"

    raw = make_model(change)

    assert ("edgetpu-custom-op",) == tflite.read(raw).custom_operators
    with pytest.raises(RefusedError, match="its last bytes are missing"):
        tflite.read(raw[:-1])


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
