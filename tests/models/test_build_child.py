"""The build's children: limits hold, endings are told apart, answers are not believed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import child
from models.build import parcel
from models.build.tolerance import Opinion, is_blind, is_noise, tolerance
from models.card import Tolerance
from models.child import Limits
from models.errors import RefusedError, TransientError

BUSY = "models.build.probe"


def test_a_child_that_answers_nothing_sensible_has_failed() -> None:
    """What it wrote on its standard error is the message, in one line."""
    finished = child.run(BUSY, stdin=b"not a parcel")
    error = finished.error("running the model")

    assert isinstance(error, RefusedError)
    assert "LOAD_FAILED" == error.reason
    assert "\n" not in str(error)


def test_too_little_memory_is_an_ending_not_a_hang() -> None:
    """A child that may not have the memory it needs ends, and it is said so."""
    finished = child.run(BUSY, limits=Limits(memory_bytes=80 * 1024 * 1024))
    error = finished.error("running the model")

    assert error is not None
    assert not finished.late


def test_a_child_past_its_deadline_is_killed() -> None:
    """The deadline holds whatever the child does."""
    finished = child.run(BUSY, limits=Limits(wall_s=0.01))
    error = finished.error("running the model")

    assert finished.late
    assert isinstance(error, TransientError)
    assert "TIMED_OUT" == error.reason


def test_an_interpreter_that_is_not_there_is_missing() -> None:
    """A wrong --also is told as what it is."""
    with pytest.raises(RefusedError) as refused:
        child.run(BUSY, python="/nowhere/python")
    assert "RUNTIME_MISSING" == refused.value.reason


@given(
    st.dictionaries(st.text(), st.integers() | st.text()),
    st.lists(st.binary(max_size=50), max_size=4),
)
def test_a_parcel_arrives_as_it_was_sent(fields: dict[str, int | str], parts: list[bytes]) -> None:
    """Fields and parts come out as they went in."""
    assert (json.loads(json.dumps(fields)), parts) == parcel.unwrap(parcel.wrap(fields, parts))


@given(st.binary(max_size=200), st.integers(0, 60))
def test_no_bytes_break_the_reader(noise: bytes, cut: int) -> None:
    """Whatever a spoiled child writes is refused or read, never an accident."""
    whole = parcel.wrap({"a": 1}, [b"part"])
    for raw in (noise, whole[:cut] + noise, whole[:cut]):
        try:
            parcel.unwrap(raw)
        except RefusedError as refused:
            assert "LOAD_FAILED" == refused.reason  # noqa: PT017  # either way is fine


def opinion(mean: float, spread: float) -> Opinion:
    return Opinion(runtime="r 1", largest=(mean,), mean=(mean,), spread=(spread,))


def test_noise_is_small_beside_the_answers() -> None:
    """A tenth of the answers' own spread, or one step, is noise; more is another answer."""
    assert is_noise(opinion(2.0, 20.0), [1.0])
    assert is_noise(opinion(1.0, 0.0), [1.0])
    assert not is_noise(opinion(2.1, 20.0), [1.0])


def test_a_tolerance_has_a_floor_and_grows_with_noise() -> None:
    """Without any noise a rounding is still allowed for; with noise, three times the worst."""
    quiet = tolerance(unit=2.0, largest=[0.0], mean=[0.0], pool_mean=0.0, decides=True)
    loud = tolerance(unit=1.0, largest=[3.0, 9.0], mean=[0.1, 2.0], pool_mean=1.0, decides=False)

    assert (32.0, 1.0) == (quiet.largest, quiet.mean)
    assert (27.0, 6.0) == (loud.largest, loud.mean)


def test_a_tolerance_as_wide_as_the_answers_is_blind() -> None:
    """Where neither rule is below what the answers differ by, an answer of zeros would do."""
    bound = Tolerance(largest=5.0, mean=1.0)

    assert is_blind(bound, width=10.0, spread=2.0)
    assert is_blind(bound, width=0.0, spread=0.0)
    assert not is_blind(bound, width=10.1, spread=2.0)
    assert not is_blind(bound, width=10.0, spread=2.1)
