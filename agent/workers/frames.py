"""The exchange between supervisor and worker: frames on a socket, bodies in the shared region.

Pure. One exchange at a time: the supervisor puts a body into the region and
sends a request frame, the worker answers in the same region and sends an
answer frame. The first exchange is the launch itself: its body is a launch,
its answer a report or a failure. What comes from a worker is not trusted: a
frame or report that does not add up is a `ValueError`.
"""

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.wire.reasons import Reason
from agent.wire.v1.desired import BundleRef
from agent.workers.values import Encoding, Examination, Launch, ReadyReport, Verdict
from models.delegate import Delegate
from models.values import parse_digest

FRAME_LIMIT_BYTES = 256
REGION_LIMIT_BYTES = 256 * 1024 * 1024
"""The largest shared region: a 4K float image as JSON would not fit, as binary it does."""

_REQUEST = struct.Struct("<QQqBQq")
_ANSWER = struct.Struct("<QHQqQQQ")
_NO_HEADER = -1
_STATUSES = frozenset({200, 400, 413, 500})
_TEXT_LIMIT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFrame:
    """A body of `length` bytes lies in the region; `json_length` as in `Answer`.

    Where another worker's answer of `beside_length` bytes lies behind it, the two are to be
    compared, and no tensors are asked for.
    """

    sequence: int
    length: int
    json_length: int | None = None
    encoding: Encoding = Encoding.IDENTITY
    beside_length: int = 0
    beside_json_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFrame:
    """The answer to request `sequence` lies in the region; how long each part of it took."""

    sequence: int
    status: int
    length: int
    json_length: int | None = None
    input_ns: int = 0
    compute_ns: int = 0
    output_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a worker can't become ready."""

    reason: Reason
    message: str


def render_request(frame: RequestFrame) -> bytes:
    """Return the frame's bytes."""
    return _REQUEST.pack(
        frame.sequence,
        frame.length,
        _packed(frame.json_length),
        frame.encoding,
        frame.beside_length,
        _packed(frame.beside_json_length),
    )


def parse_request(raw: bytes) -> RequestFrame:
    """Return the request frame.

    Raises:
        ValueError: it is not one; a defect of ours, since only we send them.
    """
    if len(raw) != _REQUEST.size:
        raise ValueError(f"a request frame of {len(raw)} bytes")
    sequence, length, json_length, encoding, beside_length, beside_json = _REQUEST.unpack(raw)
    return RequestFrame(
        sequence=sequence,
        length=length,
        json_length=_unpacked(json_length),
        encoding=Encoding(encoding),
        beside_length=beside_length,
        beside_json_length=_unpacked(beside_json),
    )


def render_answer(frame: AnswerFrame) -> bytes:
    """Return the frame's bytes."""
    return _ANSWER.pack(
        frame.sequence,
        frame.status,
        frame.length,
        _packed(frame.json_length),
        frame.input_ns,
        frame.compute_ns,
        frame.output_ns,
    )


def parse_answer(raw: bytes, *, sequence: int, region_bytes: int) -> AnswerFrame:
    """Return the answer to request `sequence`.

    Raises:
        ValueError: it is no such answer, or it points outside the region.
    """
    if len(raw) != _ANSWER.size:
        raise ValueError(f"an answer frame of {len(raw)} bytes")
    got, status, length, json_length, input_ns, compute_ns, output_ns = _ANSWER.unpack(raw)
    if got != sequence:
        raise ValueError(f"answer {got} to request {sequence}")
    if status not in _STATUSES or length > region_bytes or not _NO_HEADER <= json_length <= length:
        raise ValueError(f"status {status}, {length} bytes of which {json_length} JSON")
    return AnswerFrame(
        sequence=got,
        status=status,
        length=length,
        json_length=_unpacked(json_length),
        input_ns=input_ns,
        compute_ns=compute_ns,
        output_ns=output_ns,
    )


def _packed(length: int | None) -> int:
    return _NO_HEADER if length is None else length


