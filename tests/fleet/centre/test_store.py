"""The store keeps each thing once, never goes backwards, and knows its own history."""

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from agent.wire import v1
from agent.wire.facts import LEDGER
from fleet.identity.join import new_id
from fleet.identity.places import Home
from fleet.store import (
    arrivals,
    audit,
    bundles,
    changes,
    desired,
    devices,
    events,
    health,
    migrations,
    presence,
    reported,
)
from fleet.store.engine import Store
from fleet.store.errors import (
    AmbiguousError,
    ConflictError,
    NotFoundError,
    OrderConflictError,
    SchemaTooNewError,
)
from fleet.store.tables import SCHEMA, metadata
from tests.fleet.centre.parties import add_devices

ONE, TWO = "d-one", "d-two"
AT = "2026-03-01T12:00:00Z"
DIGEST = "sha256:" + "a" * 64


def birth(session: int, *, ledger: str = "l-1", device: str = ONE) -> v1.Birth:
    return v1.Birth(
        fleet="harbour",
        device=device,
        session=session,
        agent_version="1",
        at=AT,
        facts={LEDGER: ledger},
    )


def death(session: int, device: str = ONE) -> v1.Death:
    return v1.Death(fleet="harbour", device=device, session=session)


def event(
    number: int, *, first: int | None = None, ledger: str = "l-1", device: str = ONE
) -> v1.Event:
    return v1.Event(
        fleet="harbour",
        device=device,
        ledger=ledger,
        number=number,
        first=first,
        kind=v1.EventKind.BOOT,
        at=AT,
    )


def report(session: int, generation: int = 1, device: str = ONE) -> v1.Reported:
    order = v1.Order(epoch=0, generation=generation)
    return v1.Reported(fleet="harbour", device=device, session=session, observed=order)


def document(generation: int, target: str = ONE, payload: bytes = b"p") -> desired.HeldDesired:
    return desired.HeldDesired(
        target=target,
        order=v1.Order(epoch=0, generation=generation),
        payload=payload,
        envelope=b"e" + payload,
        issued_at=AT,
    )


# The schema


def test_the_migrations_make_the_tables_that_the_program_knows(store: Store) -> None:
    """An empty database brought up to date differs in nothing from the declared tables."""
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert [] == compare_metadata(context, metadata)
        assert SCHEMA == context.get_current_revision()
    scripts = ScriptDirectory.from_config(migrations._config())
    assert SCHEMA == scripts.get_current_head()


def test_it_is_durable_and_has_keys(store: Store) -> None:
    """What was committed survives a power cut, and nothing refers to what isn't there."""
    with store.read() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1} == pragmas
    with pytest.raises(IntegrityError), store.write() as connection:
        reported.put(connection, report(1), now=AT)


def test_a_newer_schema_is_refused_and_left_alone(store: Store, home: Home) -> None:
    """A downgrade says what to run instead of guessing."""
    store.close()
    with sqlite3.connect(home.store) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()

    with pytest.raises(SchemaTooNewError, match="9999"):
        Store.open(home.store)

    raw = sqlite3.connect(home.store)
    assert [("9999",)] == raw.execute("SELECT version_num FROM alembic_version").fetchall()
    raw.close()


def test_opening_again_keeps_everything(store: Store, home: Home) -> None:
    """A restart finds the same store, by its id."""
    add_devices(store, [ONE])
    with store.read() as connection:
        before = changes.store_id(connection)
    store.close()

    again = Store.open(home.store)
    with again.read() as connection:
        assert before == changes.store_id(connection)
        assert [ONE] == [device.id for device in devices.every(connection)]
    again.close()


def test_what_fails_halfway_leaves_nothing(store: Store) -> None:
    """A transaction that raises is as if it had not been."""

    def cut_off() -> None:
        with store.write() as connection:
            desired.put(connection, document(1))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power"):
        cut_off()

    with store.read() as connection:
        assert None is desired.held(connection, ONE)
        assert 0 == changes.head(connection)


def test_two_stores_have_two_ids(tmp_path: Path, store: Store) -> None:
    """A position of one store is never taken for another's."""
    other = Store.open(tmp_path / "other.db")
    with store.read() as one, other.read() as two:
        assert changes.store_id(one) != changes.store_id(two)
    other.close()


# What is wanted


