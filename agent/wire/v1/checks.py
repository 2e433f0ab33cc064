"""What every document checks of its own fields. Pure; a wrong value raises `ValueError`."""

import re
from collections.abc import Mapping, Sequence

from agent.wire.limits import TEXT_LIMIT

_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z\Z")
_TIME_OF_DAY = re.compile(r"(([01]\d|2[0-3]):[0-5]\d|24:00)\Z")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*\Z")
_ZONE_LIMIT = 64
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")
_TRACE = re.compile(r"(?!0{32})[0-9a-f]{32}\Z")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}\Z")


def check_fleet(value: str) -> None:
    """A fleet's id: a topic level and a DNS label, so never `+`, `#` or `/`."""
    if not _ID.match(value):
        raise ValueError(f"not a fleet id: {value[:80]!r}")


def check_device(value: str) -> None:
    """A device's id: `d-` and an opaque rest."""
    if not (value.startswith("d-") and _ID.match(value)):
        raise ValueError(f"not a device id: {value[:80]!r}")


def check_site(value: str) -> None:
    """A site's id: `s-` and an opaque rest."""
    if not (value.startswith("s-") and _ID.match(value)):
        raise ValueError(f"not a site id: {value[:80]!r}")


def check_digest(value: str) -> None:
    """A sha256 digest."""
    if not _DIGEST.match(value):
        raise ValueError(f"not a sha256 digest: {value[:80]!r}")


def check_time(value: str) -> None:
    """An RFC 3339 time in UTC, written with `Z`."""
    if not _TIME.match(value):
        raise ValueError(f"not an RFC 3339 time in UTC: {value[:80]!r}")


def check_time_of_day(value: str) -> None:
    """Hours and minutes, `00:00` to `24:00`."""
    if not _TIME_OF_DAY.match(value):
        raise ValueError(f"not a time of day: {value[:80]!r} (like 22:00)")


def check_zone(value: str) -> None:
    """What a time zone may be called. Whether there is one, only its reader knows."""
    if len(value) > _ZONE_LIMIT or not _ZONE.match(value):
        raise ValueError(f"not a time zone: {value[:80]!r} (like Europe/Berlin)")


def check_name(value: str) -> None:
    """A deployment's or release's name: what clients call, so URL-safe."""
    if not _NAME.match(value):
        raise ValueError(
            f"not a name: {value[:80]!r} (lower-case letters, digits, '.', '_', '-'; at most 63)"
        )


def check_code(value: str) -> None:
    """A reason code: upper-case words joined by underscores. A reader may not know it."""
    if not _CODE.match(value):
        raise ValueError(f"not a reason code: {value[:80]!r}")


def check_trace(value: str) -> None:
    """A trace's id as W3C Trace Context has it: 32 digits, not all of them 0."""
    if not _TRACE.match(value):
        raise ValueError(f"not a trace's id: {value[:80]!r} (32 of 0-9 and a-f)")


def check_text(value: str) -> None:
    """Free text within its limit."""
    if len(value) > TEXT_LIMIT:
        raise ValueError(f"text of {len(value)} characters; at most {TEXT_LIMIT}")


def check_whole(name: str, value: int, *, least: int = 0) -> None:
    """A whole number of at least `least` and 53 bits, as JSON readers keep them."""
    if not least <= value < 1 << 53:
        raise ValueError(f"{name} is {value}; it must be at least {least} and below 2**53")


def check_pairs(name: str, pairs: Mapping[str, str], limit: int) -> None:
    """A bounded mapping of short texts."""
    if len(pairs) > limit:
        raise ValueError(f"{len(pairs)} {name}; at most {limit}")
    for key, value in pairs.items():
        check_text(key)
        check_text(value)


def check_unique(name: str, values: Sequence[str]) -> None:
    """No value twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"the same {name} twice")
