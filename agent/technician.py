"""What somebody at the device may do: hold it as it is and release it; lift a quarantine.

A hold is a file, so it is there whatever the agent does: it can be set while no
agent runs, and outlives every restart. A running agent is told to look by
SIGHUP; both commands wait until it has recorded what it saw, so that a hold and
a release in quick succession are two transitions. Digests to be lifted out of
quarantine are a file too, which the agent deletes when its ledger has them; so is what
somebody found rotten in the store.

Blocking, and light on purpose: neither pydantic nor a log is loaded.
"""

import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.alone import running, running_pid
from agent.errors import PersonError
from agent.home import Home
from agent.wire.limits import DOCUMENT_LIMIT_BYTES, TEXT_LIMIT
from agent.wire.reasons import Reason
from models import durable

_FILE_LIMIT_BYTES = 8 * TEXT_LIMIT
_ROTTEN_LIMIT_BYTES = 4 * 1024 * 1024
_LIFTED_LIMIT_BYTES = 1024 * 1024
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NO_TIME = "1970-01-01T00:00:00Z"

_PATIENCE_S = 15.0
"""For the running agent: one that is just starting has to find its runtime first."""

_LOOK_S = 0.005
_SAY_AGAIN = 100
"""Looks after which the signal is sent again: an agent that just begins may not have heard it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A device is held as it is: why, and since when by its own clock."""

    reason: str
    since: str


