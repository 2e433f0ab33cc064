"""What a pass costs goes by what has changed, not by how large the rollout is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.wire.phases import Phase
from tests.bench.bench_planner import Lane, Timed

TARGETS = 2_000


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    made = Lane(tmp_path / "store.db", TARGETS)
    yield made
    made.close()


def test_what_has_not_changed_is_neither_read_nor_written(lane: Lane) -> None:
    """A pass over what is remembered takes less than one that reads it: the best of three each."""
    asked = lane.under_way()
    lane.says(asked, Phase.FETCHING)
    lane.a_pass(Timed())
    lane.written_bytes()
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(3):
        for cold, seconds in took.items():
            timed = Timed()
            lane.a_pass(timed, cold=cold)
            seconds.append(timed.total())
    assert 0 == lane.written_bytes()

    assert min(took[False]) * 1.5 < min(took[True])


def test_a_pass_writes_by_what_has_changed(lane: Lane) -> None:
    """Ten reports of two thousand targets: a small part of what a thousand of them write."""
    asked = lane.under_way()
    lane.written_bytes()
    lane.says(dict(list(asked.items())[:10]), Phase.FETCHING)
    lane.a_pass(Timed())
    few = lane.written_bytes()
    lane.says(asked, Phase.COMMITTED)
    lane.a_pass(Timed())
    many = lane.written_bytes()

    assert 0 < few * 4 < many
