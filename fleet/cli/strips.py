"""A device's last day in characters: a column a quarter of an hour, two in each character. Pure.

Braille dots are one column wide everywhere, as other blocks are not; a gap is a time from which
nothing came. In ASCII a character is as high as the higher of its two quarters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from agent.wire.words import latency
from fleet.cli.marks import Screen
from fleet.health.quarters import Read, quarters
from fleet.wording import count

_LEVELS = 4
_LEFT, _RIGHT = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
_ASCII = " _-=#"


def day(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the strips of a device's last day: those of which anything was measured."""
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
