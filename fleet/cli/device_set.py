"""`skerry device set`: change how a device itself runs."""

import re
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
    download_rate: Annotated[
        str | None,
        typer.Option(
            "--download-rate",
            metavar="BYTES",
            help="What it may fetch in a second, like 200k or 2M; none: any.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Change how a device runs: how often it reports, how soon it reconnects, how it fetches.

    What it serves stays as it is. A device that is away is asked when it is back.
    """
    given = {
        "health_period_s": health_period,
        "reconnect_cap_s": reconnect_cap,
        "download_rate_bytes_per_s": None if download_rate is None else _bytes(download_rate),
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise CommandError(
            "nothing to change is named",
            "NO_CHANGE",
            "name it: --health-period SECONDS, --reconnect-cap SECONDS, --download-rate BYTES",
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
            "fetches": _fetches(settings["download_rate_bytes_per_s"]),
            "generation": f"{order['epoch']}.{order['generation']}"
            if order["epoch"]
            else order["generation"],
        }
    )
    note(f"written; see what it makes of it: skerry device show {device}")


_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_RATE = re.compile(r"(\d{1,12})([kMG]?)\Z")


def _bytes(text: str) -> int:
    """Return the bytes a second that somebody wrote; 0: any."""
    if text == "none":
        return 0
    found = _RATE.match(text)
    if found is None or int(found.group(1)) == 0:
        raise CommandError(
            "this rate can't be read",
            f"MALFORMED: --download-rate is {text[:40]!r}",
            "write the bytes a second, like 200k or 2M; none takes the bound away",
            ExitCode.USAGE,
        )
    return int(found.group(1)) * _UNITS[found.group(2)]


def _fetches(rate_bytes_per_s: int | None) -> str:
    return "as fast as it can" if rate_bytes_per_s is None else f"{rate_bytes_per_s} bytes a second"
