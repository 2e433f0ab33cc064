"""What a device must not forget, and what it does with a damaged file."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import ledger as ledger_module
from agent.keepsake import HeldDocument
from agent.ledger import Ledger, open_ledger
from agent.ledger_file import LedgerError
from agent.state import (
    Installed,
    Measured,
    Note,
    Quarantined,
    Record,
    accepted,
    hold_note,
)
from agent.wire import codec, v1
from agent.wire.order import Held
from agent.wire.phases import Happening, Phase

AT = "2026-01-02T03:04:05Z"
RUNTIME = "litert 2.3.0"
DIGEST = "sha256:" + "a" * 64


def deployment(revision: int = 1, name: str = "digits") -> v1.Deployment:
    return v1.Deployment(
        name=name,
        revision=revision,
        bundle=v1.BundleRef(digest=DIGEST, name="digits", version="1.0.0"),
        settings=v1.DeploymentSettings(values={"threshold": 0.5, "key": v1.SecretRef(secret="k")}),
    )


def note(reason: str = "TIMED_OUT", name: str = "digits") -> Note:
    return Note(kind=v1.EventKind.PHASE, deployment=name, phase=Phase.FETCHING, reason=reason)


def open_at(path: Path) -> Ledger:
    return open_ledger(path, fleet="f", device="d-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = open_at(path)
    yield opened
    opened.close()


def events(ledger: Ledger, limit: int = 64) -> list[v1.Event]:
    return [codec.decode(each.body, v1.Event) for each in ledger.pending(limit)]


def held_document(generation: int) -> HeldDocument:
    order = v1.Order(epoch=0, generation=generation)
    return HeldDocument(
        held=Held(order=order, payload_digest=DIGEST), payload=b"{}", envelope=b"{...}"
    )


def test_all_is_there_again_after_a_restart(ledger: Ledger, path: Path) -> None:
    """A ledger opened again says the same: id, session, documents, records, events."""
    record = accepted(deployment(), AT).moved(Happening.BEGUN, AT)
    ledger.hold("desired", held_document(7))
    assert ledger.put("digits", None, record, [note()], at=AT)
    assert ledger.next_session() == 1
    before = (ledger.id, ledger.session, dict(ledger.records), ledger.pending())
    ledger.close()

    again = open_at(path)

    assert before == (again.id, again.session, dict(again.records), again.pending())
    assert again.held("desired") == held_document(7)
    assert again.held("site-desired") is None
    again.close()


def test_a_record_is_replaced_only_by_who_read_it_as_it_is(ledger: Ledger) -> None:
    """A step overtaken by a newer revision changes nothing and tells nothing."""
    first = accepted(deployment(1), AT)
    second = first.superseded(deployment(2), AT)
    assert ledger.put("digits", None, first, at=AT)
    assert ledger.put("digits", first, second, at=AT)

    late = ledger.put("digits", first, first.moved(Happening.BEGUN, AT), [note()], at=AT)

    assert not late
    assert {"digits": second} == dict(ledger.records)
    assert ledger.depth == 0


def test_a_record_can_be_forgotten(ledger: Ledger, path: Path) -> None:
    """A retired deployment is gone after a restart too."""
    record = accepted(deployment(), AT)
    ledger.put("digits", None, record, at=AT)
    ledger.put("digits", record, None, [note()], at=AT)
    ledger.close()

    again = open_at(path)

    assert {} == dict(again.records)
    assert again.depth == 1
    again.close()


def test_only_the_centre_empties_the_outbox(ledger: Ledger) -> None:
    """Events go when acknowledged for this ledger's id, and their numbers are never used again."""
    for _ in range(5):
        ledger.tell(note(), at=AT)

    def acked(number: int, of: str) -> v1.Acked:
        return v1.Acked(fleet="f", device="d-1", ledger=of, number=number)

    assert ledger.acknowledge(acked(5, "l-other")) == 0
    assert ledger.depth == 5
    assert ledger.acknowledge(acked(3, ledger.id)) == 3
    assert [event.number for event in events(ledger)] == [4, 5]
    assert ledger.acknowledge(acked(5, ledger.id)) == 2
    assert ledger.outbox_bytes == 0
    ledger.tell(note(), at=AT)
    assert [event.number for event in events(ledger)] == [6]


