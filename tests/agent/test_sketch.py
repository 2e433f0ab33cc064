"""Sketches add up in any order, and their upper quantiles stay within five percent."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sketch import Sketch
from agent.wire.limits import SKETCH_BUCKETS_LIMIT
from agent.wire.sketch import merged, quantile
from agent.wire.v1.health import LatencySketch

SECONDS = st.floats(min_value=1e-6, max_value=600.0)
MANY = st.lists(SECONDS, max_size=300)
# Far apart on purpose: every value its own bucket, so that collapsing happens.
APART = st.lists(st.integers(-150, 120).map(lambda power: 1.1**power), max_size=300)


def sketch_of(durations: list[float]) -> Sketch:
    made = Sketch()
    for seconds in durations:
        made.add(seconds)
    return made


def true_quantile(durations: list[float], share: float) -> float:
    return sorted(durations)[math.floor(share * (len(durations) - 1))]


def test_an_empty_sketch_has_no_quantile() -> None:
    """Nothing measured is None, never zero."""
    assert Sketch().quantile(0.5) is None
    assert LatencySketch() == Sketch().to_wire()


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=300), st.floats(0, 1))
def test_a_quantile_is_within_five_percent(durations: list[float], share: float) -> None:
    """Where nothing was collapsed, every quantile is within the relative error of the true one."""
    sketch = sketch_of(durations)
    truth = true_quantile(durations, share)

    if len(sketch.to_wire().buckets) < SKETCH_BUCKETS_LIMIT:
        assert pytest.approx(truth, rel=0.0501) == sketch.quantile(share)


@given(APART)
def test_the_slow_end_keeps_its_accuracy(durations: list[float]) -> None:
    """However spread they are, the largest is within five percent, in at most 64 buckets."""
    sketch = sketch_of(durations)

    assert len(sketch.to_wire().buckets) <= SKETCH_BUCKETS_LIMIT
    assert len(durations) == sketch.to_wire().count
    if durations:
        assert pytest.approx(max(durations), rel=0.0501) == sketch.quantile(1.0)


@given(APART, APART, APART)
def test_sketches_add_up_in_any_order(
    first: list[float], second: list[float], third: list[float]
) -> None:
    """A fleet's sketch is the same whoever is added first, and the same as one of all durations."""
    a, b, c = (sketch_of(durations).to_wire() for durations in (first, second, third))
    forward, backward = Sketch(), Sketch()
    for one in (a, b, c):
        forward.merge(one)
    for one in (c, b, a):
        backward.merge(one)

    assert sketch_of(first + second + third).to_wire() == forward.to_wire() == backward.to_wire()
    assert merged([b, c, a]) == forward.to_wire()


@given(MANY)
def test_a_sketch_goes_on_from_what_travelled(durations: list[float]) -> None:
    """Reading a sketch back loses nothing."""
    wire = sketch_of(durations).to_wire()

    assert wire == Sketch.from_wire(wire).to_wire()


def test_a_regression_of_half_is_seen() -> None:
    """1.5 times slower lands in other buckets."""
    before = sketch_of([0.010 + step * 1e-6 for step in range(1000)])
    after = sketch_of([0.015 + step * 1e-6 for step in range(1000)])
    p50_before, p50_after = before.quantile(0.5), after.quantile(0.5)

    assert p50_before is not None
    assert p50_after is not None
    assert 1.35 < p50_after / p50_before < 1.65


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-12])
def test_what_is_faster_than_a_clock_tick_counts_as_one(seconds: float) -> None:
    """A clock that stands still breaks nothing."""
    assert sketch_of([seconds]).quantile(0.5) == pytest.approx(1e-9, rel=0.06)


def test_a_share_outside_its_range_is_a_mistake() -> None:
    """The caller's mistake is named."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile(LatencySketch(), 1.5)
