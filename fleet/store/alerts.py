"""Alerts, what people said of them, and which news each receiver has taken.

What is over is kept within a bound; so are silences that have ended. An alert's document is a
value of `fleet.alerts`; what it is looked for by stands beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, and_, delete, func, insert, literal, or_, select, update

from fleet.alerts.alert import OPEN, Alert, AlertState, Silence
from fleet.alerts.cause import Scope
from fleet.alerts.fold import RETURNS_S
from fleet.clock import written
from fleet.store.errors import NotFoundError
from fleet.store.tables import alerts, receivers, silences, told

KEPT = 1000
"""Alerts that are over, the newest."""

SILENCES_KEPT = 256
"""Silences that have ended, the newest."""

SILENCES_LIMIT = 1000
"""Silences that hold: more would be a way to switch alerts off."""

CLAIM_S = 30.0
"""For so long one centre may tell a receiver of an alert: thrice what a message may take."""

_ALERT = TypeAdapter(Alert)
_AT_ONCE = 500


def live(connection: Connection, now: datetime) -> Sequence[Alert]:
    """Return the alerts that the next look may change: open, pending, or over a short while."""
    lately = written(now - timedelta(seconds=RETURNS_S))
    query = select(alerts.c.document).where(
        or_(alerts.c.state != AlertState.ENDED, alerts.c.ended_at >= lately)
    )
    return [_ALERT.validate_json(text) for text in connection.execute(query).scalars()]


def head(connection: Connection) -> int:
    """Return the position of the latest news."""
    query = select(func.coalesce(func.max(alerts.c.position), 0))
    return int(connection.execute(query).scalar_one())


def keep(connection: Connection, before: Iterable[Alert], after: Iterable[Alert]) -> None:
    """Write what a look has changed, and forget the oldest of what is over."""
    was, now = {each.id: each for each in before}, {each.id: each for each in after}
    gone = [name for name in was if name not in now]
    moved = [alert for name, alert in now.items() if was.get(name) != alert]
    _forget(connection, gone)
    for alert in moved:
        put(connection, alert)
    if any(alert.state is AlertState.ENDED for alert in moved):
        over = (
            select(alerts.c.id)
            .where(alerts.c.state == AlertState.ENDED)
            .order_by(alerts.c.position.desc())
            .offset(KEPT)
        )
        _forget(connection, list(connection.execute(over).scalars()))


def put(connection: Connection, alert: Alert) -> None:
    """Keep an alert as it is now."""
    connection.execute(delete(alerts).where(alerts.c.id == alert.id))
    connection.execute(
        insert(alerts).values(
            id=alert.id,
            rule=alert.key.rule,
            scope=alert.key.scope.value,
            subject=alert.key.subject,
            severity=alert.severity.value,
            state=alert.state.value,
            ended_at=None if alert.ended_at is None else written(alert.ended_at),
            position=alert.position,
            document=_ALERT.dump_json(alert).decode(),
        )
    )


def named(connection: Connection, name: str) -> Alert:
    """Return an alert that was told of.

    Raises:
        NotFoundError: there is none with this id, or it is forgotten.
    """
    query = select(alerts.c.document).where(alerts.c.id == name, alerts.c.position > 0)
    text = connection.execute(query).scalar_one_or_none()
    if text is None:
        raise NotFoundError("alert", name)
    return _ALERT.validate_json(text)


def page(  # one filter each
    connection: Connection,
    *,
    below: int | None,
    limit: int,
    is_open: bool | None = None,
    rule: str | None = None,
    severity: str | None = None,
    site: str | None = None,
    bundle: str | None = None,
) -> Sequence[Alert]:
    """Return alerts that were told of, the latest news first, below a position."""
    query = select(alerts.c.document).where(alerts.c.position > 0)
    if below is not None:
        query = query.where(alerts.c.position < below)
    if is_open is not None:
        opened = alerts.c.state.in_([state.value for state in OPEN])
        query = query.where(opened if is_open else ~opened)
    if rule is not None:
        query = query.where(alerts.c.rule == rule)
    if severity is not None:
        query = query.where(alerts.c.severity == severity)
    if site is not None:
        query = query.where(alerts.c.scope == Scope.SITE.value, alerts.c.subject == site)
    if bundle is not None:
        subject = bundle.replace(":", " ", 1)
        query = query.where(alerts.c.scope == Scope.BUNDLE.value)
        if " " in subject:
            query = query.where(alerts.c.subject == subject)
        else:
            query = query.where(alerts.c.subject.startswith(f"{subject} ", autoescape=True))
    query = query.order_by(alerts.c.position.desc()).limit(limit)
    return [_ALERT.validate_json(text) for text in connection.execute(query).scalars()]


def open_by_rule(connection: Connection) -> Mapping[str, int]:
    """Return how many alerts of each rule are open."""
    opened = alerts.c.state.in_([state.value for state in OPEN])
    query = select(alerts.c.rule, func.count()).where(opened).group_by(alerts.c.rule)
    return {rule: int(number) for rule, number in connection.execute(query)}


def silence(connection: Connection, wanted: Silence) -> None:
    """Keep a silence; forget the oldest of those that have ended."""
    connection.execute(
        insert(silences).values(
            id=wanted.id,
            rule=wanted.rule,
            site=wanted.site,
            bundle=wanted.bundle,
            until=wanted.until,
            actor=wanted.by,
            reason=wanted.reason,
            created_at=wanted.created_at,
        )
    )
    ended = (
        select(silences.c.id)
        .where(silences.c.until <= wanted.created_at)
        .order_by(silences.c.until.desc())
        .offset(SILENCES_KEPT)
    )
    gone = list(connection.execute(ended).scalars())
    for start in range(0, len(gone), _AT_ONCE):
        some = gone[start : start + _AT_ONCE]
        connection.execute(delete(silences).where(silences.c.id.in_(some)))


def silences_after(connection: Connection, now: str) -> Sequence[Silence]:
    """Return the silences that hold, or held after this time."""
    query = select(silences).where(silences.c.until > now).order_by(silences.c.until, silences.c.id)
    return [_silence(row) for row in connection.execute(query)]


def end_silence(connection: Connection, name: str, *, now: str) -> Silence:
    """Let a silence end now; return it as it was.

    Raises:
        NotFoundError: there is none with this id, or it has ended.
    """
    query = select(silences).where(silences.c.id == name, silences.c.until > now)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError("silence", name)
    connection.execute(update(silences).where(silences.c.id == name).values(until=now))
    return _silence(row)


def since(connection: Connection, receiver: str) -> int | None:
    """Return the position of the last news before a receiver was known; None: it is new."""
    query = select(receivers.c.since).where(receivers.c.name == receiver)
    return connection.execute(query).scalar_one_or_none()


def meet(connection: Connection, receiver: str) -> int:
    """Remember a new receiver, and since when: what was over before it is not told to it."""
    known = since(connection, receiver)
    if known is not None:
        return known
    position = head(connection)
    connection.execute(insert(receivers).values(name=receiver, since=position))
    return position


def taken(connection: Connection, receiver: str) -> Mapping[str, int]:
    """Return which news of each alert a receiver has taken."""
    rows = connection.execute(select(told).where(told.c.receiver == receiver, told.c.position > 0))
    return {row.alert: row.position for row in rows}


def claim(
    connection: Connection, receiver: str, alert: Alert, *, holder: str, now: datetime
) -> bool:
    """Take it upon a holder to tell a receiver of an alert's news; False: another one does.

    Or has; or the alert is forgotten. A claim ends by itself after a while, as its holder may
    have; one that ends later than any can was made by a clock that has been set back.
    """
    row = and_(told.c.receiver == receiver, told.c.alert == alert.id)
    if connection.execute(select(told.c.alert).where(row)).first() is None:
        known = select(literal(receiver), alerts.c.id, literal(0)).where(alerts.c.id == alert.id)
        connection.execute(insert(told).from_select(["receiver", "alert", "position"], known))
    until = written(now + timedelta(seconds=CLAIM_S))
    free = or_(
        told.c.holder.is_(None),
        told.c.holder == holder,
        told.c.until <= written(now),
        told.c.until > until,
    )
    query = update(told).where(row, told.c.position < alert.position, free)
    return bool(connection.execute(query.values(holder=holder, until=until)).rowcount)


def settle(
    connection: Connection, receiver: str, alert: Alert, *, holder: str, was_taken: bool
) -> None:
    """End a claim: a receiver has taken the news of an alert, or not."""
    mine = and_(told.c.receiver == receiver, told.c.alert == alert.id)
    if was_taken:
        newer = update(told).where(mine, told.c.position < alert.position)
        connection.execute(newer.values(position=alert.position))
    freed = update(told).where(mine, told.c.holder == holder).values(holder=None, until=None)
    connection.execute(freed)


def every_told(connection: Connection) -> Sequence[Alert]:
    """Return the alerts of which there is something to tell, the oldest news first."""
    query = select(alerts.c.document).where(alerts.c.position > 0).order_by(alerts.c.position)
    return [_ALERT.validate_json(text) for text in connection.execute(query).scalars()]


def _forget(connection: Connection, names: Sequence[str]) -> None:
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        connection.execute(delete(told).where(told.c.alert.in_(some)))
        connection.execute(delete(alerts).where(alerts.c.id.in_(some)))


def _silence(row: Row[*tuple[object, ...]]) -> Silence:
    return Silence(
        id=row.id,
        rule=row.rule,
        site=row.site,
        bundle=row.bundle,
        until=row.until,
        by=row.actor,
        reason=row.reason,
        created_at=row.created_at,
    )
