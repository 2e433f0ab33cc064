"""What the store keeps of a device's past: a month of health, when it was away, what it told."""

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from agent.sketch import Sketch
from agent.wire import v1
from agent.wire.facts import LEDGER
from fleet.clock import written
from fleet.health.days import COARSE_S, DAY_S, FINE_S, KEPT_DAYS
from fleet.identity.join import new_id
from fleet.ports import FromDevice
from fleet.store import arrivals, away, events, health_days, summed
from fleet.store.engine import Store
from fleet.store.tables import events as events_table
from fleet.store.tables import health_days as days_table
from fleet.store.tables import health_open
from tests.fleet.centre.parties import NOW, add_devices

ONE = "d-one"
MINUTE = dt.timedelta(minutes=1)
END = int(NOW.timestamp()) + DAY_S


def feels(
    at: dt.datetime, *, requests: int = 10, told: int = 0, device: str = ONE, **more: object
) -> v1.Health:
    sketch = Sketch()
    sketch.add(0.01)
    served = v1.DeploymentHealth(
        name="digits",
        revision=1,
        digest="sha256:" + "a" * 64,
        requests=requests,
        errors=1,
        latency=sketch.to_wire(),
    )
    document = v1.Health(
        fleet="harbour",
        device=device,
        session=1,
        at=written(at),
        period_s=60.0,
        told=told,
        deployments=(served,),
    )
    return replace(document, **more)  # type: ignore[arg-type]  # fields by name


def waited(number: int, document: v1.Health, *, ledger: str = "l-1") -> v1.Event:
    return v1.Event(
        fleet="harbour",
        device=document.device,
        ledger=ledger,
        number=number,
        kind=v1.EventKind.HEALTH,
        at=document.at,
        session=1,
        health=document,
    )


def told(number: int, *, message: str = "", device: str = ONE, ledger: str = "l-1") -> v1.Event:
    return v1.Event(
        fleet="harbour",
        device=device,
        ledger=ledger,
        number=number,
        kind=v1.EventKind.BOOT if number % 2 else v1.EventKind.HOLD,
        at=written(NOW),
        message=message,
    )


def born(session: int, *, ledger: str = "l-1") -> v1.Birth:
    return v1.Birth(
        fleet="harbour",
        device=ONE,
        session=session,
        agent_version="1",
        at=written(NOW),
        facts={LEDGER: ledger},
    )


def hear(store: Store, *batch: FromDevice, now: dt.datetime = NOW) -> Sequence[v1.Acked]:
    with store.write() as connection:
        return arrivals.commit(connection, batch, now=written(now))


def kept(
    store: Store, device: str = ONE, *, begin: int = 0, end: int = END
) -> Sequence[health_days.Stretch]:
    with store.read() as connection:
        return health_days.between(connection, device, begin, end)


# Health


