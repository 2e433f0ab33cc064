"""The Open Inference Protocol's request and answer, where numpy lives: in the worker.

Bytes in, arrays out, and back. A request that can't be right is an
`OipError` with the status and the sentence the client gets; nothing is
coerced silently: a number that does not fit its datatype is refused.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from agent.workers.tensors import DTYPES, Array, OipError, describe, read_blob, read_list
from agent.workers.values import Encoding
from models.card import Tensor
from models.values import Datatype

_ID_LIMIT = 1024  # it is echoed; correlation ids are tens of characters
_WINDOW_BITS = {Encoding.GZIP: 31, Encoding.DEFLATE: 15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What the model takes and gives, under the names clients use."""

    name: str
    version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One output the client asked for: its place among the model's outputs, and in which form."""

    index: int
    binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that is right: arrays in the model's own order. They may point into the region."""

    id: str | None
    arrays: tuple[Array, ...]
    wanted: tuple[Wanted, ...]


def metadata(signature: Signature) -> bytes:
    """Return the body of the model metadata answer."""

    def tensors(of: tuple[Tensor, ...]) -> list[dict[str, Any]]:
        return [
            {"name": tensor.name, "datatype": str(tensor.datatype), "shape": list(tensor.shape)}
            for tensor in of
        ]

    return orjson.dumps(
        {
            "name": signature.name,
            "versions": [signature.version],
            "platform": "tensorflowlite_tflite",
            "inputs": tensors(signature.inputs),
            "outputs": tensors(signature.outputs),
        }
    )


def decompress(body: memoryview, encoding: Encoding, *, limit_bytes: int) -> memoryview:
    """Return the body as it was before compression.

    Raises:
        OipError: it is damaged, or larger than the limit when unpacked.
    """
    if encoding is Encoding.IDENTITY:
        return body
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise OipError(f"the body is not {encoding.name.lower()}: {error}") from error
    if len(plain) > limit_bytes:
        raise OipError(
            f"the body has more than {limit_bytes} bytes when decompressed; "
            "no request to this model needs more",
            status=413,
        )
    if not unpacker.eof or unpacker.unused_data:
        raise OipError(f"the body is not one complete {encoding.name.lower()} stream")
    return memoryview(plain)


def read_request(body: memoryview, json_length: int | None, signature: Signature) -> Request:
    """Return the request in `body`, of which `json_length` bytes are JSON (None: all; 0: raw mode).

    Raises:
        OipError: it does not fit the protocol, or not this model.
    """
    if json_length == 0:
        return _read_raw(body, signature)
    if json_length is not None and json_length > len(body):
        raise OipError(
            f"Inference-Header-Content-Length is {json_length}, but the body has {len(body)} bytes"
        )
    document = _parse(body if json_length is None else body[:json_length])
    blobs = None if json_length is None else body[json_length:]
    given = _entries(document, "inputs", [tensor.name for tensor in signature.inputs])
    missing = [tensor.name for tensor in signature.inputs if tensor.name not in given]
    if missing:
        raise OipError(
            f"input {missing[0]!r} is missing; the model takes {describe(signature.inputs)}"
        )
    blob_of = _assign(given, blobs)
    arrays = tuple(
        _read_tensor(tensor, given[tensor.name], blob_of.get(tensor.name))
        for tensor in signature.inputs
    )
    return Request(
        id=_text_or_none(document.get("id")), arrays=arrays, wanted=_wanted(document, signature)
    )


