"""What waits for a person's word, what that word does, and what no word does."""

import pytest

from fleet.rollouts.fold import IllegalEventError, fold
from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.gate import GateReason
from fleet.rollouts.policy import CAREFUL, Gate, Inconclusive, Percent, Policy, WaveRule
from fleet.rollouts.progress import RolloutEvent
from fleet.rollouts.states import RolloutHappening, RolloutState, TargetState, WaveState, possible
from fleet.rollouts.why import WhyReason, why
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct, World, with_gates

APPROVED = with_gates(CAREFUL, approval=True)
ASKING = with_gates(CAREFUL, inconclusive=Inconclusive.APPROVE)
NIGHT_S = 8 * 3600.0


def waves(world: World, name: str) -> list[WaveState]:
    return [wave.state for wave in world.rollouts[name].waves]


def codes(world: World, name: str) -> list[str]:
    return [str(each.code) for each in why(world.rollouts[name], None, world.now)]


def can(world: World, name: str) -> set[RolloutHappening]:
    rollout = world.rollouts[name]
    targets = {each.state for each in rollout.targets}
    return set(possible(rollout.state, {wave.state for wave in rollout.waves}, targets))


def test_a_wave_that_wants_approval_waits_for_it_and_for_nothing_else() -> None:
    """It has soaked and is well; the plan said so; and each approval opens one wave, no more."""
    world = World([LITERT] * 4)
    foretold = [each.wave for each in world.plan("1.0.0", "digits", APPROVED).obstacles]
    assert foretold == [1, 2, 3]
    name = world.start("1.0.0", "digits", APPROVED)
    world.runs(NIGHT_S, every=300.0)
    assert waves(world, name) == [WaveState.TO_APPROVE, WaveState.WAITING, WaveState.WAITING]
    assert world.rollouts[name].state is RolloutState.RUNNING
    assert codes(world, name)[0] == WhyReason.WAITS_FOR_APPROVAL

    for approved in (1, 2, 3):
        took = sum("1.0.0" in each.took for each in world.devices.values())
        assert took == (1, 2, 4)[approved - 1]
        world.say(name, RolloutHappening.APPROVED)
        world.runs(NIGHT_S, every=300.0)
    assert world.rollouts[name].state is RolloutState.DONE


def test_nothing_is_approved_before_it_has_soaked() -> None:
    """A wave that is on its way, or soaks, waits for no approval: the word is refused."""
    world = World([LITERT] * 2)
    name = world.start("1.0.0", "digits", APPROVED)
    for _ in range(4):
        before = world.rollouts[name]
        assert RolloutHappening.APPROVED not in can(world, name)
        with pytest.raises(IllegalEventError, match="no wave of it waits for that"):
            world.say(name, RolloutHappening.APPROVED)
        assert world.rollouts[name] == before
        world.runs(20.0)


def test_what_goes_bad_while_it_waits_for_approval_goes_back_by_itself() -> None:
    """Waiting for a person keeps no gate from failing; and then there is nothing to approve."""
    world = World([LITERT] * 4)
    done = world.start("1.0.0")
    world.runs()
    assert world.rollouts[done].state is RolloutState.DONE
    name = world.start("2.0.0", "digits", APPROVED)
    world.runs()
    assert waves(world, name)[0] is WaveState.TO_APPROVE
    world.bad("2.0.0", LITERT, how=Conduct.CRASH)
    world.runs()

    assert world.rollouts[name].state is RolloutState.ROLLED_BACK
    with pytest.raises(IllegalEventError):
        world.say(name, RolloutHappening.APPROVED)


def test_a_wave_that_is_all_away_is_let_pass_by_approval_and_not_by_resuming() -> None:
    """Its gate could not decide, and wants approval: only that word is about it."""
    world = World([LITERT, TFLITE])
    world.goes(2)
    policy = with_gates(CAREFUL, approval=True, soak_s=30.0)
    name = world.start("1.0.0", "digits", policy)
    world.runs(600.0)
    world.say(name, RolloutHappening.APPROVED)
    world.runs(4000.0, every=100.0)
    assert waves(world, name)[1] is WaveState.INCONCLUSIVE
    world.say(name, RolloutHappening.RESUMED)  # which is no approval: it needs no reason
    assert waves(world, name)[1] is WaveState.INCONCLUSIVE
    assert codes(world, name)[0] == WhyReason.WAITS_FOR_APPROVAL
    world.say(name, RolloutHappening.APPROVED)
    assert world.rollouts[name].state is RolloutState.DONE


def test_an_undecided_gate_may_wait_for_approval_while_the_rest_goes_on() -> None:
    """Not paused: who comes back meanwhile is asked, and its end may decide after all."""
    world = World([LITERT] * 4)
    for number in (1, 2, 3, 4):
        world.goes(number)
    plan = world.plan("1.0.0", "digits", ASKING)
    assert {each.parameters.get("then") for each in plan.obstacles if each.wave} == {
        "wait for approval"
    }
    name = world.start("1.0.0", "digits", ASKING)
    world.runs(NIGHT_S, every=600.0)
    assert waves(world, name)[0] is WaveState.INCONCLUSIVE
    assert world.rollouts[name].state is RolloutState.RUNNING
    assert codes(world, name) == [WhyReason.WAITS_FOR_APPROVAL, GateReason.SAMPLE_TOO_SMALL]

    world.returns(int(world.rollouts[name].waves[0].targets[0][2:]))
    world.runs(600.0)
    assert waves(world, name)[0] is WaveState.PASSED, "its own word was enough"


