"""DSSE: an envelope that carries exact bytes, what they are, and signatures over both. Pure.

DSSE v1.0 (secure-systems-lab/dsse, envelope and protocol). What is signed is
`pae(payload type, payload)`, so bytes signed as one kind of document can never
be taken for another. Nothing is re-serialised to verify: the payload is what
the signer held. Keys and verification are `models.keys`.
"""

import base64
import binascii
import json
from dataclasses import dataclass

from models.errors import RefusedError
from models.strict_json import Fields, load

BUNDLE_PAYLOAD_TYPE = "application/vnd.in-toto+json"
DESIRED_PAYLOAD_TYPE = "application/vnd.skerry.desired.v1+json"
SITE_DESIRED_PAYLOAD_TYPE = "application/vnd.skerry.site-desired.v1+json"
COMMAND_PAYLOAD_TYPE = "application/vnd.skerry.command.v1+json"
PAYLOAD_TYPES = frozenset(
    {
        BUNDLE_PAYLOAD_TYPE,
        DESIRED_PAYLOAD_TYPE,
        SITE_DESIRED_PAYLOAD_TYPE,
        COMMAND_PAYLOAD_TYPE,
    }
)

_SIGNATURES_LIMIT = 8  # old and new key during a rotation, and room; each one costs a verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature. `keyid` is a hint which key made it; it may be empty."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload with its type and signatures. Holding one doesn't mean that they are good."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed (pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse(raw: bytes, limit_bytes: int) -> Envelope:
    """Return the envelope in `raw`.

    Raises:
        RefusedError: `TOO_LARGE`, or `MALFORMED`: it is no DSSE envelope.
    """
    fields = load(raw, what="the envelope", reason="MALFORMED", limit_bytes=limit_bytes)
    return Envelope(
        payload_type=fields.text("payloadType"),
        payload=_bytes(fields, "payload"),
        signatures=tuple(
            Signature(keyid=each.text_or("keyid", ""), sig=_bytes(each, "sig"))
            for each in fields.list_of_fields("signatures", limit=_SIGNATURES_LIMIT)
        ),
    )


def render(envelope: Envelope) -> bytes:
    """Return an envelope's bytes."""
    return json.dumps(
        {
            "payloadType": envelope.payload_type,
            "payload": base64.b64encode(envelope.payload).decode(),
            "signatures": [
                {"keyid": each.keyid, "sig": base64.b64encode(each.sig).decode()}
                for each in envelope.signatures
            ],
        },
        separators=(",", ":"),
    ).encode()


def expect(envelope: Envelope, payload_type: str) -> bytes:
    """Return the payload of an envelope that must be of one type.

    Raises:
        RefusedError: `WRONG_KIND`: it is of another.
    """
    if envelope.payload_type != payload_type:
        raise RefusedError(
            "WRONG_KIND",
            f"the envelope carries {envelope.payload_type[:80]!r}; {payload_type!r} is expected",
        )
    return envelope.payload


def _bytes(fields: Fields, name: str) -> bytes:
    # The specification allows both alphabets; a reader must take either.
    text = fields.text(name).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.wrong(f"{name!r} is not base64") from error
