"""The database engine: SQLite in WAL mode, one writer, and the schema brought up to date.

Blocking: the rim calls it through `asyncio.to_thread`. A committed transaction
has survived a power cut (`synchronous=FULL`).
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from fleet.store import touched
from fleet.store.errors import SchemaTooNewError
from fleet.store.tables import SCHEMA

_BUSY_TIMEOUT_S = 10
"""How long a connection waits for another's lock: far longer than any transaction of ours."""


class Store:
    """One open database. `write` transactions come one at a time; `read` ones see a snapshot."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(writing=True)
        self._one_writer = threading.Lock()
        self._one_watcher = threading.Lock()
        self._watching: PoolProxiedConnection | None = None

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the database at `path`, made or brought up to date.

        Raises:
            SchemaTooNewError: a newer Skerry wrote it; nothing was changed.
            sqlalchemy.exc.SQLAlchemyError: it is no database, or the disk fails.
        """
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
        )
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        store = cls(engine)
        try:
            store._upgrade()
        except BaseException:
            engine.dispose()
            raise
        path.chmod(0o600)  # it knows who and where every device is
        return store

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run one transaction that may write; it commits unless the block raises."""
        with self._one_writer, self._writing.begin() as connection:
            touched.begin(connection)
            yield connection
            touched.settle(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run one transaction that only reads, on one snapshot."""
        with self._engine.begin() as connection:
            yield connection

    def changes(self) -> int:
        """Return a number that differs when anything was committed since it was last asked.

        By this process or another. One look at one number: cheap enough to ask all the time.
        """
        with self._one_watcher:
            if self._watching is None:
                # The number belongs to a connection, so that this one is kept apart.
                self._watching = self._engine.raw_connection()
            cursor = self._watching.cursor()
            try:
                return int(cursor.execute("PRAGMA data_version").fetchone()[0])
            finally:
                cursor.close()

    def close(self) -> None:
        """Close every connection."""
        with self._one_watcher:
            if self._watching is not None:
                self._watching.close()
                self._watching = None
        self._engine.dispose()

    def _upgrade(self) -> None:
        with self._engine.begin() as connection:
            held = _schema_of(connection)
        if held == SCHEMA:
            return
        # Loaded only when there is something to do: it is half a second of a start.
        from fleet.store.migrations import known, upgrade  # noqa: PLC0415

        if held is not None and held not in known():
            raise SchemaTooNewError(
                f"the store has schema {held}; this Skerry knows up to {SCHEMA}:"
                " run the newer Skerry that wrote it"
            )
        with self.write() as connection:
            upgrade(connection)


def _schema_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101  # for the type checker
    connection.isolation_level = None  # transactions begin where we say so (`_begin`)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    """Take the write lock at once where the transaction will write: it can't then fail halfway."""
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
