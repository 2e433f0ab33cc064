"""What waited for a connection is kept as an event, marked late, and never covers what is newer."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import v1
from agent.wire.facts import LEDGER
from fleet.identity.join import new_id
from fleet.store import arrivals, events, health
from fleet.store.engine import Store
from tests.fleet.centre.parties import add_devices

ONE = "d-one"
AT = "2026-03-01T12:00:00Z"


def birth(session: int, *, ledger: str = "l-1", device: str = ONE) -> v1.Birth:
    return v1.Birth(
        fleet="harbour",
        device=device,
        session=session,
        agent_version="1",
        at=AT,
        facts={LEDGER: ledger},
    )


def feels(told: int, *, requests: int = 0, session: int = 1, device: str = ONE) -> v1.Health:
    served = v1.DeploymentHealth(
        name="digits", revision=1, digest="sha256:" + "a" * 64, requests=requests, errors=0
    )
    return v1.Health(
        fleet="harbour",
        device=device,
        session=session,
        at=AT,  # the same for all: no clock orders them
        period_s=60.0,
        told=told,
        deployments=(served,),
    )


def waited(document: v1.Health, *, number: int | None = None, ledger: str = "l-1") -> v1.Event:
    return v1.Event(
        fleet="harbour",
        device=document.device,
        ledger=ledger,
        number=number or document.told + 1,
        kind=v1.EventKind.HEALTH,
        at=AT,
        session=document.session,
        health=document,
    )


def boot(number: int, *, session: int, ledger: str = "l-1", device: str = ONE) -> v1.Event:
    return v1.Event(
        fleet="harbour",
        device=device,
        ledger=ledger,
        number=number,
        kind=v1.EventKind.BOOT,
        at=AT,
        session=session,
    )


def commit(store: Store, *batch: v1.Birth | v1.Health | v1.Event) -> list[v1.Acked]:
    with store.write() as connection:
        return list(arrivals.commit(connection, batch, now=AT))


def held(store: Store, device: str = ONE) -> health.HeldHealth:
    with store.read() as connection:
        found = health.held(connection, device)
    assert found is not None
    return found


def test_health_that_waited_is_acknowledged_like_any_event(store: Store) -> None:
    """It is kept with its number, byte for byte, between the transitions it waited with."""
    add_devices(store, [ONE])
    told = [boot(1, session=1), waited(feels(1)), boot(3, session=1)]

    [acked] = commit(store, birth(2), *told)

    assert 3 == acked.number
    with store.read() as connection:
        kept = events.after(connection, ONE, "l-1", 0, limit=9)
    assert told == [each.event for each in kept]
    assert (feels(1), True) == (held(store).document, held(store).late)


def test_it_never_covers_health_that_was_measured_later(store: Store) -> None:
    """A device that is back says how it feels now, before it has told how it felt."""
    add_devices(store, [ONE])
    now = feels(3, requests=99, session=2)

    commit(store, birth(2), now)
    commit(store, *(waited(feels(told)) for told in range(3)))

    assert (now, False) == (held(store).document, held(store).late)
    # And what it felt after that connection broke is newer than what it said then.
    commit(store, waited(feels(3, requests=7, session=2), number=4))
    assert 7 == held(store).document.deployments[0].requests
    assert held(store).late


def test_of_two_ledgers_the_one_in_use_counts(store: Store) -> None:
    """A device with a new ledger begins its numbers again; what is left of the old one is old."""
    add_devices(store, [ONE])
    commit(store, birth(50), feels(900, session=50))

    commit(store, birth(1, ledger="l-2"), waited(feels(0), ledger="l-2"))
    assert ("l-2", 1) == (held(store).ledger, held(store).number)

    commit(store, waited(feels(950), ledger="l-1"))
    assert ("l-2", 1) == (held(store).ledger, held(store).number)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=15),
    st.data(),
)
def test_what_is_held_is_the_latest_measured_of_what_came(
    lasting_store: Store, story: list[tuple[bool, int]], data: st.DataObject
) -> None:
    """However what was said at once and what waited are mixed, doubled and batched."""
    device = new_id("d-")
    add_devices(lasting_store, [device])
    commit(lasting_store, birth(1, device=device))
    told = 0
    waiting: list[tuple[int, v1.Event]] = []
    came = -1
    for moment, (connected, transitions) in enumerate(story):
        told += transitions
        document = feels(told, requests=moment, device=device)
        if connected:
            some = data.draw(st.integers(0, len(waiting)))
            again = data.draw(st.integers(0, some))
            batch = [event for _, event in waiting[:some]] + [event for _, event in waiting[:again]]
            place = data.draw(st.integers(0, len(batch)))
            commit(lasting_store, *batch[:place], document, *batch[place:])
            came = moment
        else:
            told += 1
            waiting.append((moment, waited(document, number=told)))
            continue
        assert came == held(lasting_store, device).document.deployments[0].requests
    if waiting:
        commit(lasting_store, *(event for _, event in waiting))
        newest = max(came, waiting[-1][0])
        assert newest == held(lasting_store, device).document.deployments[0].requests


@pytest.mark.parametrize(
    ("session", "late"),
    [(4, False), (3, False), (2, True), (0, True)],
    ids=["in it", "before it", "before one that failed", "before any"],
)
def test_a_transition_is_late_when_a_connection_was_tried_in_vain(
    store: Store, session: int, *, late: bool
) -> None:
    """A boot just before its connection is not; what happened in a long silence is."""
    add_devices(store, [ONE])

    commit(store, birth(4), boot(1, session=session))

    with store.read() as connection:
        [kept] = events.after(connection, ONE, "l-1", 0, limit=9)
    assert late == kept.late


def test_events_are_read_by_pages_of_a_ledger(store: Store) -> None:
    """In order, from after a number or the last ones; the health among them can be left out."""
    add_devices(store, [ONE])
    commit(store, birth(1))
    told = [
        waited(feels(number - 1)) if number % 2 else boot(number, session=1)
        for number in range(1, 11)
    ]
    commit(store, *told)
    commit(store, boot(1, session=0, ledger="l-2"))

    with store.read() as connection:
        page = events.after(connection, ONE, "l-1", 3, limit=4)
        changes = events.after(connection, ONE, "l-1", 3, limit=2, transitions=True)
        last = events.newest(connection, ONE, "l-1", limit=3)
        last_changes = events.newest(connection, ONE, "l-1", limit=3, transitions=True)
        marks = events.marks(connection, ONE)
        shown = events.of_device(connection, ONE, limit=20)

    assert [4, 5, 6, 7] == [each.event.number for each in page]
    assert [4, 6] == [each.event.number for each in changes]
    assert [8, 9, 10] == [each.event.number for each in last]
    assert [6, 8, 10] == [each.event.number for each in last_changes]
    assert {"l-1": 10, "l-2": 1} == marks
    assert {v1.EventKind.BOOT} == {each.kind for each in shown}


def test_health_of_long_ago_is_forgotten_and_no_transition_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only once it is acknowledged; what is said again afterwards is acknowledged again."""
    monkeypatch.setattr(events, "HEALTH_KEPT", 4)
    add_devices(store, [ONE])
    told = [
        boot(number, session=1) if number in {2, 5} else waited(feels(number - 1))
        for number in range(1, 11)
    ]
    commit(store, birth(1), *told[1:])  # the first is missing: nothing is acknowledged
    with store.read() as connection:
        assert 9 == len(events.after(connection, ONE, "l-1", 0, limit=99))

    [first] = commit(store, told[0])
    [again] = commit(store, *told)

    assert 10 == first.number == again.number
    with store.read() as connection:
        kept = events.after(connection, ONE, "l-1", 0, limit=99)
    assert [2, 5, 7, 8, 9, 10] == [each.event.number for each in kept]


