"""A device's last day in characters: a column a quarter of an hour, two in each character. Pure.

Braille dots are one column wide everywhere, as other blocks are not; a gap is a time from which
nothing came. In ASCII a character is as high as the higher of its two quarters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from agent.wire.words import latency, span
from fleet.cli.marks import Screen
from fleet.health.days import DAY_S, FINE_S
from fleet.health.quarters import Read, day_begin, quarters, spans_of_day
from fleet.health.states import State
from fleet.marks import Mark
from fleet.wording import count

_LEVELS = 4
_LEFT, _RIGHT = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
_ASCII = " _-=#"


def day(
    screen: Screen, found: Mapping[str, Any], moments: Sequence[Mapping[str, Any]] = ()
) -> Iterator[str]:
    """Return the strips of a device's last day: what it was, and what was measured.

    Above all its state words: the worst one of each half an hour, as the sign it has everywhere.
    """
    spans = list(spans_of_day(moments, found["as_of"]))
    if spans:
        yield from screen.field(
            "WAS", [words(screen, spans, found["as_of"]), *_sums(screen, spans)]
        )
    if not found["slots"]:
        return
    rows: list[tuple[str, Read, Callable[[float], str]]] = [
        ("requests", lambda slot: slot["requests"], lambda most: f"{count(int(most))} in 15 min"),
        ("errors", lambda slot: slot["errors"], lambda most: f"{count(int(most))} in 15 min"),
        ("p95", lambda slot: slot["p95_s"], latency),
        ("cpu", lambda slot: slot["cpu_mean"], lambda most: f"{100 * most:.0f} %"),
        ("temperature", lambda slot: slot["temperature_most_c"], lambda most: f"{most:.0f} C"),
    ]
    label = "24 H"
    for name, read, told in rows:
        values = quarters(found["slots"], found["as_of"], read)
        most = max((each for each in values if each is not None), default=None)
        if most is None or (most == 0 and name != "requests"):
            continue
        drawn = strip(screen, values, 1.0 if name == "cpu" else most)  # a share is one of all
        yield from screen.field(label, [drawn, f"{name} to {told(most)}"])
        label = ""


def words(screen: Screen, spans: Sequence[tuple[State, int, int]], now: str) -> str:
    """Return what a device was, a sign half an hour; a gap is a time of which nobody noted it."""
    begin, wide = day_begin(now), 2 * FINE_S
    signs = []
    for place in range(begin, begin + DAY_S, wide):
        there = {state for state, since, until in spans if since < place + wide and until > place}
        worst = next((state for state in State if state in there), None)
        signs.append(" " if worst is None else screen.mark(Mark(worst)))
    return "".join(signs)


def _sums(screen: Screen, spans: Sequence[tuple[State, int, int]]) -> Iterator[str]:
    for state in State:
        lasted = sum(until - since for each, since, until in spans if each is state)
        if lasted:
            yield screen.state(Mark(state), f"{state} {span(lasted)}")


def strip(screen: Screen, values: Sequence[float | None], most: float) -> str:
    """Return numbers as columns, the highest as high as a line."""
    levels = [_level(each, most) for each in values]
    pairs = zip(levels[::2], levels[1::2], strict=True)
    if not screen.unicode:
        return "".join(_ASCII[max(pair)] for pair in pairs)
    return "".join(chr(0x2800 + sum(_LEFT[:left]) + sum(_RIGHT[:right])) for left, right in pairs)


def _level(value: float | None, most: float) -> int:
    """Return how high a column is: what is there is seen, and only the highest are full."""
    if value is None:
        return 0
    return 1 if most <= 0 else 1 + min(int((_LEVELS - 1) * max(value, 0) / most), _LEVELS - 1)
