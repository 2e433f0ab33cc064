"""The pool that golden vectors are chosen from: candidates with the model's own answers.

Where random inputs show a classifier's one class only, inputs are bred towards
a second; then more are laid on the way between two classes, where answers are
least saturated and say most. One tolerance holds for all vectors, so floats that
answer on quite another scale than most are left out. Imports numpy: only in a child.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from models.build import candidates
from models.errors import RefusedError
from models.judge import distance
from models.runtime import Array, Runner

_SIZE = 1_280
_GENERATIONS = 2_500
_FLOCK = 24
_ENOUGH = 12
_STEPS = 6
_SCALE = 10**0.5
_ROOM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Candidates and the model's answers; the first `given` are the engineer's own rows."""

    inputs: list[list[Array]]
    outputs: list[list[Array]]
    given: int

    def decided(self, decision: int) -> Array:
        """Return each candidate's class."""
        return decided(self.outputs, decision)

    def only(self, kept: Sequence[int]) -> "Pool":
        """Return the candidates at these places."""
        return Pool(
            inputs=[self.inputs[place] for place in kept],
            outputs=[self.outputs[place] for place in kept],
            given=sum(1 for place in kept if place < self.given),
        )

    def units(self) -> list[float]:
        """Return one step of each output: 1 for integers, for floats 1/255 of the range here."""
        return [
            (width / 255 or 1e-6) if first.dtype.kind == "f" else 1.0
            for first, width in zip(self.outputs[0], self.widths(), strict=True)
        ]

    def widths(self) -> list[float]:
        """Return how wide each output's range is here."""
        return [
            float(np.ptp(flat)) if flat.size else 0.0
            for flat in (self._flat(place) for place in range(len(self.outputs[0])))
        ]

    def spreads(self) -> list[float]:
        """Return how far each output's answers are from their mean, on average."""
        return [
            float(np.abs(flat - flat.mean(axis=0)).mean()) if flat.size else 0.0
            for flat in (self._flat(place) for place in range(len(self.outputs[0])))
        ]

    def _flat(self, place: int) -> Array:
        flat: Array = np.stack([output[place].reshape(-1) for output in self.outputs])
        return flat.astype(np.float64)

    def scatter(self, units: Sequence[float]) -> Array:
        """Return how far each candidate's answer is from the mean answer, in units."""
        total = np.zeros(len(self.outputs))
        for place, unit in enumerate(units):
            flat = self._flat(place)
            total += np.abs(flat - flat.mean(axis=0)).mean(axis=1) / unit
        return total


def decided(outputs: Sequence[Sequence[Array]], decision: int) -> Array:
    """Return the class of each answer."""
    return np.array([int(output[decision].argmax()) for output in outputs])


def apart(answers: Sequence[Sequence[Array]], reference: Sequence[Sequence[Array]]) -> list[Array]:
    """Return, per output, how far each vector's elements are from their reference."""
    return [
        np.stack(
            [
                distance(answer[place], wanted[place])
                for answer, wanted in zip(answers, reference, strict=True)
            ]
        )
        for place in range(len(reference[0]))
    ]


def finite(pool: Pool) -> Pool:
    """Leave out what is answered with NaN or infinity: it can't be compared.

    Raises:
        RefusedError: MODEL_UNSUPPORTED, nothing else is answered.
    """
    kept = [
        place
        for place, outputs in enumerate(pool.outputs)
        if all(np.isfinite(output.astype(np.float64)).all() for output in outputs)
    ]
    if not kept:
        raise RefusedError(
            "MODEL_UNSUPPORTED", "the model answers every input tried with NaN or infinity"
        )
    return pool.only(kept)


def alike(pool: Pool, least: int) -> Pool:
    """Leave out float answers on another scale: within a decade stay, but `least` at any rate.

    Inputs go over four decades, and so may answers: beside the noise of the loudest,
    any answer to a quiet one would do. The engineer's own rows stay and say the scale.
    """
    far = np.zeros(len(pool.outputs))
    for place, first in enumerate(pool.outputs[0]):
        if first.dtype.kind == "f" and first.size:
            peaks = np.array([float(np.abs(output[place]).max()) for output in pool.outputs])
            middle = float(np.median(peaks[: pool.given] if pool.given else peaks))
            smallest = middle * 1e-6 or 1e-30
            scales = np.log(np.maximum(peaks, smallest) / max(middle, smallest))
            far = np.maximum(far, np.abs(scales))
    far[: pool.given] = 0.0
    count = max(least, int((far <= np.log(_SCALE)).sum()))
    return pool.only(sorted(int(place) for place in np.argsort(far, kind="stable")[:count]))


