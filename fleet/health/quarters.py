"""A device's last day, a number for each quarter of an hour: for strips of any kind. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fleet.health.days import DAY_S, FINE_S
from fleet.health.states import State

QUARTERS = DAY_S // FINE_S

Read = Callable[[Mapping[str, Any]], float | None]
"""What is read off a slot, as the API shows it."""


def quarters(slots: Sequence[Mapping[str, Any]], now: str, read: Read) -> list[float | None]:
    """Return a number for each quarter of the day before `now`; the last one is now's.

    None: nothing came of it. Where a slot is longer, each of its quarters has its number.
    """
    begin = day_begin(now) // FINE_S
    values: list[float | None] = [None] * QUARTERS
    for slot in slots:
        first = second(slot["at"]) // FINE_S - begin
        for place in range(first, first + slot["length_s"] // FINE_S):
            if 0 <= place < QUARTERS:
                values[place] = read(slot)
    return values


def spans_of_day(
    moments: Sequence[Mapping[str, Any]], now: str
) -> Iterator[tuple[State, int, int]]:
    """Return what a device was in the day before `now`: which state, from and to which second.

    `moments` are those of its life, as the API shows them.
    """
    begin, end = day_begin(now), second(now)
    for each in moments:
        if each["kind"] == "was":
            since = max(second(each["at"]), begin)
            until = min(second(each["until"] or now), end)
            if since < until:
                yield State(each["state"]), since, until


def day_begin(now: str) -> int:
    """Return when the day of which `now` is in the last quarter begins, in seconds since 1970."""
    return (second(now) // FINE_S + 1 - QUARTERS) * FINE_S


def second(moment: str) -> int:
    """Return a time of the centre's clock in seconds since 1970."""
    return int(datetime.fromisoformat(moment).timestamp())
