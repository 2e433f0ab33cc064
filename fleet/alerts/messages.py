"""Messages about alerts, as each kind of receiver reads them. Pure.

A message says the same however often it is sent: its id comes of what it says, so that a receiver
can tell one that it has taken already.
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleet.alerts.alert import OVER, Alert, AlertState
from fleet.alerts.cause import Cause, Key, Scope
from fleet.alerts.words import Said, said
from fleet.clock import written

SCHEMA = "skerry.alert-news/1"
TEST_RULE = "SkerryTest"
_LABELS = {Scope.SITE: "site", Scope.BUNDLE: "bundle", Scope.ROLLOUT: "rollout"}
_STAYS = timedelta(minutes=5)
"""What is not sent again for so long is over to an Alertmanager."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: its id, and what it says as JSON and as text."""

    id: str
    subject: str
    text: str
    document: bytes


def message(alert: Alert, *, fleet: str, receiver: str) -> Message:
    """Return the last news of an alert for one receiver."""
    name = f"{receiver}/{alert.id}/{alert.position}"
    identity = hashlib.sha256(name.encode()).hexdigest()[:32]
    words = said(alert.cause)
    news = "test" if alert.news is None else str(alert.news)
    document = {
        "schema": SCHEMA,
        "id": identity,
        "fleet": fleet,
        "news": news,
        "at": _written(alert.news_at),
        "alert": _alert(alert, words),
    }
    lines = [
        words.title,
        words.why,
        "",
        f"since     {alert.cause.since}",
        f"opened    {_written(alert.opened_at) or '-'}",
        *([f"ended     {_written(alert.ended_at)}"] if alert.ended_at else []),
        *([f"devices   {_who(alert.cause)}"] if alert.cause.names else []),
        "",
        words.next_step,
        f"    {words.command}",
        f"    skerry alert show {alert.id}",
        "",
    ]
    return Message(
        id=identity,
        subject=_one_line(f"[{fleet}] {alert.severity} {news}: {words.title}"),
        text="\n".join(map(_plain, lines)),
        document=json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(),
    )


def probe(now: datetime, name: str) -> Alert:
    """Return what is sent to try a receiver: it is about nothing, and no other has its `name`."""
    cause = Cause(key=Key(TEST_RULE, Scope.CENTRE, "a test"), since=written(now))
    return Alert(id=name, cause=cause, state=AlertState.FIRING, turned_at=now, opened_at=now)


def signature(secret: bytes, timestamp: str, delivery: str, body: bytes) -> str:
    """Return what proves to a webhook that a message is ours, and is not an old one again."""
    signed = b".".join((timestamp.encode(), delivery.encode(), body))
    return f"v1={hmac.digest(secret, signed, 'sha256').hex()}"


def for_alertmanager(alerts: Sequence[Alert], *, fleet: str, now: datetime) -> bytes:
    """Return alerts as Alertmanager's API v2 takes them."""
    return json.dumps([_posted(alert, fleet, now) for alert in alerts]).encode()


def _posted(alert: Alert, fleet: str, now: datetime) -> dict[str, Any]:
    words, key = said(alert.cause), alert.key
    place = {_LABELS[key.scope]: key.subject} if key.scope in _LABELS and key.subject else {}
    begins = alert.opened_at or alert.turned_at
    # Not before it began, whatever a clock did in between: that would be refused.
    ends = max(alert.ended_at, begins) if alert.state in OVER and alert.ended_at else now + _STAYS
    return {
        "labels": {
            "alertname": key.rule,
            "severity": str(alert.severity),
            "fleet": fleet,
            "scope": str(key.scope),
            **place,
        },
        "annotations": {
            "summary": words.title,
            "description": " ".join(filter(None, [words.why, words.next_step])),
            "command": words.command,
            "alert": alert.id,
        },
        "startsAt": written(begins),
        "endsAt": written(ends),
    }


def _alert(alert: Alert, words: Said) -> dict[str, Any]:
    cause = alert.cause
    return {
        "id": alert.id,
        "rule": cause.key.rule,
        "severity": str(alert.severity),
        "scope": str(cause.key.scope),
        "subject": cause.key.subject,
        "open": alert.state not in OVER,
        "title": words.title,
        "why": words.why,
        "reason": cause.reason,
        "next": words.next_step,
        "command": words.command,
        "devices": cause.devices,
        "of": cause.of,
        "names": list(cause.names),
        "since": cause.since,
        "opened_at": _written(alert.opened_at),
        "ended_at": _written(alert.ended_at),
        "acknowledged_by": None if alert.ack is None else alert.ack.by,
    }


def _who(cause: Cause) -> str:
    more = cause.devices - len(cause.names)
    return ", ".join(cause.names) + (f" and {more} more" if more > 0 else "")


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else written(moment)


def _one_line(text: str) -> str:
    """Return a text that fits a header."""
    return " ".join(_plain(text).split())[:200]


def _plain(text: str) -> str:
    """Return a text without what isn't seen: names come from devices, and end no line."""
    return "".join(each if each.isprintable() else " " for each in text)
