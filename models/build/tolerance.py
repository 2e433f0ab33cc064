"""How near an answer must be: from measured noise to a card's tolerances. Pure.

Noise was measured here, on one machine's architecture and one or two runtimes;
a model must hold on all of them. Across architectures the same file's largest
difference was up to twice that across runtimes on one (22 and 43 LSB on a
ResNet), its mean never above three times: hence the factor. Damage that
changes a tenth of all decisions moves the mean by 1.7 times the bound made
here on the worst of twenty published models, and by more than ten times on
most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.card import Tolerance

FACTOR = 3.0
"""How much more than measured another architecture or runtime may stray."""

LARGEST_UNITS = 16.0
"""A decision's score may always stray by this, a sixteenth of its range: one unlucky rounding."""

VALUE_UNITS = 4.0
"""The same where values count, not a decision."""

MEAN_UNITS = 0.5
"""The mean may always reach this: half the last bit."""

_SPREAD_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """How far one runtime's answers were from the references, over the golden vectors, per output.

    `spread` is how far the references are from their own mean: what noise must be small beside.
    """

    runtime: str
    largest: tuple[float, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]


def is_noise(opinion: Opinion, units: Sequence[float]) -> bool:
    """Say whether an opinion differs as runtimes do; else it answers something else.

    A runtime that answers wrongly must not make the tolerance wide enough for itself.
    """
    return all(
        mean <= max(_SPREAD_SHARE * spread, unit)
        for mean, spread, unit in zip(opinion.mean, opinion.spread, units, strict=True)
    )


def tolerance(
    *,
    unit: float,
    largest: Sequence[float],
    mean: Sequence[float],
    pool_mean: float,
    decides: bool,
) -> Tolerance:
    """Return one output's tolerance.

    Args:
        unit: one step of the output.
        largest: the largest error of each opinion.
        mean: the mean error of each opinion.
        pool_mean: the mean noise over all candidates: another machine may be no quieter on the
            chosen ones.
        decides: its largest element is what counts.
    """
    least = LARGEST_UNITS if decides else VALUE_UNITS
    return Tolerance(
        largest=max(least * unit, FACTOR * max(largest)),
        mean=max(MEAN_UNITS * unit, FACTOR * max(mean), pool_mean),
    )
