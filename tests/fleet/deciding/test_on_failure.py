"""What a gate that failed leads to, by policy: all back at once, in waves, or a pause."""

from dataclasses import replace

import pytest

from agent.wire.phases import Phase
from fleet.rollouts.fold import IllegalEventError
from fleet.rollouts.policy import CAREFUL, Gate, OnFailure, Percent, Policy, WaveRule
from fleet.rollouts.returning import is_stuck
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


def test_who_is_away_goes_back_with_its_wave_and_never_gets_the_bad_one() -> None:
    """A blip of the network is no reason to go before the others; who never took it never does."""
    world = failed_late(IN_WAVES, bad=(5, 6, 7))
    world.goes(8)
    while world.rollouts["r-2"].waves[2].state is WaveState.WAITING:
        world.runs(20.0)
    world.goes(4)
    while world.rollouts["r-2"].state is RolloutState.RUNNING:
        world.runs(20.0)
    assert ["1.1.0", "1.1.0", "1.0.0"] == [wanted(world, number) for number in (4, 3, 8)]

    world.runs(1200.0)
    world.returns(4)
    world.returns(8)
    world.runs(1200.0)
    assert RolloutState.ROLLED_BACK is world.rollouts["r-2"].state
    assert "1.1.0" not in world.device(8).took
    assert ["1.0.0"] * 8 == serving(world)


def test_who_drops_off_on_its_way_back_holds_up_the_next_wave_until_its_deadline() -> None:
    """What takes devices off the network when they go back takes no more of them than a wave."""
    world = failed_late(IN_WAVES)

    def drop(rounds: int) -> None:
        for _ in range(rounds):
            for progress in world.rollouts["r-2"].targets:
                if progress.state is TargetState.RETURNING:
                    world.goes(int(progress.target.removeprefix("d-")))
            world.waits(20.0)

    while world.rollouts["r-2"].state is RolloutState.RUNNING:
        world.runs(20.0)
    drop(30)
    assert ["returning"] * 2 + ["committed"] * 2 == states(world, "r-2")[:4]
    assert RolloutState.ROLLING_BACK is world.rollouts["r-2"].state

    drop(200)
    assert ["returning"] * 4 == states(world, "r-2")[:4]


@pytest.mark.parametrize(("phase", "stuck"), [(Phase.REFUSED, False), (Phase.COMMITTED, True)])
def test_who_made_the_gate_fail_does_not_end_the_way_back_of_the_others(
    phase: Phase,
    stuck: bool,  # noqa: FBT001  # a parameter
) -> None:
    """Only those count there that were well: a way back that fails on these fails on more."""
    world = failed_late(IN_WAVES)
    while world.rollouts["r-2"].state is RolloutState.RUNNING:
        world.runs(20.0)
    rollout = world.rollouts["r-2"]
    targets = [
        replace(each, state=TargetState.NOT_RETURNED, phase=phase)
        if each.target in {"d-7", "d-8"}
        else each
        for each in rollout.targets
    ]

    assert stuck is is_stuck(replace(rollout, targets=tuple(targets)))


def test_no_word_about_another_wave_leads_past_one_that_failed() -> None:
    """A device of a wave that had passed dies while the next one waits for approval."""
    asking = replace(_HALF, success_percent=100, error_percent=0, approval=True)
    policy = replace(
        IN_WAVES,
        waves=(IN_WAVES.waves[0], WaveRule(size=Percent(percent=100), gate=asking)),
        on_failure=OnFailure.PAUSE,
    )
    world = failed_late(policy, bad=())
    world.runs(600.0)
    assert WaveState.TO_APPROVE is world.rollouts["r-2"].waves[1].state
    world.conduct["1.1.0", "d-1"] = Conduct.CRASH
    world.runs(200.0)
    before = world.rollouts["r-2"]
    assert [WaveState.FAILED, WaveState.TO_APPROVE] == [wave.state for wave in before.waves]

    for word in (RolloutHappening.APPROVED, RolloutHappening.PROMOTED):
        with pytest.raises(IllegalEventError, match="the gate of a wave failed"):
            world.say("r-2", word)
    assert before == world.rollouts["r-2"]


def test_after_a_retry_one_word_lets_one_wave_pass() -> None:
    """The wave that is judged anew, and not the one behind it, which had begun."""
    policy = replace(
        IN_WAVES,
        waves=(
            replace(IN_WAVES.waves[0], gate=replace(_HALF, success_percent=100, error_percent=0)),
            *IN_WAVES.waves[1:],
        ),
        on_failure=OnFailure.PAUSE,
    )
    world = failed_late(policy, bad=())
    while world.rollouts["r-2"].waves[1].state is WaveState.WAITING:
        world.runs(20.0)
    for number in range(3, 9):
        world.goes(number)
    world.conduct["1.1.0", "d-1"] = Conduct.CRASH
    world.runs(60.0)
    assert RolloutState.PAUSED is world.rollouts["r-2"].state
    world.conduct["1.1.0", "d-1"] = Conduct.MUTE
    world.say("r-2", RolloutHappening.RETRIED)
    world.say("r-2", RolloutHappening.PROMOTED)

    first, second, *_ = world.rollouts["r-2"].waves
    assert WaveState.PASSED is first.state
    assert WaveState.RUNNING is second.state


def test_what_was_stopped_is_over_only_when_who_serves_it_gets_something_else() -> None:
    """A newer rollout that leaves out a device that serves it mends nothing there."""
    world = failed_late(PAUSING)
    world.runs(1200.0)
    serves = next(n for n in range(1, 9) if world.device(n).serves() == "1.1.0")
    world.device(serves).quarantined.add(world.paper.bundle("1.2.0").digest)
    world.tells(world.device(serves))
    world.start("1.2.0", "digits", PAUSING)
    world.runs(1200.0)

    assert RolloutState.PAUSED is world.rollouts["r-2"].state
    world.say("r-2", RolloutHappening.RETURN_ASKED)
    world.runs(1200.0)
    assert "1.0.0" == world.device(serves).serves()


def test_what_a_person_has_paused_stays_so_when_a_gate_fails_meanwhile() -> None:
    """Asked again, its wave is judged anew, and nobody new is asked before they say so."""
    world = failed_late(PAUSING)
    while world.rollouts["r-2"].waves[2].state is WaveState.WAITING:
        world.runs(20.0)
    world.say("r-2", RolloutHappening.PAUSED)
    world.runs(600.0)
    stopped = world.rollouts["r-2"]
    assert WaveState.FAILED is stopped.waves[2].state
    assert stopped.cause is not None
    assert "ana" == stopped.cause.by

    world.say("r-2", RolloutHappening.RETRIED)
    assert RolloutState.PAUSED is world.rollouts["r-2"].state
