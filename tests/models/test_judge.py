"""The judge: largest error, mean error, decision; whatever a model does is a judgement."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from models.card import Card, Golden, Provenance, Tensor, Tolerance
from models.errors import RefusedError
from models.judge import Judgement, judge
from models.runtime import Array, Slot
from models.values import Datatype, Library, ModelRef, digest_of

INPUT = Tensor(name="x", datatype=Datatype.INT8, shape=(1, 4))
OUTPUT = Tensor(name="scores", datatype=Datatype.INT8, shape=(1, 3))
Answer = Callable[[Array, int], Array]


class Model:
    """A runner whose answers a test decides; it counts its resets."""

    library: Library = "litert"
    version = "test"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.runs = 0
        self.resets = 0
        self.inputs = (Slot(name="x", dtype=np.dtype("i1"), shape=(1, 4)),)
        self.outputs: tuple[Slot, ...] = (Slot(name="y", dtype=np.dtype("i1"), shape=(1, 3)),)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        self.runs += 1
        return [self._answer(inputs[0], self.runs - 1)]

    def reset(self) -> None:
        self.resets += 1


def right(x: Array, _: int) -> Array:
    return x[:, :3].copy()


RANDOM = np.random.default_rng(1)
# The first class leads the second by 100, except in the last vector, where by 2.
INPUTS = [np.array([[100, 0, -50, place]], np.int8) for place in range(9)]
INPUTS.append(np.array([[10, 8, -50, 0]], np.int8))
BLOB = b"".join(x.tobytes() + right(x, 0).tobytes() for x in INPUTS)
CARD = Card(
    ref=ModelRef("m", "1.0.0"),
    task="classification",
    inputs=(INPUT,),
    outputs=(OUTPUT,),
    variants=(),
    provenance=Provenance(source_digest=digest_of(b"")),
    golden=Golden(
        digest=digest_of(BLOB),
        size_bytes=len(BLOB),
        vectors=10,
        origin="test",
        tolerances=(Tolerance(largest=8, mean=1),),
        measured_on=(),
        decision=0,
        classes_seen=2,
    ),
    licence="",
)


def judged(answer: Answer) -> Judgement:
    return judge(CARD, BLOB, Model(answer))


def test_the_same_answers_pass() -> None:
    """A model that answers as its reference did is right in every vector."""
    verdict = judged(right)

    assert verdict.passed
    assert verdict.reason is None
    assert (10, 10, (0.0,), (0.0,)) == (
        verdict.vectors,
        verdict.agreed,
        verdict.largest,
        verdict.mean,
    )


def test_noise_within_both_bounds_passes() -> None:
    """Another rounding is no fault, not even where it tips a narrow decision."""
    verdict = judged(lambda x, call: right(x, 0) + np.array([-4, 4, 0], np.int8) * (call == 9))

    assert verdict.passed
    assert (4.0,) == verdict.largest


def test_one_element_too_far_fails() -> None:
    """One element beyond `largest` is enough."""
    verdict = judged(lambda x, call: right(x, 0) + np.array([0, 0, 9], np.int8) * (call == 3))

    assert "GOLDEN_MISMATCH" == verdict.reason
    assert 9 == verdict.agreed


def test_many_small_errors_fail_by_their_mean() -> None:
    """Damage that moves every answer a little is seen, though no element is far off."""
    verdict = judged(lambda x, _: right(x, 0) + np.int8(2))

    assert not verdict.passed
    assert 10 == verdict.agreed
    assert (2.0,) == verdict.mean


def test_a_wide_decision_that_falls_fails() -> None:
    """Where the reference leads by more than `largest`, the class must be the same."""
    card = replace(
        CARD,
        golden=replace(CARD.golden, tolerances=(Tolerance(largest=99, mean=99),)),
    )
    verdict = judge(card, BLOB, Model(lambda x, _: right(x, 0)[:, ::-1].copy()))

    assert not verdict.passed


def test_not_a_number_is_infinitely_far() -> None:
    """NaN never counts as near."""
    output = replace(OUTPUT, datatype=Datatype.FP32)
    blob = b"".join(x.tobytes() + right(x, 0).astype("<f4").tobytes() for x in INPUTS)
    model = Model(lambda x, _: x[:, :3].astype(np.float32) * np.float32(np.nan))
    model.outputs = (Slot(name="y", dtype=np.dtype("f4"), shape=(1, 3)),)
    verdict = judge(replace(CARD, outputs=(output,)), blob, model)

    assert "GOLDEN_MISMATCH" == verdict.reason
    assert (float("inf"),) == verdict.largest


def test_another_signature_is_no_load() -> None:
    """A file whose tensors are not the card's is not even run."""
    model = Model(right)
    model.outputs = (Slot(name="y", dtype=np.dtype("i1"), shape=(1, 4)),)
    verdict = judge(CARD, BLOB, model)

    assert "LOAD_FAILED" == verdict.reason
    assert 0 == model.runs


def test_a_model_that_fails_while_running_is_judged() -> None:
    """A failing invocation is a judgement with the runtime's own reason, not an exception."""

    def fails(_: Array, __: int) -> Array:
        raise RefusedError("LOAD_FAILED", "device lost")

    verdict = judged(fails)

    assert ("LOAD_FAILED", "device lost") == (verdict.reason, verdict.message)


def test_the_model_is_left_fresh() -> None:
    """Judging starts from a fresh state and leaves one behind."""
    model = Model(right)
    judge(CARD, BLOB, model)

    assert 2 == model.resets


def test_a_blob_that_does_not_fit_is_refused() -> None:
    """Vectors that aren't the card's judge nothing."""
    with pytest.raises(RefusedError):
        judge(CARD, BLOB[:-1], Model(right))