def test_a_document_enters_only_when_it_is_newer(store: Store) -> None:
    """A planner that worked from an old look can't turn a target back, nor replace like by like."""
    with store.write() as connection:
        desired.put(connection, document(2, payload=b"kept"))

    for generation in (1, 2):
        with pytest.raises(OrderConflictError), store.write() as connection:
            desired.put(connection, document(generation, payload=b"other"))

    with store.read() as connection:
        held = desired.held(connection, ONE)
    assert held is not None
    assert b"kept" == held.payload


def test_of_concurrent_writers_of_one_generation_one_wins(store: Store) -> None:
    """The order is checked in the transaction that writes."""

    def attempt(number: int) -> bool:
        try:
            with store.write() as connection:
                desired.put(connection, document(1, payload=b"%d" % number))
        except OrderConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(attempt, range(6)))

    assert 1 == outcomes.count(True)


def test_changes_are_asked_for_by_position(store: Store) -> None:
    """Each target once, with its present content; one that changed again moves to the end."""
    with store.write() as connection:
        desired.put(connection, document(1, ONE))
        desired.put(connection, document(1, TWO))
        desired.put(connection, document(2, ONE, b"new"))

    with store.read() as connection:
        everything = desired.after(connection, 0, limit=10)
        first = desired.after(connection, 0, limit=1)
        rest = desired.after(connection, first[0].position, limit=10)
        head = changes.head(connection)
    assert [(2, TWO), (3, ONE)] == [(each.position, each.document.target) for each in everything]
    assert b"new" == everything[1].document.payload
    assert everything == [*first, *rest]
    assert 3 == head


# What devices say


def add(connection: Connection, batch: list[v1.Event]) -> Sequence[v1.Acked]:
    return events.add(connection, batch, events.unheard(connection, batch), now=AT)


@given(st.lists(st.lists(st.integers(1, 12), max_size=8), min_size=1, max_size=4))
def test_events_are_kept_once_and_acknowledged_without_gaps(
    lasting_store: Store, batches: list[list[int]]
) -> None:
    """In whatever order and how often they come, none is lost, doubled or acknowledged early."""
    device = new_id("d-")
    add_devices(lasting_store, [device])
    came: set[int] = set()
    for numbers in batches:
        came |= set(numbers)
        with lasting_store.write() as connection:
            batch = [event(number, device=device) for number in numbers]
            acked = add(connection, batch)
        through = next(number for number in range(13) if number + 1 not in came)
        assert [through] * bool(numbers) == [each.number for each in acked]
    with lasting_store.read() as connection:
        kept = events.of_device(connection, device, limit=100)
    assert sorted(came) == sorted(each.number for each in kept)


def test_a_folded_event_stands_for_all_from_its_first(store: Store) -> None:
    """An outbox that folded numbers away doesn't wait for them forever."""
    add_devices(store, [ONE])
    with store.write() as connection:
        before = add(connection, [event(1), event(9, first=3)])
        after = add(connection, [event(2)])

    assert [1] == [each.number for each in before]
    assert [9] == [each.number for each in after]


def test_ledgers_are_numbered_apart(store: Store) -> None:
    """A device with a new ledger begins at 1 again, and is not taken for a replay."""
    add_devices(store, [ONE])
    with store.write() as connection:
        add(connection, [event(1), event(2)])
        [acked] = add(connection, [event(1, ledger="l-2")])

    assert ("l-2", 1) == (acked.ledger, acked.number)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=20))
def test_a_device_is_online_exactly_if_its_latest_session_has_not_ended(
    lasting_store: Store, story: list[tuple[bool, int]]
) -> None:
    """Late, doubled and reordered births and deaths of older sessions change nothing."""
    device = new_id("d-")
    add_devices(lasting_store, [device])
    for is_birth, session in story:
        said = birth(session, device=device) if is_birth else death(session, device)
        with lasting_store.write() as connection:
            arrivals.commit(connection, [said], now=AT)
    with lasting_store.read() as connection:
        seen = presence.held(connection, device)

    latest = max((session for _, session in story), default=None)
    assert latest == (None if seen is None else seen.session)
    if seen is not None:
        assert seen.online == ((False, latest) not in story)


