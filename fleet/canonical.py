"""One way to write a value down, so that equal values have equal digests. Pure.

RFC 8785 (JSON canonicalization) over the part of JSON that our values need:
objects with sorted names, arrays, strings, whole numbers, booleans and null.
Fractions are written as text under a name of their own, because printing a
float the way JavaScript does is most of that RFC, and no plan needs it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import lru_cache

Plain = None | bool | int | str | list["Plain"] | dict[str, "Plain"]
"""What a value looks like once it is written down."""


def plain(value: object) -> Plain:
    """Return `value` (dataclasses, mappings, sequences, texts, numbers) as plain JSON.

    Fields that say nothing of whether two values are equal are left out.

    Raises:
        TypeError: it holds something that has no such form.
    """
    match value:
        case StrEnum():
            return value.value
        case None | bool() | int() | str():
            return value
        case float():
            return {"float": repr(value)}
        case Mapping():
            return {str(name): plain(inner) for name, inner in value.items()}
        case Sequence():
            return [plain(inner) for inner in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {name: plain(getattr(value, name)) for name in _compared(type(value))}
        case _:
            raise TypeError(f"{type(value).__name__} can't be written down")


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a value."""
    return json.dumps(_sorted(plain(value)), ensure_ascii=False, separators=(",", ":")).encode()


def digest(value: object) -> str:
    """Return `sha256:` and the hash of the canonical bytes."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


@lru_cache(maxsize=1024)
def _compared(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.compare)


@lru_cache(maxsize=1024)
def _ordered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: name.encode("utf-16-be")))


def _sorted(value: Plain) -> Plain:
    """Put names in the RFC's order: by UTF-16 code units, which is not Python's beyond the BMP."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in _ordered(tuple(value))}
    return [_sorted(inner) for inner in value] if isinstance(value, list) else value
