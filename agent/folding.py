"""What is given up of an outbox that has outgrown its bytes, and what is told in its place. Pure.

Numbers have no gaps: whatever goes leaves a record that counts it and stands for
all its numbers, from its `first` to its own.

- Health goes before transitions, the oldest first: each unbroken run of documents
  becomes one record. Transitions beside it keep their numbers.
- Transitions are summed up by cause: a block of them becomes one record a cause,
  under the last numbers of the block.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from agent.wire import codec, v1
from agent.wire.reasons import Reason

HEALTH = v1.EventKind.HEALTH.value
"""The cause of a health document that waits."""

DROPPED = "health, dropped"
"""The cause of a record that counts health documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An event as it waits: what it stands for, why it happened, and its bytes."""

    number: int
    first: int
    cause: str
    body: bytes


def row_of(event: v1.Event) -> Row:
    """Return an event as it waits.

    Raises:
        WireError: it is larger than a document may be.
    """
    return _row(event, HEALTH if event.kind is v1.EventKind.HEALTH else _cause(event))


def drop(rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Row]]:
    """Yield each unbroken run of health rows that has a document, and the record instead of it."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end < len(rows) and rows[end].first == rows[end - 1].number + 1:
            continue
        run, start = rows[start:end], end
        if any(row.cause == HEALTH for row in run):
            events = [codec.decode(row.body, v1.Event) for row in run]
            yield run, _row(_summed(DROPPED, events, run[-1].number, run[0].first), DROPPED)


def fold(rows: Sequence[Row]) -> list[Row]:
    """Return one row a cause in place of at least two neighbours: always fewer of them."""
    groups: dict[str, list[v1.Event]] = {}
    for row in rows:
        groups.setdefault(row.cause, []).append(codec.decode(row.body, v1.Event))
    if len(groups) > len(rows) // 2:  # too many causes to save anything: fold them all into one
        groups = {Reason.OUTBOX_FULL: [event for each in groups.values() for event in each]}
    # What is left gets the last numbers of the block; its first stands for all before it.
    first = rows[0].first
    folded = []
    for row, (cause, events) in zip(rows[-len(groups) :], groups.items(), strict=True):
        folded.append(_row(_summed(cause, events, row.number, first), cause))
        first = row.number + 1
    return folded


def _row(event: v1.Event, cause: str) -> Row:
    first = event.number if event.first is None else event.first
    return Row(number=event.number, first=first, cause=cause, body=codec.encode(event))


def _cause(event: v1.Event) -> str:
    return json.dumps([event.kind, event.deployment, event.phase, event.reason])


def _summed(cause: str, events: Sequence[v1.Event], number: int, first: int) -> v1.Event:
    """Return the record that stands for events of one cause, under a number of theirs."""
    last = events[-1]
    begin = first if first < number else None
    if len(events) == 1 and cause != DROPPED:
        return replace(last, number=number, first=begin)
    mixed = cause == Reason.OUTBOX_FULL
    done = "dropped" if cause == DROPPED else "folded"
    return v1.Event(
        fleet=last.fleet,
        device=last.device,
        ledger=last.ledger,
        number=number,
        first=begin,
        kind=v1.EventKind.FOLDED,
        at=last.at,
        session=last.session,
        deployment=None if mixed else last.deployment,
        phase=None if mixed else last.phase,
        reason=Reason.OUTBOX_FULL if mixed or cause == DROPPED else last.reason,
        count=sum(event.count for event in events),
        message=f"{done}: the outbox was full",
        parameters={
            "kind": _told(last, "kind", last.kind),
            "first_at": _told(events[0], "first_at", events[0].at),
        },
    )


def _told(event: v1.Event, name: str, otherwise: str) -> str:
    """Return what a record that was summed up before says of its events, or of an event itself."""
    return event.parameters[name] if event.kind is v1.EventKind.FOLDED else otherwise
