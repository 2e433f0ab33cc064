"""A device's life as one line: when it joined, was away, started, and what it told. Pure.

Rules:
- Times are the centre's where it saw something happen itself. What a device told happened when
  its clock says, if that can be believed: not before it joined, and not after it was told.
  Otherwise it stands where it was told, and says so (`by_arrival`).
- Events of one ledger stay in the order of their numbers, whatever a clock says: none stands after
  one with a higher number.
- What is no longer kept one by one stands as a count, where the first of it came.
- What it was, in state words, is by the centre's looks (`fleet.health.spoken`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from agent.wire import v1
from fleet.health.days import AHEAD_S, second_of
from fleet.health.spoken import Spoken, SpokenSum, Word


class Kind(StrEnum):
    """What a moment of a device's life is."""

    JOINED = "joined"
    WAS = "was"  # in a state, for a reason, from when to when
    AWAY = "away"  # from a death to the birth that ended it
    REBOOTED = "rebooted"  # the machine started, and the agent with it
    RESTARTED = "restarted"  # the agent started; the machine, too, if it does not say
    TOLD = "told"  # any other event
    SUMMED = "summed"  # events, times away or in a state, that are no longer kept one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event, how it came and when. `late`: it had waited for a connection."""

    event: v1.Event
    late: bool
    received_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A span away, by the centre's clock; `spans` above 1: so many, summed up."""

    since: str
    until: str | None
    spans: int
    away_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Events of one kind that are no longer kept, and when they came."""

    kind: str
    count: int
    first_at: str
    last_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing in a device's life.

    `until`: when it was over, of what lasts; None where it is not, or does not last.
    `lasted_s`: of times that are over, how long they were together. `word`: of a state, and of the
    sum of a state without its reason. `subject`: of what is summed up, which kind it is of, and of
    a word what it is about.
    """

    at: str
    kind: Kind
    until: str | None = None
    late: bool = False
    by_arrival: bool = False
    count: int = 1
    lasted_s: int = 0
    subject: str = ""
    word: Word | None = None
    number: int = 0
    event: v1.Event | None = None

    @property
    def place(self) -> tuple[str, str, int]:
        """Where it stands among the others: by time, and of one ledger by number."""
        if self.event is None:
            return self.at, f" {self.kind} {self.subject}", self.number
        return self.at, self.event.ledger, self.event.number


def lifeline(
    joined_at: str,
    told: Iterable[Told],
    gone: Iterable[Gone],
    counted: Iterable[Counted],
    *,
    spoken: Iterable[Spoken] = (),
    spoken_sums: Iterable[SpokenSum] = (),
) -> Sequence[Moment]:
    """Return a device's life, the first moment first."""
    moments = [
        Moment(at=joined_at, kind=Kind.JOINED),
        *map(_away, gone),
        *map(_counted, counted),
        *map(_was, spoken),
        *map(_was_often, spoken_sums),
        *_events(joined_at, told),
    ]
    return sorted(moments, key=lambda each: each.place)


def _away(span: Gone) -> Moment:
    summed = span.spans > 1
    return Moment(
        at=span.since,
        kind=Kind.SUMMED if summed else Kind.AWAY,
        until=span.until,
        count=span.spans,
        lasted_s=span.away_s,
        subject="away" if summed else "",
    )


def _was(spoken: Spoken) -> Moment:
    return Moment(
        at=spoken.since,
        kind=Kind.WAS,
        until=spoken.until,
        lasted_s=0 if spoken.until is None else _length_s(spoken.since, spoken.until),
        subject=spoken.word.subject,
        word=spoken.word,
        number=spoken.number,
    )


def _was_often(those: SpokenSum) -> Moment:
    return Moment(
        at=those.since,
        kind=Kind.SUMMED,
        until=those.until,
        count=those.spans,
        lasted_s=those.lasted_s,
        subject=those.state,
        word=Word(those.state, "", ""),
    )


def _length_s(since: str, until: str) -> int:
    begin, end = second_of(since), second_of(until)
    return 0 if begin is None or end is None else max(0, end - begin)


def _counted(those: Counted) -> Moment:
    return Moment(
        at=those.first_at,
        kind=Kind.SUMMED,
        until=those.last_at,
        count=those.count,
        subject=those.kind,
    )


def _events(joined_at: str, told: Iterable[Told]) -> Iterator[Moment]:
    ledgers: dict[str, list[Told]] = {}
    for each in told:
        ledgers.setdefault(each.event.ledger, []).append(each)
    for events in ledgers.values():
        yield from _of_ledger(joined_at, sorted(events, key=lambda each: each.event.number))


def _of_ledger(joined_at: str, told: Sequence[Told]) -> Iterator[Moment]:
    latest = ""
    times: list[tuple[str, bool]] = []
    for each in reversed(told):
        at, by_arrival = _believed(joined_at, each)
        latest = min(at, latest or at)
        times.append((latest, by_arrival))
    boot = ""
    for each, (at, by_arrival) in zip(told, reversed(times), strict=True):
        kind = Kind.TOLD
        if each.event.kind is v1.EventKind.BOOT:
            before, boot = boot, each.event.parameters.get("machine_boot", "")
            kind = Kind.REBOOTED if boot and before and boot != before else Kind.RESTARTED
        yield Moment(at=at, kind=kind, late=each.late, by_arrival=by_arrival, event=each.event)


def _believed(joined_at: str, told: Told) -> tuple[str, bool]:
    """Return when something happened, and whether that is only when it was told."""
    said, came, joined = map(second_of, (told.event.at, told.received_at, joined_at))
    if said is None or came is None or not (joined or 0) <= said <= came + AHEAD_S:
        return told.received_at, True
    return f"{datetime.fromtimestamp(min(said, came), UTC):%Y-%m-%dT%H:%M:%SZ}", False
