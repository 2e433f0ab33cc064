"""Words over time in the store: another word is one row, and no device has many."""

import datetime as dt
from collections.abc import Mapping

import pytest
from sqlalchemy import Connection, func, select

from fleet.health.spoken import Word
from fleet.health.states import Finding, State, Verdict
from fleet.store import words
from fleet.store.engine import Store
from fleet.store.tables import words_now
from fleet.words import Words
from tests.fleet.centre.parties import NOW, add_devices

ONE, TWO = "d-one", "d-two"
MINUTE = dt.timedelta(minutes=1)


def is_(state: State, reason: str = "AS_WANTED", subject: str = "", **told: str) -> Verdict:
    finding = Finding(reason=reason, since="1970-01-01T00:00:00Z", subject=subject, parameters=told)
    return Verdict(state=state, finding=finding)


OK, FULL = is_(State.OK), is_(State.DEGRADED, "DISK_NEARLY_FULL", free="12 MiB")


@pytest.fixture(autouse=True)
def _devices(store: Store) -> None:
    add_devices(store, [ONE, TWO])


def note(store: Store, now: dt.datetime, **found: Verdict) -> int:
    with store.write() as connection:
        return words.note(connection, {f"d-{name}": each for name, each in found.items()}, now)


def kept(store: Store, device: str = ONE) -> list[tuple[Word, str, str | None]]:
    with store.read() as connection:
        return [
            (e.word, e.since[11:16], e.until and e.until[11:16])
            for e in words.of_device(connection, device)
        ]


def test_another_word_ends_the_one_before(store: Store) -> None:
    """Dated by the look that found it; that its numbers changed is no other word."""
    assert 2 == note(store, NOW, one=OK, two=OK)
    assert 1 == note(store, NOW + 5 * MINUTE, one=FULL, two=OK)
    assert 0 == note(store, NOW + 6 * MINUTE, one=is_(State.DEGRADED, "DISK_NEARLY_FULL", free="3"))
    assert 1 == note(store, NOW + 95 * MINUTE, one=OK)

    full = Word("degraded", "DISK_NEARLY_FULL", "")
    fine = Word("ok", "AS_WANTED", "")
    assert [(fine, "12:00", "12:05"), (full, "12:05", "13:35"), (fine, "13:35", None)] == kept(
        store
    )
    assert [(fine, "12:00", None)] == kept(store, TWO)


def test_a_device_that_flaps_is_bounded_and_counted(store: Store) -> None:
    """What is older than the latest is summed up by state, and no time is lost."""
    for minute in range(words.KEPT + 31):
        note(store, NOW + minute * MINUTE, one=(OK, FULL)[minute % 2])

    found = kept(store)
    assert words.KEPT + 1 == len(found)
    with store.read() as connection:
        sums = {each.state: each for each in words.summed(connection, ONE)}
    assert {"ok": (15, 900), "degraded": (15, 900)} == {
        state: (each.spans, each.lasted_s) for state, each in sums.items()
    }
    assert found[0][1] == max(each.until for each in sums.values())[11:16]


def test_a_clock_that_was_set_back_ends_nothing_before_it_began(store: Store) -> None:
    """It is a span of no length, and not one of less."""
    note(store, NOW, one=OK)
    note(store, NOW - 60 * MINUTE, one=FULL)

    assert [("12:00", "12:00"), ("11:00", None)] == [each[1:] for each in kept(store)]


def test_only_who_changed_is_written(store: Store) -> None:
    """By who remembers; and after a restart nobody is, whose word is kept already."""
    keeper = Words(store)
    keeper.keep([(ONE, OK), (TWO, OK)], NOW)
    before = store.changes()
    keeper.keep([(ONE, OK), (TWO, OK)], NOW + MINUTE / 2)
    assert before == store.changes()
    keeper.keep([(ONE, FULL), (TWO, OK)], NOW + MINUTE)
    Words(store).keep([(ONE, FULL), (TWO, OK)], NOW + 2 * MINUTE)

    assert [2, 1] == [len(kept(store, device)) for device in (ONE, TWO)]


def test_a_look_follows_the_last_one_or_there_was_a_gap(store: Store) -> None:
    """Looks are one row as long as they follow each other."""
    for minute in (0, 1, 2, 16, 40, 41):
        Words(store).keep([], NOW + minute * MINUTE)

    with store.read() as connection:
        found = [(each.since[14:16], each.until[14:16]) for each in words.all_watches(connection)]
    assert [("00", "16"), ("40", "41")] == found


def test_a_look_by_a_clock_that_was_ahead_hides_no_later_gap(store: Store) -> None:
    """A year ahead for one look, then right again, then nobody looks for three days."""
    for minute in (0, 525_600, 1, 2, 4320):
        Words(store).keep([], NOW + minute * MINUTE)

    with store.read() as connection:
        found = words.all_watches(connection)
    looked = [(NOW + minute * MINUTE).isoformat()[:16] for minute in (1, 2, 4320)]
    told = sorted((each.since[:16], each.until[:16]) for each in found if each.since < "2027")
    assert (looked[0], looked[1]) in told
    assert (looked[2], looked[2]) in told
    assert not any(since <= looked[1] < until for since, until in told)


def test_a_first_look_at_many_is_no_one_long_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hundreds at a time: between them others may write."""
    many = [f"d-{number}" for number in range(1, 1202)]
    add_devices(store, many)
    sizes: list[int] = []
    real = words.note

    def counted(connection: Connection, changed: Mapping[str, Verdict], now: dt.datetime) -> int:
        sizes.append(real(connection, changed, now))
        return sizes[-1]

    monkeypatch.setattr(words, "note", counted)
    Words(store).keep([(each, OK) for each in many], NOW)

    assert [500, 500, 201] == sizes
    with store.read() as connection:
        rows = connection.execute(select(func.count()).select_from(words_now)).scalar_one()
    assert len(many) == rows