def test_a_device_that_lost_its_ledger_counts_from_one_again(store: Store) -> None:
    """Sessions are compared within a ledger only; the facts of the birth are learned."""
    add_devices(store, [ONE])
    with store.write() as connection:
        arrivals.commit(connection, [birth(7), report(7, 7), death(7)], now=AT)
        arrivals.commit(connection, [birth(1, ledger="l-2"), report(1, 8)], now=AT)

    with store.read() as connection:
        seen = presence.held(connection, ONE)
        told = reported.held(connection, ONE)
        device = devices.named(connection, ONE)
    assert seen is not None
    assert told is not None
    assert (1, True) == (seen.session, seen.online)
    assert 1 == told.document.session
    assert {LEDGER: "l-2"} == device.facts


def test_a_report_of_an_older_session_is_ignored(store: Store) -> None:
    """A late report can't cover a newer one."""
    add_devices(store, [ONE])
    with store.write() as connection:
        arrivals.commit(connection, [birth(2), report(2, 5), report(1, 4)], now=AT)

    with store.read() as connection:
        told = reported.held(connection, ONE)
    assert told is not None
    assert report(2, 5) == told.document


def test_a_batch_committed_twice_leaves_the_same_store_and_answer(store: Store) -> None:
    """After a broken connection the same documents come again."""
    add_devices(store, [ONE])
    fine = v1.Health(fleet="harbour", device=ONE, session=1, at=AT, period_s=60.0)
    batch = (birth(1), report(1), fine, event(1), event(2))

    def committed() -> tuple[object, ...]:
        with store.write() as connection:
            acked = arrivals.commit(connection, batch, now=AT)
            return (
                list(acked),
                presence.held(connection, ONE),
                reported.held(connection, ONE),
                health.held(connection, ONE),
                events.of_device(connection, ONE, limit=9),
            )

    assert committed() == committed()


def test_documents_about_a_stranger_are_passed_over(store: Store) -> None:
    """They neither fail the batch nor get an acknowledgement."""
    add_devices(store, [ONE])
    stranger = "d-stranger"
    with store.write() as connection:
        acked = arrivals.commit(
            connection,
            [birth(1, device=stranger), report(1, device=stranger), birth(1), death(9, stranger)],
            now=AT,
        )

    assert [] == list(acked)
    with store.read() as connection:
        assert [ONE] == list(presence.among(connection, [ONE, stranger]))


# Names


def test_devices_are_found_by_id_or_by_a_name_that_is_theirs_alone(store: Store) -> None:
    """A name that two have is not guessed at."""
    add_devices(store, [ONE, TWO])
    with store.write() as connection:
        connection.execute(text("UPDATE devices SET name = 'twin'"))

    with store.read() as connection:
        assert ONE == devices.named(connection, ONE).id
        with pytest.raises(AmbiguousError) as twins:
            devices.named(connection, "twin")
        with pytest.raises(NotFoundError):
            devices.named(connection, "nobody")
    assert (ONE, TWO) == twins.value.ids


def test_a_version_is_published_once(store: Store) -> None:
    """The same bundle again is no news; another under its name is refused."""

    def bundle(digest: str, version: str = "1.0.0") -> bundles.PublishedBundle:
        return bundles.PublishedBundle(
            digest=digest, name="digits", version=version, card=b"{}", published_at=AT
        )

    with store.write() as connection:
        assert bundles.add(connection, bundle(DIGEST))
        assert not bundles.add(connection, bundle(DIGEST))
        with pytest.raises(ConflictError):
            bundles.add(connection, bundle("sha256:" + "b" * 64))
        bundles.add(connection, bundle("sha256:" + "c" * 64, "1.1.0"))

    with store.read() as connection:
        assert DIGEST == bundles.named(connection, "digits:1.0.0").digest
        assert "1.0.0" == bundles.named(connection, DIGEST).version
        with pytest.raises(AmbiguousError):
            bundles.named(connection, "digits")
        with pytest.raises(NotFoundError):
            bundles.named(connection, "digits:9.9.9")


def test_the_audit_is_told_newest_first(store: Store) -> None:
    """Who did what to which, and from what to what."""
    entries = [
        audit.Entry(at=AT, actor="ana", action="hold", subject=ONE, before={"held": False}),
        audit.Entry(at=AT, actor="ben", action="release", subject=ONE, after={"held": False}),
        audit.Entry(at=AT, actor="ben", action="hold", subject=TWO, reason="wet"),
    ]
    with store.write() as connection:
        for entry in entries:
            audit.add(connection, entry)

    with store.read() as connection:
        assert entries[::-1] == list(audit.latest(connection, limit=9))
        assert entries[1::-1] == list(audit.latest(connection, limit=9, about=ONE))
