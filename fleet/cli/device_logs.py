"""`skerry device logs`: ask a device for its log, and print it when it comes."""

from typing import Annotated

import typer

from fleet.cli.asking import again, answered, no_answer, not_done
from fleet.cli.marks import show
from fleet.cli.options import CentreOptions, at_centre, seconds
from fleet.cli.screen import note


@at_centre
def logs(
    centre: CentreOptions,
    device: Annotated[str, typer.Argument(help="Its id or its name.")],
    *,
    lines: Annotated[
        int, typer.Option("--lines", min=1, max=100_000, help="How many, from the newest back.")
    ] = 200,
    wait: Annotated[str, typer.Option("--wait", help="How long to wait here: 30s, 5m.")] = "1m",
    valid: Annotated[
        str, typer.Option("--valid", help="How long the device may take: it may be away.")
    ] = "1h",
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
    command: Annotated[
        str | None,
        typer.Option("--command", help="Print the answer to an earlier one, and ask nothing."),
    ] = None,
) -> None:
    """Print a device's log, oldest first: one JSON object a line. It is asked for it now.

    Ctrl-C, or a device that is away: the answer comes when it comes, and is printed by the
    line with --command that is told.
    """
    wait_s, valid_s = seconds(wait), seconds(valid)
    with centre.connect() as api:
        path = ("api", "v1", "devices", device, "commands")
        wish = {"verb": "logs", "lines": lines, "valid_s": max(wait_s, valid_s), "reason": reason}
        first = api.get(*path, command) if command else api.post(*path, body=wish)
        if command is None and wait_s:
            note(f"asked {device}; it answers as {first['id']}")
        try:
            [asked] = answered(api, [first], wait_s)
        except KeyboardInterrupt:
            note(f"\nthe answer, when it is there: {again(device, first)}")
            raise
        if asked["status"] == "waiting":
            raise no_answer(api, device, asked)
        if asked["status"] != "done":
            raise not_done(device, asked, "send its log")
        show(api.get_text(*path, asked["id"], "answer").splitlines())
