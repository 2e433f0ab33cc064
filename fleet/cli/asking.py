"""What the commands that ask devices share: waiting for answers, and saying why there is none."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.cli.screen import CommandError, ExitCode, note
from fleet.client import Centre
from fleet.sentences import explain

_LOOK_S = 0.5

EXITS = {"failed": ExitCode.BAD, "refused": ExitCode.REFUSED, "expired": ExitCode.UNREACHABLE}

Asked = Mapping[str, Any]
"""A command as the API shows it."""


def answered(api: Centre, asked: Sequence[Asked], wait_s: float) -> Sequence[Asked]:
    """Look until every device has answered, or for as long as is to be waited.

    They are returned in their order. How many have answered is said whenever that changes.
    """
    ids, left_s, told = [each["id"] for each in asked], wait_s, 0
    query = {"commands": ",".join(ids), "limit": str(len(ids))}
    while True:
        found = {
            each["id"]: each for each in api.get("api", "v1", "commands", query=query)["commands"]
        }
        now = [found.get(each["id"], each) for each in asked]
        ended = sum(each["status"] != "waiting" for each in now)
        if len(ids) > 1 and ended != told:
            note(f"{ended} of {len(ids)} are over")
            told = ended
        if ended == len(ids) or left_s <= 0:
            return now
        time.sleep(_LOOK_S)  # noqa: TID251  # a command of its own: there is no loop to block
        left_s -= _LOOK_S


def again(device: str, asked: Asked) -> str:
    """Return the command that shows the answer once it is there."""
    return f"skerry device {asked['verb']} {device} --command {asked['id']}"


def no_answer(api: Centre, device: str, asked: Asked) -> CommandError:
    """Return why a device has not answered yet, and how to read the answer later."""
    found = api.get("api", "v1", "devices", device)
    offline = f"OFFLINE: since {found['since']}" if found["online"] is False else None
    never = "UNKNOWN: it was never heard of" if found["online"] is None else None
    return CommandError(
        f"{device} has not answered yet",
        offline or never or "TIMED_OUT: it is connected; it may be busy",
        f"it may answer until {asked['expires_at']}; then: {again(device, asked)}",
        ExitCode.UNREACHABLE,
    )


def not_done(device: str, asked: Asked, what: str) -> CommandError:
    """Return why a command was not carried out; `what` is what is missing now."""
    problem = asked["problem"]
    if problem is None:
        return CommandError(
            f"{device} did not answer until {asked['expires_at']}",
            "COMMAND_EXPIRED",
            f"see how it is: skerry device show {device}",
            ExitCode.UNREACHABLE,
        )
    said = explain(problem["reason"], problem["parameters"])
    summary = asked["answer"].get("summary", "")
    return CommandError(
        f"{device} did not {what}. {said.meaning}",
        f"{problem['reason']}: {problem['message']}{' - ' if summary else ''}{summary}",
        said.next_step,
        EXITS[asked["status"]],
    )
