"""Alerts, and the causes of one look, become alerts and what is to be told. Pure.

Level-triggered: what is found says what should be, not what has changed. Folding the same look
once more yields nothing (a property test). A rule that this look could not judge is left as it is.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleet.alerts.alert import ALERT, OPEN, Alert, AlertState, Event, Happening, News
from fleet.alerts.cause import Cause, Key, Scope
from fleet.alerts.rules import BY_NAME, Causes
from fleet.clock import written

RETURNS_S = 6 * 3600.0
"""Until so long after its end, an alert that comes back is the same one."""

CLEARS_MOST_S = 3600.0
GREW = 2
"""So many times the devices that were told of are news."""

GREW_AGAIN_S = 60.0
WIDER: Mapping[str, str] = {"SkerryDevicesAway": "SkerrySiteCut"}
"""What a cause of one rule becomes when it gets larger; every rule's may become the fleet's."""

HISTORY_KEPT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """All alerts after a look, and what happened to them."""

    alerts: tuple[Alert, ...]
    events: tuple[Event, ...]


def fold(alerts: Iterable[Alert], look: Causes, now: datetime, *, position: int = 0) -> Folded:
    """Return what one look makes of the alerts there are.

    Args:
        alerts: all that are not over, and those that ended lately.
        look: the causes that are there now.
        now: the time; one that goes backwards only delays.
        position: that of the latest news of any alert.
    """
    before = {alert.id: alert for alert in alerts}
    of_cause: dict[Key, str] = {}
    for alert in sorted(before.values(), key=lambda each: each.turned_at):
        if _counts(alert, now):
            of_cause[alert.key] = alert.id
    found = {cause.key: cause for cause in look.found}
    after = dict(before)
    for key, cause in found.items():
        if key not in of_cause:
            fresh = Alert(id=_new_id(key, now, before), cause=cause, turned_at=now)
            of_cause[key] = fresh.id
            after[fresh.id] = fresh
    events: list[Event] = []
    for key, name in of_cause.items():
        if key.rule in look.blind:
            continue
        hidden = key in look.unseen or _covered(key, found)
        if key not in found and hidden and after[name].state in OPEN:
            continue  # not gone: nobody knows, or it is part of something larger that is told
        moved, happened = _follow(after[name], found.get(key), now)
        for event in happened:
            position += 1
            moved = replace(
                moved,
                position=position,
                news=event.news,
                news_at=now,
                told_devices=event.devices,
                history=(*moved.history, event)[-HISTORY_KEPT:],
            )
            events.append(event)
        after[name] = moved
    kept = tuple(alert for alert in after.values() if alert.state is not AlertState.DROPPED)
    return Folded(alerts=kept, events=tuple(events))


def _covered(key: Key, found: Container[Key]) -> bool:
    """Say whether a wider cause that is found stands for this one, too."""
    wider = (
        Key(rule, *place)
        for rule in (key.rule, WIDER.get(key.rule, key.rule))
        for place in ((Scope.FLEET, ""), (key.scope, key.subject))
    )
    return any(each != key and each in found for each in wider)


def _counts(alert: Alert, now: datetime) -> bool:
    """Say whether a cause that is found now would be this alert's."""
    if alert.state is not AlertState.ENDED:
        return True
    return alert.ended_at is not None and now - alert.ended_at < timedelta(seconds=RETURNS_S)


def _follow(alert: Alert, cause: Cause | None, now: datetime) -> tuple[Alert, Sequence[Event]]:
    """Let happen to an alert what this look says, until nothing more does."""
    if cause is not None:
        since = min(filter(None, (alert.cause.since, cause.since)), default="")
        if alert.state is AlertState.ENDED:
            since = cause.since
        alert = replace(alert, cause=replace(cause, since=since))
    events: list[Event] = []
    while (happening := _happens(alert, cause, now)) is not None:
        was, alert = alert, replace(alert, state=ALERT[alert.state][happening], turned_at=now)
        alert, news = _turned(alert, was.state, now)
        if news is not None:
            events.append(_event(alert, news, now))
    grown = cause is not None and alert.state is AlertState.FIRING and not events
    if grown and _has_grown(alert, now):
        events.append(_event(alert, News.GREW, now))
    return alert, events


def _happens(alert: Alert, cause: Cause | None, now: datetime) -> Happening | None:
    stayed_s = (now - alert.turned_at).total_seconds()
    rule = BY_NAME.get(alert.key.rule)
    holds_s = 0.0 if rule is None else rule.holds_s
    if cause is not None:
        held = Happening.HELD if stayed_s >= holds_s else None
        happening = Happening.FOUND if Happening.FOUND in ALERT[alert.state] else held
    elif alert.state is AlertState.CLEARING:
        happening = Happening.WELL if stayed_s >= _clears_s(alert) else None
    else:
        happening = Happening.MISSED
    return happening if happening in ALERT[alert.state] else None


def _clears_s(alert: Alert) -> float:
    rule = BY_NAME.get(alert.key.rule)
    clears_s = 0.0 if rule is None else rule.clears_s
    return min(clears_s * 2.0 ** min(alert.returned, 16), max(CLEARS_MOST_S, clears_s))


def _turned(alert: Alert, was: AlertState, now: datetime) -> tuple[Alert, News | None]:
    """Return an alert that has just come into its state, and what is to be told of that."""
    if alert.state is AlertState.FIRING and was is AlertState.PENDING:
        return replace(alert, opened_at=now), News.OPENED
    if alert.state is AlertState.FIRING and was is AlertState.RETURNING:
        back = replace(alert, ended_at=None, ack=None, returned=alert.returned + 1)
        return back, News.REOPENED
    if alert.state is AlertState.ENDED and was is AlertState.CLEARING:
        return replace(alert, ended_at=now), News.CLEARED
    return alert, None


def _has_grown(alert: Alert, now: datetime) -> bool:
    grown = alert.cause.devices >= GREW * alert.told_devices > 0
    told = alert.news_at or now
    return grown and (now - told).total_seconds() >= GREW_AGAIN_S


def _event(alert: Alert, news: News, now: datetime) -> Event:
    return Event(alert=alert.id, news=news, at=written(now), devices=alert.cause.devices)


def _new_id(key: Key, now: datetime, taken: Iterable[str]) -> str:
    """Return an id that the same cause gets again if this look has to be folded once more."""
    text = f"{key.rule} {key.scope} {key.subject} {now.isoformat()}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    length = 8
    while f"a-{digest[:length]}" in taken:
        length += 1
    return f"a-{digest[:length]}"
