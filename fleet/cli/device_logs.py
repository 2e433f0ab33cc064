"""`skerry device logs`: ask a device for its log, and print it when it comes."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from fleet.cli.marks import show
from fleet.cli.options import CentreOptions, at_centre, seconds
from fleet.cli.screen import CommandError, ExitCode, note
from fleet.client import Centre
from fleet.sentences import explain

_LOOK_S = 0.5

_EXITS = {"failed": ExitCode.BAD, "refused": ExitCode.REFUSED, "expired": ExitCode.UNREACHABLE}


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
        if command is None:
            wish = {"verb": "logs", "lines": lines, "valid_s": max(wait_s, valid_s)}
            command = str(api.post("api", "v1", "devices", device, "commands", body=wish)["id"])
        again = f"skerry device logs {device} --command {command}"
        try:
            asked = _waited(api, device, command, wait_s, pause=time.sleep)  # noqa: TID251  # a command of its own: there is no loop to block
        except KeyboardInterrupt:
            note(f"\nthe answer, when it is there: {again}")
            raise
        if asked["status"] == "waiting":
            raise _no_answer(api, device, asked, again)
        if asked["status"] != "done":
            raise _not_done(device, asked)
        show(
            api.get_text("api", "v1", "devices", device, "commands", command, "answer").splitlines()
        )


def _waited(
    api: Centre, device: str, command: str, wait_s: float, *, pause: Callable[[float], None]
) -> Any:  # noqa: ANN401  # JSON, as the API's reference describes it
    """Look until the device has answered, or for as long as is to be waited."""
    left_s = wait_s
    while True:
        asked = api.get("api", "v1", "devices", device, "commands", command)
        if asked["status"] != "waiting" or left_s <= 0:
            return asked
        if left_s == wait_s:
            note(f"asked {device}; it answers as {command}")
        pause(_LOOK_S)
        left_s -= _LOOK_S


def _no_answer(api: Centre, device: str, asked: Any, again: str) -> CommandError:  # noqa: ANN401  # as above
    found = api.get("api", "v1", "devices", device)
    offline = f"OFFLINE: since {found['since']}" if found["online"] is False else None
    never = "UNKNOWN: it was never heard of" if found["online"] is None else None
    return CommandError(
        f"{device} has not answered yet",
        offline or never or "TIMED_OUT: it is connected; it may be busy",
        f"it may answer until {asked['expires_at']}; then: {again}",
        ExitCode.UNREACHABLE,
    )


def _not_done(device: str, asked: Any) -> CommandError:  # noqa: ANN401  # as above
    problem = asked["problem"]
    if problem is None:
        return CommandError(
            f"{device} did not answer until {asked['expires_at']}",
            "COMMAND_EXPIRED",
            f"see how it is: skerry device show {device}",
            ExitCode.UNREACHABLE,
        )
    said = explain(problem["reason"], problem["parameters"])
    return CommandError(
        f"{device} did not send its log. {said.meaning}",
        f"{problem['reason']}: {problem['message']}",
        said.next_step,
        _EXITS[asked["status"]],
    )
