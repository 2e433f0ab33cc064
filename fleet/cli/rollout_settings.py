"""`--settings FILE`: how a bundle is to serve, as JSON; the wire says what its fields mean."""

import json
from pathlib import Path
from typing import Annotated

import typer

from agent.wire.limits import SIGNED_LIMIT_BYTES
from fleet.cli.screen import CommandError, ExitCode

SettingsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="How it is to serve, as JSON (`settings` of a deployment in `desired`); "
        "without it each device keeps what it has.",
    ),
]


def settings_in(path: Path | None) -> object | None:
    """Return what is in a settings file; the centre says whether a device can have it.

    Raises:
        CommandError: it can't be read, is too large for any device, or is not JSON.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(SIGNED_LIMIT_BYTES + 1)
    except OSError as error:
        raise _unread(path, f"SETTINGS: {error.strerror}") from error
    if len(raw) > SIGNED_LIMIT_BYTES:
        raise _unread(path, f"TOO_LARGE: a device takes at most {SIGNED_LIMIT_BYTES} bytes")
    try:
        found: object = json.loads(raw)
    except ValueError as error:
        raise _unread(path, f"MALFORMED: {error}") from error
    return found


def _unread(path: Path, why: str) -> CommandError:
    return CommandError(
        f"{path} can't be read as settings",
        why,
        'write JSON like {"threads": 1, "timeout_s": 2.0}; its fields: docs/reference/wire',
        ExitCode.USAGE,
    )
