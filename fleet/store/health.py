"""How every device last said it feels. History lives elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from agent.wire import codec, v1
from fleet.store.tables import health


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldHealth:
    """A device's last health document and when it came."""

    document: v1.Health
    received_at: str


def put(connection: Connection, document: v1.Health, *, now: str) -> None:
    """Keep a health document in place of the last."""
    values = {"document": codec.encode(document), "received_at": now}
    connection.execute(
        insert(health)
        .values(device=document.device, **values)
        .on_conflict_do_update(index_elements=[health.c.device], set_=values)
    )


def held(connection: Connection, device: str) -> HeldHealth | None:
    """Return a device's last health document."""
    row = connection.execute(select(health).where(health.c.device == device)).one_or_none()
    if row is None:
        return None
    return HeldHealth(document=codec.decode(row.document, v1.Health), received_at=row.received_at)


def every(connection: Connection) -> Sequence[HeldHealth]:
    """Return the last health document of every device."""
    return [
        HeldHealth(document=codec.decode(row.document, v1.Health), received_at=row.received_at)
        for row in connection.execute(select(health))
    ]
