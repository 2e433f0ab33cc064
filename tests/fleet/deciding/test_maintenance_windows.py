"""A rollout over devices that change what they serve in windows of their own alone."""

from dataclasses import replace

import pytest

from agent.wire.v1 import DeviceSettings, Weekday, Window
from fleet.api.rollout_targets import outcome
from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.policy import CAREFUL, Budget, Gate, Percent, Policy, WaveRule
from fleet.rollouts.states import UNDER_WAY, RolloutHappening, RolloutState
from fleet.rollouts.why import WhyReason, why
from fleet.sentences import explain
from tests.fleet.deciding.world import LITERT, Conduct, World

DAY_S = 10 * 3600.0
NIGHT = Window(days=tuple(Weekday), start="22:00", end="05:00")
GATE = Gate(success_percent=50, error_percent=50, minimum_sample=2, deadline_s=600.0)
ONE_BY_ONE = Policy(
    name="one-by-one",
    waves=(WaveRule(size=Percent(percent=100), gate=GATE),),
    budgets=(Budget(label="line", targets=1),),
)

AT_ONCE = replace(ONE_BY_ONE, name="at-once", budgets=(), per_class=1)


def serving(world: World) -> list[str | None]:
    return [device.serves() for device in world.devices.values()]


def shut(world: World, *, now: bool = True) -> None:
    for device in world.devices.values():
        device.shut = now


def all_day(world: World) -> None:
    """Let the day go by: by then whoever was asked is ready, and waits."""
    world.runs(200.0)
    world.runs(DAY_S, every=600.0)


def by_night(devices: int, **labels: str) -> World:
    """Return a fleet that serves 1.0.0, by day."""
    world = World([])
    for _ in range(devices):
        world.join(LITERT, **labels)
    world.start("1.0.0")
    world.runs()
    assert ["1.0.0"] * devices == serving(world)
    shut(world)
    return world


def test_by_day_one_goes_ahead_and_waits_and_by_night_all_follow() -> None:
    """A rollout that was started at noon needs nobody, and nobody has had too little time."""
    world = by_night(5)
    name = world.start("2.0.0")
    all_day(world)
    rollout = world.rollouts[name]
    assert (RolloutState.RUNNING, None) == (rollout.state, rollout.cause)
    assert ["1.0.0"] * 5 == serving(world)
    assert ["d-1"] == [each.target for each in rollout.targets if each.state in UNDER_WAY]
    assert ["window"] == [outcome(each) for each in rollout.targets if each.state in UNDER_WAY]

    shut(world, now=False)
    world.runs()
    assert (RolloutState.DONE, ["2.0.0"] * 5) == (world.rollouts[name].state, serving(world))


@pytest.mark.parametrize("policy", [CAREFUL, AT_ONCE], ids=["careful", "at once"])
def test_a_bad_model_is_tried_on_a_canary_and_not_on_all_that_wait_for_the_night(
    policy: Policy,
) -> None:
    """Whoever waits for its window keeps its turn: else the whole class would begin at once."""
    world = by_night(6)
    world.bad("2.0.0", how=Conduct.FALL_BACK)
    name = world.start("2.0.0", "digits", policy)
    all_day(world)
    shut(world, now=False)
    world.runs()
    assert 1 == sum("2.0.0" in each.served for each in world.devices.values())
    assert ["1.0.0"] * 6 == serving(world)
    assert RolloutState.ROLLED_BACK is world.rollouts[name].state


def test_why_says_what_each_waits_for() -> None:
    """One for its window, the others for that one."""
    world = by_night(3)
    name = world.start("2.0.0", "digits", AT_ONCE)
    all_day(world)
    rollout = world.rollouts[name]
    first, second, _ = rollout.targets
    (before,) = why(rollout, first, world.now)[:1]
    assert "MAINTENANCE_WINDOW_CLOSED" == before.code
    assert "may not be changed now" in explain(before.code, before.parameters).meaning
    (waits,) = why(rollout, second, world.now)
    assert (WhyReason.CLASS_UNPROVEN, "buoy-d-1") == (waits.code, waits.parameters["waits_for"])


def test_a_budget_counts_who_waits_for_its_window() -> None:
    """Of one line one at a time, by night as well: they don't gather before the window."""
    world = by_night(4, line="a")
    name = world.start("2.0.0", "digits", ONE_BY_ONE)
    all_day(world)
    under_way = [each for each in world.rollouts[name].targets if each.state in UNDER_WAY]
    assert ["d-1"] == [each.target for each in under_way]
    (waits,) = why(world.rollouts[name], world.rollouts[name].targets[1], world.now)
    assert WhyReason.BUDGET_FULL == waits.code
    shut(world, now=False)
    world.runs()
    assert (RolloutState.DONE, ["2.0.0"] * 4) == (world.rollouts[name].state, serving(world))


def test_one_that_waits_for_its_window_and_goes_away_holds_up_nobody() -> None:
    """After its deadline the next goes ahead, and then waits like it."""
    world = by_night(3, line="a")
    name = world.start("2.0.0", "digits", ONE_BY_ONE)
    world.runs(200.0)
    world.goes(1)
    world.runs(700.0)
    moving = [each.target for each in world.rollouts[name].targets if each.state in UNDER_WAY]
    assert ["d-1", "d-2"] == moving


def test_a_blip_of_one_that_waits_lets_no_other_go_ahead() -> None:
    """Away for a look, hours after it was asked: it is still the canary, and waits alone."""
    world = by_night(6)
    name = world.start("2.0.0", "digits", AT_ONCE)
    world.runs(200.0)
    for _ in range(6):
        world.runs(1200.0, every=60.0)
        world.goes(1)
        world.waits(20.0)
        world.returns(1)
    moving = [each.target for each in world.rollouts[name].targets if each.state in UNDER_WAY]
    assert ["d-1"] == moving


def test_a_rollback_waits_for_no_window() -> None:
    """Half of them serve it when the windows close: by day they return, those that wait too."""
    world = by_night(4)
    shut(world, now=False)
    world.device(3).shut = world.device(4).shut = True
    name = world.start("2.0.0", "digits", replace(ONE_BY_ONE, budgets=()))
    world.runs()
    shut(world)
    assert ["2.0.0", "2.0.0", "1.0.0", "1.0.0"] == serving(world)
    world.say(name, RolloutHappening.RETURN_ASKED)
    world.runs()
    assert ["1.0.0"] * 4 == serving(world)
    assert RolloutState.ROLLED_BACK is world.rollouts[name].state


@pytest.mark.parametrize(
    "kept",
    [DeviceSettings(download_windows=(NIGHT,)), DeviceSettings(maintenance_windows=(NIGHT,))],
    ids=["to download", "to change"],
)
def test_a_plan_says_which_waves_wait_for_windows(kept: DeviceSettings) -> None:
    """Where its gate has enough without them, it does not."""
    world = by_night(4)
    assert () == world.plan("2.0.0", "digits", ONE_BY_ONE).obstacles
    for number in (1, 2, 3):
        held = world.desired[f"d-{number}"]
        world.desired[f"d-{number}"] = replace(held, settings=kept)
        found = world.plan("2.0.0", "digits", ONE_BY_ONE).obstacles
        told = [each.parameters for each in found if each.reason is ObstacleReason.KEEPS_WINDOWS]
        assert told == ([{"targets": "4", "keeping": "3"}] if number == 3 else [])
