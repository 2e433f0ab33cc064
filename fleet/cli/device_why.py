"""`skerry device why`: why a device is as it is, and why it is where it is in each rollout."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from agent.wire.words import age
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.screen import Color, ExitCode, Output, print_json
from fleet.marks import Mark
from fleet.whys import is_calm, lines


@at_centre
def why(
    centre: CentreOptions,
    device: Annotated[str, typer.Argument(help="Its id or its name.")],
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say why a device is as it is, what keeps it from what is wanted, what it waits for.

    The exit code is 1 when it is failing, degraded, offline or unknown.
    """
    with centre.connect() as api:
        said = api.get("api", "v1", "devices", device, "why")
    if output is Output.JSON:
        print_json("skerry.device.why/1", said)
    else:
        show(why_lines(Screen.of(sys.stdout, os.environ, color), said))
    if not is_calm(said):
        raise typer.Exit(ExitCode.BAD)


def why_lines(screen: Screen, said: Mapping[str, Any]) -> Iterator[str]:
    """Return why, a paragraph a reason, each with what to do about it."""
    state, now = said["state"], said["as_of"]
    verdict = screen.state(Mark(state["word"]), f"{state['word']} {age(state['since'], now)}")
    site = [f"site {said['site']}"] if said["site"] else []
    heard = "never heard" if said["heard_at"] is None else f"heard {age(said['heard_at'], now)} ago"
    yield from screen.field("", [verdict, said["name"], *site, heard], indent=0)
    for line in lines(said):
        code = f" ({line.code})" if line.code else ""
        yield from screen.told(line.label, line.trace or f"{line.text}{code}")
        if line.next:
            yield from screen.told("Next", line.next)
