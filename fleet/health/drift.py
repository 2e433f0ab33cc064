"""How far what a model sees and says is from its card's reference, by two measures. Pure.

- *PSI*, the population stability index: how large the difference is, whatever the sample's size.
  Half a request is added to each bin on either side, so that an empty bin is no infinity. 0.1 is
  worth a look and 0.25 is a shift by the custom of where it comes from (N. Siddiqi, Credit Risk
  Scorecards, 2006).
- Pearson's chi-square test of homogeneity, over the same bins: whether chance explains the
  difference. It is a test of two samples, because a reference is one: of fifty rows, it is itself
  uncertain (by chance alone PSI is about 1/n + 1/m times a chi-square: B. Yurdakul, Statistical
  Properties of Population Stability Index, 2018). It takes classes, which have no order, and the
  bin of what is no number, where Kolmogorov and Smirnov's would not.

An alarm needs both: a small reference makes PSI large by chance, and a million requests make any
trifle significant. Counts add up, so that devices are judged together like one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from models.card import DriftReference

WATCH_PSI = 0.1
ALARM_PSI = 0.25

CHANCE = 0.001
"""The test rejects below it. A card has six subjects at the most, so that one card in 170 whose
reference was drawn unluckily raises an alarm for that alone, if its PSI is so large as well."""

LEAST_A_BIN = 20
"""Requests for each of a reference's bins, below which nothing is said: with so many, chance alone
brings a PSI above 0.1 in less than one of twenty samples, for any number of bins."""

FRESH_S = 86400.0
"""For so long after it was told drift is about now; then too few requests were told of."""

Counts = Mapping[str, Sequence[int]]
"""By subject, how many requests were in each bin; the last is of those that had no number."""


class Level(StrEnum):
    """How far from the reference, the worst first."""

    ALARM = "alarm"
    WATCH = "watch"
    OK = "ok"
    TOO_FEW = "too few"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """One subject against its reference.

    `least`: how many requests it needs. `psi`, `chance` (the test's p) are None below that.
    `strange`: of the requests, those whose number was none (NaN, infinity).
    """

    subject: str
    level: Level
    requests: int
    least: int
    strange: int = 0
    psi: float | None = None
    chance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What a device told of one deployment's drift, summed over its last tellings, and judged.

    `told_at`: when one last came as it was measured, by the centre's clock; None: all had waited
    for a connection. `since`: when it reached its level.
    """

    deployment: str
    revision: int
    digest: str
    told_at: str | None
    since: str
    counts: Counts = field(default_factory=dict)
    judged: tuple[Distance, ...] = ()

    @property
    def level(self) -> Level:
        """The worst of its subjects'."""
        return worst(self.judged)


def worst(judged: Iterable[Distance]) -> Level:
    """Return the worst level; `too few` where nothing could be judged."""
    found = {each.level for each in judged}
    return next((level for level in Level if level in found), Level.TOO_FEW)


def furthest(judged: Iterable[Distance]) -> Distance | None:
    """Return the subject that is furthest from its reference; None: none could be judged."""
    rank = list(Level)
    known = [each for each in judged if each.psi is not None]
    return min(known, key=lambda each: (rank.index(each.level), -(each.psi or 0.0)), default=None)


def judge(references: Iterable[DriftReference], counts: Counts) -> tuple[Distance, ...]:
    """Return each subject that both the card and the counts know, with as many bins."""
    found = []
    for reference in references:
        told = counts.get(reference.subject, ())
        expected = _expected(reference)
        if len(told) == len(expected) and any(expected):
            found.append(_judged(reference.subject, expected, told))
    return tuple(found)


def unknown(references: Iterable[DriftReference], counts: Counts) -> Sequence[str]:
    """Return the subjects that were told, and that the card does not have, or has otherwise."""
    bins = {each.subject: len(each.shares) + 1 for each in references}
    return sorted(subject for subject in counts if bins.get(subject) != len(counts[subject]))


def added(counted: Iterable[Counts]) -> dict[str, list[int]]:
    """Return the sum of counts of one card; whose bins are others than the first's don't count."""
    found: dict[str, list[int]] = {}
    for counts in counted:
        for subject, told in counts.items():
            before = found.get(subject)
            if before is None:
                found[subject] = list(told)
            elif len(before) == len(told):
                found[subject] = list(map(int.__add__, before, told))
    return found


def _expected(reference: DriftReference) -> list[float]:
    """Return the reference as counts of its rows: of those none had no number."""
    return [*(max(0.0, share) * reference.samples for share in reference.shares), 0.0]


def _judged(subject: str, expected: Sequence[float], told: Sequence[int]) -> Distance:
    requests, least = sum(told), LEAST_A_BIN * (len(told) - 1)
    if requests < least:
        level, psi, chance = Level.TOO_FEW, None, None
    else:
        psi, chance = _psi(expected, told), _chance(expected, told)
        level = _level(psi, chance)
    return Distance(
        subject=subject,
        level=level,
        requests=requests,
        least=least,
        strange=told[-1],
        psi=psi,
        chance=chance,
    )


def _level(psi: float, chance: float) -> Level:
    if psi >= ALARM_PSI and chance < CHANCE:
        return Level.ALARM
    return Level.WATCH if psi >= WATCH_PSI else Level.OK


def _psi(expected: Sequence[float], told: Sequence[int]) -> float:
    was, now = _shares(expected), _shares(told)
    return sum((new - old) * math.log(new / old) for old, new in zip(was, now, strict=True))


def _shares(counts: Sequence[float]) -> list[float]:
    whole = sum(counts) + len(counts) / 2
    return [(count + 0.5) / whole for count in counts]


def _chance(expected: Sequence[float], told: Sequence[int]) -> float:
    """Return the probability that two samples of one distribution differ by this or more."""
    ratio = math.sqrt(sum(told) / sum(expected))
    filled = [pair for pair in zip(expected, told, strict=True) if any(pair)]
    square = sum((old * ratio - new / ratio) ** 2 / (old + new) for old, new in filled)
    return _chi_square_above(square, len(filled) - 1)


def _chi_square_above(square: float, freedom: int) -> float:
    """Return the upper tail of the chi-square distribution: of whole degrees, a finite sum."""
    if freedom < 1:
        return 1.0
    half = square / 2
    odd = freedom % 2
    tail = math.erfc(math.sqrt(half)) if odd else 0.0
    for number in range(freedom // 2):
        power = number + odd / 2
        tail += math.exp(-half) * math.pow(half, power) / math.gamma(power + 1)
    return tail
