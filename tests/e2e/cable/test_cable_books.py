"""The comparison behind `make cable` sees what it is for: each book is damaged once, on purpose."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import ledger_events
from agent.ledger import Ledger, open_ledger
from agent.state import Note
from agent.wire import codec, v1
from agent.wire.reasons import Reason
from tests.e2e.cable.books import Arrived, compare

AT = "2026-01-02T03:04:05Z"
COUNT = 200
CLAIMED = range(1, COUNT + 1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = open_ledger(tmp_path / "ledger.db", fleet="f", device="d-1")
    yield made
    made.close()


@pytest.fixture
def seen(ledger: Ledger) -> dict[int, bytes]:
    """What a real ledger holds: a hold and a release in turn, a death and a boot among them."""
    for place in range(COUNT):
        if place == 100:
            note = Note(kind=v1.EventKind.BOOT)
        elif place % 40 == 7:
            note = Note(kind=v1.EventKind.WORKER, deployment="a", reason=Reason.WORKER_CRASHED)
        else:
            held = place % 2 == 0
            note = Note(
                kind=v1.EventKind.HOLD,
                reason=Reason.HELD_BY_OWNER if held else None,
                message=f"hold {place // 2}",
            )
        ledger.tell(note, at=AT)
    return dict(held_by(ledger))


def held_by(ledger: Ledger) -> list[tuple[int, bytes]]:
    return list(ledger._database.execute("SELECT number, body FROM event ORDER BY number"))


def delivered(ledger: Ledger) -> list[Arrived]:
    return [Arrived(number, body) for number, body in held_by(ledger)]


@pytest.fixture
def arrived(seen: dict[int, bytes], ledger: Ledger) -> list[Arrived]:
    assert COUNT == len(seen)
    return delivered(ledger)


@pytest.fixture
def folded(
    seen: dict[int, bytes], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> list[Arrived]:
    """What a device has to tell whose outbox was too small, twice over."""
    assert COUNT == len(seen)
    monkeypatch.setattr(ledger_events, "_FOLDED_AT_ONCE", 50)
    for limit in (ledger.outbox_bytes * 3 // 4, ledger.outbox_bytes // 2):
        with ledger._transaction() as run:
            ledger._events.shrink(run, limit)
    return delivered(ledger)


def test_whole_books_agree(seen: dict[int, bytes], arrived: list[Arrived]) -> None:
    """What a real ledger holds, told as it is."""
    found = compare(seen, arrived, CLAIMED)

    assert {} == found.complaints
    assert (COUNT, 0, 0) == (found.whole, found.folded, found.records)


def test_folded_books_agree(seen: dict[int, bytes], folded: list[Arrived]) -> None:
    """The boot among the folded stands for itself, under another number."""
    found = compare(seen, folded, CLAIMED)

    assert {} == found.complaints
    assert found.records > 0
    assert (1, COUNT) == (found.moved, found.whole + found.folded + found.moved)


Damage = Callable[[list[Arrived]], list[Arrived]]


def _one_missing(books: list[Arrived]) -> list[Arrived]:
    return [each for each in books if each.number != 90]


def _doubled(books: list[Arrived]) -> list[Arrived]:
    return [*books[:90], books[89], *books[90:]]


def _doubled_later(books: list[Arrived]) -> list[Arrived]:
    return [*books, books[89]]


def _swapped(books: list[Arrived]) -> list[Arrived]:
    return [*books[:89], books[90], books[89], *books[91:]]


def _contents_swapped(books: list[Arrived]) -> list[Arrived]:
    one, other = books[89], books[91]
    made = list(books)
    made[89], made[91] = (
        replace(one, document=other.document),
        replace(other, document=one.document),
    )
    return made


def _with(books: list[Arrived], place: int, **changes: object) -> list[Arrived]:
    made = list(books)
    event = codec.decode(made[place].document, v1.Event)
    made[place] = replace(made[place], document=codec.encode(replace(event, **changes)))  # type: ignore[arg-type]  # fields of many types
    return made


def _other_words(books: list[Arrived]) -> list[Arrived]:
    return _with(books, 89, message="hold 1")


def _end_is_missing(books: list[Arrived]) -> list[Arrived]:
    return books[:-1]


@pytest.mark.parametrize(
    ("damage", "complaints"),
    [
        (_one_missing, {"lost": [90]}),
        (_end_is_missing, {"lost": [COUNT]}),
        (_doubled, {"twice": [90], "out of order": [90]}),
        (_doubled_later, {"twice": [90], "out of order": [90]}),
        (_swapped, {"out of order": [90]}),
        (_contents_swapped, {"changed": [90, 92]}),
        (_other_words, {"changed": [90]}),
    ],
)
def test_a_book_that_was_damaged_is_seen(
    seen: dict[int, bytes], arrived: list[Arrived], damage: Damage, complaints: dict[str, list[int]]
) -> None:
    """A record lost, doubled, swapped, or not the one that happened."""
    found = compare(seen, damage(arrived), CLAIMED).complaints

    assert complaints.keys() <= found.keys()
    for name, numbers in complaints.items():
        assert set(numbers) <= {n for n in found[name] if isinstance(n, int)}


def _place(books: list[Arrived], kind: v1.EventKind) -> int:
    found = (codec.decode(each.document, v1.Event).kind for each in books)
    return next(place for place, each in enumerate(found) if each is kind)


def test_a_folded_record_that_counts_wrongly_is_seen(
    seen: dict[int, bytes], folded: list[Arrived]
) -> None:
    """One too few or too many; or one that is gone altogether."""
    place = _place(folded, v1.EventKind.FOLDED)
    count = codec.decode(folded[place].document, v1.Event).count
    for wrong in (count - 1, count + 1):
        found = compare(seen, _with(folded, place, count=wrong), CLAIMED)
        assert ["miscounted"] == list(found.complaints)

    assert "lost" in compare(seen, folded[:place] + folded[place + 1 :], CLAIMED).complaints


def test_what_stands_for_itself_among_the_folded_must_have_happened(
    seen: dict[int, bytes], folded: list[Arrived]
) -> None:
    """A boot that nobody saw so."""
    made = _with(folded, _place(folded, v1.EventKind.BOOT), message="another")

    assert ["changed"] == list(compare(seen, made, CLAIMED).complaints)


def test_what_was_not_seen_is_not_claimed(seen: dict[int, bytes], arrived: list[Arrived]) -> None:
    """A watch with a hole proves nothing there, and says so; beyond the watch it claims nothing."""
    hole = {number: body for number, body in seen.items() if number != 90}
    assert {"never seen in the ledger": [90]} == compare(hole, arrived, CLAIMED).complaints

    late = {number: body for number, body in seen.items() if number > 50}
    assert {} == compare(late, arrived, range(51, COUNT + 1)).complaints
