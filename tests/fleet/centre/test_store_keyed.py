"""A batch of what devices told reads no table as a whole, however many it is of."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import Connection, event, select

from agent.wire import v1
from fleet.clock import written
from fleet.ports import FromDevice
from fleet.store import arrivals, events, health_days, summed
from fleet.store.engine import Store
from fleet.store.tables import events as events_table
from fleet.store.tables import metadata
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.centre.test_store_history import born, feels, told, waited

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


def births(ledger: str = "l-1") -> list[v1.Birth]:
    return [replace(born(1, ledger=ledger), device=device) for device in MANY]


def plans(connection: Connection, sent: Sequence[FromDevice]) -> list[str]:
    """Return how SQLite did each statement with which the store took a batch."""
    return [
        row[3]
        for statement, parameters in statements(connection, sent)
        for row in connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {statement}",
            parameters,  # type: ignore[arg-type]  # as they were given
        )
    ]


def statements(connection: Connection, sent: Sequence[FromDevice]) -> list[tuple[str, object]]:
    said: list[tuple[str, object]] = []

    def note(_c: object, _u: object, statement: str, parameters: object, *_: object) -> None:
        said.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(connection, "before_cursor_execute", note)
    arrivals.commit(connection, sent, now=written(NOW))
    event.remove(connection, "before_cursor_execute", note)
    return said


def test_no_table_is_read_as_a_whole(store: Store) -> None:
    """Under the only write lock a scan would take longer with every day that is kept."""
    add_devices(store, MANY)
    with store.write() as connection:
        arrivals.commit(connection, births(), now=written(NOW))
        done = plans(connection, batch())
        done += plans(connection, births(ledger="l-2"))
    tables = "|".join(metadata.tables)
    searched = re.compile(r"SEARCH (\w+) .*\((.*)\)")

    assert [] == [each for each in done if re.match(rf"SCAN ({tables})\b", each)]
    found = {match.groups() for each in done if (match := searched.match(each))}
    assert ("events", "device=? AND ledger=? AND number=?") in found
    assert ("health_days", "device=? AND day=?") in found
    left = {("events", "device=? AND ledger<?"), ("events", "device=? AND ledger>?")}
    assert left <= found, "what ledgers that were left had told, and nothing else, is looked at"


def test_what_a_device_has_is_not_read_with_each_batch(store: Store) -> None:
    """Each statement looks for a part of it, once its ledger is known."""
    add_devices(store, MANY)
    with store.write() as connection:
        arrivals.commit(connection, [*births(), *batch()], now=written(NOW))
        done = plans(connection, batch(first=1 + EACH))

    assert [] == [each for each in done if re.match(r"SEARCH events .*\(device=\?\)", each)]


def test_summing_up_takes_as_many_statements_for_many_as_for_few(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row a kind is written, whatever was told; nothing is counted otherwise than one by one."""
    monkeypatch.setattr(summed, "KEPT", 20)
    add_devices(store, MANY[:2])
    sent = {
        device: [
            replace(
                told(number, device=device),
                kind=v1.EventKind.FOLDED,
                count=3,
                parameters={"kind": "worker" if number % 2 else "strange"},
            )
            if number % 5 == 0
            else told(number, device=device)
            for number in range(1, size + 1)
        ]
        for device, size in zip(MANY, (50, 500), strict=False)
    }
    with store.write() as connection:
        few, many = (len(statements(connection, each)) for each in sent.values())
        for device, each in sent.items():
            rest = events.after(connection, device, "l-1", 0, limit=999)
            gone = each[: len(each) - len(rest)]
            naive = Counter[str]()
            for one in gone:
                odd = "worker" if one.number % 2 else "folded"
                naive[odd if one.kind is v1.EventKind.FOLDED else one.kind.value] += one.count
            counted = {one.kind: one.count for one in summed.of_device(connection, device)}
            assert naive == counted
            assert [one.number for one in each[len(gone) :]] == [one.event.number for one in rest]

    assert few == many


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
