"""Golden vectors of a stateful model: one sequence of inputs, from its fresh state.

Single vectors can't be picked from a sequence, so whole sequences are tried and
the one whose answers vary most is kept and bred on. Imports numpy and loads the
model: only in a child.
"""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from models.build import candidates
from models.build.choice import SEED, Choice, Noise
from models.build.pool import Pool, apart, finite
from models.errors import RefusedError
from models.runtime import Array, Runner, open_model

_TRIES = 600
_SHAKES = 3
_Rows = list[list[Array]]


def choose_sequence(
    content: bytes, *, count: int, given: Sequence[Sequence[Array]] = (), budget_s: float = 15.0
) -> Choice:
    """Choose a sequence of `count` vectors; the engineer's own rows, where given, are it.

    Raises:
        RefusedError: LOAD_FAILED, or MODEL_UNSUPPORTED where it answers with NaN or infinity.
    """
    random = np.random.default_rng(SEED)
    runner = open_model(content)
    if given:
        inputs = [list(row) for row in given[:count]]
        outputs = _answers(runner, inputs)
    else:
        inputs, outputs = _most_varied(runner, random, count, budget_s)
    pool = Pool(inputs=inputs, outputs=outputs, given=min(count, len(given)))
    if len(finite(pool).inputs) < len(inputs):
        raise RefusedError(
            "MODEL_UNSUPPORTED", "the model answers a sequence of inputs with NaN or infinity"
        )
    opinions = [apart(_answers(open_model(content, reference=True), inputs), outputs)]
    for _ in range(_SHAKES):
        shaken = [[candidates.shaken(array, random) for array in row] for row in inputs]
        opinions.append(apart(_answers(runner, shaken), outputs))
    return Choice(
        inputs=inputs,
        outputs=outputs,
        noise=Noise.of(
            pool,
            [np.stack(of_output) for of_output in zip(*opinions, strict=True)],
            range(len(inputs)),
        ),
        classes_seen=0,
        copies=0,
        given=pool.given,
    )


def _answers(runner: Runner, inputs: _Rows) -> _Rows:
    runner.reset()
    return [runner.run(row) for row in inputs]


def _most_varied(
    runner: Runner, random: np.random.Generator, count: int, budget_s: float
) -> tuple[_Rows, _Rows]:
    def draw(turn: int) -> _Rows:
        # Long stretches of one kind: a state that follows its input needs time to get anywhere.
        stretch = int(random.choice([1, 8, 32]))
        rows: _Rows = []
        for step in range(count):
            if step % stretch == 0 or random.random() < 0.5:  # noqa: PLR2004  # half hold still
                rows.append(candidates.draw(runner.inputs, random, turn + step // stretch))
            else:
                rows.append([candidates.shaken(array, random) for array in rows[-1]])
        return rows

    best = draw(0)
    outputs = _answers(runner, best)
    most = _variety(outputs)
    deadline = perf_counter() + budget_s
    for turn in range(1, _TRIES):
        if perf_counter() > deadline:
            break
        fresh = draw(turn)
        if turn % 3:
            start, stop = sorted(int(cut) for cut in random.integers(0, count + 1, 2))
            fresh = best[:start] + fresh[start:stop] + best[stop:]
        tried = _answers(runner, fresh)
        variety = _variety(tried)
        if variety >= most:
            best, outputs, most = fresh, tried, variety
    return best, outputs


def _variety(outputs: _Rows) -> float:
    """Say how much the answers change along the sequence."""
    return sum(
        float(
            np.stack([row[place].reshape(-1).astype(np.float64) for row in outputs])
            .std(axis=0)
            .mean()
        )
        for place in range(len(outputs[0]))
    )
