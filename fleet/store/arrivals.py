"""What devices said, committed in the order it came, in the caller's transaction.

Idempotent: after a broken connection the same documents come again, leave the
store as it is and get the same acknowledgements. Documents about a device that
never joined here are passed over: nobody waits for them.
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from agent.wire import v1
from fleet.ports import FromDevice
from fleet.store import (
    away,
    commands,
    devices,
    drift,
    events,
    health,
    health_days,
    presence,
    reported,
)


def commit(connection: Connection, batch: Sequence[FromDevice], *, now: str) -> Sequence[v1.Acked]:
    """Keep a batch and say what may be acknowledged."""
    known = devices.known(connection, list({document.device for document in batch}))
    told: list[v1.Event] = []
    feels: list[v1.Health] = []
    for document in batch:
        if document.device not in known:
            continue
        match document:
            case v1.Birth() | v1.Death():
                _keep_presence(connection, document, now=now)
            case v1.Reported():
                _keep_report(connection, document, now=now)
            case v1.Health():
                feels.append(document)
                drift.put(connection, document, now=now)
            case v1.Event():
                told.append(document)
            case v1.Result():
                commands.end(connection, document, now=now)
            case v1.SiteReported():
                pass  # nothing here asks for it yet
    health.put(connection, feels, now=now)
    new = events.unheard(connection, told)
    health_days.add(connection, feels, new, now=now)
    health.put_late(connection, told, now=now)
    drift.put_late(connection, told, now=now)
    return events.add(connection, told, new, now=now)


def _keep_presence(connection: Connection, document: v1.Birth | v1.Death, *, now: str) -> None:
    if isinstance(document, v1.Birth):
        if presence.born(connection, document, now=now):
            away.ends(connection, document.device, now=now)
    elif presence.died(connection, document, now=now):
        away.begins(connection, document.device, now=now)


def _keep_report(connection: Connection, document: v1.Reported, *, now: str) -> None:
    """Keep a report, unless it is of an older session than the one that is here."""
    here = presence.held(connection, document.device)
    if here is None or document.session >= here.session:
        reported.put(connection, document, now=now)
