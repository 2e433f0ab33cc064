"""Transitions devices told: each kept once, and how far each ledger is complete.

A device keeps an event until it is acknowledged, and may send it again; what is
acknowledged is the highest number up to which all are committed here. A folded
event stands for all numbers from its `first` to its own.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import codec, v1
from fleet.store.tables import acked, events


def add(connection: Connection, batch: Sequence[v1.Event], *, now: str) -> Sequence[v1.Acked]:
    """Keep events, each once, and say what may be acknowledged to each ledger that spoke."""
    if not batch:
        return []
    connection.execute(
        insert(events).on_conflict_do_nothing(),
        [
            {
                "device": event.device,
                "ledger": event.ledger,
                "number": event.number,
                "first": event.number if event.first is None else event.first,
                "document": codec.encode(event),
                "received_at": now,
            }
            for event in batch
        ],
    )
    spoke = dict.fromkeys((event.fleet, event.device, event.ledger) for event in batch)
    return [
        v1.Acked(
            fleet=fleet,
            device=device,
            ledger=ledger,
            number=_advance(connection, device, ledger),
        )
        for fleet, device, ledger in spoke
    ]


def of_device(connection: Connection, device: str, *, limit: int) -> Sequence[v1.Event]:
    """Return a device's latest events, the newest first."""
    query = (
        select(events.c.document)
        .where(events.c.device == device)
        .order_by(events.c.received_at.desc(), events.c.number.desc())
        .limit(limit)
    )
    return [codec.decode(raw, v1.Event) for raw in connection.execute(query).scalars()]


def _advance(connection: Connection, device: str, ledger: str) -> int:
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
            .values(device=device, ledger=ledger, number=number)
            .on_conflict_do_update(
                index_elements=[acked.c.device, acked.c.ledger], set_={"number": number}
            )
        )
    return number
