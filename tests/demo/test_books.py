"""What the demo compares, on books written here: each way to be untrue is seen."""

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from fleet.cli.demo import _lacks
from fleet.demo.client import Answer
from fleet.demo.crew import ClaimError, Crew
from fleet.demo.ledger import acknowledged, arrivals, read
from fleet.demo.load import Failed, Heard
from fleet.demo.stage import Agent, Options, Stage
from fleet.demo.steps.cable import Chronicle, check_same, missed
from fleet.demo.steps.rolling import check_answers

OLD, NEW = Answer(version="1.0.0", raw=b"old"), Answer(version="2.0.0", raw=b"new")


def written(home: Path, records: dict[int, bytes], *, told: int, ledger: str = "l-1") -> None:
    """Write a ledger as an agent does, as far as the demo reads it."""
    home.mkdir(exist_ok=True)
    (home / "ledger.db").unlink(missing_ok=True)
    with closing(sqlite3.connect(home / "ledger.db")) as database, database:
        database.execute("CREATE TABLE meta (name TEXT, value TEXT)")
        database.execute("CREATE TABLE event (number INT, first INT, cause TEXT, body BLOB)")
        meta = [("id", ledger), ("next", str(told + 1))]
        database.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        rows = [(number, number, "", body) for number, body in records.items()]
        database.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)


def chronicle(home: Path) -> Chronicle:
    agent = Agent(
        name="porto-1", site="porto", home=home, port=1, python=Path("python"), library="litert"
    )
    return Chronicle(agent=agent, ledger="l-1", acked=0)


def failed(asked_at: float, text: str, *, until: float | None = None) -> Failed:
    return Failed(asked_at=asked_at, failed_at=until or asked_at + 0.01, text=text)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    options = Options(folder=tmp_path, devices=1, port=0, tflite_python=None)
    made = Stage(options, Crew(tmp_path, {}), ExitStack())
    made.answers = {"1.0.0": {"porto-1": [OLD]}, "2.0.0": {"porto-1": [NEW]}}
    return made


async def test_a_ledger_is_copied_as_it_grows(tmp_path: Path) -> None:
    """What was seen once is kept, though the outbox forgets it when it is acknowledged."""
    book = chronicle(tmp_path)
    written(tmp_path, {1: b"a", 2: b"b"}, told=2)
    await book.look()
    written(tmp_path, {2: b"b", 3: b"c"}, told=3)
    page = await book.look()

    assert (3, {2: b"b", 3: b"c"}) == (page.told, page.waiting)
    assert {1: b"a", 2: b"b", 3: b"c"} == book.records


@pytest.mark.parametrize(
    ("records", "told", "ledger", "why"),
    [
        ({1: b"a", 3: b"c"}, 3, "l-1", "gaps"),
        ({1: b"a"}, 2, "l-1", "gaps"),
        ({1: b"other", 2: b"b"}, 2, "l-1", "record 1 of porto-1 was changed"),
        ({1: b"a", 2: b"b"}, 2, "l-2", "began a new ledger"),
    ],
)
async def test_a_ledger_that_was_tampered_with_is_seen(
    tmp_path: Path, records: dict[int, bytes], told: int, ledger: str, why: str
) -> None:
    """A record that is gone, one that changed, or another ledger in its place."""
    book = chronicle(tmp_path)
    written(tmp_path, {1: b"a", 2: b"b"}, told=2)
    await book.look()
    written(tmp_path, records, told=told, ledger=ledger)

    with pytest.raises(ClaimError, match=why) as failed:
        await book.look()
    assert "cable" == failed.value.claim
    assert b"a" == book.records[1], "what was copied stays"


@pytest.mark.parametrize(
    ("found", "why"),
    [([1, 3], "1 records were lost; the first is 2"), ([1, 2, 2, 3], "1 records came twice"),
     ([1, 3, 2], "another order"), ([1, 2, 3, 4], "that nobody told")],
)  # fmt: skip
def test_numbers_are_compared_one_by_one(found: Sequence[int], why: str) -> None:
    """Lost, twice, in another order, made up: each is said."""
    check_same([1, 2, 3], at_least=3, at_most=3)

    with pytest.raises(ClaimError, match=why):
        check_same(found, at_least=3, at_most=3)


def test_what_was_told_while_the_books_were_read_may_have_come_or_not() -> None:
    """A device says every second how it is, also between two looks at two books."""
    check_same([1, 2, 3], at_least=3, at_most=4)
    check_same([1, 2, 3, 4], at_least=3, at_most=4)

    with pytest.raises(ClaimError, match="the first is 3"):
        check_same([1, 2, 4], at_least=3, at_most=4)
    with pytest.raises(ClaimError, match="that nobody told"):
        check_same([1, 2, 3, 4, 5], at_least=3, at_most=4)