def centre_has(heard: dict[tuple[str, int], str], ledger: Ledger) -> v1.Acked:
    """Commit what waits as the centre does, by number; return how far that goes without a gap."""
    for event in events(ledger):
        heard.setdefault((event.ledger, event.number), event.reason or "")
    number = 0
    while (ledger.id, number + 1) in heard:
        number += 1
    return v1.Acked(fleet="f", device="d-1", ledger=ledger.id, number=number)


@pytest.mark.parametrize("since", [0, 1, 100])
def test_a_ledger_from_an_older_disk_loses_nothing_that_it_tells(path: Path, since: int) -> None:
    """Its numbers mean other events there: once that shows, it tells all of them as another one."""
    heard: dict[tuple[str, int], str] = {}
    first = open_at(path)
    first.tell(note("ONE"), note("TWO"), at=AT)
    first.acknowledge(centre_has(heard, first))
    first.tell(note("THREE"), at=AT)
    copy = path.with_name("copy.db")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as into:
        source.backup(into)
    source.close()
    into.close()
    for number in range(90):
        first.tell(note(f"LOST_{number}"), at=AT)
        first.acknowledge(centre_has(heard, first))
    was = first.id
    first.close()

    restored = open_at(copy)
    restored.tell(*(note(f"NEW_{number}") for number in range(since)), at=AT)
    assert restored.acknowledge(centre_has(heard, restored)) == 0
    assert restored.id != was
    restored.close()
    restored = open_at(copy)
    restored.tell(note("LAST"), at=AT)
    while restored.depth:
        assert restored.acknowledge(centre_has(heard, restored))
    told = [reason for (ledger, _), reason in heard.items() if ledger == restored.id]
    assert told == ["THREE", *(f"NEW_{number}" for number in range(since)), "LAST"]
    assert restored.told == len(told)
    restored.close()


def test_after_it_has_become_another_its_newest_transitions_are_those_that_are_kept(
    ledger: Ledger,
) -> None:
    """What was told under the old numbers is older than all that is told under the new ones."""

    def hears(number: int) -> None:
        ledger.acknowledge(v1.Acked(fleet="f", device="d-1", ledger=ledger.id, number=number))

    for _ in range(40):
        ledger.tell(note("TIMED_OUT"), at=AT)
    hears(40)
    hears(500)
    for _ in range(5):
        ledger.tell(note("DISK_FULL"), at=AT)
    hears(5)
    said = [event.reason for event in ledger.latest()]

    assert 5 == said.count("DISK_FULL")


def test_a_full_outbox_folds_the_oldest_by_cause_and_loses_no_count(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its bytes; all are counted; numbers have no gaps; nothing sent is renumbered."""
    monkeypatch.setattr(ledger_module, "OUTBOX_LIMIT_BYTES", 60_000)
    told = 2000
    for index in range(told):
        ledger.tell(note(("TIMED_OUT", "DISK_FULL", "NOT_FOUND")[index % 3]), at=AT)

    assert ledger.outbox_bytes <= 60_000
    everything: list[v1.Event] = []
    while ledger.depth:
        batch = events(ledger)
        everything += batch
        ledger.acknowledge(
            v1.Acked(fleet="f", device="d-1", ledger=ledger.id, number=batch[-1].number)
        )
    assert sum(event.count for event in everything) == told
    covered = [
        number
        for event in everything
        for number in range(event.first or event.number, event.number + 1)
    ]
    assert covered == list(range(1, told + 1))
    assert [event.number for event in everything[:64]] == list(range(1, 65))
    folded = {event.reason for event in everything if event.kind is v1.EventKind.FOLDED}
    assert folded == {"TIMED_OUT", "DISK_FULL", "NOT_FOUND"}


def test_more_causes_than_room_still_fits(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every event has its own cause they are folded all the same, and counted."""
    monkeypatch.setattr(ledger_module, "OUTBOX_LIMIT_BYTES", 40_000)
    for index in range(800):
        ledger.tell(note(name=f"n{index}"), at=AT)

    assert ledger.outbox_bytes <= 40_000
    total = 0
    while ledger.depth:
        batch = events(ledger)
        total += sum(event.count for event in batch)
        ledger.acknowledge(
            v1.Acked(fleet="f", device="d-1", ledger=ledger.id, number=batch[-1].number)
        )
    assert total == 800


@pytest.mark.parametrize("damage", ["garbage", "truncated", "zeroed page", "record"])
def test_a_damaged_ledger_is_moved_aside(path: Path, damage: str) -> None:
    """A new one starts, the old bytes are kept, and the new one has another id."""
    ledger = open_at(path)
    old_id = ledger.id
    ledger.put("digits", None, accepted(deployment(), AT), [note()] * 40, at=AT)
    ledger.close()
    if damage == "record":
        database = sqlite3.connect(path)
        database.execute("UPDATE deployment SET body = '{}'")
        database.commit()
        database.close()
    raw = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"not a database at all" * 500)
    elif damage == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "zeroed page":
        path.write_bytes(raw[:4096] + bytes(4096) + raw[8192:])
    damaged = path.read_bytes()

    again = open_at(path)

    assert again.moved_aside == path.with_name("ledger.db.corrupt-1")
    assert again.moved_aside.read_bytes() == damaged
    assert again.id != old_id
    assert {} == dict(again.records)
    again.close()
    path.write_bytes(b"and again" * 1000)
    third = open_at(path)
    assert third.moved_aside == path.with_name("ledger.db.corrupt-2")
    third.close()


