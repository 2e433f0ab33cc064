"""Measures a model's accuracy on labelled rows, in a child, on whichever runtime is asked for."""

import sys
from dataclasses import dataclass

from models import tflite
from models.build.asking import ask
from models.card import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Labelled rows: an `.npz` with an array per input, or one for one input, and `labels`.

    `labels` are the classes' numbers. Floats meant for a quantized input are quantized by its
    scale.
    """

    name: str
    npz: bytes


def accuracy(
    content: bytes, dataset: Dataset, *, python: str = sys.executable, decision: int = 0
) -> Metric:
    """Return the share of rows whose largest score is their label's.

    Args:
        content: the `.tflite`.
        dataset: what to measure on.
        python: an interpreter with numpy and the runtime to measure on; by default ours.
        decision: the output with the scores.

    Raises:
        RefusedError: MODEL_MALFORMED, LOAD_FAILED, or MALFORMED: the rows don't fit.
        TransientError: TIMED_OUT.
    """
    file = tflite.read(content)
    said, _ = ask("evaluate", file, [content, dataset.npz], python=python, decision=decision)
    return Metric(
        name="accuracy",
        value=said["right"] / said["samples"],
        dataset=dataset.name,
        samples=said["samples"],
        runtime=str(said["runtime"]),
        architecture=str(said["architecture"]),
    )
