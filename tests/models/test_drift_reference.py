"""What is watched for drift: the same numbers at home and on a device, in even bins."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import tflite
from models.build.reference import FEWEST_ROWS, _edges, _reference, spread
from models.card import DriftReference, Quantization, Tensor
from models.drift import Bins, Watch, bin_of, subjects
from models.limits import DRIFT_SUBJECTS_LIMIT
from models.runtime import Array
from models.values import Datatype
from tests.agent.packages import dense_net

PICTURE = Tensor(
    name="picture",
    datatype=Datatype.UINT8,
    shape=(1, 96, 96, 3),
    quantization=Quantization(scale=1 / 255, zero_point=0),
)
SCORES = Tensor(name="scores", datatype=Datatype.FP32, shape=(1, 10))
MANY = Tensor(name="scores", datatype=Datatype.FP32, shape=(1, 1000))
LEVEL = Tensor(name="level", datatype=Datatype.FP32, shape=(1, 1))

numbers = st.lists(
    st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float), min_size=FEWEST_ROWS, max_size=400
)


@given(numbers)
def test_each_number_has_its_bin_and_bins_are_even(column: list[float]) -> None:
    """Shares are what was counted, and none is above a tenth but for numbers that are equal."""
    edges = _edges(column, grain=0.0)
    if len(set(column)) == 1:
        assert [] == edges
        return
    made = _reference("input-0-mean", edges, column)
    counted = [0] * (len(edges) + 2)
    for number in column:
        counted[bin_of(number, made.edges)] += 1

    assert 0 == counted.pop()
    assert [count / len(column) for count in counted] == list(made.shares)
    assert 2 <= len(made.shares) <= min(10, len(column) // 10)
    assert all(counted)
    if len(set(column)) == len(column):
        assert max(counted) - min(counted) <= 1


@given(numbers)
def test_what_only_rounding_keeps_apart_is_constant(column: list[float]) -> None:
    """A normalized input's mean is nearly 0 everywhere: that says nothing of drift."""
    assert [] == _edges(column, grain=max(column) - min(column))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_a_bin_of_its_own(number: float) -> None:
    """The one after the open last one."""
    assert [0, 0, 1, 2, 3] == [bin_of(each, (0.0, 1.0)) for each in (-9e9, 0.0, 0.5, 9e9, number)]


def test_the_decision_comes_first_and_no_card_watches_more_than_may_travel() -> None:
    """A class where there are few, a score where there are many, an output's value otherwise."""
    assert ["output-1-class", "input-0-mean", "input-0-deviation", "output-0-mean"] == [
        str(each) for each in subjects([PICTURE], [LEVEL, SCORES], 1)
    ]
    assert ["output-0-score", "input-0-mean"] == [
        str(each) for each in subjects([LEVEL], [MANY], 0)
    ]
    assert DRIFT_SUBJECTS_LIMIT == len(subjects([PICTURE] * 3, [LEVEL] * 3, None))


def pictures(count: int) -> list[Array]:
    rng = np.random.default_rng(5)
    return [
        np.clip(rng.normal(120, rng.uniform(20, 40), (1, 96, 96, 3)) + rng.normal(0, 10), 0, 255)
        for _ in range(count)
    ]


def bins_of(made: list[Array], references: tuple[DriftReference, ...]) -> list[list[int]]:
    """Return how often each subject's bins are hit."""
    bins = Bins([PICTURE], [LEVEL], references)
    counts = [[0] * size for size in bins.sizes.values()]
    for each in made:
        sorted_ = bins.sort([each.astype(np.uint8)], [np.zeros((1, 1), np.float32)])
        for count, place in zip(counts, sorted_, strict=True):
            count[place] += 1
    return counts


def test_darkness_gain_and_a_stuck_sensor_move_the_bins() -> None:
    """Each of them shows in the mean or the deviation; the same data shows in neither."""
    watched = subjects([PICTURE], [LEVEL], None)[:2]
    watch = Watch([PICTURE], [LEVEL], watched)
    known = pictures(300)
    columns = zip(
        *(watch.numbers([each.astype(np.uint8)], [np.zeros((1, 1))]) for each in known), strict=True
    )
    made = tuple(
        _reference(str(subject), _edges(column, grain=1e-9), column)
        for subject, column in zip(watched, map(list, columns), strict=True)
    )

    assert [[30] * 10 + [0]] * 2 == bins_of(known, made)
    darker, gained, stuck = (
        bins_of([change(each) for each in known], made)
        for change in (
            lambda each: each - 40,
            lambda each: (each - 120) * 1.6 + 120,
            lambda _: known[0],
        )
    )
    assert darker[0][0] > 250
    assert gained[1][9] > 150
    assert [1, 1] == [sum(map(bool, each)) for each in stuck]


