"""What `skerry model pack --evaluate` measures: every variant, on every runtime given."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.build.evaluate import Dataset, accuracy
from models.build.pack import Budget
from models.card import Metric
from models.values import Digest, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Metrics by variant, and the budget they must keep (None: none was declared)."""

    metrics: Mapping[Digest, tuple[Metric, ...]]
    budget: Budget | None


def measure(
    contents: Sequence[bytes],
    dataset: Dataset,
    *,
    pythons: Sequence[str],
    before: bytes | None,
    loss: float,
) -> Measured:
    """Measure accuracies here and on the other `pythons`; `before` is the model before quantizing.

    Raises:
        RefusedError: as `models.build.evaluate.accuracy`.
        TransientError: TIMED_OUT.
    """
    runtimes = [sys.executable, *pythons]
    metrics = {
        digest_of(content): tuple(accuracy(content, dataset, python=python) for python in runtimes)
        for content in contents
    }
    budget = None if before is None else Budget(before=accuracy(before, dataset), loss=loss)
    return Measured(metrics=metrics, budget=budget)
