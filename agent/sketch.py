"""Latencies as a sketch that grows: a sparse DDSketch of at most 64 buckets. Pure.

What travels and how it is read is `agent.wire.sketch`.
"""

import math
from collections.abc import Mapping
from typing import Self

from agent.wire.limits import SKETCH_BUCKETS_LIMIT
from agent.wire.sketch import GAMMA, collapsed, quantile
from agent.wire.v1.health import LatencySketch

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
        if len(self._buckets) > SKETCH_BUCKETS_LIMIT:
            self._buckets = collapsed(self._buckets)