def test_of_a_large_tensor_every_channel_and_column_is_looked_at() -> None:
    """A step through the elements that always met the same channel would be blind for two."""
    for shape in ((1, 96, 96, 3), (1, 224, 224, 3), (1, 128, 128, 4), (1, 16000), (1, 49, 40, 1)):
        tensor = Tensor(name="x", datatype=Datatype.FP32, shape=shape)
        watch = Watch([tensor], [LEVEL], subjects([tensor], [LEVEL], None))
        for axis, size in enumerate(shape):
            for place in range(min(size, 50)):
                array = np.zeros(shape, np.float32)
                array[(slice(None),) * axis + (place,)] = 1
                (mean, _, _) = watch.numbers([array], [np.zeros((1, 1))])
                if size < 200:
                    assert mean == pytest.approx(1 / size, rel=0.35), (shape, axis, place)


def test_numbers_are_of_the_first_row_and_nothing_breaks_on_what_is_none() -> None:
    """A batch counts as one request; NaN, infinity and nothing at all have no number."""
    varies = Tensor(name="x", datatype=Datatype.FP32, shape=(-1, 4))
    watch = Watch([varies], [LEVEL], subjects([varies], [LEVEL], None))
    rows = np.array([[1, 1, 1, 3], [9, 9, 9, 9]], np.float32)

    assert [1.5, math.sqrt(0.75), 7.0] == watch.numbers([rows], [np.full((2, 1), 7.0)])
    for wrong in (np.full((1, 4), np.nan), np.full((1, 4), np.inf), np.empty((0, 4))):
        found = watch.numbers([wrong], [np.full((1, 1), -np.inf)])
        assert not any(map(math.isfinite, found))


def test_what_a_card_of_tomorrow_watches_is_left_alone() -> None:
    """An unknown subject is not counted, and does not hinder the others."""
    known = DriftReference(subject="input-0-mean", edges=(0.5,), shares=(0.5, 0.5), samples=50)
    unknown = DriftReference(subject="input-0-entropy", edges=(), shares=(1.0,), samples=50)
    beyond = DriftReference(subject="input-1-mean", edges=(), shares=(1.0,), samples=50)

    assert {"input-0-mean": 3} == Bins([PICTURE], [LEVEL], (unknown, known, beyond)).sizes


def npz(array: Array) -> bytes:
    file = io.BytesIO()
    np.savez(file, x=array)
    return file.getvalue()


def test_a_model_s_own_rows_become_its_reference() -> None:
    """The same rows give the same reference; few rows give fewer bins, too few none, and a word."""
    content = dense_net((8, 4, 3))
    file = tflite.read(content)
    rows = np.random.default_rng(1).normal(2, 1, (2500, 1, 8)).astype(np.float32)
    made = spread(content, file, 0, npz(rows))

    assert made == spread(content, file, 0, npz(rows))
    assert ["output-0-class", "input-0-mean", "input-0-deviation"] == [
        each.subject for each in made.references
    ]
    decision, *others = made.references
    assert (0.5, 1.5) == decision.edges
    for each in others:
        assert [0.1] * 10 == pytest.approx(each.shares, abs=0.002)
        assert 1000 == each.samples
        assert all(low < high for low, high in pairwise(each.edges))

    few = spread(content, file, 0, npz(rows[:60]))
    assert [6, 6] == [len(each.shares) for each in few.references[1:]]
    (said,) = spread(content, file, 0, npz(rows[: FEWEST_ROWS - 1])).warnings
    assert "49 rows say too little, give 50 or more" in said
    assert () == spread(content, file, 0, None).references


def test_an_input_that_never_varies_is_said_not_watched() -> None:
    """All that it could notice is rounding."""
    content = dense_net((8, 4, 3))
    rows = np.ones((60, 1, 8), np.float32)
    rows[:, 0, 0] += np.linspace(0, 1e-6, 60, dtype=np.float32)
    made = spread(content, tflite.read(content), None, npz(rows))

    assert () == tuple(each for each in made.references if each.subject.startswith("input"))
    (said,) = made.warnings
    assert "not watched for drift: input-0-mean, input-0-deviation" in said
