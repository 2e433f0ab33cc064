"""A client as an application would write one.

Open Inference Protocol over HTTP with binary tensors, standard library only.
"""

import http.client
import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_ANSWER_LIMIT_BYTES = 1024 * 1024
_TIMEOUT_S = 10.0
_FLOAT_BYTES = 4


class AnswerError(Exception):
    """A device answered something else than an inference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a device answers, what its model takes and what it gives: one float tensor each."""

    port: int
    model: str
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    output_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One inference: the version that made it says so itself."""

    version: str
    raw: bytes

    @property
    def largest(self) -> int:
        """The index of the largest output."""
        values = struct.unpack(f"<{len(self.raw) // _FLOAT_BYTES}f", self.raw)
        return max(range(len(values)), key=values.__getitem__)


def connect(port: int) -> http.client.HTTPConnection:
    """Return a connection to a device on this machine; it opens when it is first used."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)


def describe(port: int, model: str) -> Endpoint:
    """Ask a device what its model takes and gives.

    Raises:
        AnswerError: it doesn't serve that model.
        OSError, http.client.HTTPException: nobody answers there.
    """
    connection = connect(port)
    try:
        connection.request("GET", f"/v2/models/{model}")
        answer = connection.getresponse()
        body = answer.read(_ANSWER_LIMIT_BYTES)
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise AnswerError(f"{answer.status} {body[:200]!r}")
    said = json.loads(body)
    (given,), (got,) = said["inputs"], said["outputs"]
    if (given["datatype"], got["datatype"]) != ("FP32", "FP32"):
        raise AnswerError(f"{model} takes {given['datatype']} and gives {got['datatype']}")
    return Endpoint(
        port=port,
        model=model,
        input_name=given["name"],
        input_shape=_shape(given),
        output_name=got["name"],
        output_shape=_shape(got),
    )


def ask(connection: http.client.HTTPConnection, endpoint: Endpoint, row: bytes) -> Answer:
    """Ask for one inference over a connection that stays open.

    Raises:
        AnswerError: it was refused, failed, or has another shape than was described.
        OSError, http.client.HTTPException: nobody answers there.
    """
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": endpoint.input_name,
                    "shape": endpoint.input_shape,
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(row)},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    connection.request(
        "POST",
        f"/v2/models/{endpoint.model}/infer",
        head + row,
        {"Inference-Header-Content-Length": str(len(head))},
    )
    response = connection.getresponse()
    body = response.read(_ANSWER_LIMIT_BYTES)
    if response.status != http.client.OK:
        raise AnswerError(f"{response.status} {body[:200]!r}")
    length = int(response.headers["Inference-Header-Content-Length"])
    said = json.loads(body[:length])
    (output,) = said["outputs"]
    raw = body[length:]
    told = (output["name"], output["datatype"], tuple(output["shape"]), len(raw))
    size = _FLOAT_BYTES * math.prod(endpoint.output_shape)
    if told != (endpoint.output_name, "FP32", endpoint.output_shape, size):
        raise AnswerError(f"an answer of another shape: {told}")
    return Answer(version=str(said["model_version"]), raw=raw)


def ask_all(endpoint: Endpoint, rows: Iterable[bytes]) -> list[Answer]:
    """Ask for each row, one request a row over one connection.

    Raises:
        AnswerError: as `ask`.
        OSError, http.client.HTTPException: as `ask`.
    """
    connection = connect(endpoint.port)
    try:
        return [ask(connection, endpoint, row) for row in rows]
    finally:
        connection.close()


def _shape(tensor: dict[str, list[int]]) -> tuple[int, ...]:
    return tuple(max(1, size) for size in tensor["shape"])
