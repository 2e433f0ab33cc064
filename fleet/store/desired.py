"""What every target should be: the newest signed document of each, at its place in the order.

A document enters only when it is newer than the one held: a planner that worked
from an old look can't turn a target back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import v1
from fleet.store import changes, touched
from fleet.store.errors import OrderConflictError
from fleet.store.tables import desired


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDesired:
    """A target's newest document: the payload that was signed, and the envelope that is sent."""

    target: str
    order: v1.Order
    payload: bytes
    envelope: bytes
    issued_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A target's newest document, and the position of the change that brought it."""

    position: int
    document: HeldDesired


def held(connection: Connection, target: str) -> HeldDesired | None:
    """Return a target's newest document; None: nothing was ever wanted of it."""
    row = connection.execute(select(desired).where(desired.c.target == target)).one_or_none()
    return None if row is None else _held(row)


def among(connection: Connection, ids: Sequence[str]) -> Sequence[HeldDesired]:
    """Return the newest document of each of these targets."""
    rows = connection.execute(select(desired).where(desired.c.target.in_(ids)))
    return [_held(row) for row in rows]


def put(connection: Connection, document: HeldDesired) -> None:
    """Make this a target's newest document, at the next position.

    Raises:
        OrderConflictError: the one held is as new, or newer; it stays.
    """
    current = held(connection, document.target)
    if current is not None and document.order <= current.order:
        raise OrderConflictError(document.target, current.order, document.order)
    values = {
        "epoch": document.order.epoch,
        "generation": document.order.generation,
        "payload": document.payload,
        "envelope": document.envelope,
        "issued_at": document.issued_at,
        "position": changes.next_position(connection),
    }
    touched.note(connection, touched.Part.DESIRED, document.target)
    connection.execute(
        insert(desired)
        .values(target=document.target, **values)
        .on_conflict_do_update(index_elements=[desired.c.target], set_=values)
    )


def after(connection: Connection, position: int, *, limit: int) -> Sequence[Change]:
    """Return the documents that changed above `position`, in the order of their changes."""
    query = (
        select(desired)
        .where(desired.c.position > position)
        .order_by(desired.c.position)
        .limit(limit)
    )
    return [Change(position=row.position, document=_held(row)) for row in connection.execute(query)]


def _held(row: Row[*tuple[object, ...]]) -> HeldDesired:
    return HeldDesired(
        target=row.target,
        order=v1.Order(epoch=row.epoch, generation=row.generation),
        payload=row.payload,
        envelope=row.envelope,
        issued_at=row.issued_at,
    )
