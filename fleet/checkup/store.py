"""The database: whole, and of a schema that this program knows; and what other checks need of it.

Looking leaves no file behind. A reader of a write-ahead log that isn't there would make one and
may not take it away again; who may write takes it away, so it is opened so, and forbidden to
write. Where a log is there, a centre runs or was killed: that log is not ours to put away.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.checkup.finding import Finding, ok, wrong
from fleet.checkup.trust import SOON
from fleet.clock import written
from fleet.store.tables import SCHEMA

_WAIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a store holds, as far as other checks look at it."""

    bundles: Sequence[tuple[str, str]]
    """Name with version, and digest; the newest first."""

    devices: int
    expiring: Sequence[str]
    """Names of devices whose certificate ends soon, or has."""


def look(path: Path, now: datetime) -> tuple[Finding, Kept | None]:
    """Look at the database; return what it holds where it can be read."""
    if not path.exists():
        return ok("store", "there is none yet: the centre makes it when it first starts"), None
    try:
        with closing(_open(path)) as database:
            return _look_into(database, path, now)
    except sqlite3.DatabaseError as error:
        return _unreadable(path, error), None


def _look_into(
    database: sqlite3.Connection, path: Path, now: datetime
) -> tuple[Finding, Kept | None]:
    [verdict] = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        return _damaged(path, str(verdict)), None
    [schema] = database.execute("SELECT max(version_num) FROM alembic_version").fetchone()
    if schema is None:
        return _damaged(path, "it does not say which schema it has"), None
    if str(schema) != SCHEMA:
        return _other_schema(str(schema)), None
    return ok("store", f"whole, schema {schema}"), _kept(database, now)


def _unreadable(path: Path, error: sqlite3.DatabaseError) -> Finding:
    """Say whether who asks can't read it, or it was read and is not what we wrote."""
    refused = isinstance(error, sqlite3.OperationalError)
    if refused and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # that one: no such table
        hint = "do it as the user that runs the centre; look at the disk"
        return wrong("store", f"{path} can't be read", str(error), hint)
    return _damaged(path, str(error))


def _open(path: Path) -> sqlite3.Connection:
    mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    database = sqlite3.connect(uri, uri=True, timeout=_WAIT_S)
    try:
        database.execute("PRAGMA query_only=ON")
    except BaseException:
        database.close()
        raise
    return database


def _kept(database: sqlite3.Connection, now: datetime) -> Kept:
    bundles = database.execute(
        "SELECT name, version, digest FROM bundles ORDER BY published_at DESC, name"
    )
    ending = database.execute(
        "SELECT name FROM devices WHERE certificate_expires_at < ? ORDER BY name",
        (written(now + SOON),),
    )
    [count] = database.execute("SELECT count(*) FROM devices").fetchone()
    return Kept(
        bundles=[(f"{name}:{version}", digest) for name, version, digest in bundles],
        devices=count,
        expiring=[name for (name,) in ending],
    )


def _damaged(path: Path, why: str) -> Finding:
    hint = f"stop the centre, bring {path} back from a backup, start it again"
    return wrong("store", f"{path} is damaged", why, hint)


def _other_schema(schema: str) -> Finding:
    if schema > SCHEMA:  # four digits: they sort as text
        why = f"its schema is {schema}; this program knows {SCHEMA}"
        return wrong("store", "a newer Skerry wrote the store", why, "upgrade skerry here")
    return ok("store", f"whole, schema {schema}; the centre upgrades it when it next starts")
