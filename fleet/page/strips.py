"""A device's last day as drawings: strips of what was measured, and its life as a line. Pure.

Each is a path in a box of `WIDTH` by `HEIGHT`, and a sentence that says the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.wire.words import latency, span
from fleet.health.days import DAY_S, FINE_S
from fleet.health.quarters import QUARTERS, Read, day_begin, quarters, second, spans_of_day
from fleet.health.states import State
from fleet.wording import count

WIDTH, HEIGHT = 960, 32
_STEP = WIDTH // QUARTERS
_TICK = 5
_SHARES = frozenset({"CPU", "Memory", "Disk"})
"""What is drawn against all there is, not against the most there was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """What was measured in a day: its name, the most of it, its path, and it in a sentence."""

    name: str
    most: str
    path: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A day of a device's life: paths of when it was away, started, and told something."""

    away: str
    started: str
    told: str
    said: str


def strips(found: Mapping[str, Any]) -> Iterator[Strip]:
    """Return the strips of which anything was measured; `found` is what the API says."""
    rows: list[tuple[str, Read, Callable[[float], str]]] = [
        ("Requests", lambda slot: slot["requests"], _counted),
        ("Errors", lambda slot: slot["errors"], _counted),
        ("p95", lambda slot: slot["p95_s"], latency),
        ("CPU", lambda slot: slot["cpu_mean"], _share),
        ("Memory", lambda slot: slot["memory_most"], _share),
        ("Disk", lambda slot: slot["disk_most"], _share),
        ("Temperature", lambda slot: slot["temperature_most_c"], lambda most: f"{most:.0f} °C"),
        ("Throttled", lambda slot: slot["throttled"], lambda most: f"{most:.0f} in 15 min"),
    ]
    for name, read, told in rows:
        values = quarters(found["slots"], found["as_of"], read)
        measured = [each for each in values if each is not None]
        most = max(measured, default=0)
        if not measured or (most <= 0 and name in ("Errors", "Throttled")):
            continue
        silent = (QUARTERS - len(measured)) * FINE_S
        gap = f" Nothing came for {span(silent)} of it." if silent else ""
        yield Strip(
            name=name,
            most=told(most),
            path=_columns(values, 1.0 if name in _SHARES else most),
            said=f"{name} in the last 24 hours: {told(most)} at most.{gap}",
        )


def line(moments: Sequence[Mapping[str, Any]], now: str) -> Line:
    """Return the last day of a device's life."""
    begin = day_begin(now)
    away, started, told, late = [], [], [], 0
    for each in moments:
        at = second(each["at"])
        end = second(each["until"] or now)
        match each["kind"]:
            case "away" if end > begin:
                away.append((max(at, begin), end))
            case "restarted" | "rebooted" if at >= begin:
                started.append(at)
            case "told" if at >= begin:
                told.append(at)
                late += each["late"]
    whole = span(sum(end - at for at, end in away))
    said = [
        f"away {_times(len(away))}, {whole} in all" if away else "not away",
        f"its agent started {_times(len(started))}",
        f"{'1 event' if len(told) == 1 else f'{count(len(told))} events'}"
        + (f", {count(late)} of them late" if late else ""),
    ]
    return Line(
        away="".join(_box(_x(at, begin), _x(end, begin), HEIGHT) for at, end in away),
        started="".join(_tick(_x(at, begin), HEIGHT) for at in started),
        told="".join(_tick(_x(at, begin), HEIGHT // 2) for at in told),
        said=f"The last 24 hours: {'; '.join(said)}.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Was:
    """What a device was in a day: a path for each state, how long each lasted, and a sentence."""

    paths: Mapping[str, str]
    lasted: Mapping[str, int]
    said: str


def words(moments: Sequence[Mapping[str, Any]], now: str) -> Was | None:
    """Return what a device was in its last day, in state words; None: nobody noted it."""
    begin = day_begin(now)
    paths: dict[str, str] = {}
    lasted: dict[str, int] = {}
    for state, since, until in spans_of_day(moments, now):
        box = _box(_x(since, begin), _x(until, begin), HEIGHT)
        paths[state] = paths.get(state, "") + box
        lasted[state] = lasted.get(state, 0) + until - since
    if not lasted:
        return None
    in_order = {str(state): lasted[state] for state in State if state in lasted}
    said = ", ".join(f"{state} for {span(seconds)}" for state, seconds in in_order.items())
    return Was(paths=paths, lasted=in_order, said=f"In the last 24 hours it was {said}.")


def _columns(values: Sequence[float | None], most: float) -> str:
    """Return a column for each number: even nothing is seen where it was measured."""
    return "".join(
        _box(place * _STEP, (place + 1) * _STEP, _height(value, most))
        for place, value in enumerate(values)
        if value is not None
    )


def _height(value: float, most: float) -> int:
    return max(1, round((HEIGHT - 2) * max(value, 0) / most)) if most > 0 else 1


def _box(left: int, right: int, height: int) -> str:
    wide = max(right - left, 2)
    return f"M{left} {HEIGHT}v-{height}h{wide}v{height}z"


def _tick(x: int, height: int) -> str:
    return _box(min(x, WIDTH - _TICK), min(x, WIDTH - _TICK) + _TICK, height)


def _x(moment: int, begin: int) -> int:
    return min(max((moment - begin) * WIDTH // DAY_S, 0), WIDTH)


def _counted(most: float) -> str:
    return f"{count(int(most))} in 15 min"


def _share(most: float) -> str:
    return f"{100 * most:.0f} %"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{count(number)} times"
