"""The database: whole, and of a schema that this program knows; and what it knows of devices."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.checkup.finding import Finding, not_tried, ok, warning, wrong
from fleet.checkup.trust import SOON
from fleet.clock import written
from fleet.store.tables import SCHEMA

_WAIT_S = 10.0
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a store holds, as far as other checks look at it."""

    bundles: Sequence[tuple[str, str]]
    """Name with version, and digest."""

    devices: int
    expiring: Sequence[str]
    """Names of devices whose certificate ends soon, or has."""


def look(path: Path, now: datetime) -> tuple[Finding, Kept | None]:
    """Look at the database; return what it holds where it can be read."""
    if not path.exists():
        return ok("store", "there is none yet: the centre makes it when it first starts"), None
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)
        ) as database:
            [verdict] = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                return _damaged(path, str(verdict)), None
            [schema] = database.execute("SELECT version_num FROM alembic_version").fetchone()
            if str(schema) != SCHEMA:
                return _other_schema(str(schema)), None
            return ok("store", f"whole, schema {schema}"), _kept(database, now)
    except sqlite3.OperationalError as error:
        hint = "do it as the user that runs the centre; look at the disk"
        return wrong("store", f"{path} can't be read", str(error), hint), None
    except sqlite3.DatabaseError as error:
        return _damaged(path, str(error)), None


def devices(kept: Kept | None) -> Finding:
    """Judge what the store knows of devices' certificates: they are not renewed by themselves."""
    if kept is None:
        return not_tried("devices", "it needs the store")
    if not kept.expiring:
        return ok("devices", f"{kept.devices} joined; no certificate ends within {SOON.days} d")
    more = len(kept.expiring) - _NAMED
    names = ", ".join(kept.expiring[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return warning(
        "devices",
        f"{len(kept.expiring)} of {kept.devices} certificates have ended or end soon: {names}",
        "a device whose certificate has ended goes on serving, and is heard no more",
        "on each: move its identity folder away, then skerry-agent join with a new token and name",
    )


def _kept(database: sqlite3.Connection, now: datetime) -> Kept:
    bundles = database.execute("SELECT name, version, digest FROM bundles ORDER BY name, version")
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
