"""Which part of which device was written last, in the order of transactions: what is yet to read.

Writers note what they write; `Store.write` gives it all the next number when the transaction ends.
So whoever keeps a fleet in memory reads what has changed, and nothing else. By number, not by time:
a clock is set back, and two words come within a second.
"""

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from fleet.store.tables import touched

_NOTED = "touched"


class Part(StrEnum):
    """What is kept of a device, each in a table of its own."""

    DEVICE = "device"
    PRESENCE = "presence"
    REPORTED = "reported"
    DESIRED = "desired"
    HEALTH = "health"
    DRIFT = "drift"


def note(connection: Connection, part: Part, device: str) -> None:
    """Say that a part of a device is written in this transaction."""
    connection.info.setdefault(_NOTED, set()).add((device, part))


def begin(connection: Connection) -> None:
    """Forget what a transaction noted that did not come to its end."""
    connection.info.pop(_NOTED, None)


def settle(connection: Connection) -> None:
    """Give all that was noted in this transaction the next number."""
    noted = connection.info.pop(_NOTED, None)
    if not noted:
        return
    number = head(connection) + 1
    upsert = insert(touched)
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=[touched.c.device, touched.c.part],
            set_={"number": upsert.excluded.number},
        ),
        [{"device": device, "part": part, "number": number} for device, part in sorted(noted)],
    )


def head(connection: Connection) -> int:
    """Return the number of the last transaction that wrote anything of a device; 0: none did."""
    last = connection.execute(select(func.max(touched.c.number))).scalar_one()
    return int(last or 0)


def since(connection: Connection, number: int) -> Sequence[tuple[str, Part]]:
    """Return what was written after the transaction with this number."""
    query = select(touched.c.device, touched.c.part).where(touched.c.number > number)
    return [(row.device, Part(row.part)) for row in connection.execute(query)]
