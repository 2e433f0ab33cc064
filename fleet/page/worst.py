"""The targets of a rollout that went wrong, each with the last lines of its log. Blocking.

A log is not fetched by itself: its owner is asked by a command, which is audited, and may
refuse it. What a page shows is the newest answer that is kept.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agent.wire import v1
from fleet.api.rollout_targets import Placed, went_wrong
from fleet.store import commands

SHOWN = 10
"""So many, the worst first."""

ASKED_LINES = 50
VALID_S = 3600

_LINES = 6
_TEXT_LIMIT = 300
_PACKED_LIMIT_BYTES = 256 * 1024
_UNPACKED_LIMIT_BYTES = 4 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a log: when, how severe, what, and the rest of it as `name=value`."""

    at: str
    level: str
    event: str
    rest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The newest word about a target's log. `status`: as of a command; empty: never asked.

    `lines` are its last, the oldest first; `answered_at` says as of when.
    """

    status: str = ""
    answered_at: str | None = None
    why: str = ""
    lines: tuple[Line, ...] = ()


def worst(every: Sequence[Placed]) -> list[Placed]:
    """Return the targets that went wrong, as many as are shown, in the order they come in."""
    found = (each for each in every if went_wrong(each.progress))
    return [each for each, _ in zip(found, range(SHOWN), strict=False)]


def logs(connection: Connection, found: Sequence[Placed], now: str) -> Mapping[str, Log]:
    """Return what is known of these targets' logs, by target; `now` as RFC 3339 writes it."""
    devices = [each.progress.target for each in found]
    newest = commands.newest(connection, v1.Verb.LOGS, devices)
    return {
        device: Log() if device not in newest else _log(connection, newest[device], now)
        for device in devices
    }


def to_ask(known: Mapping[str, Log]) -> list[str]:
    """Return whose log is not on its way already."""
    return [device for device, log in known.items() if log.status != "waiting"]


def _log(connection: Connection, asked: commands.Asked, now: str) -> Log:
    if asked.result is None:
        return Log(status="waiting" if now < asked.expires_at else "expired")
    status = asked.result.status.value
    if status != v1.ResultStatus.DONE.value:
        problem = asked.result.problem
        return Log(status=status, why="" if problem is None else problem.message or problem.reason)
    if asked.answer_bytes is None or asked.answer_bytes > _PACKED_LIMIT_BYTES:
        return Log(status=status, answered_at=asked.answered_at)
    packed = commands.answer(connection, asked.device, asked.id)
    return Log(status=status, answered_at=asked.answered_at, lines=tuple(_last_lines(packed)))


def _last_lines(packed: bytes) -> Iterator[Line]:
    """Read the end of a log; what is no line of one is left out."""
    try:
        reader = zlib.decompressobj(_GZIP)
        text = reader.decompress(packed, _UNPACKED_LIMIT_BYTES)
    except zlib.error:
        return
    if reader.unconsumed_tail:
        return  # too long for a page: what is here is not its end
    for each in text.splitlines()[-_LINES:]:
        try:
            said = json.loads(each)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict):
            yield _line(said)


def _line(said: dict[str, Any]) -> Line:
    at, level, event = (str(said.pop(name, "")) for name in ("timestamp", "level", "event"))
    rest = " ".join(f"{name}={value}" for name, value in said.items())
    return Line(
        at=at.partition("T")[2][:8] or at[:_TEXT_LIMIT],
        level=level[:_TEXT_LIMIT],
        event=event[:_TEXT_LIMIT],
        rest=rest if len(rest) <= _TEXT_LIMIT else rest[:_TEXT_LIMIT] + "…",
    )