def test_the_store_is_read_in_the_order_of_arrival(tmp_path: Path) -> None:
    """Of one ledger of one device, whatever else is there."""
    with closing(sqlite3.connect(tmp_path / "store.db")) as store, store:
        store.execute("CREATE TABLE events (device TEXT, ledger TEXT, number INT, document BLOB)")
        rows = [
            ("d", "l", 2, b"b"),
            ("d", "other", 1, b"x"),
            ("e", "l", 1, b"y"),
            ("d", "l", 1, b"a"),
        ]
        store.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        store.execute("CREATE TABLE acked (device TEXT, ledger TEXT, number INT)")
        store.execute("INSERT INTO acked VALUES ('d', 'l', 2)")

    assert (2, 0) == tuple(
        acknowledged(tmp_path / "store.db", "d", ledger) for ledger in ("l", "other")
    )
    assert [(2, b"b"), (1, b"a")] == arrivals(tmp_path / "store.db", "d", "l")


def test_reading_a_ledger_changes_nothing(tmp_path: Path) -> None:
    """Its file is the same afterwards, to the byte."""
    written(tmp_path, {1: b"a"}, told=1)
    before = (tmp_path / "ledger.db").read_bytes()
    read(tmp_path)

    assert before == (tmp_path / "ledger.db").read_bytes()
    assert ["ledger.db"] == [each.name for each in tmp_path.iterdir()]


def test_answers_of_the_allowed_versions_are_counted(stage: Stage) -> None:
    """Each device's own answers of the versions that may answer, and no others."""
    heard = Heard()
    heard.answers[0, OLD] += 2
    heard.answers[0, NEW] += 3
    count = check_answers(stage, "waves", {"porto-1": heard}, {"porto-1": ("1.0.0", "2.0.0")})

    assert 5 == count == stage.given
    with pytest.raises(ClaimError, match=r"an answer of 1\.0\.0"):
        check_answers(stage, "waves", {"porto-1": heard}, {"porto-1": ("2.0.0",)})
    assert 5 == stage.given


def test_an_answer_with_other_values_is_seen(stage: Stage) -> None:
    """A version that answers otherwise than it did when it was asked before is no such version."""
    heard = Heard()
    heard.answers[0, Answer(version="2.0.0", raw=b"old")] += 1

    with pytest.raises(ClaimError, match="not one of its own"):
        check_answers(stage, "waves", {"porto-1": heard}, {"porto-1": ("1.0.0", "2.0.0")})
    assert 0 == stage.given


def test_one_failed_request_is_enough(stage: Stage) -> None:
    """Unless somebody else judges that device's failures."""
    heard = {"porto-1": Heard(failed=[failed(1.0, "503")])}

    with pytest.raises(ClaimError, match="1 requests to porto-1 failed, the first with 503"):
        check_answers(stage, "waves", heard, {"porto-1": ()})
    assert 0 == check_answers(stage, "waves", heard, {"porto-1": ()}, forgiven=["porto-1"])


def test_only_a_dead_device_is_spared(tmp_path: Path) -> None:
    """A request that failed while nothing of it was dead is a failure of the device."""
    book = chronicle(tmp_path)
    book.dead = [(10.0, 12.0)]

    assert 1 == missed(book, Heard(failed=[failed(11.0, "refused")]))
    assert 1 == missed(book, Heard(failed=[failed(9.0, "cut off", until=10.5)]))
    assert 1 == missed(book, Heard(failed=[failed(11.5, "cut off", until=12.5)]))
    for wrong in (failed(13.0, "refused"), failed(9.0, "refused", until=9.5)):
        with pytest.raises(ClaimError, match="a request to porto-1 failed: refused"):
            missed(book, Heard(failed=[failed(11.0, "refused"), wrong]))


def test_why_there_is_no_other_runtime_is_true(tmp_path: Path) -> None:
    """Not there, or there and not for this user."""
    python = tmp_path / ".venv-tflite" / "bin" / "python"
    assert f"there is no {python} (it needs Python 3.11)" == _lacks(python)
    python.parent.mkdir(parents=True)
    python.write_bytes(b"")
    python.chmod(0o600)
    told = _lacks(python)
    assert "is there, but this user can't run" in told
    python.chmod(0o700)
    assert "" == _lacks(python)
