"""`skerry device …`: how they are, what they say and are asked, how they run."""

import os
import sys
from typing import Annotated

import typer

from agent.wire.v1 import Verb
from fleet.cli import device_screen, strips
from fleet.cli.device_ask import asking
from fleet.cli.device_export import export
from fleet.cli.device_history import history
from fleet.cli.device_logs import logs
from fleet.cli.device_set import set_device
from fleet.cli.device_why import why
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.screen import Color, Output, print_json
from fleet.health.quarters import QUARTERS
from fleet.health.states import State

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Devices: list, show, why, read logs, set."
)


@app.command()
@at_centre
def ls(
    centre: CentreOptions,
    *,
    state: Annotated[
        State | None, typer.Option("--state", help="Only those that are in this state.")
    ] = None,
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="Only those it matches: room=oven,!spare.")
    ] = "",
    field: Annotated[
        str, typer.Option("--field", help="Only those: site=porto,bundle=digits:1.4.0.")
    ] = "",
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """List devices: how they are, what they serve and how fast, when they were last heard."""
    fields = [*([f"state={state}"] if state else []), *([field] if field else [])]
    asked = {"selector": selector, "field": ",".join(fields)}
    with centre.connect() as api:
        query = {name: text for name, text in asked.items() if text}
        found = page = api.get("api", "v1", "devices", query=query)
        while page["after"] is not None:
            page = api.get("api", "v1", "devices", query={**query, "after": page["after"]})
            found["devices"] += page["devices"]
        del found["after"]
    if output is Output.JSON:
        print_json("skerry.devices/1", found)
        return
    show(device_screen.listed(Screen.of(sys.stdout, os.environ, color), found))


@app.command("show")
@at_centre
def show_device(
    centre: CentreOptions,
    device: Annotated[str, typer.Argument(help="Its id or its name.")],
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show one device: how it is and why, what it should be, what it says it is, how it feels."""
    with centre.connect() as api:
        found = api.get("api", "v1", "devices", device)
        if output is Output.JSON:
            print_json("skerry.device/1", found)
            return
        query = {"limit": str(QUARTERS + 1)}
        past = api.get("api", "v1", "devices", found["id"], "health", "history", query=query)
    screen = Screen.of(sys.stdout, os.environ, color)
    show(device_screen.shown(screen, found, strips.day(screen, past)))


app.command()(why)
app.command()(export)
app.command()(history)
app.command()(logs)
app.command("set")(set_device)
app.command("doctor")(
    asking(Verb.DOCTOR, "Let a device look for what is wrong with it, and say it.")
)
app.command("benchmark")(
    asking(Verb.BENCHMARK, "Let a device measure what serves there once more, behind all else.")
)
app.command("self-test")(
    asking(Verb.SELF_TEST, "Let what serves on a device answer its golden vectors once more.")
)
