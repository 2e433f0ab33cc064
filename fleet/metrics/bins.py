"""Histograms that grow: by one duration, or by many that were counted elsewhere. Not locked."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from fleet.metrics.families import Spread
from fleet.metrics.slots import Key


class Bins:
    """One histogram for each value of some labels."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._bins: dict[Key, list[int]] = {}
        self._sums: dict[Key, float] = {}

    def add(self, key: Key, value: float) -> None:
        """Add one value; it belongs to the first bound that it is not above."""
        bins = [0] * (len(self._bounds) + 1)
        bins[bisect_left(self._bounds, value)] = 1
        self.merge(key, bins, value)

    def merge(self, key: Key, bins: Sequence[int], total: float) -> None:
        """Add values that were counted in the same bins, with their sum."""
        held = self._bins.setdefault(key, [0] * (len(self._bounds) + 1))
        for place, number in enumerate(bins):
            held[place] += number
        self._sums[key] = self._sums.get(key, 0.0) + total

    def forget(self, gone: Callable[[Key], bool]) -> None:
        """Drop those of some label values."""
        for key in [key for key in self._bins if gone(key)]:
            del self._bins[key], self._sums[key]

    def numbers(self) -> Mapping[Key, Spread]:
        """Return all as they are now."""
        return {
            key: Spread(bounds=self._bounds, bins=tuple(bins), sum=self._sums[key])
            for key, bins in self._bins.items()
        }
