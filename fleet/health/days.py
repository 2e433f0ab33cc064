"""Where in a device's history a document belongs, and how a day of it is kept. Pure.

Rules:
- A document that came at once belongs to when it came. One that waited belongs to when it was
  measured, if the device's clock can be believed: not before the device joined, and not later
  than now. Otherwise it belongs to when it came, too.
- A day (UTC) is a page of slots. Today and yesterday have slots of a quarter of an hour; the days
  before have slots of an hour, into which the quarters were merged. After thirty days it goes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from fleet.health.slots import Slot, merged, pack, unpack

FINE_S, COARSE_S = 900, 3600
"""How long a slot is: of today and yesterday, and of the days before."""

FINE_DAYS, KEPT_DAYS = 2, 30
"""Days with fine slots, and days of all: today is one of both."""

DAY_S = 86_400

AHEAD_S = 300
"""A device's clock may be ahead of the centre's by so much: what it says is then taken for now."""

_FORMAT = b"\x01"

_HEAD = 3
"""Before each slot: its number, and in two bytes its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The slots of one day: by the second of the day at which each begins."""

    day: int
    step_s: int
    slots: Mapping[int, Slot]


def second_of(written: str) -> int | None:
    """Return a time in seconds since 1970; None: there is no such day or hour."""
    try:
        return int(datetime.fromisoformat(written).timestamp())
    except ValueError:
        return None


def belongs(arrived: int, *, measured: int | None, joined: int) -> int:
    """Return the time to which a document belongs. `measured`: by its clock, where it waited."""
    if measured is None or not joined <= measured <= arrived + AHEAD_S:
        return arrived
    return min(measured, arrived)


def step_of(day: int, today: int) -> int:
    """Return how long the slots of a day are."""
    return FINE_S if day > today - FINE_DAYS else COARSE_S


def is_kept(day: int, today: int) -> bool:
    """Tell whether a day is recent enough to be kept."""
    return day > today - KEPT_DAYS


def with_slot(page: Day, second: int, slot: Slot) -> Day:
    """Return a day to which something was added."""
    begin = second - second % page.step_s
    there = page.slots.get(begin)
    added = slot if there is None else merged((there, slot))
    return Day(day=page.day, step_s=page.step_s, slots={**page.slots, begin: added})


def coarsened(page: Day) -> Day:
    """Return a day in hours: each the sum of its quarters."""
    hours: dict[int, list[Slot]] = {}
    for begin, slot in page.slots.items():
        hours.setdefault(begin - begin % COARSE_S, []).append(slot)
    return Day(
        day=page.day,
        step_s=COARSE_S,
        slots={begin: merged(parts) for begin, parts in hours.items()},
    )


def pack_day(page: Day) -> bytes:
    """Return a day's slots as bytes; of which day, and how long they are, is known beside it."""
    parts = [_FORMAT]
    for begin, slot in sorted(page.slots.items()):
        raw = pack(slot)
        parts += [bytes([begin // page.step_s]), len(raw).to_bytes(_HEAD - 1), raw]
    return b"".join(parts)


def unpack_day(day: int, step_s: int, raw: bytes) -> Day:
    """Return the day that `pack_day` wrote.

    Raises:
        ValueError: it is not what `pack_day` writes.
    """
    if raw[:1] != _FORMAT:
        raise ValueError("a day in a format that this program does not know")
    return Day(day=day, step_s=step_s, slots=dict(_slots(step_s, raw)))


def _slots(step_s: int, raw: bytes) -> Iterator[tuple[int, Slot]]:
    place = 1
    while place < len(raw):
        begin = place + _HEAD
        end = begin + int.from_bytes(raw[place + 1 : begin])
        yield raw[place] * step_s, unpack(raw[begin:end])
        place = end
