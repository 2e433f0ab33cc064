"""Two books of one device compared: what its ledger was seen to hold, and what the centre has.

Complete, in order, once: each number is covered by exactly one record, records came
with rising numbers, and each has the bytes that the ledger had. Where the ledger has
folded events, what arrived instead must count, cause by cause, what was folded.

It is `agent.folding` seen from outside, on purpose written again: it shares with it
only the document.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.wire import codec, v1

Cause = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A record as the centre's store has it."""

    number: int
    document: bytes


@dataclass(slots=True)
class Verdict:
    """What the comparison found, by number; and what was folded, which is no complaint.

    `moved`: single events of their cause, which stand for themselves among what was folded, under
    another number.
    """

    whole: int = 0
    moved: int = 0
    folded: int = 0
    records: int = 0
    lost: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    disordered: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    miscounted: list[str] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)

    @property
    def complaints(self) -> dict[str, list[int] | list[str]]:
        """What is not as it should be; nothing when the books agree."""
        found: dict[str, list[int] | list[str]] = {
            "lost": self.lost,
            "twice": self.twice,
            "out of order": self.disordered,
            "changed": self.changed,
            "miscounted": self.miscounted,
            "never seen in the ledger": self.unseen,
        }
        return {name: each for name, each in found.items() if each}


@dataclass(slots=True)
class _Folds:
    """Records without a gap between them, of which the first at least stands for others."""

    first: int
    last: int
    events: list[v1.Event]


def compare(seen: Mapping[int, bytes], arrived: Sequence[Arrived], claimed: range) -> Verdict:
    """Compare what a ledger held with what arrived, in the order in which it did.

    `claimed`: the numbers that the ledger was watched for. What is beyond it must be there once
    and in order, but with which bytes nobody knows.
    """
    found = Verdict()
    events = [codec.decode(each.document, v1.Event) for each in arrived]
    _count(found, events, claimed)
    folds: _Folds | None = None
    for each, event in sorted(zip(arrived, events, strict=True), key=lambda pair: pair[0].number):
        beside = folds is not None and _first(event) == folds.last + 1
        if event.number != each.number:
            found.changed.append(each.number)
        elif seen.get(each.number) == each.document:
            found.whole += each.number in claimed
        elif beside or _first(event) < event.number or event.kind is v1.EventKind.FOLDED:
            if folds is None or not beside:
                _judge(found, folds, seen)
                folds = _Folds(_first(event), event.number, [])
            folds.last = event.number
            folds.events.append(event)
            continue
        elif each.number in claimed:
            (found.changed if each.number in seen else found.unseen).append(each.number)
        _judge(found, folds, seen)
        folds = None
    _judge(found, folds, seen)
    return found


def _count(found: Verdict, events: Sequence[v1.Event], claimed: range) -> None:
    times: Counter[int] = Counter()
    highest = 0
    for event in events:
        times.update(range(_first(event), event.number + 1))
        if _first(event) <= highest:
            found.disordered.append(event.number)
        highest = max(highest, event.number)
    wanted = range(1, max(highest + 1, claimed.stop))
    found.lost = [number for number in wanted if not times[number]]
    found.twice = [number for number, count in times.items() if count > 1]


def _judge(found: Verdict, folds: _Folds | None, seen: Mapping[int, bytes]) -> None:
    """Look whether records that stand for others count what those were."""
    if folds is None:
        return
    numbers = range(folds.first, folds.last + 1)
    unseen = [number for number in numbers if number not in seen]
    found.unseen.extend(unseen)
    happened = [codec.decode(seen[number], v1.Event) for number in numbers if number in seen]
    counts: Counter[Cause] = Counter()
    for event in folds.events:
        counts[_cause(event)] += event.count
        if event.kind is v1.EventKind.FOLDED:
            found.folded += event.count
            found.records += 1
        elif any(replace(event, number=one.number, first=one.first) == one for one in happened):
            found.moved += 1
        else:
            found.changed.append(event.number)
    wanted = Counter(_cause(event) for event in happened)
    if counts != wanted and not unseen:
        found.miscounted.append(f"{folds.first} to {folds.last}: {counts} of {wanted}")


def _first(event: v1.Event) -> int:
    return event.number if event.first is None else event.first


def _cause(event: v1.Event) -> Cause:
    """Return what an event, or all that a record counts, is about."""
    kind = event.parameters["kind"] if event.kind is v1.EventKind.FOLDED else event.kind.value
    if kind == v1.EventKind.HEALTH:
        return (kind,)
    return kind, event.deployment, event.phase, event.reason
