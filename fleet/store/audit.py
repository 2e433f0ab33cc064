"""What was changed: by whom, what, why, from what to what. Only ever added to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, select

from fleet.store.tables import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. The store numbers them in their order."""

    at: str
    actor: str
    action: str
    subject: str
    reason: str = ""
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    number: int | None = field(default=None, compare=False)


def add(connection: Connection, entry: Entry) -> None:
    """Write down a change, in the transaction that makes it."""
    connection.execute(
        insert(audit).values(
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            reason=entry.reason,
            before=None if entry.before is None else dict(entry.before),
            after=None if entry.after is None else dict(entry.after),
        )
    )


def latest(
    connection: Connection,
    *,
    limit: int,
    about: str | None = None,
    action: str | None = None,
    before: int | None = None,
) -> Sequence[Entry]:
    """Return the newest changes first, all or those of one subject or action, before a number."""
    query = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if about is not None:
        query = query.where(audit.c.subject == about)
    if action is not None:
        query = query.where(audit.c.action == action)
    if before is not None:
        query = query.where(audit.c.number < before)
    return [
        Entry(
            at=row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            reason=row.reason,
            before=row.before,
            after=row.after,
            number=row.number,
        )
        for row in connection.execute(query)
    ]
