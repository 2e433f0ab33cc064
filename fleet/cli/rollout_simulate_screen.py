"""How what came of simulated rollouts looks on a terminal. Pure."""

from collections.abc import Mapping
from typing import Any

from agent.wire.words import span
from fleet.cli.marks import Column, Screen
from fleet.marks import MARKS, Mark
from fleet.wording import count, percent


def simulated_lines(found: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return what was assumed, how the runs ended, and how many devices served it."""
    outcome, twin = found["outcome"], found["twin"]
    lines = screen.field(
        "FLEET",
        [
            f"{count(found['devices'])} devices of {found['classes']} classes",
            f"{twin['away_share'] * 100:.3g} % away",
            f"policy {found['policy']}",
        ],
    )
    lines += screen.told("BAD", _bad(twin))
    columns = [
        Column(title="ending", name=True),
        Column(title="runs", right=True),
        Column(title="half within", right=True),
        Column(title="95 % within", right=True),
        Column(title="decided by", name=True),
    ]
    rows = [
        [
            screen.state(
                MARKS.get(each["decided"]["ending"], Mark.UNKNOWN), each["decided"]["ending"]
            ),
            percent(each["runs"], outcome["runs"]),
            span(each["took_s"]["p50"]),
            span(each["took_s"]["p95"]),
            _decided(each["decided"]),
        ]
        for each in outcome["endings"]
    ]
    lines += screen.table(columns, rows)
    lines += screen.told("SERVED", f"{_range(outcome['served'])} devices served it")
    lines += screen.told("RISK", f"{_range(outcome['served_bad'])} of those it is bad for did")
    radius = f"{count(found['blast_radius'])} can before the first gate can stop it"
    lines += screen.told("", f"{radius}: the plan's blast radius")
    events = f"{count(outcome['runs'])} runs from seed {found['seed']}"
    return lines + screen.told("RUNS", f"{events}, {count(outcome['events'])} events")


def _bad(twin: Mapping[str, Any]) -> str:
    parts = [f"{twin['bad_share'] * 100:.3g} % of the devices"] if twin["bad_share"] else []
    parts += [f"all of {name}" for name in twin["bad_classes"]]
    if not parts:
        return "it is good for everybody"
    return f"it is bad for {' and '.join(parts)}, which shows while {twin['fails_in']}"


def _decided(decided: Mapping[str, Any]) -> str:
    wave = "" if decided["wave"] is None else f"wave {decided['wave']}"
    return ": ".join(part for part in (wave, decided["reason"] or "") if part) or "-"


def _range(found: Mapping[str, float]) -> str:
    half, most = found["p50"], found["most"]
    return f"{count(int(half))} (half of the runs), {count(int(most))} (the most)"
