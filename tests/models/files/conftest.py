"""Small real models, written here with the schema's own object API, and bundles of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from models import bundle, keys, tflite
from models.bundle import Bundle
from models.card import (
    Card,
    Golden,
    Metric,
    Operator,
    Provenance,
    Requirements,
    Tolerance,
    Variant,
)
from models.layout import Layout
from models.values import ModelRef, digest_of

GOLDEN = bytes(range(40))


def pack(model: schema.ModelT) -> bytes:
    """Return the bytes of a model."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _buffer(content: np.ndarray | bytes | None) -> schema.BufferT:
    buffer = schema.BufferT()
    if content is not None:
        raw = content if isinstance(content, bytes) else content.tobytes()
        buffer.data = np.frombuffer(raw, dtype=np.uint8)
    return buffer


def _tensor(
    name: str,
    shape: list[int],
    kind: int,
    buffer: int = 0,
    *,
    scales: list[float],
    zero_points: list[int],
) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
    if shape[0] == 1:
        tensor.shapeSignature = [-1, *shape[1:]]
    if scales:
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = scales, zero_points
        tensor.quantization = quantization
    return tensor


def small_model(
    change: Callable[[schema.ModelT], object] = lambda _: None, *, dynamic: bool = False
) -> bytes:
    """Return a whole int8 (or dynamic-range) model: a layer from 8 to 4, then a reshape.

    `change` may damage it before it is written.
    """
    random = np.random.default_rng(5)
    kind = schema.TensorType
    outer = kind.FLOAT32 if dynamic else kind.INT8
    scales: list[float] = [] if dynamic else [0.5]
    zeros: list[int] = [] if dynamic else [-3]
    weight_scales = [0.01, 0.02, 0.03, 0.04] if dynamic else [0.02]
    graph = schema.SubGraphT()
    graph.name = "main"
    outside: dict[str, Any] = {"kind": outer, "scales": scales, "zero_points": zeros}
    graph.tensors = [
        _tensor("serving_default_x:0", [1, 8], **outside),
        _tensor(
            "dense/kernel",
            [4, 8],
            kind.INT8,
            1,
            scales=weight_scales,
            zero_points=[0] * len(weight_scales),
        ),
        _tensor("dense/MatMul;dense/BiasAdd", [1, 4], **outside),
        _tensor("shape", [2], kind.INT32, 2, scales=[], zero_points=[]),
        _tensor("StatefulPartitionedCall:0", [1, 4], **outside),
    ]
    graph.inputs, graph.outputs = [0], [4]
    graph.operators = []
    for code, inputs, outputs, options_type, options in (
        (
            0,
            [0, 1, -1],
            [2],
            schema.BuiltinOptions.FullyConnectedOptions,
            schema.FullyConnectedOptionsT(),
        ),
        (1, [2, 3], [4], schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()),
    ):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = options_type, options
        graph.operators.append(operator)
    graph.operators[1].builtinOptions.newShape = [1, 4]
    model = schema.ModelT()
    model.version, model.description = 3, "a small model"
    model.operatorCodes = []
    for builtin in (schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.RESHAPE):
        code_ = schema.OperatorCodeT()
        code_.deprecatedBuiltinCode = code_.builtinCode = builtin
        code_.version = 1
        model.operatorCodes.append(code_)
    model.subgraphs = [graph]
    model.buffers = [
        _buffer(None),
        _buffer(random.integers(-127, 127, (4, 8), dtype=np.int8)),
        _buffer(np.array([1, 4], dtype=np.int32)),
        _buffer(b"2.5.0".ljust(16, b"\0")),
    ]
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = "min_runtime_version", 3
    model.metadata = [metadata]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    signature.inputs[0].name, signature.inputs[0].tensorIndex = "x", 0
    signature.outputs[0].name, signature.outputs[0].tensorIndex = "scores", 4
    model.signatureDefs = [signature]
    change(model)
    return pack(model)


def card_of(content: bytes, *, version: str = "1.0.0", golden: bytes = GOLDEN) -> Card:
    """Return a card that says of a model file what is so."""
    file = tflite.read(content)
    return Card(
        ref=ModelRef("digits", version),
        task="classification",
        inputs=file.inputs,
        outputs=file.outputs,
        variants=(
            Variant(
                digest=file.digest,
                size_bytes=file.size_bytes,
                format=file.format,
                requirements=Requirements(
                    memory_bytes=file.memory_bytes,
                    operators=(Operator(name="FULLY_CONNECTED", version=1, count=1),),
                    runtime_version=file.runtime_version,
                    avoid_runtimes=file.avoid_runtimes,
                ),
                metrics=(
                    Metric(
                        name="accuracy",
                        value=0.98,
                        dataset="rows",
                        samples=540,
                        runtime="ai-edge-litert 2.3.0",
                        architecture="x86_64",
                    ),
                ),
            ),
        ),
        provenance=Provenance(
            source_digest=digest_of(b"source"),
            tools={"litert-quantizer": "0.11.0"},
            calibration_digest=digest_of(b"rows"),
            calibration_samples=100,
        ),
        golden=Golden(
            digest=digest_of(golden),
            size_bytes=len(golden),
            vectors=3,
            origin="held-back rows",
            tolerances=(Tolerance(largest=2.0, mean=0.25),),
            measured_on=("ai-edge-litert 2.3.0 x86_64",),
            decision=0,
            classes_seen=3,
        ),
        licence="Apache-2.0",
        labels=("null", "eins", "zwei", "drei — ·"),
        description="Four digits.",
    )


@pytest.fixture(scope="session")
def model() -> bytes:
    return small_model()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.create(tmp_path / "layout")


@pytest.fixture
def packed(layout: Layout, model: bytes) -> Bundle:
    """One bundle in the layout, not signed."""
    card = card_of(model)
    return bundle.write(layout, card, {card.variants[0].digest: model}, GOLDEN)


@pytest.fixture
def key(tmp_path: Path) -> keys.SigningKey:
    keys.generate(tmp_path / "bundle.key", tmp_path / "bundle.pub")
    return keys.SigningKey.load(tmp_path / "bundle.key")


@pytest.fixture(scope="session")
def make_model() -> Callable[..., bytes]:
    return small_model


@pytest.fixture(scope="session")
def make_card() -> Callable[..., Card]:
    return card_of
