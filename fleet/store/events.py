"""What devices told: each event kept once, and how far each ledger is complete.

A device keeps an event until it is acknowledged, and may send it again; what is
acknowledged is the highest number up to which all are committed here. A folded
event stands for all numbers from its `first` to its own.

Most are transitions. A device's latest stay (`fleet.store.summed`), the others are
summed up by kind once they are acknowledged. The rest are health documents that found
no connection; of them a ledger's latest are kept, by number (`HEALTH_KEPT`), and of a
ledger that the device has left, none: they are in the device's history of health.
What is acknowledged was committed: told again, it is known, whether it is still kept or not.
So is a ledger that a device left and comes back to, as after the restore of its disk: its mark
stays, and without it its next number would wait for ever for those before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Select, delete, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import codec, v1
from fleet.store import presence, summed
from fleet.store.keyed import joined
from fleet.store.tables import acked, events

HEALTH_KEPT = 10_000
"""Health of longer ago, in numbers of its ledger, is forgotten once it is acknowledged: a week of
silence at a document a minute is kept, some 8 MB, and a device that is often away fills no disk."""

LEDGERS_KEPT = 64
"""Marks of ledgers of which nothing else is kept. A device that loses its ledger with every boot
has others each time; one that is set back comes to one of its last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvent:
    """An event as it is kept. `late`: the device tried in vain to connect before it told it."""

    event: v1.Event
    late: bool
    received_at: str


def add(
    connection: Connection, batch: Sequence[v1.Event], new: Sequence[v1.Event], *, now: str
) -> Sequence[v1.Acked]:
    """Keep the events that are new, and say what may be acknowledged to each ledger that spoke.

    `new`: those of the batch that are `unheard`.
    """
    if not batch:
        return []
    here = presence.among(connection, (event.device for event in batch))
    rows = [
        {
            "device": event.device,
            "ledger": event.ledger,
            "number": event.number,
            "first": event.number if event.first is None else event.first,
            "kind": event.kind.value,
            "late": _is_late(event, here.get(event.device)),
            "document": codec.encode(event),
            "received_at": now,
        }
        for event in new
    ]
    if rows:
        connection.execute(insert(events), rows)
    spoke = dict.fromkeys((event.fleet, event.device, event.ledger) for event in batch)
    acks = [
        v1.Acked(
            fleet=fleet,
            device=device,
            ledger=ledger,
            number=_advance(connection, device, ledger, now=now),
        )
        for fleet, device, ledger in spoke
    ]
    waited = {(event.device, event.ledger) for event in batch if event.health is not None}
    for each in acks:
        if (each.device, each.ledger) in waited:
            _forget_health(connection, each, here.get(each.device))
    summed.note(connection, rows)
    return acks


def left(connection: Connection, device: str, ledger: str) -> None:
    """Forget the health that a device's other ledgers had told: it numbers in this one now."""
    # Two searches of the index; `!=` would read all that the device has in this one, too.
    for other in (events.c.ledger < ledger, events.c.ledger > ledger):
        connection.execute(
            delete(events).where(
                events.c.device == device, other, events.c.kind == v1.EventKind.HEALTH.value
            )
        )


def unheard(connection: Connection, batch: Sequence[v1.Event]) -> Sequence[v1.Event]:
    """Return the events that were never committed, each once, in the order in which they came."""
    told = {(event.device, event.ledger, event.number): event for event in batch}
    if not told:
        return []
    query = select(acked).where(acked.c.device.in_({device for device, _, _ in told}))
    through = {(row.device, row.ledger): row.number for row in connection.execute(query)}
    open_ones = [key for key in told if key[2] > through.get(key[:2], 0)]
    new = {
        tuple(row)
        for wanted, there in joined(events, ("device", "ledger", "number"), open_ones)
        for row in connection.execute(
            select(wanted).select_from(there).where(events.c.device.is_(None))
        )
    }
    return [told[each] for each in open_ones if each in new]


def of_device(connection: Connection, device: str, *, limit: int) -> Sequence[v1.Event]:
    """Return a device's latest transitions, the newest first."""
    query = (
        select(events.c.document)
        .where(events.c.device == device, events.c.kind != v1.EventKind.HEALTH.value)
        .order_by(events.c.received_at.desc(), events.c.number.desc())
        .limit(limit)
    )
    return [codec.decode(raw, v1.Event) for raw in connection.execute(query).scalars()]


def every_transition(connection: Connection, device: str) -> Sequence[KeptEvent]:
    """Return all transitions of a device that are kept: `fleet.store.summed.KEPT` at most."""
    query = select(events).where(
        events.c.device == device, events.c.kind != v1.EventKind.HEALTH.value
    )
    return [_kept(row) for row in connection.execute(query)]


