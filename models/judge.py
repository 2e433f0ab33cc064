"""Judges one loaded model by its bundle's golden vectors.

"It works" is decided here and nowhere else: by `pack` before a card is
written, by a device's self-test and by each worker before it is ready, on the
runtime that will serve. A clean load proves nothing, and bit equality is no
measure: the same undamaged file answers a little differently on another
runtime or architecture. Three rules, all must hold:

- no element of any output is further from its reference than `largest`;
- the mean absolute error over all vectors is at most `mean`: damage moves many
  answers a little, noise a few;
- where a classifier's reference decision has a margin wider than `largest`, the
  decision is the same.

Imports numpy: only in a child.
"""

from dataclasses import dataclass

import numpy as np

from models import golden
from models.card import Card, Tensor
from models.errors import RefusedError
from models.runtime import Array, Runner
from models.values import Datatype

DTYPES: dict[Datatype, str] = {
    Datatype.BOOL: "|b1",
    Datatype.UINT8: "|u1", Datatype.UINT16: "<u2", Datatype.UINT32: "<u4", Datatype.UINT64: "<u8",
    Datatype.INT8: "|i1", Datatype.INT16: "<i2", Datatype.INT32: "<i4", Datatype.INT64: "<i8",
    Datatype.FP16: "<f2", Datatype.FP32: "<f4", Datatype.FP64: "<f8",
}  # fmt: skip
"""Each datatype as it lies in the golden blob and in a binary tensor; BYTES has no fixed size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the golden vectors said. `agreed` counts vectors that are right on their own.

    `largest` and `mean` are the errors seen, per output, in its own units.
    `reason` is None when it passed, else GOLDEN_MISMATCH (it answers wrongly)
    or LOAD_FAILED (it doesn't answer, or has another signature).
    """

    passed: bool
    reason: str | None
    message: str
    vectors: int
    agreed: int = 0
    largest: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()


def judge(card: Card, blob: bytes, runner: Runner) -> Judgement:
    """Run the golden vectors through `runner` and compare; the runner is left with fresh state.

    Raises:
        RefusedError: BUNDLE_MALFORMED, the blob doesn't fit the card. Whatever the model does is
            a judgement.
    """
    vectors = golden.read(card, blob)
    answers: list[list[Array]] = []
    try:
        runner.reset()  # state, and shapes that an earlier request may have chosen
        _check_signature(card, runner)
        for vector in vectors:
            inputs = [
                _array(tensor, raw) for tensor, raw in zip(card.inputs, vector.inputs, strict=True)
            ]
            answers.append(runner.run(inputs))
        runner.reset()
    except RefusedError as refused:
        return Judgement(
            passed=False, reason=refused.reason, message=str(refused), vectors=len(vectors)
        )
    errors = [
        np.stack(
            [
                distance(answer[place], _array(tensor, vector.outputs[place]))
                for answer, vector in zip(answers, vectors, strict=True)
            ]
        )
        for place, tensor in enumerate(card.outputs)
    ]
    right = np.ones(len(vectors), bool)
    for error, tolerance in zip(errors, card.golden.tolerances, strict=True):
        right &= error.max(axis=1, initial=0.0) <= tolerance.largest
    if card.golden.decision is not None:
        place = card.golden.decision
        reference = np.stack(
            [_array(card.outputs[place], vector.outputs[place]).reshape(-1) for vector in vectors]
        )
        answered = np.stack([answer[place].reshape(-1) for answer in answers])
        decided = margins(reference) > card.golden.tolerances[place].largest
        right &= ~decided | (reference.argmax(axis=1) == answered.argmax(axis=1))
    largest = tuple(float(error.max(initial=0.0)) for error in errors)
    mean = tuple(float(error.mean()) if error.size else 0.0 for error in errors)
    agreed = int(right.sum())
    means_hold = all(
        seen <= tolerance.mean for seen, tolerance in zip(mean, card.golden.tolerances, strict=True)
    )
    passed = agreed == len(vectors) and means_hold
    return Judgement(
        passed=passed,
        reason=None if passed else "GOLDEN_MISMATCH",
        message=_sentence(card, runner, agreed, largest, mean),
        vectors=len(vectors),
        agreed=agreed,
        largest=largest,
        mean=mean,
    )


def apart(card: Card, blob: bytes, one: Runner, other: Runner) -> tuple[float, ...]:
    """Return how far two models' answers to the golden inputs are apart, at most, per output.

    Raises:
        RefusedError: BUNDLE_MALFORMED, or one of them does not answer (LOAD_FAILED).
    """
    found = [0.0] * len(card.outputs)
    one.reset()
    other.reset()
    for inputs in inputs_of(card, blob):
        for place, (left, right) in enumerate(zip(one.run(inputs), other.run(inputs), strict=True)):
            found[place] = max(found[place], float(distance(left, right).max(initial=0.0)))
    return tuple(found)


def inputs_of(card: Card, blob: bytes) -> list[list[Array]]:
    """Return the golden inputs as arrays, to measure by.

    Raises:
        RefusedError: BUNDLE_MALFORMED.
    """
    return [
        [_array(tensor, raw) for tensor, raw in zip(card.inputs, vector.inputs, strict=True)]
        for vector in golden.read(card, blob)
    ]


def distance(answer: Array, reference: Array) -> Array:
    """Return how far each element is from its reference: flat, in the output's own units.

    What is not finite agrees only with itself; else it is infinitely far.
    """
    got, wanted = answer.reshape(-1).astype(np.float64), reference.reshape(-1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(got - wanted)
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    apart[np.isnan(apart)] = np.inf
    apart[same] = 0.0
    return apart


def margins(scores: Array) -> Array:
    """Return by how much the first of each row leads the second."""
    if scores.shape[1] < 2:  # noqa: PLR2004  # one score decides nothing
        return np.zeros(len(scores))
    ordered = np.sort(scores.astype(np.float64), axis=1)
    lead: Array = ordered[:, -1] - ordered[:, -2]
    return lead


def _array(tensor: Tensor, raw: bytes | memoryview) -> Array:
    array: Array = np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(golden.shape_of(tensor))
    return array


def _check_signature(card: Card, runner: Runner) -> None:
    for kind, tensors, slots in (
        ("inputs", card.inputs, runner.inputs),
        ("outputs", card.outputs, runner.outputs),
    ):
        if len(tensors) != len(slots):
            raise RefusedError(
                "LOAD_FAILED",
                f"{card.ref} has {len(tensors)} {kind}; the loaded file has {len(slots)}",
            )
        for tensor, slot in zip(tensors, slots, strict=True):
            wanted = np.dtype(DTYPES[tensor.datatype]), golden.shape_of(tensor)
            if wanted != (slot.dtype, slot.shape):
                raise RefusedError(
                    "LOAD_FAILED",
                    f"{tensor.name} of {card.ref} is {tensor.datatype} {list(tensor.shape)}; "
                    f"the loaded file has {slot.dtype} {list(slot.shape)}",
                )


def _sentence(
    card: Card, runner: Runner, agreed: int, largest: tuple[float, ...], mean: tuple[float, ...]
) -> str:
    worst = "; ".join(
        f"{tensor.name}: largest error {seen:.4g} of {bound.largest:.4g}, "
        f"mean {middle:.4g} of {bound.mean:.4g}"
        for tensor, bound, seen, middle in zip(
            card.outputs, card.golden.tolerances, largest, mean, strict=True
        )
    )
    return (
        f"{card.ref} on {runner.library} {runner.version}: "
        f"{agreed} of {card.golden.vectors} golden vectors ({worst})"
    )
