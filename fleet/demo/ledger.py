"""A device's ledger, looked at beside the agent that writes it, changing nothing."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_BUSY_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A ledger at one moment: its id, the highest number it gave, and what is still to be told."""

    ledger: str
    told: int
    waiting: Mapping[int, bytes]


def read(home: Path) -> Page:
    """Return what is in the ledger of a device's home.

    Raises:
        sqlite3.Error: it can't be read now.
    """
    where = f"{(home / 'ledger.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(where, uri=True, timeout=_BUSY_S)) as database, database:
        database.execute("BEGIN")  # one moment for both
        meta = dict(database.execute("SELECT name, value FROM meta").fetchall())
        rows = database.execute("SELECT number, body FROM event ORDER BY number").fetchall()
    return Page(
        ledger=meta["id"],
        told=int(meta["next"]) - 1,
        waiting={number: bytes(body) for number, body in rows},
    )


def acknowledged(store: Path, device: str, ledger: str) -> int:
    """Return the number up to which the centre has committed a ledger, by its own store.

    Raises:
        sqlite3.Error: the store can't be read now.
    """
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as found:
        row = found.execute(
            "SELECT number FROM acked WHERE device = ? AND ledger = ?", (device, ledger)
        ).fetchone()
    return 0 if row is None else int(row[0])


def arrivals(store: Path, device: str, ledger: str) -> list[tuple[int, bytes]]:
    """Return a ledger's events, numbers and bytes, in the order in which the centre kept them.

    Raises:
        sqlite3.Error: the store can't be read now.
    """
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as found:
        rows = found.execute(
            "SELECT number, document FROM events WHERE device = ? AND ledger = ? ORDER BY rowid",
            (device, ledger),
        ).fetchall()
    return [(number, bytes(document)) for number, document in rows]
