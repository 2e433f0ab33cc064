"""When devices were away: each span from a death that counted to the birth that ended it.

A device's latest `KEPT` spans are kept; what is older is summed up in its row 0, so that none
vanishes uncounted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from fleet.store.tables import away

KEPT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """A span, or so many summed up. `until` None: it is away still. By the centre's clock."""

    since: str
    until: str | None
    spans: int = 1
    away_s: int = 0


def begins(connection: Connection, device: str, *, now: str) -> None:
    """Note that a device is gone. One that was away already stays so since then."""
    mine = away.c.device == device
    still = select(away.c.number).where(mine, away.c.until.is_(None))
    if connection.execute(still).first() is not None:
        return
    last = connection.execute(select(func.max(away.c.number)).where(mine)).scalar_one() or 0
    connection.execute(
        insert(away).values(
            device=device, number=last + 1, since=now, until=None, spans=1, away_s=0
        )
    )
    if last + 1 > KEPT:
        _sum_up(connection, device, last + 1 - KEPT)


def ends(connection: Connection, device: str, *, now: str) -> None:
    """Note that a device is here."""
    open_span = (away.c.device == device) & away.c.until.is_(None)
    since = connection.execute(select(away.c.since).where(open_span)).scalar_one_or_none()
    if since is not None:
        connection.execute(
            update(away).where(open_span).values(until=now, away_s=_length_s(since, now))
        )


def of_device(connection: Connection, device: str) -> Sequence[Away]:
    """Return a device's spans, the first one first; what was summed up is before all."""
    rows = connection.execute(select(away).where(away.c.device == device).order_by(away.c.number))
    return [
        Away(since=row.since, until=row.until, spans=row.spans, away_s=row.away_s) for row in rows
    ]


def _sum_up(connection: Connection, device: str, number: int) -> None:
    """Add the oldest span to the row of those that were."""
    mine = away.c.device == device
    oldest = connection.execute(select(away).where(mine, away.c.number == number)).one()
    put = insert(away).values(
        device=device,
        number=0,
        since=oldest.since,
        until=oldest.until,
        spans=oldest.spans,
        away_s=oldest.away_s,
    )
    connection.execute(
        put.on_conflict_do_update(
            index_elements=[away.c.device, away.c.number],
            set_={
                "until": put.excluded.until,
                "spans": away.c.spans + put.excluded.spans,
                "away_s": away.c.away_s + put.excluded.away_s,
            },
        )
    )
    connection.execute(delete(away).where(mine, away.c.number == number))


def _length_s(since: str, until: str) -> int:
    span = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return max(0, int(span.total_seconds()))
