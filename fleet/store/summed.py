"""Transitions within a bound: of each device the latest are kept, the others are counted.

What is summed up is counted by kind, with when the first and the last came. Only what is
acknowledged is: before that, its number is needed to say up to where nothing is missing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Row, and_, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import codec, v1
from fleet.store.tables import acked, events, events_kept, events_summed

KEPT = 1000
"""Transitions of one device: at a rollout a week, each with ten of them, two years."""

KEPT_BYTES = 512 * 1024
"""Of them all. A transition has some 400 bytes; one that has 8 KB, as it may, is a rare one."""

_ROOM = 0.9
"""To so much of both is summed up at once: not again with the next event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """Transitions of one kind that are no longer kept, and when they came."""

    kind: str
    count: int
    first_at: str
    last_at: str


def note(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Count rows that were added to the events, and sum up where a device has too many."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for row in rows:
        if row["kind"] != v1.EventKind.HEALTH.value:
            counts[str(row["device"])] += 1
            sizes[str(row["device"])] += len(bytes(row["document"]))  # type: ignore[call-overload]  # a row's values are objects
    if not counts:
        return
    put = insert(events_kept)
    connection.execute(
        put.on_conflict_do_update(
            index_elements=[events_kept.c.device],
            set_={
                "transitions": events_kept.c.transitions + put.excluded.transitions,
                "size": events_kept.c.size + put.excluded.size,
            },
        ),
        [
            {"device": device, "transitions": counts[device], "size": sizes[device]}
            for device in counts
        ],
    )
    full = select(events_kept).where(
        events_kept.c.device.in_(list(counts)),
        (events_kept.c.transitions > KEPT) | (events_kept.c.size > KEPT_BYTES),
    )
    for held in connection.execute(full).all():
        _sum_up(connection, held)


def of_device(connection: Connection, device: str) -> Sequence[Summed]:
    """Return what is no longer kept of a device's transitions."""
    rows = connection.execute(
        select(events_summed)
        .where(events_summed.c.device == device)
        .order_by(events_summed.c.last_at, events_summed.c.kind)
    ).mappings()  # a row has a method `count`
    return [
        Summed(
            kind=row["kind"],
            count=row["count"],
            first_at=row["first_at"],
            last_at=row["last_at"],
        )
        for row in rows
    ]


def _sum_up(connection: Connection, held: Row[*tuple[object, ...]]) -> None:
    transitions, size = held.transitions, held.size
    known = and_(
        acked.c.device == events.c.device,
        acked.c.ledger == events.c.ledger,
        acked.c.number >= events.c.number,
    )
    oldest = (
        select(events)
        .join(acked, known)
        .where(events.c.device == held.device, events.c.kind != v1.EventKind.HEALTH.value)
        .order_by(events.c.received_at, events.c.ledger, events.c.number)
        .limit(transitions)
    )
    going: list[Row[*tuple[object, ...]]] = []
    for row in connection.execute(oldest).all():
        if transitions <= _ROOM * KEPT and size <= _ROOM * KEPT_BYTES:
            break
        transitions, size = transitions - 1, size - len(row.document)
        going.append(row)
    if going:
        _count(connection, held.device, going)
        connection.execute(
            delete(events).where(
                events.c.device == held.device,
                events.c.ledger == bindparam("of_ledger"),
                events.c.number == bindparam("of_number"),
            ),
            [{"of_ledger": row.ledger, "of_number": row.number} for row in going],
        )
    connection.execute(
        events_kept.update()
        .where(events_kept.c.device == held.device)
        .values(transitions=transitions, size=size)
    )


def _count(connection: Connection, device: str, going: Sequence[Row[*tuple[object, ...]]]) -> None:
    """Count rows by kind, in the order in which they came: one row a kind is written."""
    counted: dict[str, Summed] = {}
    for row in going:
        event = codec.decode(row.document, v1.Event)
        kind = event.kind.value
        if event.kind is v1.EventKind.FOLDED:  # it counts for what the device summed up in it
            told = event.parameters.get("kind", "")
            kind = told if told in set(v1.EventKind) else kind
        so_far = counted.get(kind)
        counted[kind] = Summed(
            kind=kind,
            count=event.count + (so_far.count if so_far else 0),
            first_at=so_far.first_at if so_far else row.received_at,
            last_at=row.received_at,
        )
    put = insert(events_summed)
    connection.execute(
        put.on_conflict_do_update(
            index_elements=[events_summed.c.device, events_summed.c.kind],
            set_={
                "count": events_summed.c.count + put.excluded.count,
                "last_at": put.excluded.last_at,
            },
        ),
        [{"device": device, **asdict(each)} for each in counted.values()],
    )
