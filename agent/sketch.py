"""Latencies as a sketch that adds up over a fleet: a sparse DDSketch. Pure.

A quantile is within 5 % of the true one (Masson, Rim, Lee, VLDB 2019), so a
regression of 1.5 times is seen. At most 64 buckets: above that the lowest are
collapsed into the next, so the slow end keeps its accuracy. Sketches merge in
any order to the same result.
"""

import math
from collections.abc import Mapping
from typing import Self

from agent.wire.limits import SKETCH_BUCKETS_LIMIT
from agent.wire.v1.health import LatencySketch

GAMMA = 1.05 / 0.95
"""The ratio of a bucket's bounds, for a relative error of 5 %."""

_LOG_GAMMA = math.log(GAMMA)
_LEAST_S = 1e-9  # the clock's own grain: nothing is faster, and log(0) is not a number


class Sketch:
    """A growing sketch of durations."""

    __slots__ = ("_buckets", "_count")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """How many durations were added."""
        return self._count

    def add(self, seconds: float) -> None:
        """Add one duration."""
        index = math.ceil(math.log(max(seconds, _LEAST_S)) / _LOG_GAMMA)
        self._put({index: 1})

    def merge(self, other: LatencySketch) -> None:
        """Add all durations of another sketch."""
        self._put(other.buckets)

    def quantile(self, share: float) -> float | None:
        """Return the duration below which `share` (0 to 1) of them lie; None if there are none."""
        return quantile(self.to_wire(), share)

    def to_wire(self) -> LatencySketch:
        """Return what travels in a health document."""
        return LatencySketch(count=self._count, buckets=dict(self._buckets))

    @classmethod
    def from_wire(cls, sketch: LatencySketch) -> Self:
        """Return a sketch that goes on from what travelled."""
        made = cls()
        made.merge(sketch)
        return made

    def _put(self, buckets: Mapping[int, int]) -> None:
        for index, number in buckets.items():
            self._buckets[index] = self._buckets.get(index, 0) + number
            self._count += number
        while len(self._buckets) > SKETCH_BUCKETS_LIMIT:
            lowest = self._buckets.pop(min(self._buckets))
            self._buckets[min(self._buckets)] += lowest


def quantile(sketch: LatencySketch, share: float) -> float | None:
    """Return the duration below which `share` (0 to 1) of it lies; None when it is empty."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share is between 0 and 1, not {share}")
    rank = share * (sketch.count - 1)
    below = 0
    for index in sorted(sketch.buckets):
        below += sketch.buckets[index]
        if below > rank:
            return float(2 * GAMMA**index / (GAMMA + 1))
    return None
