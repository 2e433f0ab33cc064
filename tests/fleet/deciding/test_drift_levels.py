"""A shift that matters is told from chance, from trifles in large samples, and from silence."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.health.drift import (
    LEAST_A_BIN,
    Distance,
    Level,
    added,
    furthest,
    judge,
    unknown,
    worst,
)
from models.card import DriftReference
from models.drift import bin_of

DICE = random.Random(7)  # noqa: S311  # made-up requests
EDGES = (-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28)


def reference(samples: int = 1000, *, shares: Sequence[float] = (0.1,) * 10) -> DriftReference:
    edges = EDGES if len(shares) == 10 else tuple(number + 0.5 for number in range(len(shares) - 1))
    return DriftReference(
        subject="input-0-mean", edges=edges, shares=tuple(shares), samples=samples
    )


def counted(numbers: Sequence[float]) -> list[int]:
    counts = [0] * 11
    for number in numbers:
        counts[bin_of(number, EDGES)] += 1
    return counts


def normal(count: int, *, middle: float = 0.0) -> list[float]:
    return [DICE.gauss(middle, 1.0) for _ in range(count)]


def one(counts: Sequence[int], against: DriftReference | None = None) -> Distance:
    (found,) = judge([against or reference()], {"input-0-mean": counts})
    return found


def test_the_same_world_is_ok() -> None:
    """Requests like the rows of the card, many or few more than needed."""
    for count in (10 * LEAST_A_BIN, 2000, 100_000):
        assert Level.OK is one(counted(normal(count))).level


def test_a_planted_drift_is_found() -> None:
    """A darker picture, a stuck sensor, a class that never was, numbers that are none."""
    never = reference(150, shares=(0.5, 0.5, 0.0))
    stuck = [0, 0, 0, 5000, *[0] * 7]
    darker = one(counted(normal(5000, middle=-1.0)))

    assert Level.ALARM is darker.level
    assert darker.psi is not None
    assert darker.psi == pytest.approx(1.0, rel=0.15)  # of a normal shifted by d, about d squared
    assert Level.ALARM is one(stuck).level
    assert Level.ALARM is one([100, 100, 800, 0], never).level
    nan = one([*[90] * 10, 300])
    assert (Level.ALARM, 300) == (nan.level, nan.strange)


def test_a_tiny_shift_in_a_huge_sample_is_no_alarm() -> None:
    """The test rejects, as it does any trifle in a million requests; PSI says it is a trifle."""
    found = one(counted(normal(1_000_000, middle=0.05)), reference(1_000_000))

    assert found.chance is not None
    assert found.chance < 1e-9
    assert Level.OK is found.level


def test_chance_is_no_alarm() -> None:
    """A reference of twenty rows may differ by a PSI of 0.25, and prove nothing."""
    near = one([48, 48, 40, 32, 32, 0], reference(20, shares=(0.1, 0.1, 0.2, 0.3, 0.3)))
    assert near.psi is not None
    assert near.psi > 0.25
    assert near.chance is not None
    assert near.chance > 0.001
    assert Level.WATCH is near.level


def test_samples_of_one_world_raise_no_alarms() -> None:
    """References of 50 to 500 rows drawn from it, 200 of each: at most one alarm."""
    alarms = watches = 0
    for rows in (50, 150, 500):
        for _ in range(200):
            shares = [count / rows for count in counted(normal(rows))[:10]]
            found = one(counted(normal(400)), reference(rows, shares=shares))
            alarms += found.level is Level.ALARM
            watches += found.level is Level.WATCH and rows == 500

    assert alarms <= 1
    assert watches <= 10  # a reference of enough rows isn't watched for nothing


@pytest.mark.parametrize("count", [0, 1, 10 * LEAST_A_BIN - 1])
def test_too_few_are_never_drift(count: int) -> None:
    """A night without traffic, or with some requests that are all alike; the least is said."""
    found = one([count, *[0] * 10])

    assert (Level.TOO_FEW, count, 200) == (found.level, found.requests, found.least)
    assert found.psi is None
    assert found.chance is None
    assert Level.ALARM is one([200, *[0] * 10]).level


def test_what_the_card_does_not_have_is_not_judged() -> None:
    """Nor what has other bins; it is named."""
    counts = {"input-9-mean": [1] * 11, "input-0-mean": [500] * 7}

    assert () == judge([reference()], counts)
    assert ["input-0-mean", "input-9-mean"] == unknown([reference()], counts)
    assert [] == unknown([reference()], {"input-0-mean": [1] * 11})
    assert Level.TOO_FEW is worst(())
    assert None is furthest(())


def test_a_card_with_nonsense_for_shares_does_no_harm() -> None:
    """A card is signed, and may still be wrong: shares below none, of none at all."""
    nothing = reference(shares=(0.0,) * 10)
    below = reference(shares=(-5.0, *(0.1,) * 9))

    assert () == judge([nothing], {"input-0-mean": [100] * 11})
    found = one([100] * 11, below)
    assert found.psi is not None
    assert math.isfinite(found.psi)


@given(
    st.lists(st.integers(0, 2**53), min_size=6, max_size=6),
    st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5),
    st.integers(1, 10**9),
)
def test_every_count_gives_a_number(counts: list[int], shares: list[float], samples: int) -> None:
    """Whatever the counts and the reference, there is a level, a PSI of at least 0, a chance."""
    for found in judge([reference(samples, shares=shares)], {"input-0-mean": counts}):
        if found.psi is not None and found.chance is not None:
            assert 0 <= found.psi < 1000
            assert 0 <= found.chance <= 1 + 1e-9


@given(st.lists(st.lists(st.integers(0, 1000), min_size=3, max_size=3), min_size=1, max_size=9))
def test_counts_add_up(parts: list[list[int]]) -> None:
    """In any order; who has other bins than the rest is left out."""
    told = [{"input-0-mean": part} for part in parts]
    summed = added(told)

    assert {"input-0-mean": [sum(column) for column in zip(*parts, strict=True)]} == summed
    assert summed == added(reversed(told))
    assert summed == added([*told, {"input-0-mean": [1, 2]}])


def test_the_furthest_is_named() -> None:
    """The worst level first, and of those the largest PSI."""
    some = [
        Distance(subject=name, level=level, requests=9, least=1, psi=psi)
        for name, level, psi in (
            ("a", Level.WATCH, 0.9),
            ("b", Level.ALARM, 0.3),
            ("c", Level.ALARM, 0.4),
            ("d", Level.TOO_FEW, None),
        )
    ]
    found = furthest(some)

    assert found is not None
    assert "c" == found.subject
    assert Level.ALARM is worst(some)
    assert Level.OK is worst([Distance(subject="e", level=Level.OK, requests=9, least=1), some[3]])
