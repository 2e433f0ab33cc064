"""Reading JSON from outside without trusting its shape. Pure; the standard library only.

For documents too small to bring a validator along: manifests, envelopes,
statements. Every function says what was wrong and where, under the reason code
of the document being read; unknown fields are left alone.
"""

import json
from dataclasses import dataclass
from typing import TypeVar

from models.errors import RefusedError
from models.values import Digest, parse_digest

_Kind = TypeVar("_Kind", str, int, list[object], dict[str, object])
_LARGEST = 1 << 53  # integers above it don't survive every JSON reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields of one JSON object: `what` names it in errors, `reason` is their code."""

    values: dict[str, object]
    what: str
    reason: str

    def text(self, name: str) -> str:
        """Return a field that must be a string."""
        return self._get(name, str, "a string")

    def text_or(self, name: str, default: str) -> str:
        """Return a string field, or `default` where it is absent."""
        return self.text(name) if self.values.get(name) is not None else default

    def whole(self, name: str) -> int:
        """Return a field that must be a whole number, not negative."""
        value = self._get(name, int, "a whole number")
        if isinstance(value, bool) or not 0 <= value < _LARGEST:
            raise self.wrong(f"{name!r} is not a whole number from 0 to 2**53")
        return value

    def digest(self, name: str) -> Digest:
        """Return a field that must be a sha256 digest."""
        try:
            return parse_digest(self.text(name))
        except ValueError as error:
            raise self.wrong(f"{name!r} is no sha256 digest") from error

    def fields(self, name: str) -> "Fields":
        """Return a field that must be an object."""
        value = self._get(name, dict, "an object")
        return Fields(values=value, what=f"{self.what}.{name}", reason=self.reason)

    def fields_or_none(self, name: str) -> "Fields | None":
        """Return an object field, or None where it is absent."""
        return self.fields(name) if self.values.get(name) is not None else None

    def list_of_fields(self, name: str, *, limit: int) -> "tuple[Fields, ...]":
        """Return a field that must be a list of at most `limit` objects."""
        values = self._get(name, list, "a list")
        if len(values) > limit:
            raise self.wrong(f"{name!r} has {len(values)} entries; at most {limit}")
        found = []
        for number, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.wrong(f"{name}[{number}] is not an object")
            found.append(
                Fields(values=value, what=f"{self.what}.{name}[{number}]", reason=self.reason)
            )
        return tuple(found)

    def texts(self, name: str) -> dict[str, str]:
        """Return an object field whose values must all be strings; empty where it is absent."""
        found: dict[str, str] = {}
        inner = self.fields_or_none(name)
        for key, value in (inner.values if inner else {}).items():
            if not isinstance(value, str):
                raise self.wrong(f"{name}[{key[:80]!r}] is not a string")
            found[key] = value
        return found

    def wrong(self, why: str) -> RefusedError:
        """Return the error that says so."""
        return RefusedError(self.reason, f"{self.what}: {why}")

    def _get(self, name: str, kind: type[_Kind], called: str) -> _Kind:
        value = self.values.get(name)
        if not isinstance(value, kind):
            raise self.wrong(f"{name!r} is not {called}")
        return value


def load(raw: bytes, *, what: str, reason: str, limit_bytes: int) -> Fields:
    """Return the fields of the JSON object in `raw`.

    Raises:
        RefusedError: `TOO_LARGE`, or `reason` where it is not a JSON object.
    """
    if len(raw) > limit_bytes:
        raise RefusedError("TOO_LARGE", f"{what} has {len(raw)} bytes; at most {limit_bytes}")
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RefusedError(reason, f"{what} is not JSON") from error
    if not isinstance(values, dict):
        raise RefusedError(reason, f"{what} is not a JSON object")
    return Fields(values=values, what=what, reason=reason)
