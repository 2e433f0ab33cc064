"""What both sides do with latency sketches: add them up, and read quantiles off them. Pure.

A quantile is within 5 % of the true one (DDSketch: Masson, Rim, Lee, VLDB 2019), so a
regression of 1.5 times is seen. Above 64 buckets the lowest are collapsed into the next:
the slow end keeps its accuracy. Sketches merge in any order to the same result; quantiles
of devices are never averaged, because they don't add up.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from agent.wire.limits import SKETCH_BUCKETS_LIMIT
from agent.wire.v1.health import LatencySketch

GAMMA = 1.05 / 0.95
"""The ratio of a bucket's bounds, for a relative error of 5 %."""


def collapsed(buckets: Mapping[int, int]) -> dict[int, int]:
    """Return the buckets, the lowest put together where there are more than may be."""
    kept = dict(buckets)
    while len(kept) > SKETCH_BUCKETS_LIMIT:
        lowest = kept.pop(min(kept))
        kept[min(kept)] += lowest
    return kept


def merged(sketches: Iterable[LatencySketch]) -> LatencySketch:
    """Return the sketch of all that is in any of them."""
    buckets: dict[int, int] = {}
    for sketch in sketches:
        for index, number in sketch.buckets.items():
            buckets[index] = buckets.get(index, 0) + number
    return sketch_of(buckets)


def sketch_of(buckets: Mapping[int, int]) -> LatencySketch:
    """Return the sketch of counts that were added up, as much of them as one may hold."""
    kept = _bounded(collapsed(buckets))
    return LatencySketch(count=sum(kept.values()), buckets=kept)


def _bounded(buckets: Mapping[int, int]) -> dict[int, int]:
    """Return as much of it as a sketch may count: who lies about a count breaks no sum of others.

    The slow end is kept first, as where buckets are put together.
    """
    kept: dict[int, int] = {}
    room = _COUNT_LIMIT
    for index in sorted(buckets, reverse=True):
        if number := min(buckets[index], room):
            kept[index] = number
        room -= number
    return kept


_COUNT_LIMIT = (1 << 53) - 1
"""The largest number that JSON carries exactly everywhere (RFC 8259, section 6)."""


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


HISTOGRAM = tuple(range(-84, 19, 6))
"""The buckets whose upper bounds are those of a histogram: 0.2 ms to 6 s, each 1.8 times the one
before. They are bounds of the sketch, too, so that what is counted below one is exact."""

BOUNDS_S = tuple(GAMMA**index for index in HISTOGRAM)


def binned(sketch: LatencySketch) -> tuple[int, ...]:
    """Return how many durations are in each bin of the histogram; the last has no upper bound."""
    bins = [0] * (len(HISTOGRAM) + 1)
    for index, number in sketch.buckets.items():
        bins[bisect_left(HISTOGRAM, index)] += number
    return tuple(bins)


def seconds(sketch: LatencySketch) -> float:
    """Return all of its durations together, within 5 %."""
    return sum(
        number * float(2 * GAMMA**index / (GAMMA + 1)) for index, number in sketch.buckets.items()
    )