def _content(path: Path, limit_bytes: int) -> bytes | None:
    """Return the beginning of a file; None: there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes)
    except FileNotFoundError:
        return None


def read_hold(path: Path) -> Hold | None:
    """Return the hold; None: there is none. One that can't be read is a hold all the same.

    Raises:
        OSError: whether there is one can't be said.
    """
    raw = _content(path, _FILE_LIMIT_BYTES)
    if raw is None:
        return None
    try:
        said = json.loads(raw)
        reason, since = str(said["reason"])[:TEXT_LIMIT], str(said.get("since"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Hold(reason=f"{path.name} is there and can't be read", since=_NO_TIME)
    return Hold(reason=reason, since=since if _TIME.fullmatch(since) else _NO_TIME)


def hold(home: Home, reason: str, now: str) -> bool:
    """Hold the device; return whether a running agent knows, or False where none runs.

    Raises:
        PersonError: why it is not held, or that the agent has not said that it knows.
    """
    what = "the device is not held"
    reason = reason.strip()
    if not reason or len(reason) > TEXT_LIMIT:
        raise PersonError(
            what,
            Reason.MALFORMED,
            f"a reason has 1 to {TEXT_LIMIT} characters; this one has {len(reason)}",
            "say why, for whoever wonders: --reason 'the belt is being changed'",
            code=2,
        )
    with in_words(home, what):
        held = read_hold(home.hold)
        if held is None or held.reason != reason:
            held = Hold(reason=reason, since=now)
            said = json.dumps({"reason": held.reason, "since": held.since})
            durable.write(home.hold, said.encode())
        return _heard(home, held)


def release(home: Home) -> bool:
    """Let the device go on; return whether a running agent knows, or False where none runs.

    Raises:
        PersonError: why it is still held, or that the agent has not said that it knows.
    """
    with in_words(home, "the device is not released"):
        home.hold.unlink(missing_ok=True)
        durable.sync_directory(home.path)
        return _heard(home, None)


def read_lifted(path: Path) -> frozenset[str] | None:
    """Return the digests that are to be lifted; None: there is no such file.

    One that can't be read says nothing: a quarantine stays.

    Raises:
        OSError: whether there is one can't be said.
    """
    raw = _content(path, _LIFTED_LIMIT_BYTES)
    if raw is None:
        return None
    try:
        return frozenset(map(str, json.loads(raw)))
    except (ValueError, TypeError):
        return frozenset()


def read_applied(path: Path) -> bytes | None:
    """Return the envelope that somebody brought; None: there is none.

    Raises:
        OSError: whether there is one can't be said.
    """
    return _content(path, DOCUMENT_LIMIT_BYTES + 1)  # one more: whoever judges it says too long


def read_rotten(path: Path) -> dict[str, list[str]] | None:
    """Return the bundles that somebody found rotten, each with its parts; None: no such file.

    One that can't be read says nothing: what is rotten is found again.

    Raises:
        OSError: whether there is one can't be said.
    """
    raw = _content(path, _ROTTEN_LIMIT_BYTES)
    if raw is None:
        return None
    try:
        return {str(bundle): list(map(str, parts)) for bundle, parts in json.loads(raw).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def say_rotten(home: Home, bundles: Mapping[str, Collection[str]]) -> bool:
    """Leave word of what is rotten in the store; return whether a running agent has it.

    Raises:
        PersonError: why it isn't left, or that the agent has not said that it knows.
    """
    with in_words(home, "the agent is not told what is rotten"):
        told = {bundle: list(parts) for bundle, parts in bundles.items()}
        durable.write(home.rotten, json.dumps(told).encode())
        return done(home, lambda: not home.rotten.exists())


def lift(home: Home, which: str) -> tuple[list[str], bool]:
    """Lift content out of quarantine, that it may be tried again.

    Args:
        home: the device's folder.
        which: a digest, with or without `sha256:`, or the beginning of one; or `all`.

    Returns:
        The digests, and whether a running agent has lifted them (False: none runs, and the
        next one will).

    Raises:
        PersonError: nothing, or more than one, begins so; or why they are not lifted.
    """
    what = "nothing is lifted out of quarantine"
    with in_words(home, what):
        held = in_quarantine(home.ledger)
        beginning = which.removeprefix("sha256:").lower()
        found = [each for each in held if which == "all" or _begins(each, beginning)]
        if not found and which == "all":
            return [], running(home.lock)
        if not found or (which != "all" and len(found) > 1):
            raise PersonError(
                what,
                Reason.NOT_FOUND,
                f"{len(found) or 'nothing'} in quarantine here begins with {which[:80]!r}",
                "see what is: skerry-agent status",
                code=3,
            )
        before = read_lifted(home.lifted) or frozenset()
        durable.write(home.lifted, json.dumps(sorted({*before, *found})).encode())
        return found, done(home, lambda: not set(in_quarantine(home.ledger)) & set(found))


def _begins(digest: str, beginning: str) -> bool:
    return bool(beginning) and digest.removeprefix("sha256:").startswith(beginning)


def _heard(home: Home, wanted: Hold | None) -> bool:
    return done(home, lambda: recorded(home.ledger) == wanted)


def done(home: Home, recorded_it: Callable[[], bool]) -> bool:
    """Tell a running agent to look, and wait until it has recorded what is wanted.

    Returns False where none runs: the next one looks when it starts.

    Raises:
        PersonError: `TIMED_OUT`: it runs, and has not said that it knows.
    """
    for look in range(int(_PATIENCE_S / _LOOK_S)):
        if not running(home.lock):
            return False
        if look % _SAY_AGAIN == 0 and (pid := running_pid(home.lock)):
            os.kill(pid, signal.SIGHUP)
        if recorded_it():
            return True
        time.sleep(_LOOK_S)  # noqa: TID251  # a command of its own: there is no loop to block
    raise PersonError(
        "the running agent has not said that it knows",
        Reason.TIMED_OUT,
        f"nothing was recorded for {_PATIENCE_S:g} s; it stays wanted, and is looked at again",
        "if it runs in a container, do it there (docker exec); else look at its log, or restart it",
        code=1,
    )


def recorded(ledger: Path) -> Hold | None:
    """Return the hold that the agent has recorded, beside it and changing nothing.

    Raises:
        sqlite3.Error: the ledger can't be read now.
    """
    if not ledger.exists():
        return None
    with _opened(ledger) as database:
        row = database.execute("SELECT value FROM meta WHERE name = 'hold'").fetchone()
    return None if row is None else Hold(**json.loads(row[0]))


def in_quarantine(ledger: Path) -> list[str]:
    """Return the digests that the agent has in quarantine, beside it and changing nothing.

    Raises:
        sqlite3.Error: the ledger can't be read now.
    """
    if not ledger.exists():
        return []
    with _opened(ledger) as database:
        [schema] = database.execute("PRAGMA user_version").fetchone()
        if schema < 2:  # noqa: PLR2004  # an older agent's, which knew of no quarantine
            return []
        return [row[0] for row in database.execute("SELECT digest FROM quarantine ORDER BY rowid")]


def held_desired(ledger: Path) -> tuple[int, int, str] | None:
    """Return epoch, generation and payload digest of what the agent holds; None: nothing yet.

    Raises:
        sqlite3.Error: the ledger can't be read now.
    """
    if not ledger.exists():
        return None
    with _opened(ledger) as database:
        row = database.execute(
            "SELECT epoch, generation, payload_digest FROM held WHERE kind = 'desired'"
        ).fetchone()
    return None if row is None else (int(row[0]), int(row[1]), str(row[2]))


def _opened(ledger: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=5))


@contextmanager
def in_words(home: Home, what: str) -> Iterator[None]:
    """Say what is in the way to a person.

    Raises:
        PersonError: always instead of what went wrong.
    """
    if not home.identity.is_dir():
        raise PersonError(
            what,
            Reason.NOT_FOUND,
            f"there is no identity in {home.identity}",
            "name the device's folder with --home DIR, or join: skerry-agent join URL",
            code=3,
        )
    try:
        yield
    except PermissionError as error:
        raise PersonError(
            what, "NOT_ALLOWED", str(error), "do it as the user that runs the agent", code=4
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise PersonError(
            what, Reason.INTERNAL, str(error), f"look at {home.path} and the disk it is on", code=1
        ) from error
