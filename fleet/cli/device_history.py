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
from fleet.wording import count, has_a_line

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
    before: Annotated[
        str, typer.Option("--before", help="Those before a page: it says how to ask.")
    ] = "",
    after: Annotated[
        str, typer.Option("--after", help="Those after a page: it says how to ask.")
    ] = "",
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show what happened to a device, the newest last; then who asked it for what, and why.

    Late: it waited for a connection. Older and newer pages have no questions in them.
    """
    query = {"limit": str(limit)}
    aside = {name: where for name, where in (("before", before), ("after", after)) if where}
    with centre.connect() as api:
        found = api.get("api", "v1", "devices", device, "lifeline", query=query | aside)
        query["action"] = "command.ask"
        asked = (
            []
            if aside
            else api.get("api", "v1", "devices", device, "changes", query=query)["changes"]
        )
    if output is Output.JSON:
        print_json("skerry.device.history/3", {**found, "asked": asked[::-1]})
        return
    screen = Screen.of(sys.stdout, os.environ, color)
    show(lived(screen, found["moments"], found["as_of"]))
    show(questions(screen, asked[::-1]))
    for name, words in (("before", "older"), ("after", "newer")):
        if found[name]:
            note(f"there are {words} ones: --{name} {found[name]}")


def lived(screen: Screen, moments: list[Mapping[str, Any]], now: str) -> Iterator[str]:
    """Return a device's life, a sentence a moment."""
    for each in filter(has_a_line, moments):
        late = f"{screen.state(Mark.WAITING, 'late')}  " if each["late"] else ""
        before = "at this time or before: " if each["by_arrival"] else ""
        at = each["at"].replace("T", " ").rstrip("Z")
        said = moment(each, now)
        if each["kind"] == "away":
            said = screen.state(Mark.OFFLINE, said)
        if each["kind"] == "was":
            said = screen.state(Mark(each["state"]), said)
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
            said = f"away for {span(each['lasted_s'])}, until {_clock(each['until'], each['at'])}."
        case "was":
            said = _was(each, now)
        case "summed":
            said = _no_longer_kept(each)
        case "rebooted" if event is not None:
            said = f"the machine was started again. {sentence(event)}"
        case _:
            said = sentence(event)
    return said


def _was(each: Mapping[str, Any], now: str) -> str:
    lasted = (
        f"since then, {age(each['at'], now)}"
        if each["until"] is None
        else f"for {span(each['lasted_s'])}, until {_clock(each['until'], each['at'])}"
    )
    about = f" of {each['subject']}" if each["subject"] else ""
    return f"{each['state']} {lasted}: {each['sentence']} [{each['reason']}{about}]"


def _clock(moment: str, beside: str) -> str:
    """Return a time; of the same day without its date."""
    told = moment.replace("T", " ").rstrip("Z")
    return told[11:] if moment[:10] == beside[:10] else told


def _no_longer_kept(each: Mapping[str, Any]) -> str:
    until = each["until"].replace("T", " ").rstrip("Z")
    if each["subject"] == "away":
        return f"away {count(each['count'])} times until {until}, {span(each['lasted_s'])} in all."
    if each["state"] is not None:
        times, lasted = count(each["count"]), span(each["lasted_s"])
        return f"{each['state']} {times} times until {until}, {lasted} in all."
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
