"""Bytes to documents and back. The only place of the wire where pydantic stands.

Tolerant reader, strict writer: fields it doesn't know are ignored; a malformed,
oversized or unknown document is refused with a reason, and nothing of it is
kept. A plain secret is refused in both directions, and so is a number that JSON
has no word for (NaN, infinity).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from agent.wire import v1
from agent.wire.limits import (
    DOCUMENT_LIMIT_BYTES,
    DRIFT_SUBJECTS_LIMIT,
    HEALTH_DEPLOYMENT_LIMIT_BYTES,
    HEALTH_DEVICE_LIMIT_BYTES,
    HEALTH_DRIFT_LIMIT_BYTES,
    JOIN_LIMIT_BYTES,
    SIGNED_LIMIT_BYTES,
)
from agent.wire.packing import PACKED_LIMIT, pack, pack_counts, unpack, unpack_counts
from agent.wire.reasons import Reason

Document = (
    v1.Desired
    | v1.SiteDesired
    | v1.Reported
    | v1.SiteReported
    | v1.Birth
    | v1.Death
    | v1.Health
    | v1.Event
    | v1.Acked
    | v1.Command
    | v1.Result
    | v1.JoinRequest
    | v1.JoinAnswer
    | v1.RenewRequest
    | v1.RenewAnswer
    | v1.Approval
    | v1.RevocationList
)

DocumentT = TypeVar("DocumentT", bound=Document)

SCHEMAS: dict[str, type[Document]] = {
    f"skerry.{name}/v1-draft": cls
    for name, cls in (
        ("desired", v1.Desired),
        ("site-desired", v1.SiteDesired),
        ("reported", v1.Reported),
        ("site-reported", v1.SiteReported),
        ("birth", v1.Birth),
        ("death", v1.Death),
        ("health", v1.Health),
        ("event", v1.Event),
        ("acked", v1.Acked),
        ("command", v1.Command),
        ("result", v1.Result),
        ("join-request", v1.JoinRequest),
        ("join-answer", v1.JoinAnswer),
        ("renew-request", v1.RenewRequest),
        ("renew-answer", v1.RenewAnswer),
        ("approval", v1.Approval),
        ("revocations", v1.RevocationList),
    )
}
"""Every document by its schema id. `-draft` goes at release 0.1."""

_SCHEMA_OF: dict[object, str] = {cls: schema for schema, cls in SCHEMAS.items()}
_ADAPTERS: dict[object, TypeAdapter[Any]] = {}
_SIGNED: set[object] = {v1.Desired, v1.SiteDesired, v1.Command}
_OVER_HTTP: set[object] = {
    v1.JoinRequest,
    v1.JoinAnswer,
    v1.RenewRequest,
    v1.RenewAnswer,
    v1.RevocationList,
}
_SECRET_NAME = re.compile(
    r"pass(word|phrase|wd)|secret|token|credential|api[_-]?key|private[_-]?key", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


class WireError(Exception):
    """A document can't be sent or obeyed as it is; `reason` says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def schema_of(cls: type[DocumentT]) -> str:
    """Return a document type's schema id."""
    return _SCHEMA_OF[cls]


def limit_bytes(cls: type[DocumentT]) -> int:
    """Return the most bytes a document of this type may have, before any envelope."""
    if cls in _SIGNED:
        return SIGNED_LIMIT_BYTES
    return JOIN_LIMIT_BYTES if cls in _OVER_HTTP else DOCUMENT_LIMIT_BYTES


def encode(document: Document) -> bytes:
    """Return the bytes of a document: UTF-8 JSON, the schema id first, absent values left out.

    Raises:
        WireError: it would be larger than its limit, carries a plain secret, or a value that
            JSON has no form for.
    """
    cls = type(document)
    schema = _SCHEMA_OF[cls]
    _refuse_plain_secrets(document)
    try:
        body = {"schema": schema}
        body |= _adapter_of(cls).dump_python(document, mode="json", exclude_none=True)
        health = _health_in(body, cls)
        if health is not None:
            _pack_sketches(health)
            _check_health_parts(health)
        raw = _compact(body)
    except (PydanticSerializationError, ValueError) as error:
        raise WireError(Reason.MALFORMED, f"{schema} has a value that JSON can't hold") from error
    if len(raw) > limit_bytes(cls):
        raise WireError(
            Reason.TOO_LARGE, f"{schema} would have {len(raw)} bytes; at most {limit_bytes(cls)}"
        )
    return raw


def decode(raw: bytes, *expected: type[DocumentT]) -> DocumentT:
    """Return the document in `raw`, which must be of one of the `expected` types.

    Raises:
        WireError: too large, not JSON of that shape, another schema, or a plain secret in it.
    """
    most = max(limit_bytes(cls) for cls in expected)
    if len(raw) > most:
        raise WireError(Reason.TOO_LARGE, f"a document of {len(raw)} bytes; at most {most}")
    outer = _parse(raw)
    schema = outer.get("schema") if isinstance(outer, dict) else None
    cls = next((cls for cls in expected if schema == schema_of(cls)), None)
    if cls is None:
        names = " or ".join(schema_of(cls) for cls in expected)
        raise WireError(
            Reason.UNKNOWN_SCHEMA, f"schema {str(schema)[:80]!r}, where {names} is expected"
        )
    if len(raw) > limit_bytes(cls):
        raise WireError(
            Reason.TOO_LARGE, f"{schema} of {len(raw)} bytes; at most {limit_bytes(cls)}"
        )
    try:
        health = _health_in(outer, cls)
        if health is not None:
            _unpack_sketches(health)
            raw = _compact(outer)
        document = _adapter_of(cls).validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise WireError(Reason.MALFORMED, f"{schema}: {where}: {first['msg']}"[:250]) from error
    except (ValueError, RecursionError) as error:
        raise WireError(Reason.MALFORMED, f"{schema}: {error}"[:250]) from error
    _refuse_plain_secrets(document)
    return document


