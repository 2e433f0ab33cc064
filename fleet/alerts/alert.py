"""An alert, its states, and what people say of it. Values and tables only. Pure.

Theory: a cause that is found is *pending* until it has held for its rule's time, then it *fires*.
When a look doesn't find it, it is *clearing*, and ends once it has been gone for long enough; found
before that, it fires on, and nobody is told: that is how flapping stays quiet. One that comes
back within hours of its end is the same alert: it *returns*, and fires again once it has held.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from fleet.alerts.cause import Cause, Key, Scope, Severity
from fleet.alerts.rules import BY_NAME


class AlertState(StrEnum):
    """Where an alert is."""

    PENDING = "pending"
    FIRING = "firing"
    CLEARING = "clearing"
    ENDED = "ended"
    RETURNING = "returning"
    DROPPED = "dropped"


class Happening(StrEnum):
    """What leads from one state to another."""

    HELD = "held"
    MISSED = "missed"
    FOUND = "found"
    WELL = "well"


ALERT: Mapping[AlertState, Mapping[Happening, AlertState]] = {
    AlertState.PENDING: {
        Happening.HELD: AlertState.FIRING,
        Happening.MISSED: AlertState.DROPPED,
    },
    AlertState.FIRING: {Happening.MISSED: AlertState.CLEARING},
    AlertState.CLEARING: {
        Happening.FOUND: AlertState.FIRING,
        Happening.WELL: AlertState.ENDED,
    },
    AlertState.ENDED: {Happening.FOUND: AlertState.RETURNING},
    AlertState.RETURNING: {
        Happening.HELD: AlertState.FIRING,
        Happening.MISSED: AlertState.ENDED,
    },
    AlertState.DROPPED: {},
}

OPEN = frozenset({AlertState.FIRING, AlertState.CLEARING})
"""It is told as open."""

OVER = frozenset({AlertState.ENDED, AlertState.RETURNING})


class News(StrEnum):
    """What receivers are told of an alert."""

    OPENED = "opened"
    GREW = "grew"
    CLEARED = "cleared"
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to an alert."""

    alert: str
    news: News
    at: str
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Somebody is on it."""

    by: str
    reason: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. `turned_at`: when its state began. `told_devices`: how many its last news named.

    `position` is that of its last news among all news, 0 before the first. `returned` counts
    how often it came back; each time it must be gone for longer before it ends.
    """

    id: str
    cause: Cause
    state: AlertState = AlertState.PENDING
    turned_at: datetime
    opened_at: datetime | None = None
    ended_at: datetime | None = None
    news: News | None = None
    news_at: datetime | None = None
    told_devices: int = 0
    returned: int = 0
    position: int = 0
    ack: Ack | None = None
    history: tuple[Event, ...] = field(default=())

    @property
    def key(self) -> Key:
        """Which cause it is about."""
        return self.cause.key

    @property
    def severity(self) -> Severity:
        """How urgent it is; of a rule that is no more, not at all."""
        rule = BY_NAME.get(self.key.rule)
        return Severity.INFO if rule is None else rule.severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Alerts that match all that is set are not told until a time: somebody knows of them."""

    id: str
    rule: str | None
    site: str | None
    bundle: str | None
    until: str
    by: str
    reason: str
    created_at: str

    def matches(self, key: Key) -> bool:
        """Say whether an alert about this cause is meant. `bundle` is `name` or `name:version`."""
        return (
            (self.rule is None or self.rule == key.rule)
            and (self.site is None or (key.scope is Scope.SITE and self.site == key.subject))
            and (self.bundle is None or (key.scope is Scope.BUNDLE and _is(self.bundle, key)))
        )


def silenced_by(alert: Alert, silences: Iterable[Silence], now: str) -> Silence | None:
    """Return the silence that holds for an alert the longest; None: it is told."""
    holding = [each for each in silences if each.until > now and each.matches(alert.key)]
    return max(holding, key=lambda each: each.until, default=None)


def acknowledged(alert: Alert, ack: Ack) -> Alert:
    """Return an alert that somebody is on."""
    return replace(alert, ack=ack)


def _is(bundle: str, key: Key) -> bool:
    name, _, version = bundle.partition(":")
    return key.subject == f"{name} {version}" if version else key.subject.split(" ")[0] == name
