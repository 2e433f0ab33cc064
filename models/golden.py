"""The golden blob: inputs and reference outputs of a bundle's golden vectors, as bytes. Pure.

Vector after vector; in each, all inputs in the card's order, then all outputs;
each tensor as raw little-endian elements in row-major order (the layout of an
Open Inference Protocol binary tensor). Nothing else is in it: sizes follow from
the card. A dimension that may vary (-1) is 1 here, as the runtimes allocate it.
How near an answer must be is the card's (`models.card.Golden`), and is judged
by `models.judge`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.card import Card, Tensor
from models.errors import RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One golden vector: a raw tensor per input, and one per output."""

    inputs: tuple[bytes | memoryview, ...]
    outputs: tuple[bytes | memoryview, ...]


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape a tensor has in golden vectors."""
    return tuple(1 if size < 0 else size for size in tensor.shape)


def size_of(tensor: Tensor) -> int:
    """Return the bytes a tensor takes in golden vectors.

    Raises:
        RefusedError: MODEL_UNSUPPORTED, its elements have no fixed size.
    """
    if not tensor.datatype.size_bytes:
        raise RefusedError(
            "MODEL_UNSUPPORTED",
            f"tensor {tensor.name} is {tensor.datatype}: golden vectors need elements of one size",
        )
    return math.prod(shape_of(tensor)) * tensor.datatype.size_bytes


def write(inputs: Sequence[Tensor], outputs: Sequence[Tensor], vectors: Iterable[Vector]) -> bytes:
    """Return the blob of `vectors`.

    Raises:
        ValueError: a tensor's bytes are not as long as its signature says.
    """
    parts: list[bytes | memoryview] = []
    for vector in vectors:
        for tensor, raw in zip((*inputs, *outputs), (*vector.inputs, *vector.outputs), strict=True):
            if len(raw) != size_of(tensor):
                raise ValueError(f"{tensor.name} is {size_of(tensor)} bytes, not {len(raw)}")
            parts.append(raw)
    return b"".join(parts)


def read(card: Card, blob: bytes) -> tuple[Vector, ...]:
    """Return the blob's vectors, as views on it.

    Raises:
        RefusedError: BUNDLE_MALFORMED, it is not as long as the card says.
    """
    sizes = [size_of(tensor) for tensor in (*card.inputs, *card.outputs)]
    wanted = card.golden.vectors * sum(sizes)
    if len(blob) != wanted:
        raise RefusedError(
            "BUNDLE_MALFORMED",
            f"the golden vectors of {card.ref} are {len(blob)} bytes; "
            f"{card.golden.vectors} vectors of this signature are {wanted}",
        )
    view = memoryview(blob)
    vectors = []
    place = 0
    for _ in range(card.golden.vectors):
        parts = []
        for size in sizes:
            parts.append(view[place : place + size])
            place += size
        split = len(card.inputs)
        vectors.append(Vector(inputs=tuple(parts[:split]), outputs=tuple(parts[split:])))
    return tuple(vectors)