def test_a_newer_agents_ledger_is_not_taken_for_damaged(path: Path) -> None:
    """It is refused and left as it is: going back to an old agent must not forget what serves."""
    open_at(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.commit()
    database.close()
    before = path.read_bytes()

    with pytest.raises(LedgerError) as caught:
        open_at(path)

    assert caught.value.reason == "UNKNOWN_SCHEMA"
    assert path.read_bytes() == before


def test_a_failed_write_changes_nothing(path: Path) -> None:
    """When the disk is full the old record holds, in memory as in the file."""
    ledger = open_at(path)
    record = accepted(deployment(), AT)
    ledger.put("digits", None, record, [note()], at=AT)
    pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
    ledger._database.execute(f"PRAGMA max_page_count={pages}")
    before: tuple[dict[str, Record], int] = (dict(ledger.records), ledger.depth)

    with pytest.raises(LedgerError) as caught:
        ledger.put("digits", record, record.moved(Happening.BEGUN, AT), [note()] * 200, at=AT)

    assert caught.value.reason == "DISK_FULL"
    assert before == (dict(ledger.records), ledger.depth)
    ledger.close()


FIRST_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE held (
  kind TEXT PRIMARY KEY, epoch INTEGER NOT NULL, generation INTEGER NOT NULL,
  payload_digest TEXT NOT NULL, payload BLOB NOT NULL, envelope BLOB NOT NULL
) STRICT;
CREATE TABLE deployment (
  name TEXT PRIMARY KEY, revision INTEGER NOT NULL, phase TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE event (
  number INTEGER PRIMARY KEY, first INTEGER NOT NULL, cause TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
PRAGMA user_version=1;
"""


def test_a_ledger_of_the_first_schema_keeps_all_it_has(ledger: Ledger, path: Path) -> None:
    """An agent that is renewed goes on with the same id, documents, records and events."""
    record = accepted(deployment(), AT)
    ledger.hold("desired", held_document(7))
    ledger.put("digits", None, record, [note(), note("DISK_FULL")], at=AT)
    ledger.next_session()
    before = (ledger.id, ledger.session, dict(ledger.records), ledger.pending(), ledger.told)
    ledger.close()
    old = path.with_name("old.db")
    database = sqlite3.connect(old)
    database.executescript(FIRST_SCHEMA)
    database.execute("ATTACH ? AS new", (str(path),))
    for table in ("meta", "held", "deployment", "event"):
        database.execute(f"INSERT INTO main.{table} SELECT * FROM new.{table}")  # noqa: S608  # ours
    database.commit()
    database.close()

    again = open_at(old)

    after = (again.id, again.session, dict(again.records), again.pending(), again.told)
    assert before == after
    assert again.moved_aside is None
    assert again.held("desired") == held_document(7)
    assert {} == dict(again.quarantined)
    assert again.owner_hold is None
    assert again.put("digits", record, record, at=AT, verdicts={DIGEST: VERDICT})
    again.close()


VERDICT = Quarantined(
    digest=DIGEST, reason="GOLDEN_MISMATCH", since=AT, message="0 of 8", runtime=RUNTIME
)


def test_what_is_in_quarantine_is_there_after_a_restart_until_it_is_lifted(
    ledger: Ledger, path: Path
) -> None:
    """Written with the record that shows why, or not at all; of a digest, not of a deployment."""
    record = accepted(deployment(), AT)
    other = replace(record, since="2026-01-02T03:04:06Z")
    ledger.put("digits", None, record, at=AT, verdicts={DIGEST: VERDICT})
    assert not ledger.put("digits", other, record, at=AT, verdicts={DIGEST: None})
    ledger.close()

    again = open_at(path)
    assert {DIGEST: VERDICT} == dict(again.quarantined)
    assert again.put("digits", record, None, at=AT, verdicts={DIGEST: None})
    assert {} == dict(again.quarantined)
    again.close()

    last = open_at(path)
    assert {} == dict(last.quarantined)
    last.close()


def test_a_hold_is_known_after_a_restart_until_it_ends(ledger: Ledger, path: Path) -> None:
    """And each is told once, in the same write."""
    hold = v1.Hold(reason="the belt is being changed", since=AT)
    ledger.heed(hold, hold_note(hold, None), at=AT)
    ledger.close()

    again = open_at(path)
    assert again.owner_hold == hold
    again.heed(None, hold_note(None, hold), at=AT)
    again.close()

    last = open_at(path)
    assert last.owner_hold is None
    told = [(e.kind, e.parameters["what"], e.message, e.reason) for e in events(last)]
    assert told == [
        ("hold", "held", "the belt is being changed", "HELD_BY_OWNER"),
        ("hold", "released", "the belt is being changed", None),
    ]
    last.close()


def installed(revision: int = 1) -> Installed:
    return Installed(
        deployment=deployment(revision),
        variant=DIGEST,
        runtime=RUNTIME,
        hardware="here",
        measured=(Measured(variant=DIGEST, format="int8", accelerator="cpu", threads=1),),
    )


def serving(ledger: Ledger) -> Record:
    """Let a deployment serve, and obey a document."""
    ledger.hold("desired", held_document(7))
    first = accepted(deployment(), AT)
    serves = replace(first, phase=Phase.COMMITTED, current=installed(), proven=True)
    assert ledger.put("digits", None, serves, at=AT)
    return serves


def test_a_lost_ledger_forgets_nothing_that_serves(ledger: Ledger, path: Path) -> None:
    """The new one knows what served and what is obeyed; it counts anew under another id."""
    serves = serving(ledger)
    before = ledger.id
    ledger.close()
    path.write_bytes(b"what a dying card makes of it" * 500)

    again = open_at(path)

    assert again.moved_aside is not None
    assert {"digits": serves} == dict(again.records)
    assert held_document(7) == again.held("desired")
    assert before != again.id
    again.close()
    assert {"digits": serves} == dict(open_at(path).records)  # and it is written


def test_a_revision_on_trial_gives_way_to_what_was_committed(ledger: Ledger, path: Path) -> None:
    """When the ledger that knew of the trial is lost; it is tried again when it is desired."""
    serves = serving(ledger)
    trial = replace(
        serves.superseded(deployment(2), AT),
        phase=Phase.PROBATION,
        current=installed(2),
        previous=installed(),
        proven=False,
    )
    assert ledger.put("digits", serves, trial, at=AT)
    ledger.close()
    path.write_bytes(b"")
    path.with_name("ledger.db-wal").write_bytes(b"no log at all")
    path.write_bytes(b"what a dying card makes of it" * 500)
    again = open_at(path)
    record = again.records["digits"]
    assert (Phase.COMMITTED, installed(), True) == (record.phase, record.current, record.proven)
    again.close()


def test_where_the_disk_has_no_ledger_the_device_knows_what_it_serves(
    ledger: Ledger, path: Path
) -> None:
    """It is in memory, says why, and leaves the file as it is."""
    serves = serving(ledger)
    ledger.close()
    path.rename(path.with_name("away"))
    path.mkdir()  # what can't be opened, whoever asks

    again = open_at(path)

    assert "can't be written" in again.forgetful
    assert {"digits": serves} == dict(again.records)
    again.tell(note(), at=AT)
    assert 1 == again.depth
    again.close()
    assert path.is_dir()


@pytest.mark.parametrize("kept", [b"", b"{}", b"\xff" * 10, b'{"held": {}, "schema": 2}', None])
def test_a_keepsake_that_says_nothing_is_none(path: Path, kept: bytes | None) -> None:
    """Then a damaged ledger is a new one, as it ever was."""
    if kept is not None:
        path.with_name("serving.json").write_bytes(kept)
    path.write_bytes(b"what a dying card makes of it" * 500)
    again = open_at(path)
    assert not again.records
    assert again.moved_aside is not None
    again.close()
