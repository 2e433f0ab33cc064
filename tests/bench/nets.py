"""Nets of convolutions over a picture, made here: int8, as long to compute as one likes."""

import math
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from models import tflite
from tests.agent.packages import Array, Package, packaged, packed, quantized

_KERNEL, _HALVE = 3, 2


def picture_net(side: int, channels: tuple[int, ...], folder: Path) -> Package:
    """Return an int8 net of 3 x 3 convolutions; the first two of them halve the picture."""
    folder.mkdir(parents=True)
    content = quantized(_float_net(side, channels), (1, side, side, 3), folder)
    found = tflite.read(content)
    return packaged(content, folder / "package", inputs=found.inputs, outputs=found.outputs)


def _float_net(side: int, channels: tuple[int, ...]) -> bytes:
    rng = np.random.default_rng(7)
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    model.version, model.description, model.buffers = 3, "pictures", [schema.BufferT()]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 1
    model.operatorCodes = [code]
    graph.name, graph.tensors, graph.operators = "main", [], []

    def tensor(
        name: str,
        shape: tuple[int, ...],
        content: Array | None = None,
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name, list(shape), schema.TensorType.FLOAT32
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    last, deep = tensor("x", (1, side, side, 3)), 3
    graph.inputs = [last]
    for step, wide in enumerate(channels):
        stride = 2 if step < _HALVE else 1
        side = -(-side // stride)
        shape = (wide, _KERNEL, _KERNEL, deep)
        weights = rng.normal(0, math.sqrt(2 / (_KERNEL * _KERNEL * deep)), shape)
        operator, options = schema.OperatorT(), schema.Conv2DOptionsT()
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.padding = schema.Padding.SAME
        final = step == len(channels) - 1
        if not final:
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        operator.opcodeIndex = 0
        operator.builtinOptionsType, operator.builtinOptions = (
            schema.BuiltinOptions.Conv2DOptions,
            options,
        )
        operator.inputs = [
            last,
            tensor(f"w{step}", shape, weights.astype(np.float32)),
            tensor(f"b{step}", (wide,), np.zeros(wide, np.float32)),
        ]
        last, deep = tensor("y" if final else f"h{step}", (1, side, side, wide)), wide
        operator.outputs = [last]
        graph.operators.append(operator)
    return packed(model, graph, last)
