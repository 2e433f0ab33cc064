"""How near an answer must be: from measured noise to a card's tolerances. Pure.

Noise was measured here, on one machine's architecture and one or two runtimes;
a model must hold on all of them. Between two architectures one ResNet's largest
difference was 22 LSB with the default delegates and 43 without: twice as much,
so three times is allowed for. How far a mean moves between architectures has
not been measured; it gets the same factor. With these bounds all of 240 harmed
copies of the eight hardest of twenty published models were refused.
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


def is_blind(bound: Tolerance, *, width: float, spread: float) -> bool:
    """Say whether both rules let an answer pass that is the same to everything, or nearly.

    Args:
        bound: an output's tolerance.
        width: the range of its references.
        spread: how far its references are from their mean.
    """
    return 2 * bound.largest >= width and 2 * bound.mean >= spread


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