def test_a_month_is_kept_in_hours_and_two_days_in_quarters(store: Store) -> None:
    """No document is lost or counted twice, wherever it is put together; before that, nothing."""
    add_devices(store, [ONE], joined=NOW - dt.timedelta(days=60))
    sent = 0
    with store.write() as connection:
        for step in range(40 * 12, 0, -1):
            moment = NOW - step * dt.timedelta(hours=2)
            arrivals.commit(connection, [feels(moment)], now=written(moment))
            sent += 1

    found = kept(store)
    today = int(NOW.timestamp()) // DAY_S
    first = (today - KEPT_DAYS + 1) * DAY_S
    assert {FINE_S} == {each.length_s for each in found if each.begin // DAY_S >= today - 1}
    assert {COARSE_S} == {each.length_s for each in found if each.begin // DAY_S < today - 1}
    assert first == found[0].begin
    within = (int(NOW.timestamp()) - first) // 7200
    assert within == sum(each.slot.documents for each in found)
    assert 10 * within == sum(each.slot.requests for each in found)
    assert [each.begin for each in found] == sorted({each.begin for each in found})
    with store.read() as connection:
        rows = connection.execute(select(func.count()).select_from(days_table)).scalar_one()
    assert KEPT_DAYS == rows
    assert sent > within


@given(st.data())
def test_order_batches_and_doubles_change_nothing(
    lasting_store: Store, data: st.DataObject
) -> None:
    """Documents that waited, in any order, told twice, in any batches: each counts once."""
    device = new_id("d-")
    add_devices(lasting_store, [device], joined=NOW - dt.timedelta(days=60))
    ages = data.draw(st.lists(st.integers(0, 12_000), min_size=1, max_size=12))
    sent = [
        waited(number, feels(NOW - age * MINUTE, requests=number, device=device))
        for number, age in enumerate(ages, start=1)
    ]
    again = data.draw(st.lists(st.sampled_from(sent), max_size=6))
    order = data.draw(st.permutations([*sent, *again]))
    place = data.draw(st.integers(0, len(order)))

    hear(lasting_store, *order[:place])
    hear(lasting_store, *order[place:])
    hear(lasting_store, *sent)

    expected: dict[int, int] = {}
    today = int(NOW.timestamp()) // DAY_S
    for number, age in enumerate(ages, start=1):
        second = int((NOW - age * MINUTE).timestamp())
        step = FINE_S if second // DAY_S >= today - 1 else COARSE_S
        begin = second - second % step
        expected[begin] = expected.get(begin, 0) + number
    found = kept(lasting_store, device)
    assert expected == {each.begin: each.slot.requests for each in found}
    assert len(ages) == sum(each.slot.late for each in found)


def test_a_document_that_comes_again_counts_once(store: Store) -> None:
    """After a broken connection the same ones come again; in another batch or the same."""
    add_devices(store, [ONE])
    first, second = feels(NOW, told=1), feels(NOW, told=2)

    hear(store, first, second, first)
    hear(store, first, second, now=NOW + 20 * MINUTE)
    # And one whose receipt was lost, that is kept to be told as an event.
    hear(store, waited(1, second), now=NOW + 21 * MINUTE)

    assert [2] == [each.slot.documents for each in kept(store)]


def test_a_clock_that_is_wrong_goes_by_arrival(store: Store) -> None:
    """1970 and ten years ahead are now, marked late; an hour ago is an hour ago."""
    add_devices(store, [ONE], joined=NOW - dt.timedelta(days=2))
    hour = dt.timedelta(hours=1)
    moments = [dt.datetime(1970, 1, 1, tzinfo=dt.UTC), NOW + 3650 * 24 * hour, NOW - hour]

    hear(store, *(waited(n, feels(at)) for n, at in enumerate(moments, start=1)))

    no_such_day = replace(feels(NOW, told=9), at="2026-02-31T25:00:00Z")
    hear(store, waited(4, no_such_day))

    second = int(NOW.timestamp())
    assert {second - 3600: 1, second: 3} == {each.begin: each.slot.late for each in kept(store)}


def test_one_that_speaks_a_hundred_times_too_often_fills_no_more(store: Store) -> None:
    """Its slot counts more, and has as many bytes."""
    add_devices(store, [ONE])
    hear(store, *(feels(NOW, told=n, requests=2**53 - 1) for n in range(1500)))

    [only] = kept(store)
    assert (1500, 2**53 - 1) == (only.slot.documents, only.slot.requests)
    with store.read() as connection:
        row = connection.execute(select(health_open)).one()
    assert len(row.slot) + len(row.seen) < 300


def test_a_device_of_many_a_month_has_so_many_bytes(store: Store) -> None:
    """What docs/health.md says of room is what a device with ordinary numbers takes."""
    add_devices(store, [ONE], joined=NOW - dt.timedelta(days=60))
    dice = random.Random(7)  # noqa: S311  # made-up numbers
    every = []
    for step in range(31 * 24 * 12, 0, -12):
        moment = NOW - step * dt.timedelta(minutes=5)
        batch = []
        for n in range(12):
            sketch = Sketch()
            for _ in range(60):
                sketch.add(0.009 * dice.lognormvariate(0, 0.25))
            at = moment + n * dt.timedelta(minutes=5)
            served = v1.DeploymentHealth(
                name="digits",
                revision=1,
                digest="sha256:" + "a" * 64,
                requests=300,
                errors=dice.randint(0, 1),
                latency=sketch.to_wire(),
            )
            full = feels(
                at,
                cpu_ratio=dice.random(),
                memory_used_bytes=800,
                memory_total_bytes=1906,
                disk_free_bytes=11,
                disk_total_bytes=28,
                temperature_c=dice.uniform(40, 70),
                throttled=False,
                deployments=(served,),
            )
            batch.append(waited(step * 12 - n, full))
        every += batch
    with store.write() as connection:
        health_days.add(connection, [], every, now=written(NOW))
    with store.read() as connection:
        size = connection.execute(select(func.sum(func.length(days_table.c.slots)))).scalar_one()
        slots = len(kept(store))
    assert 28 * 24 + 100 < slots < 29 * 24 + 200
    assert size < 40_000


# Away


def test_spans_are_kept_and_the_oldest_are_summed_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each from the death to the birth that ended it; none vanishes uncounted."""
    monkeypatch.setattr(away, "KEPT", 3)
    add_devices(store, [ONE])
    hear(store, born(1))
    for n in range(1, 6):
        gone = NOW + n * 60 * MINUTE
        hear(store, v1.Death(fleet="harbour", device=ONE, session=n), now=gone)
        hear(store, v1.Death(fleet="harbour", device=ONE, session=n), now=gone + MINUTE)
        if n < 5:
            hear(store, born(n + 1), now=gone + n * MINUTE)

    with store.read() as connection:
        found = away.of_device(connection, ONE)
    assert [(2, 180), (1, 180), (1, 240), (1, 0)] == [(each.spans, each.away_s) for each in found]
    assert [False, False, False, True] == [each.until is None for each in found]
    assert written(NOW + 60 * MINUTE) == found[0].since
    assert written(NOW + 120 * MINUTE + 2 * MINUTE) == found[0].until


def test_a_second_death_leaves_the_first_span(store: Store) -> None:
    """One whose birth was missed says no more than that it is still away."""
    add_devices(store, [ONE])
    hear(store, born(1))
    hear(store, v1.Death(fleet="harbour", device=ONE, session=1))
    hear(store, v1.Death(fleet="harbour", device=ONE, session=4), now=NOW + MINUTE)

    with store.read() as connection:
        [only] = away.of_device(connection, ONE)
    assert (written(NOW), None) == (only.since, only.until)


# Transitions


def test_transitions_are_kept_within_a_bound_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go, each counted by kind; told again, they neither come back nor count twice."""
    monkeypatch.setattr(summed, "KEPT", 20)
    add_devices(store, [ONE])
    sent = [told(number) for number in range(1, 101)]
    for start in range(0, 100, 10):
        hear(store, *sent[start : start + 10], now=NOW + start * MINUTE)
    [acked] = hear(store, *sent)

    with store.read() as connection:
        rest = events.after(connection, ONE, "l-1", 0, limit=999)
        counted = summed.of_device(connection, ONE)
    assert 100 == acked.number
    assert 18 <= len(rest) <= 20
    assert list(range(101 - len(rest), 101)) == [each.event.number for each in rest]
    assert 100 == len(rest) + sum(each.count for each in counted)
    assert {"boot", "hold"} == {each.kind for each in counted}
    assert {written(NOW)} == {each.first_at for each in counted}


def test_bytes_are_a_bound_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that tells long stories keeps fewer of them."""
    monkeypatch.setattr(summed, "KEPT_BYTES", 10_000)
    add_devices(store, [ONE])
    hear(store, *(told(number, message="m" * 250) for number in range(1, 101)))

    with store.read() as connection:
        rest = events.after(connection, ONE, "l-1", 0, limit=999)
        counted = summed.of_device(connection, ONE)
    assert 0 < len(rest) < 26
    assert 100 == len(rest) + sum(each.count for each in counted)


def test_what_is_not_acknowledged_is_not_summed_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers say up to where nothing is missing."""
    monkeypatch.setattr(summed, "KEPT", 5)
    add_devices(store, [ONE])
    hear(store, *(told(number) for number in range(2, 30)))
    [acked] = hear(store, told(1))

    assert 29 == acked.number


def test_a_ledger_that_was_left_takes_no_room(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that loses its ledger with every boot fills neither the events nor their marks."""
    monkeypatch.setattr(summed, "KEPT", 5)
    monkeypatch.setattr(events, "LEDGERS_KEPT", 8)
    add_devices(store, [ONE])
    for boot in range(1, 40):
        ledger = f"l-{boot}"
        hear(store, born(boot, ledger=ledger))
        hear(store, waited(1, feels(NOW, told=boot), ledger=ledger), told(2, ledger=ledger))

    with store.read() as connection:
        assert len(events.marks(connection, ONE)) <= 6 + 8
        of_health = select(func.count()).where(events_table.c.kind == "health")
        assert 1 == connection.execute(of_health).scalar_one()
    assert 39 == sum(each.slot.documents for each in kept(store))


def test_a_ledger_that_comes_back_goes_on_where_it_was(store: Store) -> None:
    """A disk is restored: what was acknowledged is known, and what is new waits for nothing.

    Of that ledger nothing but its mark is kept: all it told was health, which is in the slots.
    """
    add_devices(store, [ONE])
    of_health = [waited(number, feels(NOW, told=number)) for number in range(1, 41)]
    hear(store, born(1), *of_health)
    hear(store, born(1, ledger="l-2"), told(1, ledger="l-2"))
    with store.read() as connection:
        assert [] == events.after(connection, ONE, "l-1", 0, limit=99), "health of a left ledger"
    [again] = hear(store, born(2), *of_health[38:], waited(41, feels(NOW, told=41)))

    assert ("l-1", 41) == (again.ledger, again.number)
    assert 41 == sum(each.slot.documents for each in kept(store))


def test_health_of_a_left_ledger_that_comes_late_is_not_kept(store: Store) -> None:
    """It counts in the slots, is acknowledged, and takes no room."""
    add_devices(store, [ONE])
    hear(store, born(1), told(1))
    hear(store, born(1, ledger="l-2"))
    [acked] = hear(store, waited(2, feels(NOW, told=2)), waited(4, feels(NOW, told=4)))

    with store.read() as connection:
        rest = [each.event.number for each in events.after(connection, ONE, "l-1", 0, limit=9)]
    assert (2, [1, 4]) == (acked.number, rest), "what is not acknowledged says what is missing"
    assert 2 == sum(each.slot.documents for each in kept(store))
