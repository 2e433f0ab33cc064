"""What a device was over time: nobody is said to be well of a time in which nobody looked."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.wire.phases import Phase
from fleet.health.heard import Heard
from fleet.health.judging import held
from fleet.health.spoken import NOT_WATCHED, Spoken, Watch, Word, as_watched
from fleet.health.states import verdict
from tests.fleet.deciding.paper import NOW
from tests.fleet.deciding.test_health_states import feels, heard, told

OK = Word("ok", "AS_WANTED", "digits 1.4.0")


def at(hour: int) -> str:
    return f"2026-03-{1 + hour // 24:02}T{hour % 24:02}:00:00Z"


def spoken(since: int, until: int | None, word: Word = OK, number: int = 1) -> Spoken:
    end = None if until is None else at(until)
    return Spoken(word=word, since=at(since), until=end, number=number)


def told_of(words: list[Spoken], watches: list[tuple[int, int]]) -> list[tuple[str, str | None]]:
    seen = as_watched(words, [Watch(since=at(one), until=at(two)) for one, two in watches])
    return [
        ("?" if each.word == NOT_WATCHED else each.word.state, each.until and each.until[8:13])
        for each in seen
    ]


def test_a_gap_is_cut_out_of_what_was_said_before_it() -> None:
    """Whether it ended there, went on afterwards, or goes on still."""
    watches = [(0, 4), (6, 10)]
    assert [("ok", "01T03")] == told_of([spoken(1, 3)], watches)
    assert [("ok", "01T04"), ("?", "01T06"), ("ok", "01T08")] == told_of([spoken(1, 8)], watches)
    assert [("ok", "01T04"), ("?", "01T06"), ("ok", None)] == told_of([spoken(1, None)], watches)
    assert [("ok", "01T04"), ("?", "01T06")] == told_of([spoken(1, 6)], watches)
    assert [("ok", None)] == told_of([spoken(7, None)], watches)


@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True),
    st.lists(st.integers(0, 40), max_size=8, unique=True),
)
def test_every_hour_is_told_once(ends: list[int], looks: list[int]) -> None:
    """The pieces follow each other without a hole, and none of a gap says anything but unknown."""
    ends.sort()
    looks = sorted(looks)[: len(looks) // 2 * 2]
    words = [spoken(one, two, number=n) for n, (one, two) in enumerate(pairwise(ends))]
    pairs = list(zip(looks[::2], looks[1::2], strict=True))
    gaps = {hour for one, two in pairwise(pairs) for hour in range(one[1], two[0])}
    pieces = list(as_watched(words, [Watch(since=at(one), until=at(two)) for one, two in pairs]))

    assert [at(ends[0]), *(each.until for each in pieces)] == [
        *(each.since for each in pieces),
        at(ends[-1]),
    ]
    for hour in range(ends[0], ends[-1]):
        [piece] = [p for p in pieces if p.until and p.since <= at(hour) < p.until]
        assert (hour in gaps) == (piece.word == NOT_WATCHED)


@given(
    st.builds(
        lambda phase, throttled, online: replace(
            (found := heard(told(phase), health=feels(throttled=throttled))),
            target=replace(found.target, online=online),
        ),
        st.sampled_from(Phase),
        st.booleans(),
        st.booleans(),
    ),
    st.integers(0, 4000),
)
def test_a_verdict_that_is_kept_is_the_one_of_now(device: Heard, seconds: int) -> None:
    """However much later: the same as judging anew, and the very same value where it is."""
    now = NOW + timedelta(seconds=seconds)
    first = held(device, NOW, None)
    kept = held(device, now, first)

    assert verdict(device, now) == kept.told
    assert kept is held(device, now, kept)
