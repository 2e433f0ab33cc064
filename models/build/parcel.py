"""What a build child is given and what it answers: one JSON object and some parts, as bytes. Pure.

Not pickle: the child has run a model, and a model is a program. Eight bytes of
length, the JSON with the parts' lengths, then the parts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import RefusedError

_HEAD_BYTES = 8
_HEAD_LIMIT_BYTES = 16 * 1024 * 1024


def wrap(fields: Mapping[str, object], parts: Sequence[bytes] = ()) -> bytes:
    """Return fields and parts as one run of bytes."""
    head = json.dumps({"fields": fields, "parts": [len(part) for part in parts]}).encode()
    return b"".join([len(head).to_bytes(_HEAD_BYTES, "little"), head, *parts])


def unwrap(raw: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return the fields and parts of `raw`.

    Raises:
        RefusedError: LOAD_FAILED, it isn't what `wrap` makes: the model spoiled it.
    """
    try:
        size = int.from_bytes(raw[:_HEAD_BYTES], "little")
        if not 0 < size <= _HEAD_LIMIT_BYTES:
            raise ValueError(size)  # noqa: TRY301  # all ways to be wrong are one
        head = json.loads(raw[_HEAD_BYTES : _HEAD_BYTES + size])
        fields, lengths = dict(head["fields"]), [int(length) for length in head["parts"]]
        parts, place = [], _HEAD_BYTES + size
        for length in lengths:
            if length < 0 or place + length > len(raw):
                raise ValueError(length)  # noqa: TRY301  # as above
            parts.append(raw[place : place + length])
            place += length
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError("LOAD_FAILED", "the model spoiled its child's answer") from error
    return fields, parts