def write_answer(
    region: memoryview, request: Request, results: Sequence[Array], signature: Signature
) -> tuple[int, int | None]:
    """Write the answer into the region; return its length, and its JSON's when more follows.

    Raises:
        OipError: a result can't be written in the form that was asked for.
    """
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for wanted in request.wanted:
        tensor = signature.outputs[wanted.index]
        result = results[wanted.index]
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": str(tensor.datatype),
            "shape": list(result.shape),
        }
        if wanted.binary:
            blobs.append(result.astype(DTYPES[tensor.datatype], copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            if result.dtype.kind == "f" and not np.isfinite(result).all():
                raise OipError(
                    f"output {tensor.name!r} holds NaN or infinity, which JSON can't carry: "
                    'ask for it with the parameter "binary_data": true'
                )
            entry["data"] = np.ascontiguousarray(result).ravel()
        entries.append(entry)
    answer: dict[str, Any] = {"model_name": signature.name, "model_version": signature.version}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = entries
    header = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    content = b"".join([header, *blobs])
    if len(content) > len(region):
        raise OipError(
            f"the answer has {len(content)} bytes, and at most {len(region)} are carried: "
            "ask for fewer outputs, or for binary ones"
        )
    region[: len(content)] = content
    return len(content), len(header) if blobs else None


def read_answer(
    body: memoryview, json_length: int | None, signature: Signature
) -> dict[int, Array]:
    """Return the outputs in an answer of another model, by their places in this one's signature.

    Raises:
        OipError: it has another signature.
    """
    document = _parse(body if json_length is None else body[:json_length])
    blobs = None if json_length is None else body[json_length:]
    given = _entries(document, "outputs", [tensor.name for tensor in signature.outputs])
    blob_of = _assign(given, blobs)
    return {
        place: _read_tensor(tensor, given[tensor.name], blob_of.get(tensor.name))
        for place, tensor in enumerate(signature.outputs)
        if tensor.name in given
    }


def _parse(raw: memoryview) -> Mapping[str, Any]:
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise OipError(f"the request is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise OipError("the request is not a JSON object")
    return document


def _read_raw(body: memoryview, signature: Signature) -> Request:
    """Raw mode of the binary extension: the body is the one input tensor, nothing else."""
    if len(signature.inputs) != 1:
        raise OipError(
            "a raw request is for models with one input; "
            f"this one takes {describe(signature.inputs)}"
        )
    (tensor,) = signature.inputs
    shape = list(tensor.shape)
    item_bytes = DTYPES[tensor.datatype].itemsize
    if shape.count(-1) > 1:
        raise OipError(
            f"a raw request can't say the shape of {describe((tensor,))}: send a JSON header"
        )
    if -1 in shape:
        rest = item_bytes * math.prod(size for size in shape if size != -1)
        if len(body) % rest or not len(body):
            raise OipError(f"{len(body)} bytes are no whole number of rows of {rest} bytes")
        shape[shape.index(-1)] = len(body) // rest
    return Request(
        id=None,
        arrays=(read_blob(tensor, body, tuple(shape)),),
        wanted=tuple(Wanted(index=index, binary=True) for index in range(len(signature.outputs))),
    )


def _entries(
    document: Mapping[str, Any], what: str, known: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """Return the objects of `inputs` or `outputs` by name, in the order given."""
    listed = document.get(what)
    if not isinstance(listed, list):
        raise OipError(f'"{what}" must be a list')
    entries: dict[str, Mapping[str, Any]] = {}
    for entry in listed:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise OipError(f'each of "{what}" must be an object with a "name"')
        if name not in known:
            raise OipError(f"the model has no {what[:-1]} {name[:80]!r}; it has {', '.join(known)}")
        if name in entries:
            raise OipError(f"{what[:-1]} {name!r} is given twice")
        entries[name] = entry
    return entries


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise OipError('"parameters" must be an object')
    refused = [
        name for name in parameters if name == "classification" or name.startswith("shared_memory_")
    ]
    if refused:
        raise OipError(f"the parameter {refused[0]!r} is an extension that is not offered here")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise OipError(f'the parameter "{name}" must be true or false')
    return value


def _text_or_none(identifier: object) -> str | None:
    if identifier is not None and (not isinstance(identifier, str) or len(identifier) > _ID_LIMIT):
        raise OipError(f'"id" must be a string of at most {_ID_LIMIT} characters')
    return identifier


def _assign(
    given: Mapping[str, Mapping[str, Any]], blobs: memoryview | None
) -> dict[str, memoryview]:
    """Return each binary tensor's bytes: they follow the JSON in the order of the inputs."""
    assigned: dict[str, memoryview] = {}
    offset = 0
    for name, entry in given.items():
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            continue
        if blobs is None:
            raise OipError(
                f"input {name!r} is binary, "
                "but the header Inference-Header-Content-Length is missing"
            )
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise OipError(f"input {name!r}: binary_data_size must be a whole number of bytes")
        if "data" in entry:
            raise OipError(f'input {name!r} has both "data" and binary_data_size')
        if offset + size > len(blobs):
            raise OipError(
                f"input {name!r} is said to have {size} bytes, "
                f"but only {len(blobs) - offset} are left in the body"
            )
        assigned[name] = blobs[offset : offset + size]
        offset += size
    if blobs is not None and offset != len(blobs):
        raise OipError(f"{len(blobs) - offset} bytes of the body belong to no input")
    return assigned


def _wanted(document: Mapping[str, Any], signature: Signature) -> tuple[Wanted, ...]:
    binary = _flag(_parameters(document), "binary_data_output", default=False)
    names = [tensor.name for tensor in signature.outputs]
    asked = _entries(document, "outputs", names) if document.get("outputs") else {}
    wanted = tuple(
        Wanted(
            index=names.index(name),
            binary=_flag(_parameters(asked.get(name, {})), "binary_data", default=binary),
        )
        for name in asked or names
    )
    for one in wanted:
        tensor = signature.outputs[one.index]
        if tensor.datatype is Datatype.FP16 and not one.binary:
            raise OipError(
                f"output {tensor.name!r} is FP16, which JSON can't carry: "
                'ask for it with the parameter "binary_data": true'
            )
    return wanted


def _read_tensor(tensor: Tensor, entry: Mapping[str, Any], blob: memoryview | None) -> Array:
    datatype = entry.get("datatype")
    if datatype != tensor.datatype:
        raise OipError(
            f"input {tensor.name!r} is {tensor.datatype}, not {str(datatype)[:40]}; "
            f"the model takes {describe((tensor,))}"
        )
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape
    ):
        raise OipError(f"input {tensor.name!r}: shape must be a list of whole numbers above 0")
    if len(shape) != len(tensor.shape) or any(
        own not in (-1, size) for own, size in zip(tensor.shape, shape, strict=True)
    ):
        raise OipError(
            f"input {tensor.name!r} has shape {list(tensor.shape)}, not {shape[:16]} (-1 may vary)"
        )
    if blob is not None:
        return read_blob(tensor, blob, tuple(shape))
    return read_list(tensor, entry.get("data"), tuple(shape))
