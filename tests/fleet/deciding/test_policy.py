"""What people ask for can't be built wrong, and the built-in policies are what they are called."""

from collections.abc import Callable

import pytest

from fleet.rollouts.policy import (
    ALL_AT_ONCE,
    BUILT_IN,
    CAREFUL,
    Count,
    EachClass,
    Gate,
    Matching,
    Percent,
    Policy,
    RolloutRequest,
    WaveRule,
)
from fleet.selector import parse
from tests.fleet.deciding.paper import Paper


def test_all_at_once_has_one_wave_and_no_gate() -> None:
    """The name says that nothing protects the fleet."""
    assert ALL_AT_ONCE.waves == (WaveRule(size=Percent(percent=100)),)


def test_careful_begins_with_one_of_each_class_and_gates_every_wave() -> None:
    """A model that is bad on one class is met by one device of it."""
    assert CAREFUL.waves[0].size == EachClass(per_class=1)
    assert all(wave.gate is not None for wave in CAREFUL.waves)
    assert CAREFUL.waves[-1].size == Percent(percent=100)


def test_built_in_policies_are_found_by_their_names() -> None:
    """And the default of a request is one of them."""
    assert BUILT_IN == {"all-at-once": ALL_AT_ONCE, "careful": CAREFUL}


def test_a_request_is_careful_unless_it_says_otherwise(paper: Paper) -> None:
    """The dangerous choice has to be made."""
    request = RolloutRequest(bundle=paper.bundle(), deployment="digits", targets=("d-1",))

    assert request.policy in BUILT_IN
    assert request.policy == "careful"


def test_a_request_for_nobody_is_refused(paper: Paper) -> None:
    """Everything is asked for by the empty selector, never by leaving it out."""
    with pytest.raises(ValueError, match="needs a selector or named targets"):
        RolloutRequest(bundle=paper.bundle(), deployment="digits")


def test_a_request_names_devices_once(paper: Paper) -> None:
    """Ids are ids, and none comes twice."""
    with pytest.raises(ValueError, match="the same target twice"):
        RolloutRequest(bundle=paper.bundle(), deployment="digits", targets=("d-1", "d-1"))
    with pytest.raises(ValueError, match="not a device id"):
        RolloutRequest(bundle=paper.bundle(), deployment="digits", targets=("porto-cam-1",))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Count(targets=0),
        lambda: Percent(percent=0),
        lambda: Percent(percent=101),
        lambda: EachClass(per_class=0),
        lambda: Gate(success_percent=101, error_percent=0),
        lambda: Gate(success_percent=90, error_percent=-1),
        lambda: Gate(success_percent=90, error_percent=5, minimum_sample=0),
        lambda: Gate(success_percent=90, error_percent=5, soak_s=-1),
        lambda: Gate(success_percent=90, error_percent=5, deadline_s=0),
        lambda: Policy(name="none", waves=()),
        lambda: Policy(name="No Name", waves=ALL_AT_ONCE.waves),
    ],
)
def test_a_rule_that_cant_be_meant_cant_be_built(build: Callable[[], object]) -> None:
    """Shares are shares, and a wave has somebody in it."""
    with pytest.raises(ValueError, match=r"\d|soak|at least|not a name"):
        build()


def test_every_kind_of_size_can_be_said() -> None:
    """By count, by share, by selector, by class: and each is another value."""
    sizes = (
        Count(targets=3),
        Percent(percent=3),
        Matching(selector=parse("shop=oslo")),
        EachClass(per_class=3),
    )
    policy = Policy(name="mine", waves=tuple(WaveRule(size=size) for size in sizes))

    assert len(sizes) == len({wave.size for wave in policy.waves})
