"""How every device last said it feels. History lives elsewhere.

A document that comes at once replaces the one that is held: they come in order. One
that waited (an event) may be older than what is held, and replaces it only when it
was measured later. By the ledger's numbers, not by a clock: every document knows
how many events had been told when it was measured, so it was measured before all
events with higher numbers, and after all others. Sessions would not do: a
connection's number is taken before it is tried, so that of one session some
documents waited before the connection stood, and some after it broke.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import codec, v1
from fleet.store import presence, touched
from fleet.store.tables import health


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldHealth:
    """A device's last health document and when it came. `late`: it had waited for a connection.

    `number` is what orders it among the events of its ledger (None: not known which).
    """

    document: v1.Health
    received_at: str
    ledger: str | None
    number: int
    late: bool


def put(connection: Connection, came: Iterable[v1.Health], *, now: str) -> None:
    """Keep health documents that came at once in place of the last; of a device, its latest."""
    latest = {each.device: each for each in came}
    here = presence.among(connection, latest)
    _put(
        connection,
        [
            HeldHealth(
                document=document,
                received_at=now,
                ledger=here[device].ledger if device in here else None,
                number=document.told,
                late=False,
            )
            for device, document in latest.items()
        ],
    )


def put_late(connection: Connection, batch: Sequence[v1.Event], *, now: str) -> None:
    """Keep the health documents of events in place of the last ones, where they are later."""
    waited = [event for event in batch if event.health is not None]
    latest = {
        (event.device, event.ledger): event
        for event in sorted(waited, key=lambda each: each.number)
    }
    for event in latest.values():
        last = held(connection, event.device)
        if event.health is not None and (last is None or _is_newer(connection, event, last)):
            newer = HeldHealth(
                document=event.health,
                received_at=now,
                ledger=event.ledger,
                number=event.number,
                late=True,
            )
            _put(connection, [newer])


def held(connection: Connection, device: str) -> HeldHealth | None:
    """Return a device's last health document."""
    row = connection.execute(select(health).where(health.c.device == device)).one_or_none()
    return None if row is None else _held(row)


def among(connection: Connection, ids: Sequence[str]) -> Sequence[HeldHealth]:
    """Return the last health document of each of these devices."""
    rows = connection.execute(select(health).where(health.c.device.in_(ids)))
    return [_held(row) for row in rows]


def _is_newer(connection: Connection, event: v1.Event, last: HeldHealth) -> bool:
    if event.ledger == last.ledger:
        return event.number > last.number
    # Of two ledgers, the one in which the device numbers now came after the other.
    here = presence.held(connection, event.device)
    return here is not None and here.ledger == event.ledger


def _put(connection: Connection, latest: Sequence[HeldHealth]) -> None:
    if not latest:
        return
    for each in latest:
        touched.note(connection, touched.Part.HEALTH, each.document.device)
    upsert = insert(health)
    names = ("document", "received_at", "ledger", "number", "late")
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=[health.c.device],
            set_={name: upsert.excluded[name] for name in names},
        ),
        [
            {
                "device": each.document.device,
                "document": codec.encode(each.document),
                "received_at": each.received_at,
                "ledger": each.ledger,
                "number": each.number,
                "late": each.late,
            }
            for each in latest
        ],
    )


def _held(row: Row[*tuple[object, ...]]) -> HeldHealth:
    return HeldHealth(
        document=codec.decode(row.document, v1.Health),
        received_at=row.received_at,
        ledger=row.ledger,
        number=row.number,
        late=row.late,
    )
