"""`--settings FILE`: how a bundle is to serve, as JSON; the wire says what its fields mean."""

import json
import math
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
        CommandError: it can't be read, is too large for any device, or is no JSON object.
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
        found: object = json.loads(
            raw, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_once
        )
    except RecursionError as error:
        raise _unread(path, "MALFORMED: it is nested too deeply") from error
    except ValueError as error:
        raise _unread(path, f"MALFORMED: {error}") from error
    if not isinstance(found, dict):
        raise _unread(path, "MALFORMED: it is no object, like {}")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number that JSON can hold")
    return number


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it says {twice!r} twice")
    return found


def _unread(path: Path, why: str) -> CommandError:
    return CommandError(
        f"{path} can't be read as settings",
        why,
        'write JSON like {"threads": 1, "timeout_s": 2.0}; '
        "its fields: docs/reference/wire/desired.json",
        ExitCode.USAGE,
    )
