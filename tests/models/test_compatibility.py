"""What a newer model means to the clients of the one before: drop-in, or what they must know."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.card import Card, Quantization, Tensor
from models.compatibility import Compatibility, compatibility, contract_changes
from models.values import Datatype
from tests.fleet.deciding.paper import Paper

PAPER = Paper()
CARD = replace(PAPER.card(PAPER.bundle("1.0.0")), labels=("cat", "dog"))
IMAGE, SCORES = CARD.inputs[0], CARD.outputs[0]
FLOAT = Tensor(name="image", datatype=Datatype.FP32, shape=(1, 64))
SCALED = replace(IMAGE, quantization=Quantization(scale=0.5, zero_point=3))


def told(after: Card, before: Card = CARD) -> list[tuple[str, str, str]]:
    return [(each.part, each.before, each.after) for each in contract_changes(before, after)]


@pytest.mark.parametrize(
    "after",
    [
        CARD,
        replace(PAPER.card(PAPER.bundle("2.0.0")), labels=CARD.labels),
        replace(CARD, licence="MIT", description="another", variants=()),
        replace(CARD, inputs=(replace(IMAGE, shape=(-1, 64)),)),
    ],
    ids=["itself", "retrained", "not-theirs", "any-batch"],
)
def test_what_clients_need_not_know_is_no_change(after: Card) -> None:
    """Weights, size, licence: none of theirs; and who sends one row may go on sending one."""
    assert [] == told(after)
    assert Compatibility.DROP_IN is compatibility(contract_changes(CARD, after))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (
            replace(CARD, inputs=(FLOAT,)),
            ("input image", "INT8 [1,64]", "FP32 [1,64]"),
        ),
        (
            replace(CARD, inputs=(replace(IMAGE, shape=(1, 65)),)),
            ("input image", "INT8 [1,64]", "INT8 [1,65]"),
        ),
        (
            replace(CARD, inputs=(replace(IMAGE, shape=(64,)),)),
            ("input image", "INT8 [1,64]", "INT8 [64]"),
        ),
        (
            replace(CARD, inputs=(SCALED,)),
            ("input image", "INT8 [1,64]", "INT8 [1,64] by 0.5, zero 3"),
        ),
        (
            replace(CARD, inputs=(IMAGE, replace(FLOAT, name="mask"))),
            ("input mask", "", "FP32 [1,64]"),
        ),
        (
            replace(CARD, outputs=(replace(SCORES, datatype=Datatype.FP32),)),
            ("output scores", "INT8 [1,10]", "FP32 [1,10]"),
        ),
        (
            replace(CARD, labels=("dog", "cat")),
            ("labels", "2 labels: 0 cat, 1 dog", "2 labels: 0 dog, 1 cat"),
        ),
        (
            replace(CARD, labels=("cat", "dog", "cow")),
            ("labels", "2 labels", "3 labels: 2 cow"),
        ),
        (replace(CARD, task="regression"), ("task", "classification", "regression")),
        (replace(CARD, preprocessing="mean 0"), ("preprocessing", "", "mean 0")),
        (
            replace(CARD, stateful=True),
            ("answer", "depends on the request alone", "depends on earlier requests"),
        ),
    ],
)
def test_what_clients_must_know_is_named(after: Card, expected: tuple[str, str, str]) -> None:
    """One line a part, with what it was and what it is."""
    assert [expected] == told(after)
    assert Compatibility.CONTRACT_CHANGED is compatibility(contract_changes(CARD, after))


def test_a_tensor_of_another_name_is_gone_and_another_is_there() -> None:
    """Clients name what they send and read."""
    after = replace(CARD, outputs=(replace(SCORES, name="logits"),))

    assert [
        ("output scores", "INT8 [1,10]", ""),
        ("output logits", "", "INT8 [1,10]"),
    ] == told(after)


def test_a_dimension_that_may_no_longer_vary_is_a_change() -> None:
    """Who sent eight rows at once is refused now."""
    loose = replace(CARD, inputs=(replace(IMAGE, shape=(-1, 64)),))

    assert [("input image", "INT8 [any,64]", "INT8 [1,64]")] == told(CARD, loose)


@pytest.mark.parametrize(
    ("inputs", "was", "now", "drop_in"),
    [
        ((1, 64), (1, 10), (1, -1), False),
        ((1, 64), (1, -1), (1, 10), True),
        ((-1, 64), (1, 10), (-1, 10), True),
        ((-1, 64), (1, 10), (1, -1), False),
    ],
    ids=["any-number-of-scores", "a-fixed-number", "a-row-each", "not-the-batch"],
)
def test_an_output_may_vary_only_as_the_inputs_do(
    inputs: tuple[int, ...],
    was: tuple[int, ...],
    now: tuple[int, ...],
    drop_in: bool,  # noqa: FBT001  # a parameter
) -> None:
    """Who reads ten scores reads ten; a client that sends one row gets one."""
    before = replace(CARD, outputs=(replace(SCORES, shape=was),))
    after = replace(
        CARD, inputs=(replace(IMAGE, shape=inputs),), outputs=(replace(SCORES, shape=now),)
    )

    assert drop_in is (contract_changes(before, after) == ())


tensors = st.builds(
    Tensor,
    name=st.sampled_from(["image", "mask"]),
    datatype=st.sampled_from([Datatype.INT8, Datatype.FP32]),
    shape=st.lists(st.sampled_from([-1, 1, 8]), max_size=2).map(tuple),
)


@given(tensors, tensors, tensors)
def test_drop_in_is_passed_on(first: Tensor, second: Tensor, third: Tensor) -> None:
    """What is drop-in for what is drop-in is so too, and each is for itself."""
    cards = [replace(CARD, inputs=(each,)) for each in (first, second, third)]
    one, two, three = cards
    steps = contract_changes(one, two) or contract_changes(two, three)

    assert () == contract_changes(one, one)
    if not steps:
        assert () == contract_changes(one, three)
