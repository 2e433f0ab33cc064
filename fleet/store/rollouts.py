"""Rollouts: the plan each was started from, and how far it is, both as JSON."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, func, insert, select, update

from fleet.store.errors import NotFoundError
from fleet.store.tables import rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRollout:
    """One rollout as it is kept. `is_open`: a later look may still change it."""

    id: str
    plan: str
    plan_digest: str
    progress: str
    state: str
    is_open: bool
    created_at: str


def add(connection: Connection, rollout: KeptRollout) -> None:
    """Keep a new rollout, as the newest."""
    last = select(func.coalesce(func.max(rollouts.c.number), 0)).scalar_subquery()
    connection.execute(
        insert(rollouts).values(
            id=rollout.id,
            plan=rollout.plan,
            plan_digest=rollout.plan_digest,
            progress=rollout.progress,
            state=rollout.state,
            is_open=rollout.is_open,
            created_at=rollout.created_at,
            number=last + 1,
        )
    )


def move(connection: Connection, rollout: str, *, state: str, progress: str, is_open: bool) -> None:
    """Note how far a rollout is now."""
    connection.execute(
        update(rollouts)
        .where(rollouts.c.id == rollout)
        .values(state=state, progress=progress, is_open=is_open)
    )


def opened(connection: Connection) -> Sequence[str]:
    """Return the ids of rollouts that a later look may still change, the oldest first."""
    query = select(rollouts.c.id).where(rollouts.c.is_open).order_by(rollouts.c.number)
    return list(connection.execute(query).scalars())


def named(connection: Connection, rollout: str) -> KeptRollout:
    """Return a rollout.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
    if row is None:
        raise NotFoundError("rollout", rollout)
    return _rollout(row)


def every(connection: Connection) -> Sequence[KeptRollout]:
    """Return all rollouts, the newest first."""
    query = select(rollouts).order_by(rollouts.c.number.desc())
    return [_rollout(row) for row in connection.execute(query)]


def open_with(connection: Connection, device: str, *, limit: int) -> Sequence[tuple[str, int]]:
    """Return the newest open rollouts whose plan knows a device, as a target or as left out.

    Each with the length of its progress: what it takes to read it.
    """
    query = (
        select(rollouts.c.id, func.length(rollouts.c.progress))
        .where(rollouts.c.is_open, rollouts.c.plan.contains(f'"{device}"', autoescape=True))
        .order_by(rollouts.c.number.desc())
        .limit(limit)
    )
    return [(name, int(length)) for name, length in connection.execute(query)]


def recent(
    connection: Connection, limit: int, also: Collection[str] = ()
) -> Sequence[tuple[str, str]]:
    """Return id and progress of the newest rollouts, of all that are open, and of these.

    The newest first.
    """
    newest = select(rollouts.c.id).order_by(rollouts.c.number.desc()).limit(limit)
    query = (
        select(rollouts.c.id, rollouts.c.progress)
        .where(rollouts.c.is_open | rollouts.c.id.in_(newest) | rollouts.c.id.in_(also))
        .order_by(rollouts.c.number.desc())
    )
    return [(row.id, row.progress) for row in connection.execute(query)]


def _rollout(row: Row[*tuple[object, ...]]) -> KeptRollout:
    return KeptRollout(
        id=row.id,
        plan=row.plan,
        plan_digest=row.plan_digest,
        progress=row.progress,
        state=row.state,
        is_open=row.is_open,
        created_at=row.created_at,
    )
