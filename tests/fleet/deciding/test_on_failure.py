"""What a gate that failed leads to, by policy: all back at once, in waves, or a pause."""

from dataclasses import replace

import pytest

from fleet.rollouts.fold import IllegalEventError
from fleet.rollouts.policy import CAREFUL, Gate, OnFailure, Percent, Policy, WaveRule
from fleet.rollouts.states import RolloutHappening, RolloutState, TargetState, WaveState, possible
from tests.fleet.deciding.world import LITERT, Conduct, World

NOT_SOAKED = CAREFUL.soaking(0.0)
PAUSING = replace(NOT_SOAKED, name="pausing", on_failure=OnFailure.PAUSE)
_HALF = Gate(success_percent=60, error_percent=20)
IN_WAVES = Policy(
    name="in-waves",
    waves=(
        WaveRule(size=Percent(percent=25), gate=replace(_HALF, success_percent=100)),
        WaveRule(size=Percent(percent=50), gate=_HALF),
        WaveRule(size=Percent(percent=100), gate=_HALF),
    ),
    on_failure=OnFailure.ROLL_BACK_IN_WAVES,
)


def failed_late(policy: Policy, count: int = 8, *, bad: tuple[int, ...] = (7, 8)) -> World:
    """Roll 1.0.0 out to all, and then 1.1.0, which these refuse."""
    world = World([LITERT] * count)
    world.start("1.0.0", "digits", NOT_SOAKED)
    world.runs(1200.0)
    for number in bad:
        world.conduct["1.1.0", f"d-{number}"] = Conduct.REFUSE
    world.start("1.1.0", "digits", policy)
    return world


def serving(world: World) -> list[str | None]:
    return [device.serves() for device in world.devices.values()]


def states(world: World, name: str) -> list[str]:
    return [str(each.state) for each in world.rollouts[name].targets]


def test_all_go_back_at_once_by_default() -> None:
    """As ever: nobody keeps what a gate has found bad."""
    world = failed_late(NOT_SOAKED)
    world.runs(1200.0)

    assert RolloutState.ROLLED_BACK is world.rollouts["r-2"].state
    assert ["1.0.0"] * 8 == serving(world)


def test_a_pause_leaves_everybody_as_they_are_until_a_newer_one_mends_it() -> None:
    """Who has it keeps it, nobody else gets it; what mends it ends it, and reaches all."""
    world = failed_late(PAUSING)
    world.goes(8)
    world.runs(1200.0)
    stopped = world.rollouts["r-2"]
    assert (RolloutState.PAUSED, "ERRORS_ABOVE") == (
        stopped.state,
        stopped.cause and stopped.cause.code,
    )
    assert WaveState.FAILED is stopped.waves[2].state
    before = serving(world)
    assert {"1.0.0", "1.1.0"} == set(before)

    world.returns(8)
    world.runs(1200.0)
    assert before == serving(world)
    assert "1.1.0" not in world.device(8).took

    world.start("1.2.0", "digits", PAUSING)
    world.runs(1200.0)
    assert RolloutState.SUPERSEDED is world.rollouts["r-2"].state
    assert RolloutState.DONE is world.rollouts["r-3"].state
    assert ["1.2.0"] * 8 == serving(world)


def test_what_a_failed_gate_has_stopped_is_not_resumed() -> None:
    """A gate that failed is passed by nobody's word; the refusal says what can be done."""
    world = failed_late(PAUSING)
    world.runs(1200.0)
    stopped = world.rollouts["r-2"]
    said = possible(
        stopped.state,
        [wave.state for wave in stopped.waves],
        [each.state for each in stopped.targets],
    )

    for word in (
        RolloutHappening.RESUMED,
        RolloutHappening.APPROVED,
        RolloutHappening.PROMOTED,
    ):
        assert word not in said
        with pytest.raises(IllegalEventError):
            world.say("r-2", word)
    assert {
        RolloutHappening.RETURN_ASKED,
        RolloutHappening.RETRIED,
        RolloutHappening.ABORTED,
    } <= said


