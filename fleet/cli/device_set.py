"""`skerry device set`: change how a device itself runs."""

from typing import Annotated

import typer

from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.screen import CommandError, ExitCode, Output, note, print_fields, print_json


@at_centre
def set_device(
    centre: CentreOptions,
    device: Annotated[str, typer.Argument(help="Its id or its name.")],
    *,
    health_period: Annotated[
        float | None,
        typer.Option("--health-period", metavar="SECONDS", help="From one health to the next."),
    ] = None,
    reconnect_cap: Annotated[
        float | None,
        typer.Option(
            "--reconnect-cap", metavar="SECONDS", help="The longest wait before it connects again."
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Change how a device runs: how often it says how it feels, how soon it connects again.

    What it serves stays as it is. A device that is away is asked when it is back.
    """
    given = {"health_period_s": health_period, "reconnect_cap_s": reconnect_cap}
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise CommandError(
            "nothing to change is named",
            "NO_CHANGE",
            "say what should be different: --health-period SECONDS, --reconnect-cap SECONDS",
            ExitCode.USAGE,
        )
    with centre.connect() as api:
        body = {**wanted, "reason": reason}
        found = api.post("api", "v1", "devices", device, "settings", body=body)
    if output is Output.JSON:
        print_json("skerry.device.settings/1", found)
        return
    order, settings = found["order"], found["settings"]
    print_fields(
        {
            "health": f"every {settings['health_period_s']:g} s",
            "reconnects": f"within {settings['reconnect_cap_s']:g} s",
            "generation": f"{order['epoch']}.{order['generation']}"
            if order["epoch"]
            else order["generation"],
        }
    )
    note(f"written; see what it makes of it: skerry device show {device}")
