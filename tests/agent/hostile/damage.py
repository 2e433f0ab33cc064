"""Damaged and hostile model files, each made from a whole one and a number: the same again.

Bytes are damaged as disks and lines do it; structure as somebody would who knows the
format: valid flatbuffers with indices, shapes, types, options and scales that no
converter writes.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Change = Callable[[Any, random.Random], None]

HOSTILE_NUMBERS = (-1, 0, 1, 2, 7, 255, 65536, 2**31 - 1, -(2**31), 1 << 20)
HOSTILE_SCALES = (0.0, -1.0, math.nan, math.inf, 1e-38, 1e38)


def damaged(content: bytes, kind: str, number: int) -> bytes:
    """Return the file, harmed in one way; `number` says how exactly."""
    rng = random.Random(f"{kind} {number}")  # noqa: S311  # to be the same again
    if kind in BYTES:
        return BYTES[kind](bytearray(content), rng)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        STRUCTURE[kind](model, rng)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


# Bytes


def _flips(
    count: int, *, within: Callable[[int], range]
) -> Callable[[bytearray, random.Random], bytes]:
    def flip(content: bytearray, rng: random.Random) -> bytes:
        places = within(len(content))
        for _ in range(count):
            content[rng.choice(places)] ^= 1 << rng.randrange(8)
        return bytes(content)

    return flip


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _noise(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    size = min(rng.randrange(1, 4096), len(content) - at)
    content[at : at + size] = rng.randbytes(size)
    return bytes(content)


def _zeros(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(max(1, len(content) // 512)) * 512
    content[at : at + 512] = bytes(len(content[at : at + 512]))
    return bytes(content)


def _garbage(_: bytearray, rng: random.Random) -> bytes:
    made = bytearray(rng.randbytes(rng.randrange(64, 65536)))
    made[:8] = (24).to_bytes(4, "little") + b"TFL3"
    return bytes(made)


BYTES: dict[str, Callable[[bytearray, random.Random], bytes]] = {
    "cut": _cut,
    "one bit": _flips(1, within=range),
    "16 bits": _flips(16, within=range),
    "256 bits": _flips(256, within=range),
    "head": _flips(1, within=lambda size: range(min(256, size))),
    "noise": _noise,
    "zeros": _zeros,
    "garbage": _garbage,
}


# Structure


def _graph(model: Any) -> Any:  # noqa: ANN401  # the schema's own, which has no types
    return model.subgraphs[0]


def _operator_tensor(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    operator = rng.choice(_graph(model).operators)
    numbers = list(operator.inputs if rng.random() < 0.7 else operator.outputs)
    if numbers:
        place = rng.randrange(len(numbers))
        numbers[place] = rng.choice([*range(len(_graph(model).tensors)), *HOSTILE_NUMBERS])
        if rng.random() < 0.5:
            operator.inputs = numbers
        else:
            operator.outputs = numbers


def _shape(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    tensor = rng.choice(_graph(model).tensors)
    shape = [int(size) for size in (tensor.shape if tensor.shape is not None else [])]
    way = rng.randrange(4)
    if way == 0 and shape:
        shape[rng.randrange(len(shape))] = rng.choice([*HOSTILE_NUMBERS, *range(1, 70)])
    elif way == 1:
        shape.append(rng.choice([0, 1, 2, 1000]))
    elif way == 2:
        shape = shape[:-1]
    else:
        shape = [math.prod(shape)]
    tensor.shape = shape


def _type(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    rng.choice(_graph(model).tensors).type = rng.randrange(20)


def _buffer(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    if rng.random() < 0.5:
        tensor = rng.choice(_graph(model).tensors)
        tensor.buffer = rng.randrange(len(model.buffers) + 2)
    else:
        buffer = rng.choice(model.buffers)
        if buffer.data is not None:
            buffer.data = np.asarray(buffer.data)[: rng.randrange(len(buffer.data) + 1)]


def _operator(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    code = rng.choice(model.operatorCodes)
    code.builtinCode = rng.randrange(160)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)


def _version(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    rng.choice(model.operatorCodes).version = rng.choice([0, 2, 5, 12, 99, 2**31 - 1])


def _options(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    options = rng.choice(_graph(model).operators).builtinOptions
    names = [] if options is None else [each for each in vars(options) if not each.startswith("_")]
    if names:
        name = rng.choice(names)
        if isinstance(getattr(options, name), bool):
            setattr(options, name, not getattr(options, name))
        elif isinstance(getattr(options, name), int):
            setattr(options, name, rng.choice([-1, 0, 1, 2, 3, 100]))


def _scale(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    tensor = rng.choice(_graph(model).tensors)
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return
    way = rng.randrange(4)
    if way == 0:
        quantization.scale = [rng.choice(HOSTILE_SCALES)] * len(quantization.scale)
    elif way == 1:
        quantization.zeroPoint = [rng.choice([-1000, 1000, 2**40])] * len(quantization.scale)
    elif way == 2:
        quantization.quantizedDimension = rng.choice([-1, 3, 7, 1 << 20])
    else:
        quantization.scale = list(quantization.scale) * 3


def _order(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    operators = _graph(model).operators
    way = rng.randrange(3)
    if way == 0:
        rng.shuffle(operators)
    elif way == 1:
        operators.insert(rng.randrange(len(operators) + 1), rng.choice(operators))
    else:
        operators.pop(rng.randrange(len(operators)))


def _ends(model: Any, rng: random.Random) -> None:  # noqa: ANN401
    graph = _graph(model)
    numbers = [rng.randrange(len(graph.tensors))]
    if rng.random() < 0.5:
        graph.inputs = numbers
    else:
        graph.outputs = numbers


STRUCTURE: dict[str, Change] = {
    "operator's tensors": _operator_tensor,
    "shape": _shape,
    "type": _type,
    "buffer": _buffer,
    "operator": _operator,
    "version": _version,
    "options": _options,
    "scale": _scale,
    "order": _order,
    "ends": _ends,
}
