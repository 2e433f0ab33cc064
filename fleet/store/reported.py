"""What every device last said it is. The newest word counts; an older session's is ignored."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import codec, v1
from fleet.store import touched
from fleet.store.tables import reported


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldReport:
    """A device's last report and when it came."""

    document: v1.Reported
    received_at: str


def put(connection: Connection, document: v1.Reported, *, now: str) -> None:
    """Keep a report."""
    observed = document.observed
    values = {
        "session": document.session,
        "epoch": None if observed is None else observed.epoch,
        "generation": None if observed is None else observed.generation,
        "document": codec.encode(document),
        "received_at": now,
    }
    touched.note(connection, touched.Part.REPORTED, document.device)
    connection.execute(
        insert(reported)
        .values(device=document.device, **values)
        .on_conflict_do_update(index_elements=[reported.c.device], set_=values)
    )


def held(connection: Connection, device: str) -> HeldReport | None:
    """Return a device's last report."""
    row = connection.execute(select(reported).where(reported.c.device == device)).one_or_none()
    return None if row is None else _held(row)


def among(connection: Connection, ids: Sequence[str]) -> Sequence[HeldReport]:
    """Return the last report of each of these devices."""
    rows = connection.execute(select(reported).where(reported.c.device.in_(ids)))
    return [_held(row) for row in rows]


def _held(row: Row[*tuple[object, ...]]) -> HeldReport:
    return HeldReport(document=codec.decode(row.document, v1.Reported), received_at=row.received_at)
