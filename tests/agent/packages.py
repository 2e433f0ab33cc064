"""Real models with card and golden vectors, made here: a dense net, and a published wake word."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import quantizer, recipe

from agent.wire.v1.desired import BundleRef
from agent.workers.values import Launch
from models.card import (
    Card,
    Golden,
    Provenance,
    Requirements,
    Tensor,
    Tolerance,
    Variant,
)
from models.card_codec import render
from models.golden import shape_of
from models.values import Datatype, ModelRef, digest_of

Array = npt.NDArray[Any]

MEMORY_BYTES = 4 << 30
"""Address space, not memory: the libraries alone reserve some 600 MB of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A model file with its card and golden vectors on disk, and what a raw interpreter answers."""

    content: bytes
    card: Card
    golden: bytes
    folder: Path

    def launch(self, **changes: Any) -> Launch:  # noqa: ANN401  # fields of many types
        launch = Launch(
            deployment="digits",
            revision=1,
            bundle=BundleRef(
                digest="sha256:" + "b" * 64,
                name=self.card.ref.name,
                version=self.card.ref.version,
            ),
            model=self.folder / "model.tflite",
            variant=digest_of(self.content),
            card=self.folder / "card.json",
            golden=self.folder / "golden.bin",
            library="litert",
            threads=1,
            timeout_s=5.0,
            memory_bytes=MEMORY_BYTES,
        )
        return replace(launch, **changes)

    def raw(self) -> Callable[[Array], Array]:
        """Return the raw interpreter as a function; its state goes on from call to call."""
        interpreter = Interpreter(model_content=self.content, num_threads=1)
        interpreter.allocate_tensors()
        given, answered = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

        def ask(array: Array) -> Array:
            if array.shape != tuple(interpreter.get_input_details()[0]["shape"]):
                interpreter.resize_tensor_input(given["index"], array.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], array)
            interpreter.invoke()
            answer: Array = interpreter.get_tensor(answered["index"])
            return answer

        return ask

    def inputs(self, count: int, *, seed: int) -> list[Array]:
        """Return inputs nobody has seen before."""
        rng = np.random.default_rng(seed)
        (tensor,) = self.card.inputs
        return [rng.integers(-128, 128, shape_of(tensor)).astype(np.int8) for _ in range(count)]


def dense_net(
    widths: tuple[int, ...], *, seed: int = 7, varies: bool = False, reshapes: bool = False
) -> bytes:
    """Return a float `.tflite` of fully connected layers with random weights.

    With `reshapes` its first node is a RESHAPE to the shape it has: one that a delegate can take.
    """
    rng = np.random.default_rng(seed)
    model = schema.ModelT()
    model.version, model.description, model.buffers = 3, "dense", [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", [], []

    def tensor(name: str, shape: tuple[int, ...], content: Array | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name, list(shape), schema.TensorType.FLOAT32
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        elif varies:
            made.shapeSignature = [-1, *shape[1:]]
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    model.operatorCodes = [code]
    last = tensor("x", (1, widths[0]))
    graph.inputs = [last]
    if reshapes:
        last = _reshaped(model, graph, tensor, last, widths[0])
    for step, (narrow, wide) in enumerate(pairwise(widths)):
        weights = rng.normal(0, math.sqrt(2 / narrow), (wide, narrow))
        operator = schema.OperatorT()
        operator.opcodeIndex = 0
        operator.inputs = [
            last,
            tensor(f"w{step}", (wide, narrow), weights),
            tensor(f"b{step}", (wide,), np.zeros(wide)),
        ]
        last = tensor("y" if step == len(widths) - 2 else f"h{step}", (1, wide))
        operator.outputs = [last]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        graph.operators.append(operator)
    return packed(model, graph, last)


def packed(
    model: Any,  # noqa: ANN401  # the schema's own, which has no types
    graph: Any,  # noqa: ANN401  # as above
    output: int,
) -> bytes:
    """Return the file of a model of one graph, with one input `x` and one output `y`."""
    graph.outputs = [output]
    named = schema.SignatureDefT()
    named.signatureKey, named.subgraphIndex = "serving_default", 0
    named.inputs, named.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    named.inputs[0].name, named.inputs[0].tensorIndex = "x", graph.inputs[0]
    named.outputs[0].name, named.outputs[0].tensorIndex = "y", output
    model.subgraphs, model.signatureDefs = [graph], [named]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _reshaped(
    model: Any,  # noqa: ANN401  # the schema's own, which has no types
    graph: Any,  # noqa: ANN401  # as above
    tensor: Callable[..., int],
    last: int,
    width: int,
) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, made = [last], tensor("same", (1, width))
    operator.outputs = [made]
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = [1, width]
    graph.operators.append(operator)
    return made


def quantized(
    content: bytes, width: int | tuple[int, ...], folder: Path, *, how: str = "int8"
) -> bytes:
    """Return the net as full int8, or with int8 weights only (`dynamic-range`).

    `width` is of its input; or the input's shape.
    """
    shape = (1, width) if isinstance(width, int) else width
    source, target = folder / "float.tflite", folder / "int8.tflite"
    source.write_bytes(content)
    rng = np.random.default_rng(3)
    samples = [{"x": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(50)]
    steps = quantizer.Quantizer(str(source))
    if how == "dynamic-range":
        steps.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        steps.quantize().export_model(str(target))
        return target.read_bytes()
    steps.load_quantization_recipe(recipe.static_wi8_ai8())
    with warnings.catch_warnings():  # calibration preserves all tensors, and warns that it does
        warnings.simplefilter("ignore")
        steps.quantize(steps.calibrate({"serving_default": samples})).export_model(str(target))
    return target.read_bytes()


def packaged(
    content: bytes,
    folder: Path,
    *,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    version: str = "1.0.0",
    largest: float = 2.0,
) -> Package:
    """Write a model, its card and golden vectors of its raw answers into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = 8
    digest = digest_of(content)
    golden = Golden(
        digest=digest,
        size_bytes=1,  # until it is written below
        vectors=vectors,
        origin="random",
        tolerances=tuple(Tolerance(largest=largest, mean=largest / 4) for _ in outputs),
        measured_on=("litert",),
        stateful=True,
    )
    card = Card(
        ref=ModelRef("dense", version),
        task="classification",
        inputs=inputs,
        outputs=outputs,
        variants=(
            Variant(
                digest=digest,
                size_bytes=len(content),
                format="int8",
                requirements=Requirements(memory_bytes=1 << 20, operators=()),
            ),
        ),
        provenance=Provenance(source_digest=digest),
        golden=golden,
        licence="Apache-2.0",
    )
    package = Package(content=content, card=card, golden=b"", folder=folder)
    raw = package.raw()
    blob = b""
    rng = np.random.default_rng(1)
    (tensor,) = inputs
    for _ in range(vectors):
        if tensor.datatype is Datatype.INT8:
            array = rng.integers(-128, 128, shape_of(tensor)).astype(np.int8)
        else:
            array = rng.normal(0, 1, shape_of(tensor)).astype(np.float32)
        blob += array.tobytes() + raw(array).tobytes()
    card = replace(card, golden=replace(golden, digest=digest_of(blob), size_bytes=len(blob)))
    (folder / "model.tflite").write_bytes(content)
    (folder / "card.json").write_bytes(render(card))
    (folder / "golden.bin").write_bytes(blob)
    return Package(content=content, card=card, golden=blob, folder=folder)


def decides(package: Package) -> Package:
    """Return it with a card that names its decision."""
    card = replace(package.card, golden=replace(package.card.golden, decision=0))
    (package.folder / "card.json").write_bytes(render(card))
    return replace(package, card=card)


DENSE_INPUTS = (Tensor(name="x", datatype=Datatype.INT8, shape=(1, 64)),)
DENSE_OUTPUTS = (Tensor(name="y", datatype=Datatype.INT8, shape=(1, 10)),)


def largest_buffer(content: bytes) -> bytes:
    """Return the largest constant of a model: its weights."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffers = [bytes(buffer.data) for buffer in model.buffers if buffer.data is not None]
    return max(buffers, key=len)
