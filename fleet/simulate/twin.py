"""How the devices of a simulated fleet behave: values, and one device's lot drawn from them. Pure.

Whatever is drawn is drawn from numbers between 0 and 1 that the caller hands in, so the
same seed is the same fleet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist

Draw = Callable[[], float]
"""The next number above 0 and below 1."""

_P95 = NormalDist().inv_cdf(0.95)
_NORMAL = NormalDist()
_SHARE_AWAY_LIMIT = 0.95
_SPREAD_LIMIT_S = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long something takes: half of the time no longer than `p50_s`, 95 % no longer than p95.

    Between and beyond it is log-normal: never negative, and with a long tail.
    """

    p50_s: float
    p95_s: float

    def __post_init__(self) -> None:
        if not 0 < self.p50_s <= self.p95_s <= _SPREAD_LIMIT_S:
            raise ValueError(
                f"half within {self.p50_s:g} s and 95 % within {self.p95_s:g} s; "
                "both must be above 0 and at most 30 days, the second no less than the first"
            )

    def drawn(self, draw: Draw) -> float:
        """Return one duration."""
        sigma = math.log(self.p95_s / self.p50_s) / _P95
        return self.p50_s * math.exp(sigma * _NORMAL.inv_cdf(draw()))


class FailsIn(StrEnum):
    """Where a bundle that is bad for a device is found out."""

    TESTING = "testing"  # its golden vectors miss: it never serves
    SERVING = "serving"  # it passes its test, serves, and dies again and again


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """What is assumed of a fleet.

    `away_share` of it is away at any moment, each time for about `away`. On `bad_share` of
    the devices, whatever their class, and on all of `bad_classes` the bundle is bad: that
    is found out in `fails_in`, while serving after `fails_after`. `fetch` and `test` are
    how long these take.
    """

    away_share: float = 0.0
    away: Spread = field(default_factory=lambda: Spread(p50_s=600, p95_s=3600))
    bad_share: float = 0.0
    bad_classes: frozenset[str] = frozenset()
    fails_in: FailsIn = FailsIn.SERVING
    fails_after: Spread = field(default_factory=lambda: Spread(p50_s=20, p95_s=120))
    fetch: Spread = field(default_factory=lambda: Spread(p50_s=20, p95_s=90))
    test: Spread = field(default_factory=lambda: Spread(p50_s=2, p95_s=10))

    def __post_init__(self) -> None:
        if not 0 <= self.away_share <= _SHARE_AWAY_LIMIT:
            raise ValueError(f"a share of {self.away_share:g} away; it must be from 0 to 0.95")
        if not 0 <= self.bad_share <= 1:
            raise ValueError(f"a share of {self.bad_share:g} bad; it must be from 0 to 1")

    def away_s(self, draw: Draw) -> float:
        """Return how long a device that goes away stays away."""
        return self.away.drawn(draw)

    def here_s(self, draw: Draw) -> float:
        """Return how long one that comes stays, so that the share of those away is kept."""
        sigma = math.log(self.away.p95_s / self.away.p50_s) / _P95
        mean_s = self.away.p50_s * math.exp(sigma * sigma / 2)
        return -math.log(draw()) * mean_s * (1 - self.away_share) / self.away_share

    def left_s(self, draw: Draw) -> float:
        """Return how much longer one stays away that was found away: a part of its time is over."""
        return self.away_s(draw) * draw()

    def lot(self, class_name: str, draw: Draw) -> "Lot":
        """Return what one device of this class is in for. It draws as often for each device."""
        bad = (draw() < self.bad_share) or class_name in self.bad_classes
        fetch_s, test_s = self.fetch.drawn(draw), self.test.drawn(draw)
        fails_after_s = self.fails_after.drawn(draw)
        return Lot(
            fetch_s=fetch_s,
            test_s=test_s,
            fails_in=self.fails_in if bad else None,
            fails_after_s=fails_after_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """What becomes of the bundle on one device, and how long it takes. None: it is good there."""

    fetch_s: float
    test_s: float
    fails_in: FailsIn | None = None
    fails_after_s: float = 0.0
