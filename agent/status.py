"""What a device is, for who stands before it: read beside a running agent, changing nothing."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.alone import has_ended, running
from agent.errors import PersonError
from agent.glimpse import Glimpse, read
from agent.home import Home
from agent.identity import load
from agent.ledger import read_record
from agent.policy import Policy
from agent.policy import read as read_policy
from agent.standing import Standing, standing
from agent.technician import Hold, read_hold
from agent.wire.reasons import Reason

Row = dict[str, str | int | None]

_NOTHING = Glimpse(serving={}, compared={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the ledger says, as far as a person wants to know."""

    generation: int | None = None
    outbox: int = 0
    deployments: tuple[Standing, ...] = ()
    quarantine: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One device, now."""

    device: str
    fleet: str
    running: bool
    hold: Hold | None
    policy: Policy
    remembered: Remembered


def look(home: Home) -> Status:
    """Return what a device is.

    Raises:
        PersonError: it has not joined, or its ledger can't be read.
    """
    answer = load(home).answer
    try:
        here = running(home.lock)
        return Status(
            device=answer.device,
            fleet=answer.fleet,
            running=here,
            hold=read_hold(home.hold),
            policy=read_policy(home.policy),
            remembered=_remembered(home.ledger, known(home)),
        )
    except OSError as error:
        raise PersonError(
            "the device can't be read",
            Reason.INTERNAL,
            str(error),
            "do it as the user that runs the agent",
            code=4,
        ) from error


def known(home: Home) -> Glimpse:
    """Return what the agent that runs now knows of what serves; nothing, where none does.

    On a disk that can't be written what one before it knew is left.
    """
    found = read(home.glimpse) if running(home.lock) else _NOTHING
    return _NOTHING if has_ended(found.by) else found


def as_json(status: Status) -> str:
    """Return it for programs."""
    found = {
        "schema": "skerry.agent-status/1",
        "device": status.device,
        "fleet": status.fleet,
        "running": status.running,
        "hold": status.hold and {"reason": status.hold.reason, "since": status.hold.since},
        "policy": dict(status.policy.allowed),
        "generation": status.remembered.generation,
        "outbox": status.remembered.outbox,
        "deployments": [asdict(each) for each in status.remembered.deployments],
        "quarantine": status.remembered.quarantine,
    }
    return json.dumps(found, indent=2) + "\n"


def as_text(status: Status) -> str:
    """Return it for people."""
    state = "running" if status.running else "not running"
    outbox = status.remembered.outbox
    lines = [f"{status.device} of {status.fleet}: {state}, {outbox} events to tell"]
    if status.hold:
        lines.append(f"  held since {status.hold.since}: {status.hold.reason}")
    lines.append(f"  the centre may ask for {status.policy.words()}")
    for each in status.remembered.deployments:
        lines += _deployment_lines(each)
    lines += [
        f"  in quarantine since {each['since']}: {each['digest']} ({each['reason']})"
        for each in status.remembered.quarantine
    ]
    return "\n".join(lines) + "\n"


def _deployment_lines(each: Standing) -> Iterator[str]:
    serves = f"serves {each.serves}" if each.serves else "serves nothing"
    why = f" ({each.reason})" if each.reason else ""
    so_far = f": {each.so_far}" if each.so_far else ""
    yield (
        f"  {each.name:20} {each.wanted} revision {each.revision}:"
        f" {each.phase}{why}{so_far}, {serves}{_by(each)}"
    )
    if each.short:
        yield f"  {'':20} fewer workers than chosen ({each.short}): {each.short_because}"
    if each.waits_until:
        yield f"  {'':20} waits for its window, until {each.waits_until}"


def _by(each: Standing) -> str:
    """Say how many workers answer, and of how many."""
    if each.answering not in {None, each.workers}:
        return f" by {each.answering} of {each.workers} workers"
    return f" by {each.workers} workers" if each.workers not in {None, 1} else ""


def _remembered(ledger: Path, known: Glimpse) -> Remembered:
    if not ledger.exists():
        return Remembered()
    try:
        with closing(
            sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=5)
        ) as database:
            held = database.execute("SELECT generation FROM held WHERE kind = 'desired'").fetchone()
            bodies = database.execute("SELECT body FROM deployment ORDER BY name").fetchall()
            [outbox] = database.execute("SELECT count(*) FROM event").fetchone()
            quarantine = _quarantine(database)
        return Remembered(
            generation=held[0] if held else None,
            outbox=outbox,
            deployments=tuple(_deployment(body, known) for (body,) in bodies),
            quarantine=quarantine,
        )
    except (sqlite3.DatabaseError, ValueError, KeyError) as error:
        raise PersonError(
            "the ledger can't be read",
            Reason.LEDGER_CORRUPT,
            f"{ledger}: {error}",
            "start the agent: it moves a damaged ledger aside and goes on",
            code=1,
        ) from error


def _quarantine(database: sqlite3.Connection) -> tuple[Row, ...]:
    [schema] = database.execute("PRAGMA user_version").fetchone()
    if schema < 2:  # noqa: PLR2004  # an older agent's, until this one has been started
        return ()
    names = ("digest", "reason", "since", "message", "runtime")
    rows = database.execute(f"SELECT {', '.join(names)} FROM quarantine ORDER BY rowid")  # noqa: S608  # ours
    return tuple(dict(zip(names, row, strict=True)) for row in rows)


def _deployment(body: str, known: Glimpse) -> Standing:
    record = read_record(body)
    return standing(record, known.serving.get(record.name), known.compared.get(record.name))
