"""A device's last day in characters: each quarter in its place, and gaps are seen."""

import unicodedata
from typing import Any

import pytest

from fleet.cli.marks import Screen
from fleet.cli.strips import day, strip
from fleet.health.quarters import QUARTERS, quarters

NOW = "2026-03-01T12:07:00Z"


def slot(at: str, *, requests: int = 0, length_s: int = 900, **more: object) -> dict[str, Any]:
    measured = {"errors": 0, "p95_s": None, "cpu_mean": None, "temperature_most_c": None}
    return {"at": at, "length_s": length_s, "requests": requests, **measured, **more}


def test_each_quarter_is_in_its_place() -> None:
    """The last one is now's; what is older than a day is not drawn; an hour fills its four."""
    slots = [
        slot("2026-02-28T12:00:00Z", requests=9),
        slot("2026-02-28T12:15:00Z", requests=1),
        slot("2026-03-01T09:00:00Z", requests=2, length_s=3600),
        slot("2026-03-01T12:00:00Z", requests=3),
    ]
    values = quarters(slots, NOW, lambda each: each["requests"])

    assert QUARTERS == len(values)
    assert (1, 3) == (values[0], values[-1])
    assert [None, 2, 2, 2, 2, None] == values[-14:-8]
    assert 6 == sum(each is not None for each in values)


@pytest.mark.parametrize("unicode", [True, False])
def test_a_strip_is_as_wide_as_its_quarters(*, unicode: bool) -> None:
    """One column a character in any terminal; nothing, little and the most differ."""
    screen = Screen(unicode=unicode)
    values: list[float | None] = [None, None, 0, 0, 5, 5, 10, 10]
    drawn = strip(screen, values, 10)

    assert 4 == len(drawn) == len(set(drawn))
    assert {"N", "Na"} >= {unicodedata.east_asian_width(each) for each in drawn}
    assert drawn.isascii() != unicode


def test_only_what_was_measured_is_drawn() -> None:
    """Errors when there were some; a device that nobody asks still shows that it was heard."""
    quiet = list(day(Screen(), {"as_of": NOW, "slots": [slot("2026-03-01T12:00:00Z")]}))
    busy = slot("2026-03-01T12:00:00Z", requests=4500, errors=3, p95_s=0.0128)
    lines = list(day(Screen(columns=60), {"as_of": NOW, "slots": [busy]}))

    assert ["requests to 0 in 15 min"] == [line.split("   ")[-1] for line in quiet]
    said = "\n".join(lines)
    for each in ("requests to 4,500 in 15 min", "errors to 3 in 15 min", "p95 to 12.8 ms"):
        assert each in said
    assert "cpu" not in said
    assert all(len(line) <= 60 for line in lines)
    assert [] == list(day(Screen(), {"as_of": NOW, "slots": []}))


@pytest.mark.parametrize("unicode", [True, False])
def test_what_it_was_is_a_sign_half_an_hour(*, unicode: bool) -> None:
    """The worst of it, in the sign it has everywhere; of what nobody noted there is none."""
    moments = [
        {"kind": "joined", "at": "2026-03-01T00:00:00Z", "until": None},
        was("ok", "2026-02-28T01:00:00Z", "2026-02-28T14:10:00Z"),
        was("degraded", "2026-03-01T02:10:00Z", "2026-03-01T03:40:00Z"),
        was("ok", "2026-03-01T03:40:00Z", None),
    ]
    lines = list(day(Screen(unicode=unicode), {"as_of": NOW, "slots": []}, moments))
    well = "✓" if unicode else "+"

    [line] = lines
    drawn = line.removeprefix("WAS".ljust(9))[:48]
    assert well * 4 + " " * 23 + "!" * 4 + well * 17 == drawn
    assert line.endswith(f"! degraded 1 h 30 min   {well} ok 10 h")


def was(state: str, at: str, until: str | None) -> dict[str, Any]:
    return {"kind": "was", "state": state, "at": at, "until": until}
