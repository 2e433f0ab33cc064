"""A client as an application would write one.

Open Inference Protocol over HTTP with binary tensors, standard library only.
"""

import http.client
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_ANSWER_LIMIT_BYTES = 1024 * 1024


class AnswerError(Exception):
    """A device answered something else than an inference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a device answers, and what its model takes."""

    port: int
    model: str
    input_name: str
    datatype: str
    shape: tuple[int, ...]


def describe(port: int, model: str) -> Endpoint:
    """Ask a device what its model takes.

    Raises:
        AnswerError: it doesn't serve that model.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/v2/models/{model}")
        answer = connection.getresponse()
        body = answer.read(_ANSWER_LIMIT_BYTES)
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise AnswerError(f"port {port}: {answer.status} {body[:200]!r}")
    tensor = json.loads(body)["inputs"][0]
    return Endpoint(
        port=port,
        model=model,
        input_name=tensor["name"],
        datatype=tensor["datatype"],
        shape=tuple(max(1, size) for size in tensor["shape"]),
    )


def top1(endpoint: Endpoint, rows: Iterable[bytes]) -> list[int]:
    """Return the index of the largest output for each row, one request a row over one connection.

    Raises:
        AnswerError: a request was refused or failed.
    """
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)
    answers = []
    try:
        for row in rows:
            head = json.dumps(
                {
                    "inputs": [
                        {
                            "name": endpoint.input_name,
                            "shape": endpoint.shape,
                            "datatype": endpoint.datatype,
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
                raise AnswerError(f"port {endpoint.port}: {response.status} {body[:200]!r}")
            length = int(response.headers["Inference-Header-Content-Length"])
            output = json.loads(body[:length])["outputs"][0]
            answers.append(_largest(_values(output["datatype"], body[length:])))
    finally:
        connection.close()
    return answers


def _values(datatype: str, raw: bytes) -> Sequence[float]:
    code = {"INT8": "b", "UINT8": "B", "FP32": "f"}[datatype]
    return struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
