"""The ledger's events: a queue of rows in its file, numbered, and bounded in bytes.

Every method runs in a transaction of the ledger's, which takes `size` back when
it fails. What is given up when the queue is too long is decided by `agent.folding`;
never anything of the first `WINDOW`, which may have been sent under their numbers.
Of what the centre has, the last few transitions are kept for who stands before the device.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent import folding
from agent.folding import Row
from agent.ledger_file import Run
from agent.wire import codec, v1
from agent.wire.shed import shed_waiting

WINDOW = 64
"""Events that may be under way before the centre has acknowledged the first of them."""

KEPT = 20
"""Transitions that stay when the centre has them, for a person: what fits on a screen or two."""

_FOLDED_AT_ONCE = 512
_DROPPED_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An event that the centre has not acknowledged, as it is sent."""

    number: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many events wait, and how many bytes they have."""

    count: int = 0
    bytes: int = 0


class EventQueue:
    """The events that wait, in the ledger's file."""

    def __init__(self, run: Run) -> None:
        self.size = _size(run, "")

    def add(self, run: Run, row: Row) -> None:
        """Put an event at the end."""
        run("INSERT INTO event VALUES (?, ?, ?, ?)", (row.number, row.first, row.cause, row.body))
        self.size = Size(count=self.size.count + 1, bytes=self.size.bytes + len(row.body))

    def shrink(self, run: Run, limit_bytes: int) -> None:
        """Give up what must be given up to have at most so many bytes, if that is possible."""
        while self.size.bytes > limit_bytes and (self._drop(run) or self._fold(run)):
            pass

    def pending(self, run: Run, limit: int) -> tuple[Pending, ...]:
        """Return the oldest, in order."""
        found = run("SELECT number, body FROM event ORDER BY number LIMIT ?", (min(limit, WINDOW),))
        return tuple(Pending(number=number, body=body) for number, body in found)

    def latest(self, run: Run) -> tuple[bytes, ...]:
        """Return the last transitions, told or not, the newest first: at most `KEPT`."""
        found = run(
            "SELECT body FROM event WHERE cause NOT IN (?, ?) ORDER BY number DESC LIMIT ?",
            (folding.HEALTH, folding.DROPPED, KEPT),
        ).fetchall()
        found += run(
            "SELECT body FROM past ORDER BY number DESC LIMIT ?", (KEPT - len(found),)
        ).fetchall()
        return tuple(body for (body,) in found)

    def forget(self, run: Run, number: int) -> int:
        """Forget all up to a number, but for the last transitions; return how many there were."""
        gone = _size(run, "WHERE number <= ?", number)
        run(
            "INSERT OR REPLACE INTO past SELECT number, body FROM event"
            " WHERE number <= ? AND cause NOT IN (?, ?) ORDER BY number DESC LIMIT ?",
            (number, folding.HEALTH, folding.DROPPED, KEPT),
        )
        run(
            "DELETE FROM past WHERE number NOT IN"
            " (SELECT number FROM past ORDER BY number DESC LIMIT ?)",
            (KEPT,),
        )
        run("DELETE FROM event WHERE number <= ?", (number,))
        self._shorter(gone)
        return gone.count

    def sendable(self, run: Run) -> int | None:
        """Return the highest number that may have been sent of those that wait. None: none do."""
        found: tuple[int | None] = run(
            "SELECT max(number) FROM (SELECT number FROM event ORDER BY number LIMIT ?)", (WINDOW,)
        ).fetchone()
        return found[0]

    def renumber(self, run: Run, ledger: str) -> int:
        """Number all that wait anew, as of a ledger of this id; return the next number."""
        rows = _rows(run("SELECT * FROM event ORDER BY number"))
        shift = 1 - rows[0].first if rows else 0
        run("DELETE FROM event")
        for row in rows:
            event = codec.decode(row.body, v1.Event)
            moved = replace(
                event,
                ledger=ledger,
                number=event.number + shift,
                first=None if event.first is None else event.first + shift,
            )
            body = codec.encode(shed_waiting(moved) if moved.health else moved)
            number, first = row.number + shift, row.first + shift
            run("INSERT INTO event VALUES (?, ?, ?, ?)", (number, first, row.cause, body))
        # What was told is kept below what is still to be told: it is older.
        past = run("SELECT number, body FROM past ORDER BY number").fetchall()
        run("DELETE FROM past")
        for place, (_, body) in enumerate(past):
            run("INSERT INTO past VALUES (?, ?)", (place - len(past), body))
        self.size = _size(run, "")
        return rows[-1].number + shift + 1 if rows else 1

    def _drop(self, run: Run) -> bool:
        """Drop the oldest health not sent yet; False when there is none."""
        (sealed,) = run(
            "SELECT max(number) FROM (SELECT number FROM event ORDER BY number LIMIT ?)", (WINDOW,)
        ).fetchone()
        oldest = run(
            "SELECT number FROM event WHERE number > ? AND cause = ? ORDER BY number LIMIT 1",
            (sealed, folding.HEALTH),
        ).fetchone()
        if oldest is None:
            return False
        (begin,) = run(  # with the record of what was dropped before: it may be next to it
            "SELECT coalesce(max(number), ?) FROM event"
            " WHERE number > ? AND number < ? AND cause = ?",
            (oldest[0], sealed, oldest[0], folding.DROPPED),
        ).fetchone()
        rows = _rows(
            run(
                "SELECT * FROM event WHERE number >= ? AND cause IN (?, ?) ORDER BY number LIMIT ?",
                (begin, folding.HEALTH, folding.DROPPED, _DROPPED_AT_ONCE),
            )
        )
        for dropped, record in folding.drop(rows):
            self._replace(run, dropped, [record])
        return True

    def _fold(self, run: Run) -> bool:
        """Fold the oldest events not sent yet, one record a cause; False when there are too few."""
        rows = _rows(
            run("SELECT * FROM event ORDER BY number LIMIT ? OFFSET ?", (_FOLDED_AT_ONCE, WINDOW))
        )
        if len(rows) < 2:  # noqa: PLR2004  # one can't be folded
            return False
        self._replace(run, rows, folding.fold(rows))
        return True

    def _replace(self, run: Run, old: Sequence[Row], new: Sequence[Row]) -> None:
        """Put rows in the place of neighbours."""
        run("DELETE FROM event WHERE number BETWEEN ? AND ?", (old[0].number, old[-1].number))
        self._shorter(Size(count=len(old), bytes=sum(len(row.body) for row in old)))
        for row in new:
            self.add(run, row)

    def _shorter(self, gone: Size) -> None:
        self.size = Size(count=self.size.count - gone.count, bytes=self.size.bytes - gone.bytes)


def _size(run: Run, where: str, *parameters: int) -> Size:
    count, size = run(
        f"SELECT count(*), coalesce(sum(length(body)), 0) FROM event {where}",  # noqa: S608  # ours
        parameters,
    ).fetchone()
    return Size(count=count, bytes=size)


def _rows(found: Iterable[tuple[int, int, str, bytes]]) -> list[Row]:
    return [
        Row(number=number, first=first, cause=cause, body=body)
        for number, first, cause, body in found
    ]
