"""`skerry device history`: what happened to a device, in words, and what people asked of it."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from agent.wire.words import age, span
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.screen import Color, Output, note, print_json
from fleet.marks import Mark
from fleet.transitions import happened
from fleet.wording import count

_LIMIT = 500
_TIME_COLUMNS = 21


@at_centre
def history(
    centre: CentreOptions,
    device: Annotated[str, typer.Argument(help="Its id or its name.")],
    *,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=_LIMIT, help="How many moments at most.")
    ] = 30,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show what happened to a device, the newest last; then who asked it for what, and why.

    Late: it waited for a connection.
    """
    query = {"limit": str(limit)}
    with centre.connect() as api:
        found = api.get("api", "v1", "devices", device, "lifeline", query=query)
        query["action"] = "command.ask"
        asked = api.get("api", "v1", "devices", device, "changes", query=query)["changes"]
    if output is Output.JSON:
        print_json("skerry.device.history/2", {**found, "asked": asked[::-1]})
        return
    screen = Screen.of(sys.stdout, os.environ, color)
    show(lived(screen, found["moments"], found["as_of"]))
    show(questions(screen, asked[::-1]))
    if found["before"]:
        note(f"there are older ones: --limit N, at most {_LIMIT}")


def lived(screen: Screen, moments: list[Mapping[str, Any]], now: str) -> Iterator[str]:
    """Return a device's life, a sentence a moment."""
    for each in moments:
        late = f"{screen.state(Mark.WAITING, 'late')}  " if each["late"] else ""
        before = "at this time or before: " if each["by_arrival"] else ""
        at = each["at"].replace("T", " ").rstrip("Z")
        said = moment(each, now)
        if each["kind"] == "away":
            said = screen.state(Mark.OFFLINE, said)
        yield from screen.told(at, late + before + said, indent=_TIME_COLUMNS)


def moment(each: Mapping[str, Any], now: str) -> str:
    """Return what one moment of a device's life was."""
    event = each["event"]
    match each["kind"]:
        case "joined":
            said = "it joined."
        case "away" if each["until"] is None:
            said = f"away since then: {age(each['at'], now)}."
        case "away":
            said = f"away for {span(each['away_s'])}, until {_clock(each['until'], each['at'])}."
        case "summed":
            said = _no_longer_kept(each)
        case "rebooted" if event is not None:
            said = f"the machine was started again. {sentence(event)}"
        case _:
            said = sentence(event)
    return said


def _clock(moment: str, beside: str) -> str:
    """Return a time; of the same day without its date."""
    told = moment.replace("T", " ").rstrip("Z")
    return told[11:] if moment[:10] == beside[:10] else told


def _no_longer_kept(each: Mapping[str, Any]) -> str:
    until = each["until"].replace("T", " ").rstrip("Z")
    if each["subject"] == "away":
        return f"away {count(each['count'])} times until {until}, {span(each['away_s'])} in all."
    return f"{count(each['count'])} events of kind {each['subject']} until {until}, only counted."


def questions(screen: Screen, asked: list[Mapping[str, Any]]) -> Iterator[str]:
    """Return what people asked of it, by whom and why. The time is the centre's."""
    for each in asked:
        what = each["after"]
        why = f": {each['reason']}" if each["reason"] else ""
        said = f"{each['actor']} asked it for {what['verb']} ({what['id']}){why}"
        yield from screen.told(each["at"].replace("T", " ").rstrip("Z"), said, indent=_TIME_COLUMNS)


def sentence(event: Mapping[str, Any]) -> str:
    """Return what happened, why, what the device said of it, and in which trace."""
    trace = f"[trace {event['trace_id']}]" if event["trace_id"] else ""
    return " ".join(filter(None, [happened(event), trace]))
