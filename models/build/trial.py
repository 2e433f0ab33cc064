"""Tries a pool's candidates: how far do answers stray unharmed, and how far when weights are hit?

*Noise* is what the answer does without the default delegates, and when the
input's last bits are shaken: what another runtime's rounding makes of it.
*Damage* is what it does in copies with random weight bytes flipped, just enough
of them that a tenth of all candidates is answered otherwise. Imports numpy and
loads damaged models: only in a child.
"""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from models.build import candidates
from models.build.pool import Pool, apart, decided
from models.errors import RefusedError
from models.runtime import Array, Runner, open_model

LEAST_HARM = 0.1
"""The share of answers that must change before damage has to be seen."""

_SHAKES = 3
_COPIES = 16
_FIRST_BYTES = 16
_WEIGHT_BYTES = 64
"""Shorter constants are shapes, paddings and axes: flipping those is another kind of harm."""


def noise(content: bytes, runner: Runner, pool: Pool, random: np.random.Generator) -> list[Array]:
    """Return, per output, each opinion's errors: (opinions, candidates, elements)."""
    second = open_model(content, reference=True)
    opinions = [apart([second.run(row) for row in pool.inputs], pool.outputs)]
    for _ in range(_SHAKES):
        rows = [[candidates.shaken(array, random) for array in row] for row in pool.inputs]
        opinions.append(apart([runner.run(row) for row in rows], pool.outputs))
    return [np.stack(of_output) for of_output in zip(*opinions, strict=True)]


def damaged(
    content: bytes, spans: Sequence[tuple[int, int]], count: int, random: np.random.Generator
) -> bytes:
    """Return a copy with `count` random bytes of its weights changed."""
    places = np.concatenate([np.arange(start, start + length) for start, length in spans])
    copy = np.frombuffer(content, np.uint8).copy()
    hit = random.choice(places, min(count, len(places)), replace=False)
    copy[hit] ^= random.integers(1, 256, len(hit)).astype(np.uint8)
    return copy.tobytes()


def damage(
    content: bytes,
    spans: Sequence[tuple[int, int]],
    pool: Pool,
    strayed: Sequence[Array],
    *,
    decision: int | None,
    budget_s: float,
    seed: int,
) -> Array:
    """Return how far harmed copies' answers are off, in units: (copies, candidates).

    No copies where there are no weights to hit, or no hit changes an answer.
    """
    spans = [span for span in spans if span[1] >= _WEIGHT_BYTES]
    total = sum(length for _, length in spans)
    units = pool.units()
    bounds = [
        2 * float(errors.max(initial=0.0)) + unit
        for errors, unit in zip(strayed, units, strict=True)
    ]
    random = np.random.default_rng(seed)
    deadline = perf_counter() + budget_s
    rows: list[Array] = []
    for _ in range(_COPIES):
        count = _FIRST_BYTES
        while count <= total and perf_counter() < deadline:
            try:
                copy = open_model(damaged(content, spans, count, random))
                answers = [copy.run(row) for row in pool.inputs]
            except RefusedError:
                break  # it doesn't run at all: golden vectors have nothing to find
            errors = apart(answers, pool.outputs)
            if _changed(answers, errors, pool, bounds, decision).mean() > LEAST_HARM:
                # NaN and infinity count as very far.
                rows.append(
                    sum(
                        (np.minimum(error, 1e6 * unit).mean(axis=1) / unit)
                        for error, unit in zip(errors, units, strict=True)
                    )
                )
                break
            count *= 2
    return np.stack(rows) if rows else np.empty((0, len(pool.inputs)))


def _changed(
    answers: Sequence[Sequence[Array]],
    errors: Sequence[Array],
    pool: Pool,
    bounds: Sequence[float],
    decision: int | None,
) -> Array:
    """Say which candidates a copy answers otherwise: the decision, or a value beyond all noise."""
    changed: Array
    if decision is not None:
        changed = decided(answers, decision) != pool.decided(decision)
    else:
        beyond = [error.max(axis=1) > bound for error, bound in zip(errors, bounds, strict=True)]
        changed = np.any(beyond, axis=0)
    return changed
