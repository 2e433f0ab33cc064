"""Policies that the centre keeps under a name: the document that was given, and when.

A rollout takes a copy with it when it starts, so that one of these may be changed or removed
at any time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from fleet.store.errors import NotFoundError, TooManyError
from fleet.store.tables import policies

LIMIT = 200
"""So many are kept: they are listed whole, and offered in a list to choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPolicy:
    """A policy as it is kept."""

    name: str
    document: Mapping[str, Any]
    written_at: str


def find(connection: Connection, name: str) -> KeptPolicy | None:
    """Return the policy of this name; None: there is none."""
    row = connection.execute(select(policies).where(policies.c.name == name)).one_or_none()
    return None if row is None else _policy(row)


def named(connection: Connection, name: str) -> KeptPolicy:
    """Return the policy of this name.

    Raises:
        NotFoundError: there is none.
    """
    found = find(connection, name)
    if found is None:
        raise NotFoundError("policy", name)
    return found


def every(connection: Connection) -> Sequence[KeptPolicy]:
    """Return all policies by name."""
    return [_policy(row) for row in connection.execute(select(policies).order_by(policies.c.name))]


def put(connection: Connection, policy: KeptPolicy) -> None:
    """Keep a policy, instead of the one of this name if there is one.

    Raises:
        TooManyError: it would be one more than are kept.
    """
    connection.execute(delete(policies).where(policies.c.name == policy.name))
    if connection.execute(select(func.count()).select_from(policies)).scalar_one() >= LIMIT:
        raise TooManyError(
            f"{LIMIT} policies are kept already", "remove one: skerry policy rm NAME"
        )
    connection.execute(
        insert(policies).values(
            name=policy.name, document=dict(policy.document), written_at=policy.written_at
        )
    )


def remove(connection: Connection, name: str) -> None:
    """Remove a policy. Idempotent."""
    connection.execute(delete(policies).where(policies.c.name == name))


def _policy(row: Row[*tuple[Any, ...]]) -> KeptPolicy:
    return KeptPolicy(name=row.name, document=row.document, written_at=row.written_at)
