"""No more of a group are on their way at once than its budget says; and nobody waits for ever."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.rollouts.asking import due, look_again_at
from fleet.rollouts.budgets import used
from fleet.rollouts.policy import Budget, Gate, Percent, Policy, WaveRule
from fleet.rollouts.states import UNDER_WAY, RolloutHappening, RolloutState, TargetState
from fleet.rollouts.why import WhyReason, why
from fleet.sentences import explain
from tests.fleet.deciding.world import LITERT, Conduct, World

GATE = Gate(success_percent=50, error_percent=50, deadline_s=600.0)
ALL = (WaveRule(size=Percent(percent=100), gate=GATE),)


def policy(**budget: int) -> Policy:
    return Policy(name="by-line", waves=ALL, budgets=(Budget(label="line", **budget),))


def factory(*lines: str) -> World:
    """Return a fleet whose devices are on these lines; `-` has no such label."""
    world = World([])
    for line in lines:
        world.join(LITERT, **({} if line == "-" else {"line": line}))
    return world


def on_their_way(world: World, name: str) -> list[str]:
    return [each.target for each in world.rollouts[name].targets if each.state in UNDER_WAY]


def test_of_each_group_as_many_are_asked_as_its_budget_says() -> None:
    """Those without the label are of a group of their own; why says what one waits for."""
    world = factory("a", "a", "a", "b", "-", "-")
    name = world.start("1.0.0", "digits", policy(targets=2))
    world.advance()
    assert on_their_way(world, name) == ["d-1", "d-2", "d-4", "d-5", "d-6"]
    rollout = world.rollouts[name]
    (waits,) = why(rollout, rollout.by_target()["d-3"], world.now)
    assert waits.code == WhyReason.BUDGET_FULL
    said = explain(waits.code, waits.parameters).meaning
    assert said == "It waits: 2 of 2 of line=a are under way or down."

    world.works()
    world.advance()
    assert on_their_way(world, name) == ["d-3"]
    world.runs()
    assert world.rollouts[name].state is RolloutState.DONE


def test_a_share_is_of_those_in_reach_and_at_least_one() -> None:
    """Who is away makes the budget no larger, and a small group still goes on."""
    world = factory(*"aaaaaaaa", "b")
    for number in (5, 6, 7, 8):
        world.goes(number)
    name = world.start("1.0.0", "digits", policy(percent=50))
    world.advance()
    assert on_their_way(world, name) == ["d-1", "d-2", "d-9"]


def test_one_that_goes_away_on_its_way_is_down_until_its_deadline() -> None:
    """A bundle that takes devices off the network frees no room by that; nor does it for ever."""
    world = factory("a", "a", "a")
    name = world.start("1.0.0", "digits", policy(targets=1))
    world.advance()
    world.goes(1)
    world.waits(300.0)
    assert on_their_way(world, name) == ["d-1"]
    assert look_again_at(world.rollouts[name], world.now) == world.now + timedelta(seconds=300)
    world.waits(300.0)
    assert on_their_way(world, name) == ["d-1", "d-2"]


def test_one_that_comes_and_goes_does_not_hold_up_its_line() -> None:
    """Each return gives it time for itself, and its line no longer to wait while it is away."""
    world = factory("a", "a", "a")
    world.bad("1.0.0", LITERT, how=Conduct.MUTE)
    name = world.start("1.0.0", "digits", policy(targets=1))
    world.advance()
    for _ in range(3):
        world.waits(150.0)
        world.goes(1)
        world.waits(30.0)
        assert on_their_way(world, name) == ["d-1"]
        world.returns(1)
    world.waits(150.0)
    assert on_their_way(world, name) == ["d-1"], "here, it counts"
    world.goes(1)
    world.waits(0.0)
    assert on_their_way(world, name) == ["d-1", "d-2"]


def test_after_a_centre_was_away_who_is_away_is_down_as_if_it_went_now() -> None:
    """Nobody could be heard meanwhile: those that come back at once are not one too many."""
    world = factory("a", "a", "a")
    name = world.start("1.0.0", "digits", policy(targets=1))
    world.advance()
    world.goes(1)
    world.now += timedelta(hours=3)
    world.is_restarted()
    world.waits(20.0)
    assert on_their_way(world, name) == ["d-1"]
    world.waits(570.0)
    assert on_their_way(world, name) == ["d-1"]
    world.waits(30.0)
    assert on_their_way(world, name) == ["d-1", "d-2"]


def test_one_that_never_ends_does_not_hold_up_its_line() -> None:
    """After its deadline it has failed, and the next is asked."""
    world = factory("a", "a", "a", "a")
    name = world.start("1.0.0", "digits", policy(targets=1))
    world.bad("1.0.0", LITERT, how=Conduct.MUTE)
    world.runs(500.0)
    assert on_their_way(world, name) == ["d-1"]
    world.bad("1.0.0", LITERT, how=Conduct.GOOD)
    world.runs()
    assert world.rollouts[name].state is RolloutState.DONE


def test_a_return_waits_for_no_budget() -> None:
    """What is bad goes at once, everywhere."""
    world = factory("a", "a", "a")
    first = world.start("1.0.0")
    world.runs()
    assert world.rollouts[first].state is RolloutState.DONE
    name = world.start("2.0.0", "digits", policy(targets=1))
    world.runs(400.0)
    going = world.say(name, RolloutHappening.RETURN_ASKED)
    assert len(due(going, world.now)) == 3
    world.runs()
    assert {each.serves() for each in world.devices.values()} == {"1.0.0"}


@settings(max_examples=60)
@given(
    lines=st.lists(st.sampled_from("ab-"), min_size=1, max_size=8),
    budget=st.one_of(
        st.builds(dict, targets=st.integers(1, 3)), st.builds(dict, percent=st.integers(1, 100))
    ),
    flaps=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 40)), max_size=12),
    how=st.sampled_from([Conduct.GOOD, Conduct.STUMBLE, Conduct.MUTE]),
)
def test_whoever_comes_and_goes_no_budget_is_exceeded_and_all_come_to_an_end(
    lines: list[str], budget: dict[str, int], flaps: list[tuple[int, int]], how: Conduct
) -> None:
    """The world counts at each write; left alone, nobody in reach waits for its turn any more."""
    world = factory(*lines)
    world.bad("1.0.0", LITERT, how=how)
    name = world.start("1.0.0", "digits", policy(**budget))
    for number, steps in flaps:
        number = (number - 1) % len(lines) + 1  # noqa: PLW2901  # one that there is
        if world.device(number).online:
            world.goes(number)
        else:
            world.returns(number)
        world.runs(20.0 * steps)
    for number in range(1, len(lines) + 1):
        world.returns(number)
    world.settles()
    rollout = world.rollouts[name]
    if rollout.state is not RolloutState.PAUSED:
        assert not any(each.state is TargetState.PLANNED for each in rollout.targets)
        assert all(use.taken == 0 for use in used(rollout, world.now).values())