def gather(
    runner: Runner,
    random: np.random.Generator,
    *,
    decision: int | None,
    given: Sequence[Sequence[Array]],
    count: int,
    budget_s: float,
) -> Pool:
    """Return a pool to choose `count` vectors from; a slow model gets fewer candidates.

    Raises:
        RefusedError: LOAD_FAILED, or MODEL_UNSUPPORTED where nothing can be compared.
    """
    inputs = [list(row) for row in given[: _SIZE // 2]]
    outputs = [runner.run(row) for row in inputs]
    own = len(inputs)
    began = perf_counter()
    for place in range(_SIZE - own):
        if place > 2 * count and perf_counter() - began > budget_s:
            break
        fresh = candidates.draw(runner.inputs, random, place)
        inputs.append(fresh)
        outputs.append(runner.run(fresh))
    pool = finite(Pool(inputs=inputs, outputs=outputs, given=own))
    if decision is not None:
        _breed(runner, random, pool, decision, perf_counter() + budget_s)
        _approach(runner, random, pool, decision, 2 * count)
    return alike(pool, _ROOM * count)


def _breed(
    runner: Runner, random: np.random.Generator, pool: Pool, decision: int, deadline: float
) -> None:
    """Add inputs of a second class where there are hardly any."""
    classes = pool.decided(decision)
    common = int(np.bincount(classes).argmax())
    if (classes != common).sum() >= len(classes) // 50:
        return

    def lead(output: list[Array]) -> float:
        scores = output[decision].reshape(-1).astype(np.float64)
        return float(np.delete(scores, common).max() - scores[common])

    leads = [lead(output) for output in pool.outputs]
    best = [int(place) for place in np.argsort(leads)[-_FLOCK:]]
    flock = [(leads[place], pool.inputs[place]) for place in best]
    won = 0
    for turn in range(_GENERATIONS):
        if won >= _ENOUGH or (turn > _GENERATIONS // 10 and perf_counter() > deadline):
            break
        if turn % 4 == 0:
            child = candidates.draw(runner.inputs, random, turn // 4)
        else:
            parent = flock[int(random.integers(0, len(flock)))][1]
            other = pool.inputs[int(random.integers(0, len(pool.inputs)))]
            child = [
                candidates.vary(one, two, random) for one, two in zip(parent, other, strict=True)
            ]
        output = runner.run(child)
        value = lead(output)
        weakest = min(range(len(flock)), key=lambda place: flock[place][0])
        if value >= flock[weakest][0]:  # never so for NaN
            flock[weakest] = (value, child)
            if value > 0:
                won += 1
                pool.inputs.append(child)
                pool.outputs.append(output)


def _approach(
    runner: Runner, random: np.random.Generator, pool: Pool, decision: int, count: int
) -> None:
    """Add `count` inputs on the way between two classes, some nearer to the border than others."""
    classes = pool.decided(decision)
    seen = np.unique(classes)
    if len(seen) < 2:  # noqa: PLR2004  # nothing lies between one class
        return
    for turn in range(count):
        first, second = random.choice(seen, 2, replace=False)
        middle = pool.inputs[int(random.choice(np.flatnonzero(classes == first)))]
        one, two = middle, pool.inputs[int(random.choice(np.flatnonzero(classes == second)))]
        low, high = 0.0, 1.0
        output = runner.run(middle)
        for _ in range(min(_STEPS, 2 + turn % 5)):
            share = (low + high) / 2
            middle = [
                candidates.between(start, end, share) for start, end in zip(one, two, strict=True)
            ]
            output = runner.run(middle)
            if int(output[decision].argmax()) == first:
                low = share
            else:
                high = share
        if all(np.isfinite(array.astype(np.float64)).all() for array in output):
            pool.inputs.append(middle)
            pool.outputs.append(output)
