"""A batch of what devices told reads no table as a whole, however many it is of."""

import datetime as dt
import re

from sqlalchemy import Connection, event, select

from agent.wire import v1
from fleet.clock import written
from fleet.store import arrivals, events, health_days
from fleet.store.engine import Store
from fleet.store.tables import events as events_table
from fleet.store.tables import metadata
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.centre.test_store_history import feels, told, waited

MANY = [f"d-{number}" for number in range(30)]
EACH = 40


def batch(*, first: int = 1) -> list[v1.Event]:
    """More events than are asked for at once, of many devices and several days."""
    return [
        waited(number, feels(NOW - dt.timedelta(hours=number), told=number, device=device))
        if number % 2
        else told(number, device=device)
        for device in MANY
        for number in range(first, first + EACH)
    ]


def plans(connection: Connection, sent: list[v1.Event]) -> list[str]:
    """Return how SQLite did each statement with which the store took a batch."""
    said: list[tuple[str, object]] = []

    def note(_c: object, _u: object, statement: str, parameters: object, *_: object) -> None:
        said.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(connection, "before_cursor_execute", note)
    arrivals.commit(connection, sent, now=written(NOW))
    event.remove(connection, "before_cursor_execute", note)
    return [
        row[3]
        for statement, parameters in said
        for row in connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {statement}",
            parameters,  # type: ignore[arg-type]  # as they were given
        )
    ]


def test_no_table_is_read_as_a_whole(store: Store) -> None:
    """Under the only write lock a scan would take longer with every day that is kept."""
    add_devices(store, MANY)
    with store.write() as connection:
        done = plans(connection, batch())
    tables = "|".join(metadata.tables)
    searched = re.compile(r"SEARCH (\w+) .*\((.*)\)")

    assert [] == [each for each in done if re.match(rf"SCAN ({tables})\b", each)]
    found = {match.groups() for each in done if (match := searched.match(each))}
    assert ("events", "device=? AND ledger=? AND number=?") in found
    assert ("health_days", "device=? AND day=?") in found


def test_what_is_unheard_is_what_is_not_kept(store: Store) -> None:
    """The same as one look a number says, whatever of a batch came before."""
    add_devices(store, MANY)
    sent = batch(first=2)  # their first is missing: nothing is acknowledged
    with store.write() as connection:
        arrivals.commit(connection, sent[::3], now=written(NOW))
        key = (events_table.c.device, events_table.c.ledger, events_table.c.number)
        kept = {tuple(row) for row in connection.execute(select(*key))}
        new = events.unheard(connection, sent + sent)

    assert len(kept) == len(sent[::3])
    assert [each for each in sent if (each.device, each.ledger, each.number) not in kept] == new


def test_days_are_added_to_those_that_are_there(store: Store) -> None:
    """Of many devices at once: each day has both halves."""
    add_devices(store, MANY, joined=NOW - dt.timedelta(days=20))
    sent = batch()
    end = int(NOW.timestamp()) + 1
    with store.write() as connection:
        arrivals.commit(connection, sent[::2], now=written(NOW))
        arrivals.commit(connection, sent[1::2], now=written(NOW))
        counts = {
            device: sum(
                each.slot.documents for each in health_days.between(connection, device, 0, end)
            )
            for device in MANY
        }

    assert dict.fromkeys(MANY, EACH // 2) == counts
