"""The drift reference: how a model's inputs and outputs are spread over rows of its engineer's.

The rows are run in a child, which says the numbers that `models.drift` reads off each; the bins
are cut here. They hold equal shares of the rows, as near as repeated numbers allow: a difference
then shows as soon as it can, whatever the distribution's shape. Blocking.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.build.asking import ask
from models.card import DriftReference
from models.errors import RefusedError
from models.tflite import TfliteFile

FEWEST_ROWS = 50
"""Below this a bin's share is noise: five bins of ten rows each."""

_ROWS_A_BIN = 10
_MOST_BINS = 10
_GRAIN = 1e-5
"""What varies by less than this part of its tensor's size is constant but for rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What a card says of drift, and what a person should hear about it."""

    references: tuple[DriftReference, ...] = ()
    warnings: tuple[str, ...] = ()


def spread(content: bytes, file: TfliteFile, decision: int | None, rows: bytes | None) -> Spread:
    """Return how the numbers watched of a model are spread over rows.

    Args:
        content: the `.tflite`.
        file: what was read of it.
        decision: the output whose largest element decides; None for regressions.
        rows: an `.npz`, an array per input; None says nothing, and there is no reference.

    Raises:
        RefusedError: the file can't be run, or MALFORMED: the rows don't fit.
        TransientError: TIMED_OUT.
    """
    if rows is None:
        return Spread()
    said, _ = ask("spread", file, [content, rows], decision=decision, fewest=FEWEST_ROWS)
    names, given = [str(name) for name in said["subjects"]], int(said["given"])
    if given < FEWEST_ROWS:
        remark = (
            f"there is no drift reference in the card: {given} rows say too little, give "
            f"{FEWEST_ROWS} or more (--evaluate or --inputs)"
        )
        return Spread(warnings=(remark,))
    columns = [[float(number) for number in column] for column in said["numbers"]]
    if len(columns) != len(names) or any(len(column) > given for column in columns):
        raise RefusedError("LOAD_FAILED", "the model spoiled its child's answer")
    found, still = [], []
    for name, column in zip(names, columns, strict=True):
        finite = [number for number in column if math.isfinite(number)]
        if name.endswith("-class"):
            edges = [place + 0.5 for place in range(int(said["classes"]) - 1)]
        else:
            edges = _edges(finite, grain=_GRAIN * _peak(name, names, columns))
        if not edges or len(finite) < FEWEST_ROWS:
            still.append(name)
        else:
            found.append(_reference(name, edges, finite))
    if not still:
        return Spread(references=tuple(found))
    unwatched = ", ".join(still)
    remark = f"the same in all rows, or no number, so not watched for drift: {unwatched}"
    return Spread(references=tuple(found), warnings=(remark,))


def _peak(name: str, names: Sequence[str], columns: Sequence[Sequence[float]]) -> float:
    """Return the largest number read off a subject's tensor: how large its elements are."""
    tensor = name.rpartition("-")[0]
    return max(
        (
            abs(number)
            for other, column in zip(names, columns, strict=True)
            if other.rpartition("-")[0] == tensor
            for number in column
            if math.isfinite(number)
        ),
        default=0.0,
    )


def _edges(numbers: Sequence[float], *, grain: float) -> list[float]:
    """Return where to cut, each halfway between two numbers; nowhere if only rounding is apart.

    Of many equal numbers none is cut off: they are one bin, wider than the others.
    """
    ordered = sorted(numbers)
    gaps = [place for place in range(1, len(ordered)) if ordered[place - 1] < ordered[place]]
    bins = min(_MOST_BINS, len(ordered) // _ROWS_A_BIN)
    if bins < 2 or ordered[-1] - ordered[0] <= grain:  # noqa: PLR2004  # one bin says nothing
        return []
    wanted = [round(number * len(ordered) / bins) for number in range(1, bins)]
    cuts = {min(gaps, key=lambda gap: abs(gap - place)) for place in wanted}
    return sorted(_between(ordered[cut - 1], ordered[cut]) for cut in cuts)


def _between(low: float, high: float) -> float:
    middle = low + (high - low) / 2
    return middle if middle < high else low  # they are neighbours


def _reference(name: str, edges: Sequence[float], numbers: Sequence[float]) -> DriftReference:
    bounds = [-math.inf, *edges, math.inf]
    shares = [
        sum(low < number <= high for number in numbers) / len(numbers)
        for low, high in pairwise(bounds)
    ]
    return DriftReference(
        subject=name, edges=tuple(edges), shares=tuple(shares), samples=len(numbers)
    )
