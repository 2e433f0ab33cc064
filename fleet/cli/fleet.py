"""`skerry fleet status | health`: the whole fleet at one look, and what of it needs you."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from agent.wire.words import age, latency
from fleet.cli.fleet_health import health
from fleet.cli.marks import Column, Screen, labelled, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.screen import Color, Output, print_json
from fleet.marks import ROLLOUT_MARKS, Mark
from fleet.wording import count, percent

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The fleet at one look.")

_NEED_COLUMNS = 24
_ROLLOUT_COLUMNS = 22  # a rollout's id has 18
_IN_ORDER = ("ok", "updating", "waiting", "degraded", "failing", "unknown")
"""As a row of marks is read; offline has a line of its own, with its age."""


@app.callback()
def fleet() -> None:
    """Show the fleet at one look."""


@app.command()
@at_centre
def status(
    centre: CentreOptions,
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show how many devices are how, what serves how fast, what moves, and what needs you."""
    with centre.connect() as api:
        found = api.get("api", "v1", "fleet")
    if output is Output.JSON:
        print_json("skerry.fleet/1", found)
        return
    show(lines(Screen.of(sys.stdout, os.environ, color), found))


app.command()(health)


def lines(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the screen of a fleet document."""
    broker = Mark.OK if found["broker"]["connected"] else Mark.FAILING
    lost = "" if found["broker"]["connected"] else ", nothing new is heard"
    yield "   ".join(
        [
            found["fleet"],
            f"as of {found['as_of'][11:19]} UTC",
            f"{screen.state(broker, 'broker')}{lost}",
        ]
    )
    if not found["devices"]:
        yield from screen.told("DEVICES", "none yet; let one join: skerry token create")
        return
    yield from _devices(screen, found)
    yield from _serving(screen, found)
    yield from _latency(screen, found)
    yield from _rollouts(screen, found)
    yield from _needs(screen, found)


def _devices(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    states = found["states"]
    told = [
        screen.state(Mark(word), f"{count(states[word])} {word}")
        for word in _IN_ORDER
        if states[word]
    ]
    if states["offline"]:
        longest = age(found["offline_since"], found["as_of"])
        away = f"{count(states['offline'])} offline, longest {longest}"
        told.append(screen.state(Mark.OFFLINE, away))
    yield from screen.field("DEVICES", [count(found["devices"]), *told])


def _serving(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [
            _bundle(each),
            count(each["devices"]),
            percent(each["devices"], found["devices"]),
            screen.bar(each["devices"], found["devices"]),
            f"{count(each['offline'])} offline may serve it" if each["offline"] else " ",
        ]
        for each in found["serving"]
    ]
    columns = [
        Column(title="", name=True),
        Column(title="", right=True),
        Column(title="", right=True),
        Column(title=""),
        Column(title="", spare=1),
    ]
    yield from labelled("SERVING", screen.inside().table(columns, rows) or ["nothing yet"])


def _latency(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [
            _bundle(each),
            each["class_name"],
            latency(each["p50_s"]),
            latency(each["p95_s"]),
            latency(each["p99_s"]),
            count(each["requests"]),
            count(each["errors"]),
        ]
        for each in found["numbers"]
        if each["requests"]
    ]
    columns = [
        Column(title="bundle", name=True),
        Column(title="on", name=True),
        Column(title="p50", right=True, spare=3),
        Column(title="p95", right=True),
        Column(title="p99", right=True, spare=4),
        Column(title="requests", right=True, spare=2),
        Column(title="errors", right=True, spare=1),
    ]
    if rows:
        yield from labelled("LATENCY", screen.inside().table(columns, rows))


def _rollouts(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    told = [each for rollout in found["rollouts"] for each in _rollout(screen, rollout)]
    if told:
        yield from labelled("ROLLOUTS", told)


def _rollout(screen: Screen, rollout: Mapping[str, Any]) -> Iterator[str]:
    mark = ROLLOUT_MARKS.get(rollout["state"], Mark.UNKNOWN)
    before = rollout["from_versions"]
    name, _, version = rollout["to"].partition(" ")
    change = f"{name} {', '.join(before)} -> {version}" if before else rollout["to"]
    counts = rollout["counts"]
    well = counts.get("committed", 0)
    told = [
        change,
        rollout["state"]
        if rollout["wave"] is None
        else f"wave {rollout['wave']} of {rollout['waves']}",
        f"{count(well)} of {count(sum(counts.values()))} serve it",
    ]
    if rollout["set_aside"]:
        told.append(f"{count(rollout['set_aside'])} set aside")
    inside = screen.inside()
    yield from inside.field(screen.state(mark, rollout["id"]), told, indent=_ROLLOUT_COLUMNS)
    if rollout["sentence"] and mark is not Mark.PAUSED:  # that one is under NEEDS YOU, with it
        yield from inside.told("", rollout["sentence"], indent=_ROLLOUT_COLUMNS)


def _needs(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    needs = found["needs_you"]
    if not needs:
        every = found["devices"]
        well = "The one device is ok." if every == 1 else f"All {count(every)} devices are ok."
        yield well if found["states"]["ok"] == every else "Nothing needs you."
        return
    yield "NEEDS YOU"
    for need in needs:
        mark = _need_mark(need["state"])
        who = f"  {screen.state(mark, screen.cut(need['subject'], _NEED_COLUMNS - 5))}"
        yield from screen.told(who, need["sentence"], indent=_NEED_COLUMNS)
        yield from labelled("", [need["command"]], indent=_NEED_COLUMNS)


def _need_mark(state: str) -> Mark:
    return Mark(state) if state in list(Mark) else ROLLOUT_MARKS.get(state, Mark.UNKNOWN)


def _bundle(each: Mapping[str, Any]) -> str:
    return f"{each['bundle']} {each['version']}".strip()
