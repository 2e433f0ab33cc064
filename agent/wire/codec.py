"""Bytes to documents and back. The only place of the wire where pydantic stands.

Tolerant reader, strict writer: fields it doesn't know are ignored; a malformed,
oversized or unknown document is refused with a reason, and nothing of it is
kept. A plain secret is refused in both directions.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from agent.wire import v1
from agent.wire.limits import (
    DOCUMENT_LIMIT_BYTES,
    HEALTH_DEPLOYMENT_LIMIT_BYTES,
    HEALTH_DEVICE_LIMIT_BYTES,
    JOIN_LIMIT_BYTES,
)
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

_SCHEMA_OF = {cls: schema for schema, cls in SCHEMAS.items()}
_OVER_HTTP = {v1.JoinRequest, v1.JoinAnswer, v1.RenewRequest, v1.RenewAnswer, v1.RevocationList}
_SECRET_NAME = re.compile(r"pass(word|phrase|wd)|secret|token|credential|api[_-]?key|private[_-]?key", re.IGNORECASE)


class WireError(Exception):
    """A document can't be sent or obeyed as it is; `reason` says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def schema_of(cls: type[Document]) -> str:
    """Return a document type's schema id."""
    return _SCHEMA_OF[cls]


def limit_bytes(cls: type[Document]) -> int:
    """Return the most bytes a document of this type may have as sent."""
    return JOIN_LIMIT_BYTES if cls in _OVER_HTTP else DOCUMENT_LIMIT_BYTES


@cache
def adapter_of(cls: type[Document]) -> TypeAdapter[Document]:
    """Return the validator of one document type (also the source of its JSON Schema)."""
    return TypeAdapter(cls)


def encode(document: Document) -> bytes:
    """Return the bytes of a document: UTF-8 JSON, the schema id first, absent values left out.

    Raises:
        WireError: it would be larger than its limit, or carries a plain secret.
    """
    cls = type(document)
    _refuse_plain_secrets(document)
    body = adapter_of(cls).dump_json(document, exclude_none=True)
    raw = b'{"schema":' + json.dumps(schema_of(cls)).encode() + b"," + body[1:]
    if isinstance(document, v1.Health):
        _check_health_parts(document, raw)
    if len(raw) > limit_bytes(cls):
        raise WireError(Reason.TOO_LARGE, f"{schema_of(cls)} would have {len(raw)} bytes; at most {limit_bytes(cls)}")
    return raw


def decode(raw: bytes, *expected: type[DocumentT]) -> DocumentT:
    """Return the document in `raw`, which must be of one of the `expected` types.

    Raises:
        WireError: too large, not JSON of that shape, another schema, or a plain secret in it.
    """
    most = max(limit_bytes(cls) for cls in expected)
    if len(raw) > most:
        raise WireError(Reason.TOO_LARGE, f"a document of {len(raw)} bytes; at most {most}")
    try:
        outer = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WireError(Reason.MALFORMED, "not JSON") from error
    schema = outer.get("schema") if isinstance(outer, dict) else None
    for cls in expected:
        if schema == schema_of(cls):
            break
    else:
        names = " or ".join(schema_of(cls) for cls in expected)
        raise WireError(Reason.UNKNOWN_SCHEMA, f"schema {str(schema)[:80]!r}, where {names} is expected")
    try:
        document = adapter_of(cls).validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise WireError(Reason.MALFORMED, f"{schema}: {where}: {first['msg']}"[:250]) from error
    _refuse_plain_secrets(document)
    assert isinstance(document, cls)  # noqa: S101  # for the type checker: the adapter was made for cls
    return document


def _refuse_plain_secrets(document: Document) -> None:
    for values in _settings_of(document):
        for name, value in values.items():
            if _SECRET_NAME.search(name) and not isinstance(value, v1.SecretRef):
                raise WireError(
                    Reason.SECRET_IN_DOCUMENT,
                    f'setting {name[:80]!r} looks like a secret; name one held by the device: {{"secret": "its-name"}}',
                )


def _settings_of(document: Document) -> Iterator[Mapping[str, object]]:
    if isinstance(document, v1.Desired):
        yield document.settings.values
        for deployment in document.deployments:
            yield deployment.settings.values


def _check_health_parts(health: v1.Health, raw: bytes) -> None:
    """Hold each part to its own limit, so that one deployment can't use up the others' room."""
    parts = json.loads(raw).pop("deployments")
    sizes = [len(json.dumps(part, separators=(",", ":")).encode()) for part in parts]
    device = len(raw) - sum(sizes)
    if device > HEALTH_DEVICE_LIMIT_BYTES:
        raise WireError(Reason.TOO_LARGE, f"the device's part has {device} bytes; at most {HEALTH_DEVICE_LIMIT_BYTES}")
    for deployment, size in zip(health.deployments, sizes, strict=True):
        if size > HEALTH_DEPLOYMENT_LIMIT_BYTES and not deployment.drift:
            raise WireError(
                Reason.TOO_LARGE,
                f"{deployment.name}'s part has {size} bytes; at most {HEALTH_DEPLOYMENT_LIMIT_BYTES}",
            )