def _unpacked(length: int) -> int | None:
    return None if length == _NO_HEADER else length


def render_launch(launch: Launch) -> bytes:
    """Return the launch as JSON, for the worker's first exchange."""
    return json.dumps(asdict(launch), default=str).encode()


def parse_launch(raw: bytes) -> Launch:
    """Return the launch the supervisor wrote.

    Raises:
        ValueError, KeyError, TypeError: it is not one; a defect of ours.
    """
    fields: dict[str, Any] = json.loads(raw)
    driver = fields.pop("delegate")
    return Launch(
        delegate=driver and Delegate.from_json(driver),
        bundle=BundleRef(**fields.pop("bundle")),
        model=Path(fields.pop("model")),
        variant=parse_digest(fields.pop("variant")),
        card=Path(fields.pop("card")),
        golden=Path(fields.pop("golden")),
        **fields,
    )


def render_report(report: ReadyReport) -> bytes:
    """Return the report as JSON. `start_s` is for the supervisor to say."""
    fields = asdict(report)
    fields["metadata"] = report.metadata.decode()
    return json.dumps(fields).encode()


def parse_report(raw: bytes, *, start_s: float) -> ReadyReport:
    """Return the report of a worker that says it is ready.

    Raises:
        ValueError: it is not a report.
    """
    try:
        fields = json.loads(raw)
        verdict = fields["verdict"]
        body_limit_bytes = int(fields["body_limit_bytes"])
        if not 0 < body_limit_bytes <= REGION_LIMIT_BYTES:
            raise ValueError(f"a body limit of {body_limit_bytes} bytes")
        return ReadyReport(
            library=str(fields["library"]),
            library_version=str(fields["library_version"]),
            verdict=Verdict(
                vectors=int(verdict["vectors"]),
                agreed=int(verdict["agreed"]),
                largest=tuple(float(number) for number in verdict["largest"]),
                mean=tuple(float(number) for number in verdict["mean"]),
            ),
            metadata=str(fields["metadata"]).encode(),
            body_limit_bytes=body_limit_bytes,
            sandbox=tuple(str(name) for name in fields["sandbox"]),
            start_s=start_s,
            examination=_examination(fields["examination"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not a worker's report") from error


def _examination(fields: dict[str, Any] | None) -> Examination | None:
    if fields is None:
        return None
    latency_p50_s = float(fields["latency_p50_s"])
    if not 0 <= latency_p50_s < float("inf"):
        raise ValueError(f"a latency of {latency_p50_s} s")
    return Examination(
        runs=int(fields["runs"]),
        latency_p50_s=latency_p50_s,
        memory_bytes=int(fields["memory_bytes"]),
        reference=str(fields["reference"])[:_TEXT_LIMIT],
    )


def render_agreement(*, agreed: bool) -> bytes:
    """Return whether two answers say the same, as JSON."""
    return json.dumps({"agreed": agreed}).encode()


def parse_agreement(raw: bytes) -> bool:
    """Return whether two answers say the same.

    Raises:
        ValueError: it is not said.
    """
    try:
        agreed = json.loads(raw)["agreed"]
    except (KeyError, TypeError) as error:
        raise ValueError("not a comparison") from error
    if not isinstance(agreed, bool):
        raise ValueError("not a comparison")  # noqa: TRY004  # as all that a worker says wrongly
    return agreed


def render_failure(failure: Failure) -> bytes:
    """Return the failure as JSON, its message cut to what people read."""
    return json.dumps({"reason": failure.reason, "message": failure.message[:_TEXT_LIMIT]}).encode()


def parse_failure(raw: bytes) -> Failure:
    """Return why the worker can't become ready.

    Raises:
        ValueError: it is not a failure.
    """
    try:
        fields = json.loads(raw)
        return Failure(
            reason=Reason(fields["reason"]), message=str(fields["message"])[:_TEXT_LIMIT]
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not a worker's failure") from error
