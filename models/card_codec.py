"""Model card to bytes and back: the config blob of a bundle. Only here does this room use pydantic.

The blob is a ModelPack model configuration, so that other tools can show the
model's name, version and licence, and carries the whole card under `skerry`.
Tolerant reader, strict writer: unknown fields are ignored, a malformed or
oversized card is refused, and nothing of it is kept.
"""

import json
from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter, ValidationError

from models.card import SCHEMA, Card
from models.errors import RefusedError
from models.limits import CARD_LIMIT_BYTES
from models.strict_json import load

_FIELD = "skerry"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    skerry: Card


@cache
def _blob_adapter() -> TypeAdapter[_Blob]:
    return TypeAdapter(_Blob)


@cache
def card_adapter() -> TypeAdapter[Card]:
    """Return the validator of a card (also the source of its JSON Schema)."""
    return TypeAdapter(Card)


def parse(raw: bytes) -> Card:
    """Return the card in a config blob.

    Raises:
        RefusedError: `TOO_LARGE`, or `CARD_MALFORMED`: not a card of this schema.
    """
    fields = load(raw, what="the card", reason="CARD_MALFORMED", limit_bytes=CARD_LIMIT_BYTES)
    schema = fields.fields(_FIELD).text("schema")
    if schema != SCHEMA:
        raise fields.wrong(f"its schema is {schema[:80]!r}, where {SCHEMA!r} is expected")
    try:
        card = _blob_adapter().validate_json(raw, strict=True).skerry
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the whole"
        raise fields.wrong(f"{where}: {first['msg']}"[:250]) from error
    _check_not_empty(card)
    return card


def render(card: Card) -> bytes:
    """Return the config blob of a card.

    Raises:
        RefusedError: it isn't what a reader accepts.
    """
    _check_not_empty(card)
    descriptor = {"name": card.ref.name, "version": card.ref.version, "licenses": [card.licence]}
    if card.description:
        descriptor["description"] = card.description
    raw = json.dumps(
        {
            "descriptor": descriptor,
            "config": {"format": "tflite", "precision": card.variants[0].format},
            "modelfs": {
                "type": "layers",
                "diffIds": [*(variant.digest for variant in card.variants), card.golden.digest],
            },
            _FIELD: {
                "schema": SCHEMA,
                **card_adapter().dump_python(card, mode="json", exclude_none=True),
            },
        },
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    if len(raw) > CARD_LIMIT_BYTES:
        raise RefusedError(
            "TOO_LARGE", f"the card has {len(raw)} bytes; at most {CARD_LIMIT_BYTES}"
        )
    return raw


def _check_not_empty(card: Card) -> None:
    if not (card.inputs and card.outputs and card.variants):
        raise RefusedError(
            "CARD_MALFORMED", "a card names at least one input, one output and one variant"
        )
