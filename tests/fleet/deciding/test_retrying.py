"""Who failed is asked again where that may help, later each time, and not for ever."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.rollouts.asking import due, overtaken
from fleet.rollouts.fold import IllegalEventError, fold
from fleet.rollouts.policy import (
    ALL_AT_ONCE,
    CAREFUL,
    RETRIES_LIMIT,
    Gate,
    Matching,
    Percent,
    Policy,
    Retry,
    WaveRule,
)
from fleet.rollouts.progress import RolloutEvent, TargetEvent
from fleet.rollouts.retrying import PASSING, again_after, passes
from fleet.rollouts.states import (
    RolloutHappening,
    RolloutState,
    TargetHappening,
    TargetState,
    WaveState,
)
from fleet.rollouts.why import WhyReason, why
from fleet.selector import parse
from tests.fleet.deciding.paper import states
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct, World

HALF = WaveRule(size=Percent(percent=100), gate=Gate(success_percent=60, error_percent=60))
TWICE = Policy(name="twice", per_class=1, waves=CAREFUL.waves, retry=Retry(times=2, wait_s=100.0))
HALVES = Gate(success_percent=50, error_percent=50)
LENIENT = Policy(name="lenient", waves=(HALF,))


@given(st.integers(1, RETRIES_LIMIT), st.floats(1, 3600), st.floats(1, 86400))
def test_waits_grow_up_to_a_bound_and_come_to_an_end(
    times: int, wait_s: float, longest_s: float
) -> None:
    """Each wait is at least the one before; and after so many there is none."""
    retry = Retry(times=times, wait_s=wait_s, longest_s=max(wait_s, longest_s))
    waits = [
        again_after(retry, tries, TargetState.REFUSED, Reason.DISK_FULL)
        for tries in range(times + 2)
    ]
    assert waits[:times] == sorted(waits[:times])
    assert all(retry.wait_s <= each <= retry.longest_s for each in waits[:times])
    assert waits[times:] == [-1.0, -1.0]


@pytest.mark.parametrize(
    "reason",
    [Reason.GOLDEN_MISMATCH, Reason.TOO_SLOW, Reason.PROBATION_FAILED, Reason.QUARANTINED, "NEW"],
)
def test_what_a_device_found_out_about_a_bundle_does_not_pass(reason: str) -> None:
    """Nor does a reason that nobody here knows."""
    assert not passes(TargetState.REFUSED, reason)
    assert not passes(TargetState.ROLLED_BACK, None)
    assert passes(TargetState.TIMED_OUT, reason)
    assert reason not in PASSING


def test_a_full_disk_is_asked_again_later_and_the_canary_has_not_failed() -> None:
    """Meanwhile nobody else of its class is tried, its failure counts neither way, and why says."""
    world = World([LITERT] * 4)
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    name = world.start("1.0.0", "digits", TWICE)
    world.advance()
    world.works()
    world.advance()
    rollout = world.rollouts[name]
    first = rollout.by_target()["d-1"]
    assert (first.state, first.reason) == (TargetState.REFUSED, "DISK_FULL")
    assert first.again_at == world.now + timedelta(seconds=100)
    assert rollout.waves[0].state is WaveState.RUNNING
    assert due(rollout, world.now) == ()
    said = [each.code for each in why(rollout, first, world.now)]
    assert said == [WhyReason.ASKED_AGAIN, WhyReason.REFUSED_IT, "DISK_FULL"]

    world.waits(100.0)
    again = world.rollouts[name].by_target()["d-1"]
    assert (again.state, again.tries, again.again_at) == (TargetState.ASKED, 1, None)
    assert again.deployment.revision == first.deployment.revision + 2
    world.runs(8 * 3600.0, every=100.0)
    assert world.rollouts[name].state is RolloutState.DONE
    assert {each.serves() for each in world.devices.values()} == {"1.0.0"}


def test_a_golden_mismatch_is_not_asked_again_by_itself() -> None:
    """The whole fleet goes back, as without a retry."""
    world = World([LITERT] * 4)
    world.bad("1.0.0", LITERT, how=Conduct.REFUSE)
    name = world.start("1.0.0", "digits", TWICE)
    world.runs()
    assert world.rollouts[name].state is RolloutState.ROLLED_BACK
    assert world.rollouts[name].by_target()["d-1"].tries == 0
    assert [each.id for each in world.devices.values() if each.took] == ["d-1"]


def test_one_that_never_ends_is_asked_so_often_and_then_has_failed() -> None:
    """Bounded: as many tries as the policy says, each with its deadline; and one device only."""
    world = World([LITERT] * 4)
    world.bad("1.0.0", LITERT, how=Conduct.MUTE)
    name = world.start("1.0.0", "digits", TWICE)
    world.runs(2 * 3700.0, every=50.0)
    assert world.rollouts[name].state is RolloutState.RUNNING
    world.runs(2 * 3700.0, every=50.0)
    rollout = world.rollouts[name]
    assert rollout.state is RolloutState.ROLLED_BACK
    assert rollout.cause is not None
    assert rollout.cause.parameters["target"] == "buoy-d-1"
    assert rollout.by_target()["d-1"].tries == 2
    assert [each.id for each in world.devices.values() if each.took] == ["d-1"]


def failed_half(how: Conduct = Conduct.STUMBLE) -> tuple[World, str]:
    """Return a rollout that is undecided: half of it failed, without a policy to ask again."""
    world = World([LITERT] * 4)
    world.bad("1.0.0", LITERT, how=how)
    for number in (1, 2):
        world.device(number).full.add("1.0.0")
    name = world.start("1.0.0", "digits", LENIENT)
    world.advance()
    world.works()
    world.advance()
    assert world.rollouts[name].state is RolloutState.PAUSED
    return world, name


def test_a_person_has_those_asked_again_that_failed_and_an_undecided_gate_decides_anew() -> None:
    """It was the gate that paused it, so it goes on by that."""
    world, name = failed_half()
    world.say(name, RolloutHappening.RETRIED)
    assert world.rollouts[name].state is RolloutState.RUNNING
    assert [wave.state for wave in world.rollouts[name].waves] == [WaveState.RUNNING]
    world.runs()
    assert world.rollouts[name].state is RolloutState.DONE
    assert {each.serves() for each in world.devices.values()} == {"1.0.0"}


def test_where_a_person_has_paused_a_retry_waits_for_the_resume() -> None:
    """And the resume then lets no undecided wave pass: it is judged anew."""
    world = World([LITERT] * 4)
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    for number in (1, 2):
        world.device(number).full.add("1.0.0")
    name = world.start("1.0.0", "digits", LENIENT)
    world.say(name, RolloutHappening.PAUSED)
    world.say(name, RolloutHappening.RESUMED)
    world.advance()
    world.say(name, RolloutHappening.PAUSED)
    world.works()
    world.say(name, RolloutHappening.RETRIED)
    world.advance()
    assert world.rollouts[name].state is RolloutState.PAUSED
    assert sum(each.again_at is not None for each in world.rollouts[name].targets) == 2
    world.say(name, RolloutHappening.RESUMED)
    world.runs()
    assert world.rollouts[name].state is RolloutState.DONE


def test_a_retry_needs_somebody_who_failed() -> None:
    """Otherwise the word is refused, and says why."""
    world = World([LITERT])
    name = world.start("1.0.0")
    with pytest.raises(IllegalEventError, match="no target of it failed"):
        world.say(name, RolloutHappening.RETRIED)


def test_whoever_a_later_rollout_decided_about_is_not_asked_again() -> None:
    """Neither by itself nor by a person: the two would have the same revision."""
    world, name = failed_half()
    waiting = fold(
        world.rollouts[name], [RolloutEvent(rollout=RolloutHappening.RETRIED, by="ana")], world.now
    )
    assert sum(each.again_at is not None for each in waiting.targets) == 2
    newer = world.plan("2.0.0")
    after = fold(waiting, overtaken(waiting, newer), world.now)
    assert all(each.again_at is None for each in after.targets)
    everybody = frozenset(each.target for each in after.targets)
    word = RolloutEvent(rollout=RolloutHappening.RETRIED, left_out=everybody)
    with pytest.raises(IllegalEventError):
        fold(after, [word], world.now)


def test_what_is_put_off_goes_back_with_everybody_else() -> None:
    """The store wants the failed revision until then: a return takes that away too."""
    world = World([LITERT] * 2)
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    name = world.start("1.0.0", "digits", TWICE)
    world.advance()
    world.works()
    world.advance()
    world.say(name, RolloutHappening.RETURN_ASKED)
    world.runs()
    assert world.rollouts[name].state is RolloutState.ROLLED_BACK
    assert states(world.rollouts[name]) == {"d-1": "returned", "d-2": "not-asked"}
    assert all(document.deployments == () for document in world.desired.values())


def test_an_aborted_rollout_asks_nobody_again() -> None:
    """Its failure is its end, as it was."""
    world = World([LITERT] * 2)
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    name = world.start("1.0.0", "digits", TWICE)
    world.advance()
    world.works()
    world.advance()
    world.say(name, RolloutHappening.ABORTED)
    world.runs()
    assert states(world.rollouts[name]) == {"d-1": "refused", "d-2": "not-asked"}
    assert world.opened() == []


def test_a_failed_rollout_without_a_gate_has_its_failures_asked_again() -> None:
    """It stays failed, for that is what it was; and everybody serves it."""
    world = World([LITERT] * 3)
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    world.device(2).full.add("1.0.0")
    name = world.start("1.0.0", "digits", ALL_AT_ONCE)
    world.runs()
    assert world.rollouts[name].state is RolloutState.FAILED
    world.say(name, RolloutHappening.RETRIED)
    world.runs()
    assert {each.serves() for each in world.devices.values()} == {"1.0.0"}
    assert world.opened() == []


def failed_later(how: Conduct = Conduct.STUMBLE) -> tuple[World, str]:
    """Return a rollout that failed in a wave that nothing gates, after one that passed."""
    world = World([LITERT, LITERT, TFLITE, TFLITE])
    for runtime, labels in ((LITERT, "a"), (TFLITE, "b")):
        for device in world.devices.values():
            if device.runtime == runtime:
                device.labels = {"line": labels}
    world.bad("1.0.0", LITERT, how=how)
    world.bad("1.0.0", TFLITE, how=Conduct.REFUSE)
    world.device(1).full.add("1.0.0")
    rest = WaveRule(size=Percent(percent=100))
    policy = Policy(
        name="line-by-line",
        waves=(WaveRule(size=Matching(selector=parse("line=a")), gate=HALVES), rest),
    )
    name = world.start("1.0.0", "digits", policy)
    world.runs()
    return world, name


def test_a_failed_rollout_has_those_of_its_passed_waves_asked_again_too() -> None:
    """They may have it: their wave passed."""
    world, name = failed_later()
    rollout = world.rollouts[name]
    assert [wave.state for wave in rollout.waves] == [WaveState.PASSED, WaveState.FAILED]
    assert rollout.state is RolloutState.FAILED
    assert world.device(2).serves() is None
    assert world.opened() == []
    world.say(name, RolloutHappening.RETRIED)
    world.runs()
    assert {world.device(1).serves(), world.device(2).serves()} == {"1.0.0"}
    assert world.rollouts[name].state is RolloutState.FAILED
    assert world.opened() == []


def test_where_the_waves_of_all_that_failed_have_ended_a_retry_is_refused() -> None:
    """It would change nothing; the word says so, and what to do instead."""
    world = World([LITERT, LITERT, TFLITE])
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    world.bad("1.0.0", TFLITE, how=Conduct.CRASH)
    world.device(3).labels = {"line": "a"}
    first = WaveRule(size=Matching(selector=parse("line=a")))
    rest = WaveRule(size=Percent(percent=100), gate=Gate(success_percent=50, error_percent=60))
    world.start("0.9.0", "digits", ALL_AT_ONCE)
    world.runs(200.0)
    name = world.start("1.0.0", "digits", Policy(name="two", waves=(first, rest)))
    world.runs(200.0)
    rollout = world.rollouts[name]
    assert [wave.state for wave in rollout.waves] == [WaveState.FAILED, WaveState.ABORTED]
    bad = [each.target for each in rollout.targets if each.state is TargetState.REFUSED]
    assert bad == ["d-1", "d-2"]
    left_out = RolloutEvent(rollout=RolloutHappening.RETRIED, left_out=frozenset({"d-3"}))
    with pytest.raises(IllegalEventError, match="have ended; start a rollout that asks them"):
        fold(rollout, [left_out], world.now)


def test_a_rollout_that_is_done_has_its_failures_asked_again() -> None:
    """Its gate let some fail; a person wants them after all."""
    world = World([LITERT] * 4)
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    for number in (1, 2, 3):
        world.device(number).full.add("1.0.0")
    name = world.start("1.0.0", "digits", LENIENT)
    world.runs()
    assert world.rollouts[name].state is RolloutState.DONE
    assert world.device(4).serves() is None
    world.say(name, RolloutHappening.RETRIED)
    world.runs()
    assert world.device(4).serves() == "1.0.0"
    assert world.opened() == []


@pytest.mark.parametrize("first", [True, False])
def test_an_older_rollout_takes_nobody_back_from_a_newer_one(first: bool) -> None:  # noqa: FBT001  # a case
    """Whether it failed before the newer one was started, or afterwards: it is asked no more."""
    world = World([LITERT] * 2)
    world.bad("1.0.0", LITERT, how=Conduct.STUMBLE)
    older = world.start("1.0.0", "digits", TWICE)
    world.advance()
    if first:
        world.works()
        world.advance()
    world.start("2.0.0")
    for _ in range(40):
        world.works()
        world.advance()
        world.now += timedelta(minutes=10)
        assert all(each.again_at is None for each in world.rollouts[older].targets)
    assert {"2.0.0"} == {
        document.deployments[0].bundle.version for document in world.desired.values()
    }


def test_a_late_word_of_one_that_timed_out_is_no_other_try() -> None:
    """It stays put off until then, and has as many tries left."""
    world = World([LITERT] * 2)
    world.bad("1.0.0", LITERT, how=Conduct.MUTE)
    name = world.start("1.0.0", "digits", TWICE)
    world.advance()
    world.now += timedelta(hours=2)
    world.advance()
    before = next(each for each in world.rollouts[name].targets if each.again_at)
    late = TargetEvent(
        target=before.target,
        happening=TargetHappening.REFUSED,
        phase=Phase.REFUSED,
        reason=Reason.DISK_FULL,
    )
    after = fold(world.rollouts[name], [late], world.now).by_target()[before.target]

    assert (before.again_at, before.tries) == (after.again_at, after.tries)
