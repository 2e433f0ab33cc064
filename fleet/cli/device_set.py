"""`skerry device set`: change how a device itself runs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from fleet.cli.device_screen import changes, fetches
from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.screen import CommandError, ExitCode, Output, note, print_fields, print_json
from fleet.client import Centre
from fleet.selector import EVERYTHING
from fleet.settings import parse_windows


@at_centre
def set_device(
    centre: CentreOptions,
    device: Annotated[
        str | None, typer.Argument(help="Its id or its name; or say which by --selector.")
    ] = None,
    *,
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="All that it matches, each for itself; or: all.")
    ] = "",
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
    download_windows: Annotated[
        str | None,
        typer.Option(
            "--download-windows",
            metavar="WINDOWS",
            help="When it may, like 'mon-fri 22:00-05:00; sat,sun 00:00-24:00'; none: always.",
        ),
    ] = None,
    maintenance_windows: Annotated[
        str | None,
        typer.Option(
            "--maintenance-windows",
            metavar="WINDOWS",
            help="When what it serves may be changed, written as those; none: always.",
        ),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option("--time-zone", metavar="ZONE", help="Of the windows, like Europe/Berlin."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Change how a device runs: how often it reports, how soon it reconnects, when it does what.

    What it serves stays as it is. A device that is away is asked when it is back.
    """
    if bool(selector) is (device is not None):
        raise CommandError(
            "it is not clear which device is meant",
            "USAGE: one is named, or several are selected",
            "skerry device set NAME …, or: skerry device set --selector room=oven …",
            ExitCode.USAGE,
        )
    given = {
        "health_period_s": health_period,
        "reconnect_cap_s": reconnect_cap,
        "download_rate_bytes_per_s": None if download_rate is None else _bytes(download_rate),
        "download_windows": _windows("--download-windows", download_windows),
        "maintenance_windows": _windows("--maintenance-windows", maintenance_windows),
        "time_zone": time_zone,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise CommandError(
            "nothing to change is named",
            "NO_CHANGE",
            "name it, like --health-period SECONDS or --reconnect-cap SECONDS; see --help",
            ExitCode.USAGE,
        )
    with centre.connect() as api:
        body = {**wanted, "reason": reason}
        if device is None:
            _set_several(api, selector, body, output)
            return
        found = api.post("api", "v1", "devices", device, "settings", body=body)
    if output is Output.JSON:
        print_json("skerry.device.settings/1", found)
        return
    order, settings = found["order"], found["settings"]
    print_fields(
        {
            "health": f"every {settings['health_period_s']:g} s",
            "reconnects": f"within {settings['reconnect_cap_s']:g} s",
            "fetches": fetches(settings),
            "changes": changes(settings),
            "generation": f"{order['epoch']}.{order['generation']}"
            if order["epoch"]
            else order["generation"],
        }
    )
    note(f"written; see what it makes of it: skerry device show {device}")


def _set_several(api: Centre, selector: str, body: Mapping[str, object], output: Output) -> None:
    """Write each device's document; who has these settings, or can't have them, stops no other."""
    written, already, refused = [], 0, 0
    for device in _matching(api, selector):
        try:
            written.append(api.post("api", "v1", "devices", device["id"], "settings", body=body))
        except CommandError as error:
            if error.exit_code in {ExitCode.UNREACHABLE, ExitCode.NOT_ALLOWED}:
                raise
            if error.why == "NO_CHANGE":
                already += 1
            else:
                refused += 1
                note(f"{device['name']}: {error.what} ({error.why})")
    if output is Output.JSON:
        counts = {"already": already, "refused": refused}
        print_json("skerry.devices.settings/1", {"written": written, **counts})
    note(f"written for {len(written)}; {already} had these settings; {refused} can't have them")
    if refused or not (written or already):
        raise typer.Exit(ExitCode.BAD if refused else ExitCode.NOT_FOUND)


def _matching(api: Centre, selector: str) -> Iterator[Mapping[str, Any]]:
    query = {} if selector.strip() == EVERYTHING else {"selector": selector}
    after: str | None = ""
    while after is not None:
        page = api.get(
            "api", "v1", "devices", query={**query, **({"after": after} if after else {})}
        )
        yield from page["devices"]
        after = page["after"]


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


def _windows(option: str, text: str | None) -> list[dict[str, Any]] | None:
    if text is None:
        return None
    try:
        return [asdict(each) for each in parse_windows(text)]
    except ValueError as error:
        raise CommandError(
            "these windows can't be read",
            f"MALFORMED: {option}: {error}",
            "write them like 'mon-fri 22:00-05:00; sat,sun 00:00-24:00'; none: always",
            ExitCode.USAGE,
        ) from error
