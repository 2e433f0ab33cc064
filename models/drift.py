"""What is watched of a model's inputs and outputs: a few numbers of each request, in bins.

The same lines read the numbers when a card's reference is made and on a device, so that a
difference is of the data. By name, with the tensor's place in the card's signature:

- `input-0-mean`, `input-0-deviation`: of an input's elements, dequantized. A darker picture
  moves the first, another gain both, and a stuck sensor leaves one bin.
- `output-0-class`: which of at most 16 classes is the largest. `output-0-score`: where there
  are more, the largest score.
- `output-1-mean`: any other output; of a single element that is its value.

Of a large tensor some 1000 elements are looked at, spread over all of it. Of a batch only the
first row is. Imports numpy: only in a child.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

import numpy as np

from models.card import DriftReference, Tensor
from models.limits import DRIFT_BINS_LIMIT, DRIFT_SUBJECTS_LIMIT
from models.runtime import Array
from models.values import Datatype

_LOOKED_AT = 1024


class Measure(StrEnum):
    """What is read off a tensor."""

    MEAN = "mean"
    DEVIATION = "deviation"
    CLASS = "class"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Subject:
    """One number of each request: a tensor by its side and place, and what is read off it."""

    side: Literal["input", "output"]
    place: int
    measure: Measure

    def __str__(self) -> str:
        return f"{self.side}-{self.place}-{self.measure}"


def subjects(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], decision: int | None
) -> tuple[Subject, ...]:
    """Return what is worth watching: the decision, then the inputs, then other outputs."""
    found = []
    if decision is not None:
        few = _size(outputs[decision]) <= DRIFT_BINS_LIMIT
        found.append(Subject("output", decision, Measure.CLASS if few else Measure.SCORE))
    for place, tensor in enumerate(inputs):
        found.append(Subject("input", place, Measure.MEAN))
        if _size(tensor) > 1:
            found.append(Subject("input", place, Measure.DEVIATION))
    found += [
        Subject("output", place, Measure.MEAN) for place in range(len(outputs)) if place != decision
    ]
    tensors = {"input": inputs, "output": outputs}
    return tuple(
        each for each in found if tensors[each.side][each.place].datatype is not Datatype.BYTES
    )[:DRIFT_SUBJECTS_LIMIT]


class Watch:
    """Reads the numbers of some subjects off a request and its answer."""

    def __init__(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], watched: Sequence[Subject]
    ) -> None:
        self._count = len(watched)
        self._of_inputs = _readers("input", inputs, watched)
        self._of_outputs = _readers("output", outputs, watched)

    def numbers(self, given: Sequence[Array], answered: Sequence[Array]) -> list[float]:
        """Return the subjects' numbers, in their order; not finite where an element isn't."""
        found = [math.nan] * self._count
        for reader in self._of_inputs:
            reader.read(given[reader.place], found)
        for reader in self._of_outputs:
            reader.read(answered[reader.place], found)
        return found


class Bins:
    """Sorts a request's numbers into the bins of a card's references, those that are known here.

    `sizes` says how many bins each subject has: those of its reference, and a last one for what is
    no finite number.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        references: Sequence[DriftReference],
    ) -> None:
        known = {
            str(each): each
            for measure in Measure
            for each in (
                *(Subject("input", place, measure) for place in range(len(inputs))),
                *(Subject("output", place, measure) for place in range(len(outputs))),
            )
        }
        kept = [
            each
            for each in references
            if each.subject in known and len(each.shares) <= DRIFT_BINS_LIMIT
        ][:DRIFT_SUBJECTS_LIMIT]
        self.sizes = {each.subject: len(each.shares) + 1 for each in kept}
        self._edges = [each.edges for each in kept]
        self._watch = Watch(inputs, outputs, [known[each.subject] for each in kept])

    def sort(self, given: Sequence[Array], answered: Sequence[Array]) -> bytes:
        """Return the number of each subject's bin, a byte each."""
        numbers = self._watch.numbers(given, answered)
        return bytes(map(bin_of, numbers, self._edges))


def bin_of(number: float, edges: Sequence[float]) -> int:
    """Return which bin a number is in; the one after all others for what isn't finite."""
    return bisect_left(edges, number) if math.isfinite(number) else len(edges) + 1


class _Reader:
    """Reads the numbers that are wanted of one tensor; what it can, it knows beforehand.

    This runs with each request.
    """

    def __init__(self, tensor: Tensor, wanted: Mapping[Measure, int], place: int) -> None:
        self.place = place
        self._class, self._score, self._mean, self._deviation = (
            wanted.get(measure, -1)
            for measure in (Measure.CLASS, Measure.SCORE, Measure.MEAN, Measure.DEVIATION)
        )
        self._row_by_row = tensor.shape[:1] == (-1,)
        self._whole = tensor.datatype not in {Datatype.FP16, Datatype.FP32, Datatype.FP64}
        self._scale, self._zero = 1.0, 0
        if tensor.quantization is not None:
            self._scale, self._zero = tensor.quantization.scale, tensor.quantization.zero_point

    def read(self, array: Array, found: list[float]) -> None:
        """Put the tensor's numbers where they belong."""
        if self._row_by_row:
            array = array[:1]
        if not array.size:
            return
        if self._whole:
            self._read(array.reshape(-1), array.shape, found)
        else:
            with np.errstate(all="ignore"):  # what isn't finite is counted as that, further on
                self._read(array.reshape(-1), array.shape, found)

    def _read(self, flat: Array, shape: tuple[int, ...], found: list[float]) -> None:
        if self._class >= 0 and (self._whole or np.isfinite(flat).all()):
            found[self._class] = float(flat.argmax())
        if self._score >= 0:
            found[self._score] = self._real(float(flat.max()))
        if self._mean < 0 and self._deviation < 0:
            return
        looked = flat[:: _stride(shape)].astype(np.float64)
        mean = float(np.add.reduce(looked)) / len(looked)
        if self._mean >= 0:
            found[self._mean] = self._real(mean)
        if self._deviation >= 0:
            looked -= mean
            found[self._deviation] = self._scale * math.sqrt(looked.dot(looked) / len(looked))

    def _real(self, number: float) -> float:
        return self._scale * (number - self._zero)


def _readers(side: str, tensors: Sequence[Tensor], watched: Sequence[Subject]) -> list[_Reader]:
    found = []
    for place, tensor in enumerate(tensors):
        wanted = {
            each.measure: at
            for at, each in enumerate(watched)
            if each.side == side and each.place == place
        }
        if wanted:
            found.append(_Reader(tensor, wanted, place))
    return found


@lru_cache(maxsize=64)
def _stride(shape: tuple[int, ...]) -> int:
    """Return a step through all of a tensor that stays in no column or channel of it."""
    step = math.ceil(math.prod(shape) / _LOOKED_AT)
    while step > 1 and any(size > 1 and math.gcd(step, size) > 1 for size in shape):
        step += 1
    return step


def _size(tensor: Tensor) -> int:
    return math.prod(abs(size) for size in tensor.shape)