def test_asked_again_the_wave_that_failed_is_judged_anew() -> None:
    """A disk was full; now it is not, and the rollout goes on by itself."""
    world = failed_late(PAUSING)
    world.conduct["1.1.0", "d-7"] = world.conduct["1.1.0", "d-8"] = Conduct.STUMBLE
    world.runs(1200.0)
    assert RolloutState.PAUSED is world.rollouts["r-2"].state
    world.say("r-2", RolloutHappening.RETRIED)
    world.runs(1200.0)
    assert ["1.1.0"] * 8 == serving(world)
    assert all(wave.state is WaveState.PASSED for wave in world.rollouts["r-2"].waves)


def test_what_was_stopped_is_rolled_back_by_a_person_s_word() -> None:
    """All of it at once, as ever."""
    world = failed_late(PAUSING)
    world.runs(1200.0)
    world.say("r-2", RolloutHappening.RETURN_ASKED)
    world.runs(1200.0)
    assert RolloutState.ROLLED_BACK is world.rollouts["r-2"].state
    assert ["1.0.0"] * 8 == serving(world)


def test_in_waves_the_first_prove_the_way_back() -> None:
    """What is not well goes at once; then wave by wave, each when the one before it is back."""
    world = failed_late(IN_WAVES)
    while world.rollouts["r-2"].state is RolloutState.RUNNING:
        world.runs(20.0)
    returning, committed = TargetState.RETURNING, TargetState.COMMITTED
    seen: list[list[str]] = []
    while world.rollouts["r-2"].state is RolloutState.ROLLING_BACK:
        now = states(world, "r-2")
        if not seen or seen[-1] != now:
            seen.append(now)
        world.runs(20.0, every=20.0)

    assert [returning, returning, committed, committed] == seen[0][:4]
    assert {returning} >= set(seen[0][6:]) - {TargetState.RETURNED}
    assert any(["returned", "returned", "returning", "returning"] == each[:4] for each in seen), (
        seen
    )
    assert RolloutState.ROLLED_BACK is world.rollouts["r-2"].state
    assert ["1.0.0"] * 8 == serving(world)


def test_a_way_back_that_fails_ends_there_and_a_person_may_still_want_it() -> None:
    """The others keep what serves; a person's word brings all back at once, those it can."""
    world = failed_late(IN_WAVES)
    old = world.device(1).records["digits"].wanted.bundle.digest
    for number in (1, 2):
        world.device(number).quarantined.add(old)
    world.runs(1200.0)
    stuck = world.rollouts["r-2"]
    assert RolloutState.FAILED is stuck.state
    assert ["1.1.0"] * 4 == serving(world)[:4]

    world.say("r-2", RolloutHappening.RETURN_ASKED)
    world.runs(1200.0)
    assert ["1.1.0", "1.1.0", "1.0.0", "1.0.0"] == serving(world)[:4]
    assert TargetState.NOT_RETURNED in {each.state for each in world.rollouts["r-2"].targets}


def wanted(world: World, number: int) -> str:
    (deployment,) = world.desired[f"d-{number}"].deployments
    return deployment.bundle.version


def test_what_waits_for_who_is_away_is_the_way_back() -> None:
    """Written at once, whichever wave it is in: also for who took it and for who never did."""
    world = failed_late(IN_WAVES, bad=(5, 6, 7))
    world.goes(8)
    while world.rollouts["r-2"].waves[2].state is WaveState.WAITING:
        world.runs(20.0)
    world.goes(4)
    while world.rollouts["r-2"].state is RolloutState.RUNNING:
        world.runs(20.0)
    assert ["1.0.0", "1.1.0", "1.0.0"] == [wanted(world, number) for number in (4, 3, 8)]

    world.runs(1200.0)
    world.returns(4)
    world.returns(8)
    world.runs(1200.0)
    assert RolloutState.ROLLED_BACK is world.rollouts["r-2"].state
    assert "1.1.0" not in world.device(8).took
    assert ["1.0.0"] * 8 == serving(world)