def test_a_store_of_the_first_schema_keeps_what_it_has(tmp_path: Path) -> None:
    """Its events learn their kind from themselves; its health can be covered by what is newer."""
    path = tmp_path / "store.db"
    store = Store.open(path)
    add_devices(store, [ONE])
    commit(store, birth(1), feels(0), boot(1, session=1))
    store.close()
    with sqlite3.connect(path) as raw:  # back to what the first schema had
        raw.execute("DROP INDEX ix_rollouts_wish")
        for table, column in (
            ("rollouts", "wish"),
            ("events", "kind"),
            ("events", "late"),
            ("health", "ledger"),
            ("health", "number"),
            ("health", "late"),
            ("rollouts", "number"),
            ("acked", "begun_at"),
            ("rollouts", "policy"),
            ("rollouts", "settings_given"),
            ("rollouts", "revision"),
            ("rollouts", "head"),
        ):
            raw.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for table in (
            "alerts",
            "silences",
            "receivers",
            "told",
            "commands",
            "drift",
            "health_days",
            "health_open",
            "away",
            "events_kept",
            "events_summed",
            "words_now",
            "words_past",
            "words_summed",
            "watches",
            "touched",
            "rollout_targets",
            "rollout_contents",
            "rollout_plans",
            "policies",
        ):
            raw.execute(f"DROP TABLE {table}")
        for column in ("plan", "progress"):
            raw.execute(f"ALTER TABLE rollouts ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
        raw.execute("UPDATE alembic_version SET version_num = '0001'")
    raw.close()

    again = Store.open(path)

    with again.read() as connection:
        [kept] = events.after(connection, ONE, "l-1", 0, limit=9)
        shown = events.of_device(connection, ONE, limit=9)
    assert (boot(1, session=1), False) == (kept.event, kept.late)
    assert [boot(1, session=1)] == list(shown)
    assert feels(0) == held(again).document
    commit(again, waited(feels(1)))
    assert held(again).late
    again.close()
