"""Chooses golden vectors: inputs on which damage to the model shows, and noise doesn't.

The hard part is not to run a model twice but to tell damage from the
differences every runtime and architecture makes. So both are measured per
candidate (`models.build.trial`), and those are chosen whose damage stands
highest above their noise, the best of every class among them: a classifier's
vectors must show two classes. The same file gives the same choice, unless a
slow machine runs out of time. Imports numpy and loads the model: only in a
child.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.build import trial
from models.build.pool import Pool, gather
from models.runtime import Array, open_model

SEED = 20_260_101

_CAP_UNITS = 8.0
"""Damage beyond this makes a candidate worth no more: one loud vector finds less than many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far an output strays unharmed, in its own units.

    `unit` is one step of it, `width` the range of its references and `spread` how far
    they are from their mean: what a tolerance must be small beside. `largest` and
    `mean` are over the chosen vectors, of the opinion that strays most. `pool_mean` is
    over all candidates, of which the chosen are the quiet ones: without the default
    delegates, or half of what shaking does, whichever is more.
    """

    width: float
    spread: float
    unit: float
    largest: float
    mean: float
    pool_mean: float

    @classmethod
    def of(cls, pool: Pool, strayed: Sequence[Array], chosen: Sequence[int]) -> tuple[Self, ...]:
        """Return the noise in each output's errors: (opinions, candidates, elements)."""
        picked = pool.only(chosen)
        return tuple(
            cls(
                width=width,
                spread=spread,
                unit=unit,
                largest=float(errors[:, chosen].max(initial=0.0)),
                mean=float(errors[:, chosen].mean(axis=(1, 2)).max()),
                pool_mean=max(float(errors[0].mean()), float(errors.mean(axis=(1, 2)).max()) / 2),
            )
            for width, spread, unit, errors in zip(
                picked.widths(), picked.spreads(), picked.units(), strayed, strict=True
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen vectors with their reference outputs, and what was measured on the way.

    `copies` is how many harmed copies they were tried on, `given` how many are the engineer's.
    """

    inputs: list[list[Array]]
    outputs: list[list[Array]]
    noise: tuple[Noise, ...]
    classes_seen: int
    copies: int
    given: int


def choose(
    content: bytes,
    *,
    spans: Sequence[tuple[int, int]],
    decision: int | None,
    count: int,
    given: Sequence[Sequence[Array]] = (),
    budget_s: float = 15.0,
) -> Choice:
    """Choose `count` vectors for a stateless model.

    Args:
        content: the `.tflite`.
        spans: where its constants lie, as (offset, length); empty: no damage is tried.
        decision: the output whose largest element decides; None for regressions.
        count: how many vectors are wanted.
        given: the engineer's own rows; half of the vectors are theirs, if there are so many.
        budget_s: how long measuring may take, about.

    Raises:
        RefusedError: LOAD_FAILED, or MODEL_UNSUPPORTED where nothing can be compared.
    """
    random = np.random.default_rng(SEED)
    runner = open_model(content)
    pool = gather(
        runner, random, decision=decision, given=given, count=count, budget_s=budget_s / 4
    )
    strayed = trial.noise(content, runner, pool, random)
    harmed = trial.damage(
        content,
        spans,
        pool,
        strayed,
        decision=decision,
        budget_s=budget_s / 2,
        seed=SEED + 1,
    )
    chosen = _pick(pool, _worth(pool, strayed, harmed), decision, count)
    seen = 0 if decision is None else len(np.unique(pool.decided(decision)[chosen]))
    return Choice(
        inputs=[pool.inputs[place] for place in chosen],
        outputs=[pool.outputs[place] for place in chosen],
        noise=Noise.of(pool, strayed, chosen),
        classes_seen=seen,
        copies=len(harmed),
        given=sum(1 for place in chosen if place < pool.given),
    )


def _worth(pool: Pool, strayed: Sequence[Array], harmed: Array) -> Array:
    """Return what each candidate is worth: its damage, or else its variety, above its noise."""
    units = pool.units()
    noise = np.zeros(len(pool.inputs))
    for errors, unit in zip(strayed, units, strict=True):
        noise += errors.max(axis=0).mean(axis=1) / unit
    shown = np.minimum(harmed, _CAP_UNITS).mean(axis=0) if len(harmed) else pool.scatter(units)
    worth: Array = shown / (noise + 1)
    return worth


def _pick(pool: Pool, worth: Array, decision: int | None, count: int) -> list[int]:
    """Return the chosen candidates' places, in the pool's order."""
    order = [int(place) for place in np.argsort(-worth, kind="stable")]
    chosen: list[int] = []
    if decision is not None:
        classes = pool.decided(decision)
        best = {int(classes[place]): place for place in reversed(order)}
        # Of very many classes, those whose best vector is worth most.
        chosen = sorted(best.values(), key=order.index)[: max(2, count // 2)]
    rest = [place for place in order if place not in set(chosen)]
    own = [place for place in rest if place < pool.given][: count // 2]
    chosen += own
    chosen += [place for place in rest if place not in set(own)][: max(0, count - len(chosen))]
    return sorted(chosen)
