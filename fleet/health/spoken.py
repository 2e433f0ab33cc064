"""State words over time: what a device was, from when to when, and when nobody looked. Pure.

Rules:
- A word is a state, its reason and what it is about. Another one begins when a look finds another
  of the three; what a reason says in numbers may change all the time, and is no other word.
- Times are the centre's: when it found a word, not since when a device says that it holds.
- Of a time in which the centre did not look, nobody knows: that is `unknown`, whatever a device
  was before and is afterwards.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from fleet.health.states import HealthReason, State, Verdict

_TEXT_LIMIT = 200


class Word(NamedTuple):
    """What is said of a device: it is this, because of that, about this."""

    state: str
    reason: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What a device was from when to when; `until` None: it is so still."""

    word: Word
    since: str
    until: str | None
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenSum:
    """What is no longer kept one by one of a state: how often it was so, and for how long."""

    state: str
    spans: int
    lasted_s: int
    since: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A time in which the centre looked again and again."""

    since: str
    until: str


NOT_WATCHED = Word(State.UNKNOWN, HealthReason.NOT_WATCHED, "")


def word_of(verdict: Verdict) -> Word:
    """Return the word of a verdict."""
    finding = verdict.finding
    return Word(verdict.state, finding.reason[:_TEXT_LIMIT], finding.subject[:_TEXT_LIMIT])


def as_watched(words: Iterable[Spoken], watches: Sequence[Watch]) -> Iterator[Spoken]:
    """Return the words of a device as far as somebody looked, in order, and the gaps between."""
    gaps = [
        Watch(since=one.until, until=next_one.since)
        for one, next_one in pairwise(watches)
        if one.until < next_one.since
    ]
    for each in words:
        begin, number = each.since, each.number
        for gap in gaps:
            if gap.until <= begin or (each.until is not None and gap.since >= each.until):
                continue
            if begin < gap.since:
                yield replace(each, since=begin, until=gap.since)
            begin = gap.until if each.until is None else min(gap.until, each.until)
            since = max(gap.since, each.since)
            yield Spoken(word=NOT_WATCHED, since=since, until=begin, number=number)
        if each.until is None or begin < each.until or begin == each.since:
            yield replace(each, since=begin)
