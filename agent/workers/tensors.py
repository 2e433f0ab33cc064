"""One tensor's data of an inference request, to an array: exactly, or refused. Imports numpy.

Nothing is coerced silently: a number that does not fit its datatype is refused
with the bounds it must keep.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models import judge
from models.card import Tensor
from models.values import Datatype

Array = npt.NDArray[Any]

DTYPES = {datatype: np.dtype(code) for datatype, code in judge.DTYPES.items()}


class OipError(Exception):
    """The request can't be answered; the client is told why."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def read_blob(tensor: Tensor, blob: memoryview, shape: tuple[int, ...]) -> Array:
    """Return a binary tensor; it points into `blob`.

    Raises:
        OipError: its bytes are not as many as they must be, or no such values.
    """
    dtype = DTYPES[tensor.datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(blob) != expected:
        raise OipError(
            f"input {tensor.name!r} has {len(blob)} bytes; "
            f"{tensor.datatype} {list(shape)} takes {expected}"
        )
    if tensor.datatype is Datatype.BOOL and np.frombuffer(blob, np.uint8).max(initial=0) > 1:
        raise OipError(f"input {tensor.name!r} is BOOL: each byte must be 0 or 1")
    return np.frombuffer(blob, dtype).reshape(shape)


def read_list(tensor: Tensor, data: object, shape: tuple[int, ...]) -> Array:
    """Return a tensor given as JSON, nested or flat.

    Raises:
        OipError: it is not a list of so many numbers that each fit the datatype.
    """
    name = tensor.name
    if tensor.datatype is Datatype.FP16:
        raise OipError(f"input {name!r} is FP16, which JSON can't carry: send it as binary")
    if not isinstance(data, list):
        raise OipError(f'input {name!r} needs "data", a list')
    try:
        array = np.array(data)
        if tensor.datatype is Datatype.UINT64 and array.dtype.kind == "f":
            array = _large_integers(data)
    except (ValueError, OverflowError) as error:
        raise OipError(f"input {name!r}: data is ragged, or a number is out of range") from error
    if array.size != math.prod(shape):
        raise OipError(
            f"input {name!r} has {array.size} elements; shape {list(shape)} has {math.prod(shape)}"
        )
    if array.ndim > 1 and array.shape != shape:
        raise OipError(
            f"input {name!r}: data is nested as {list(array.shape)}, but shape is {list(shape)}"
        )
    return _cast(tensor, array).reshape(shape)


def _large_integers(data: list[Any]) -> Array:
    """Return what numpy takes for floats because some are above 2**63, if all of them are whole."""
    exact = np.array(data, dtype=object)
    whole = all(isinstance(number, int) for number in exact.flat)
    return exact.astype(np.uint64) if whole else exact


def _cast(tensor: Tensor, array: Array) -> Array:
    """Return the array in the tensor's datatype; every element must have a place in it."""
    dtype = DTYPES[tensor.datatype]
    taken = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]
    if array.dtype.kind not in taken:
        raise OipError(
            f"input {tensor.name!r} is {tensor.datatype}: "
            "its data holds something that is no such number"
        )
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise OipError(
                f"input {tensor.name!r} is {tensor.datatype}: "
                f"its data must be between {bounds.min} and {bounds.max}"
            )
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(cast).all():
        raise OipError(
            f"input {tensor.name!r} is {tensor.datatype}: its data holds a number too large"
        )
    return cast


def describe(tensors: tuple[Tensor, ...]) -> str:
    """Return tensors as a client reads them in an error."""
    return ", ".join(f"{tensor.name}: {tensor.datatype} {list(tensor.shape)}" for tensor in tensors)
