"""Rollouts: the plan each was started from, as canonical JSON, and where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select, update

from fleet.store.errors import NotFoundError
from fleet.store.tables import rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRollout:
    """One rollout as it is kept."""

    id: str
    plan: str
    plan_digest: str
    state: str
    created_at: str


def add(connection: Connection, rollout: KeptRollout) -> None:
    """Keep a new rollout."""
    connection.execute(
        insert(rollouts).values(
            id=rollout.id,
            plan=rollout.plan,
            plan_digest=rollout.plan_digest,
            state=rollout.state,
            created_at=rollout.created_at,
        )
    )


def move(connection: Connection, rollout: str, state: str) -> None:
    """Note where a rollout stands now."""
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(state=state))


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
    query = select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id)
    return [_rollout(row) for row in connection.execute(query)]


def _rollout(row: Row[*tuple[object, ...]]) -> KeptRollout:
    return KeptRollout(
        id=row.id,
        plan=row.plan,
        plan_digest=row.plan_digest,
        state=row.state,
        created_at=row.created_at,
    )