def json_schema(cls: type[DocumentT]) -> dict[str, Any]:
    """Return the JSON Schema of one document type as it is on the wire."""
    schema: dict[str, Any] = _adapter_of(cls).json_schema()
    schema["properties"] = {"schema": {"const": schema_of(cls)}, **schema["properties"]}
    schema["required"] = ["schema", *schema.get("required", [])]
    if "LatencySketch" in schema.get("$defs", {}):
        schema["$defs"]["LatencySketch"] = {
            "title": "LatencySketch",
            "description": "A latency sketch, packed: see agent/wire/packing.py.",
            "type": "string",
            "maxLength": PACKED_LIMIT,
        }
        schema["$defs"]["DriftSketch"] = {
            "title": "DriftSketch",
            "description": "A drift sketch's counts, packed: see agent/wire/packing.py.",
            "type": "string",
            "maxLength": PACKED_LIMIT,
        }
        part = schema["$defs"]["DeploymentHealth"]["properties"]
        part["latency"]["default"] = ""
        part["drift"] = {
            "title": "Drift",
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/DriftSketch"},
            "maxProperties": DRIFT_SUBJECTS_LIMIT,
            "default": {},
        }
    return schema


def _adapter_of(cls: type[DocumentT]) -> TypeAdapter[DocumentT]:
    adapter = _ADAPTERS.get(cls)
    if adapter is None:
        adapter = _ADAPTERS[cls] = TypeAdapter(cls)
    return adapter


def _compact(tree: object) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _parse(raw: bytes) -> object:
    try:
        return json.loads(raw.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise WireError(Reason.MALFORMED, "not JSON in UTF-8") from error


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _refuse_plain_secrets(document: Document) -> None:
    for values in _settings_of(document):
        for name, value in values.items():
            named = _SECRET_NAME.search(name) and not isinstance(value, v1.SecretRef)
            if named or (isinstance(value, str) and _SECRET_VALUE.search(value)):
                raise WireError(
                    Reason.SECRET_IN_DOCUMENT,
                    f"{name[:80]!r} looks like a secret; "
                    'name one that the device holds: {"secret": "its-name"}',
                )


def _settings_of(document: Document) -> Iterator[Mapping[str, object]]:
    if isinstance(document, v1.Desired):
        yield document.settings.values
        for deployment in document.deployments:
            yield deployment.settings.values
    if isinstance(document, v1.Command):
        yield document.parameters


def _health_in(body: Any, cls: type[object]) -> Any:  # noqa: ANN401  # JSON, of any shape yet
    """Return the part of a document that is a health document: the whole, a field, or None."""
    if issubclass(cls, v1.Event):
        return body.get("health")
    return body if issubclass(cls, v1.Health) else None


def _pack_sketches(body: dict[str, Any]) -> None:
    for part in body["deployments"]:
        buckets = part.pop("latency")["buckets"]
        if buckets:
            part["latency"] = pack({int(index): count for index, count in buckets.items()})
        drift = part.pop("drift")
        if drift:
            part["drift"] = {each["subject"]: pack_counts(each["counts"]) for each in drift}


def _unpack_sketches(body: object) -> None:
    """Put the plain form of each sketch where its text was.

    Raises:
        ValueError: a latency or drift that is no packed sketch.
    """
    parts = body.get("deployments") if isinstance(body, dict) else None
    for part in parts if isinstance(parts, list) else []:
        if not isinstance(part, dict):
            continue
        if "latency" in part:
            buckets = unpack(_a_text(part["latency"], "latency"))
            part["latency"] = {"count": sum(buckets.values()), "buckets": buckets}
        if "drift" in part and part["drift"] != []:  # as it was before it was counted
            if not isinstance(part["drift"], dict):
                raise ValueError("drift is not an object of texts")
            part["drift"] = [
                {"subject": subject, "counts": unpack_counts(_a_text(text, subject))}
                for subject, text in part["drift"].items()
            ]


def _a_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")  # noqa: TRY004  # what was sent is wrong, no type of ours
    return value


def _check_health_parts(body: dict[str, Any]) -> None:
    """Hold each part to its own limit, so that one deployment can't use up the others' room.

    Drift has a limit of its own: it comes once an hour, and only when it fits the document.
    """
    device = len(_compact({**body, "deployments": []}))
    if device > HEALTH_DEVICE_LIMIT_BYTES:
        raise WireError(
            Reason.TOO_LARGE,
            f"the device's part has {device} bytes; at most {HEALTH_DEVICE_LIMIT_BYTES}",
        )
    for part in body["deployments"]:
        lean = {name: value for name, value in part.items() if name != "drift"}
        size = len(_compact(lean))
        for what, has, most in (
            ("part", size, HEALTH_DEPLOYMENT_LIMIT_BYTES),
            ("drift", len(_compact(part)) - size, HEALTH_DRIFT_LIMIT_BYTES),
        ):
            if has > most:
                raise WireError(
                    Reason.TOO_LARGE, f"{part['name']}'s {what} has {has} bytes; at most {most}"
                )