def after(
    connection: Connection,
    device: str,
    ledger: str,
    number: int,
    *,
    limit: int,
    transitions: bool = False,
) -> Sequence[KeptEvent]:
    """Return the first events of a ledger above a number, in order."""
    query = _of_ledger(device, ledger, transitions=transitions).where(events.c.number > number)
    rows = connection.execute(query.order_by(events.c.number).limit(limit))
    return [_kept(row) for row in rows]


def newest(
    connection: Connection, device: str, ledger: str, *, limit: int, transitions: bool = False
) -> Sequence[KeptEvent]:
    """Return the last events of a ledger, in order."""
    query = _of_ledger(device, ledger, transitions=transitions)
    rows = connection.execute(query.order_by(events.c.number.desc()).limit(limit)).all()
    return [_kept(row) for row in reversed(rows)]


def before(
    connection: Connection, device: str, ledger: str, number: int, *, limit: int
) -> Sequence[KeptEvent]:
    """Return the last transitions of a ledger up to a number, and with it, in order."""
    query = _of_ledger(device, ledger, transitions=True).where(events.c.number <= number)
    rows = connection.execute(query.order_by(events.c.number.desc()).limit(limit)).all()
    return [_kept(row) for row in reversed(rows)]


def marks(connection: Connection, device: str) -> Mapping[str, int]:
    """Return how far each of a device's ledgers is acknowledged."""
    query = select(acked.c.ledger, acked.c.number).where(acked.c.device == device)
    return {row.ledger: row.number for row in connection.execute(query)}


def _of_ledger(device: str, ledger: str, *, transitions: bool) -> Select[*tuple[object, ...]]:
    query = select(events).where(events.c.device == device, events.c.ledger == ledger)
    return query.where(events.c.kind != v1.EventKind.HEALTH.value) if transitions else query


def _is_late(event: v1.Event, here: presence.Presence | None) -> bool:
    """Say whether it waited for more than the next connection.

    What happens between two connections that follow each other at once, as every
    boot does, is told as soon as it can be; health that waited was due before.
    """
    if event.kind is v1.EventKind.HEALTH:
        return True
    return here is not None and here.ledger == event.ledger and event.session + 1 < here.session


def _forget_health(
    connection: Connection, through: v1.Acked, here: presence.Presence | None
) -> None:
    """Forget what is acknowledged of long ago; of a ledger that was left, all that is."""
    left = here is not None and here.ledger not in {None, through.ledger}
    connection.execute(
        delete(events).where(
            events.c.device == through.device,
            events.c.ledger == through.ledger,
            events.c.kind == v1.EventKind.HEALTH.value,
            events.c.number <= through.number - (0 if left else HEALTH_KEPT),
        )
    )


def _forget_ledgers(connection: Connection, device: str) -> None:
    """Forget how far a device's ledgers of long ago were, where nothing of them is kept."""
    there = select(events.c.ledger).where(events.c.device == device)
    bare = acked.c.device == device, acked.c.ledger.not_in(there)
    oldest = (
        select(acked.c.ledger)
        .where(*bare)
        .order_by(acked.c.begun_at.desc(), acked.c.ledger)
        .offset(LEDGERS_KEPT)
    )
    going = connection.execute(oldest).scalars().all()
    if going:
        connection.execute(delete(acked).where(acked.c.device == device, acked.c.ledger.in_(going)))


def _kept(row: Row[*tuple[object, ...]]) -> KeptEvent:
    return KeptEvent(
        event=codec.decode(row.document, v1.Event), late=row.late, received_at=row.received_at
    )


def _advance(connection: Connection, device: str, ledger: str, *, now: str) -> int:
    """Move the ledger's mark over all that follows it without a gap, and return it."""
    mark = (acked.c.device == device) & (acked.c.ledger == ledger)
    before = connection.execute(select(acked.c.number).where(mark)).scalar_one_or_none() or 0
    number = before
    following = select(events.c.first, events.c.number).where(
        events.c.device == device, events.c.ledger == ledger, events.c.number > before
    )
    for first, last in connection.execute(following.order_by(events.c.number)):
        if first > number + 1:
            break
        number = last
    if number != before:
        connection.execute(
            insert(acked)
            .values(device=device, ledger=ledger, number=number, begun_at=now)
            .on_conflict_do_update(
                index_elements=[acked.c.device, acked.c.ledger], set_={"number": number}
            )
        )
        if not before:
            _forget_ledgers(connection, device)
    return number
