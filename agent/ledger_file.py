"""The ledger's file: opened, made, brought to today's schema, or moved aside when it is damaged.

Schemas only grow: an older file is changed in one transaction and keeps all it
has; a newer one is refused and left as it is. What the tables mean is
`agent.ledger`'s. Blocking.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from agent.wire.reasons import Reason
from models import durable

_FIRST = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE held (
  kind TEXT PRIMARY KEY, epoch INTEGER NOT NULL, generation INTEGER NOT NULL,
  payload_digest TEXT NOT NULL, payload BLOB NOT NULL, envelope BLOB NOT NULL
) STRICT;
CREATE TABLE deployment (
  name TEXT PRIMARY KEY, revision INTEGER NOT NULL, phase TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE event (
  number INTEGER PRIMARY KEY, first INTEGER NOT NULL, cause TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
"""

_QUARANTINE = """
CREATE TABLE quarantine (
  digest TEXT PRIMARY KEY, reason TEXT NOT NULL, since TEXT NOT NULL, message TEXT NOT NULL,
  runtime TEXT NOT NULL
) STRICT;
"""

_PAST = """
CREATE TABLE past (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
"""

_SCHEMAS = (_FIRST, _QUARANTINE, _PAST)
"""What each schema added to the one before; a released one is never edited."""

SCHEMA = len(_SCHEMAS)

IN_MEMORY = Path(":memory:")
"""For a device whose disk won't have a ledger: what is written there is gone with the process."""

_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class LedgerError(Exception):
    """The ledger can't be used as it is: disk, permissions, or made by a newer agent."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LedgerDamagedError(Exception):
    """What is in the file is not what we wrote: only starting again, with a new one, helps."""


class Run(Protocol):
    """Runs one statement of a transaction."""

    def __call__(
        self, statement: str, parameters: tuple[str | int | bytes | None, ...] = (), /
    ) -> sqlite3.Cursor:
        """Return the cursor over its rows."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, or make it, and bring it to today's schema.

    Raises:
        LedgerError: the disk won't have it, or a newer agent made it.
        LedgerDamagedError: it is damaged.
    """
    with translated():
        database = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            _prepare(database)
        except BaseException:
            database.close()
            raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    run = database.execute
    if run("PRAGMA journal_mode=WAL").fetchone()[0] not in {"wal", "memory"}:
        raise LedgerError(Reason.INTERNAL, "this file system can't hold a write-ahead log")
    run("PRAGMA synchronous=FULL")
    if run("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise LedgerDamagedError
    schema = run("PRAGMA user_version").fetchone()[0]
    if schema > SCHEMA:
        raise LedgerError(
            Reason.UNKNOWN_SCHEMA,
            f"the ledger has schema {schema}, this agent knows {SCHEMA}: run the newer agent",
        )
    if schema < SCHEMA:
        _grow(database, schema)


def new_id() -> str:
    """Return the id of a new ledger."""
    return f"l-{secrets.token_hex(8)}"


def _grow(database: sqlite3.Connection, schema: int) -> None:
    added = "".join(_SCHEMAS[schema:])
    database.executescript(f"BEGIN IMMEDIATE; {added} PRAGMA user_version={SCHEMA};")
    if schema == 0:
        database.execute(
            "INSERT INTO meta VALUES ('id', ?), ('session', '0'), ('next', '1')",
            (new_id(),),
        )
    database.execute("COMMIT")


def move_aside(path: Path) -> Path:
    """Give a damaged file another name, with what belongs to it; return the name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):  # the database last: until then we would come here again
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    durable.sync_directory(path.parent)
    return aside


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database engine's errors into ours, once."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _CORRUPT_CODES or not isinstance(error, sqlite3.OperationalError):
            raise LedgerDamagedError(str(error)) from error
        reason = Reason.DISK_FULL if code == sqlite3.SQLITE_FULL else Reason.INTERNAL
        raise LedgerError(reason, f"the ledger can't be written: {error}") from error
