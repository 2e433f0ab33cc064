"""`skerry device history`: what a device told, in words, the newest last."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from agent.wire.phases import Phase
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.screen import Color, Output, note, print_json
from fleet.marks import Mark
from fleet.sentences import PHASES, explain

_LIMIT = 500
_TIME_COLUMNS = 21


@at_centre
def history(
    centre: CentreOptions,
    device: Annotated[str, typer.Argument(help="Its id or its name.")],
    *,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=_LIMIT, help="How many transitions at most.")
    ] = 30,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show what happened on a device, the newest last. Late: it waited for a connection."""
    query = {"newest": "true", "transitions": "true", "limit": str(limit)}
    with centre.connect() as api:
        found = api.get("api", "v1", "devices", device, "events", query=query)
    if output is Output.JSON:
        print_json("skerry.device.history/1", found)
        return
    show(told(Screen.of(sys.stdout, os.environ, color), found["events"]))
    if found["more"]:
        note(f"there are older ones: --limit N, at most {_LIMIT}")


def told(screen: Screen, events: list[Mapping[str, Any]]) -> Iterator[str]:
    """Return the transitions, a sentence each. The time is the device's own."""
    for event in events:
        late = f"{screen.state(Mark.WAITING, 'late')}  " if event["late"] else ""
        at = event["at"].replace("T", " ").rstrip("Z")
        yield from screen.told(at, late + sentence(event), indent=_TIME_COLUMNS)


def sentence(event: Mapping[str, Any]) -> str:
    """Return what happened, why, and what the device said of it."""
    said = f"({event['message']})" if event["message"] else ""
    trace = f"[trace {event['trace_id']}]" if event["trace_id"] else ""
    return " ".join(filter(None, [f"{_what(event)}.", _why(event), said, trace]))


def _what(event: Mapping[str, Any]) -> str:
    parameters, name = event["parameters"], event["deployment"] or "the device"
    what, revision = parameters.get("what", "?"), f"revision {event['revision']}"
    match event["kind"]:
        case "phase" if event["phase"] is not None:
            said = f"{name} {revision}: {PHASES[Phase(event['phase'])]}"
        case "worker":
            said = f"{name} {revision}: its worker {_WORKER.get(what, what)}"
        case "refused":
            said = f"a document was refused ({parameters.get('kind', '?')})"
        case "boot":
            said = f"the agent started, version {parameters.get('agent_version', '?')}"
        case "hold":
            said = "released" if what == "released" else "held as it is"
        case "quarantine":
            said = f"{name}: {event['digest']} {_QUARANTINE.get(what, what)}"
        case "store":
            said = f"{name}: {event['digest']} {_STORE.get(what, what)}"
        case "folded":
            said = _summed_up(event)
        case kind:
            said = f"{name}: {kind}"
    return said


_WORKER = {
    "crashed": "died",
    "stuck": "was stuck, and was ended",
    "restarted": "was started again",
    "gave-up": "died too often, and is not started again",
}
_STORE = {
    "rotten": "is no longer whole in the store",
    "mended": "is whole in the store again",
}
_QUARANTINE = {
    "quarantined": "is not tried again here",
    "lifted": "may be tried again here",
}


def _summed_up(event: Mapping[str, Any]) -> str:
    parameters = event["parameters"]
    kind, since = parameters.get("kind", "?"), parameters.get("first_at", "?")
    if kind == "health":
        return f"{event['count']} health documents since {since} were dropped"
    about = f" about {event['deployment']}" if event["deployment"] else ""
    return f"{event['count']} events{about} since {since} were summed up, the last of kind {kind}"


def _why(event: Mapping[str, Any]) -> str:
    if event["reason"] is None:
        return ""
    # Of a phase the parameters belong to the reason; of the others they were said above.
    parameters = event["parameters"] if event["kind"] == "phase" else {}
    return f"{explain(event['reason'], parameters).meaning} [{event['reason']}]"