def test_resuming_does_not_approve_what_waits_for_approval() -> None:
    """Two words: one who only resumes has not looked at it."""
    world = World([LITERT] * 4, away=[1, 2, 3, 4])
    name = world.start("1.0.0", "digits", ASKING)
    world.runs(NIGHT_S, every=600.0)
    world.say(name, RolloutHappening.PAUSED)
    world.say(name, RolloutHappening.RESUMED)
    assert waves(world, name)[0] is WaveState.INCONCLUSIVE
    world.say(name, RolloutHappening.APPROVED)
    assert waves(world, name)[:2] == [WaveState.PASSED, WaveState.RUNNING]


def test_approving_what_a_gate_has_paused_lets_it_go_on() -> None:
    """One word; but what a person has paused stays paused, also where its wave is approved."""
    world = World([LITERT] * 2, away=[1, 2])
    name = world.start("1.0.0")
    world.runs(NIGHT_S, every=600.0)
    assert world.rollouts[name].state is RolloutState.PAUSED
    world.say(name, RolloutHappening.APPROVED)
    assert world.rollouts[name].state is RolloutState.RUNNING

    other = World([LITERT] * 2)
    name = other.start("1.0.0", "digits", APPROVED)
    other.runs(NIGHT_S, every=300.0)
    other.say(name, RolloutHappening.PAUSED)
    other.say(name, RolloutHappening.APPROVED)
    assert waves(other, name)[0] is WaveState.PASSED
    assert other.rollouts[name].state is RolloutState.PAUSED


def test_promoting_ends_a_soak_and_nothing_else() -> None:
    """The next wave begins at once, and those promoted past still answer for themselves."""
    world = World([LITERT] * 4)
    policy = with_gates(CAREFUL, soak_s=NIGHT_S)
    name = world.start("1.0.0", "digits", policy)
    world.runs(600.0)
    assert waves(world, name)[0] is WaveState.SOAKING
    world.say(name, RolloutHappening.PROMOTED)
    assert waves(world, name) == [WaveState.PASSED, WaveState.RUNNING, WaveState.WAITING]


@pytest.mark.parametrize("how", [Conduct.REFUSE, Conduct.FALL_BACK])
def test_nobody_is_promoted_past_a_failed_gate(how: Conduct) -> None:
    """The look comes before the word: by then everybody goes back."""
    world = World([LITERT] * 4)
    world.bad("1.0.0", LITERT, how=how)
    name = world.start("1.0.0")
    world.advance()
    world.works()
    with pytest.raises(IllegalEventError):
        world.say(name, RolloutHappening.PROMOTED)
    world.runs()
    assert world.rollouts[name].state is RolloutState.ROLLED_BACK
    assert sum("1.0.0" in each.took for each in world.devices.values()) == 1


def test_promoting_past_an_untried_canary_lets_no_more_of_its_class_through() -> None:
    """A wave can be promoted, a class can't: its first has to commit before others are asked."""
    world = World([LITERT] * 5)
    world.bad("1.0.0", LITERT, how=Conduct.MUTE)
    name = world.start("1.0.0")
    world.runs(100.0)
    world.say(name, RolloutHappening.PROMOTED)
    world.runs(600.0)
    rollout = world.rollouts[name]
    assert rollout.waves[1].state is WaveState.RUNNING
    asked = [each.target for each in rollout.targets if each.state is not TargetState.PLANNED]
    assert len(asked) == 1


def test_a_gate_that_waits_for_approval_cannot_be_skipped() -> None:
    """The two contradict each other, so no such gate can be built."""
    with pytest.raises(ValueError, match="can't be skipped"):
        Gate(success_percent=1, error_percent=1, approval=True, inconclusive=Inconclusive.SKIP)
    assert ObstacleReason.APPROVAL_WANTED in {
        each.reason for each in World([LITERT]).plan("1.0.0", "digits", APPROVED).obstacles
    }


def test_a_word_that_comes_twice_lets_one_wave_pass() -> None:
    """It is about the wave that was seen: the next one has its gate."""
    world = World([LITERT] * 4)
    waves = tuple(
        WaveRule(size=Percent(percent=share), gate=Gate(success_percent=100, error_percent=0))
        for share in (25, 50, 100)
    )
    name = world.start("1.0.0", "digits", Policy(name="shares", waves=waves))
    word = RolloutEvent(rollout=RolloutHappening.PROMOTED, by="ana", reason="seen", wave=1)
    once = fold(world.rollouts[name], [word], world.now)
    with pytest.raises(IllegalEventError, match="its wave 1 does not wait for that now"):
        fold(once, [word], world.now)

    assert ["passed", "running", "waiting"] == [wave.state for wave in once.waves]
