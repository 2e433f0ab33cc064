"""What a fleet goes through at three in the morning, told on a simulated one."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.gate import GateReason
from fleet.rollouts.policy import (
    ALL_AT_ONCE,
    CAREFUL,
    Count,
    Gate,
    Inconclusive,
    Percent,
    Policy,
    WaveRule,
)
from fleet.rollouts.states import RolloutHappening, RolloutState, TargetState, WaveState
from tests.fleet.deciding.paper import states
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct, World, with_gates

FLEETS = {
    "one": [LITERT],
    "two": [LITERT, LITERT],
    "five": [LITERT] * 5,
    "six of two classes": [LITERT] * 4 + [TFLITE] * 2,
}
NIGHT_S = 8 * 3600.0


def serving(world: World, name: str = "digits") -> list[str | None]:
    return [device.serves(name) for device in world.devices.values()]


def state_of(world: World, name: str) -> RolloutState:
    return world.rollouts[name].state


def on(version: str, runtimes: list[str]) -> World:
    """Return a fleet on which this version has been rolled out."""
    world = World(runtimes)
    name = world.start(version)
    world.runs()
    assert state_of(world, name) is RolloutState.DONE
    return world


@pytest.mark.parametrize("runtimes", FLEETS.values(), ids=FLEETS)
def test_a_small_fleet_finishes_unattended(runtimes: list[str]) -> None:
    """Under the default policy, with its soaks, and nothing foretold that would stop it."""
    world = World(runtimes)
    assert world.plan("1.0.0").obstacles == ()
    name = world.start("1.0.0")
    world.runs()

    assert state_of(world, name) is RolloutState.DONE
    assert serving(world) == ["1.0.0"] * len(runtimes)


@pytest.mark.parametrize("runtimes", FLEETS.values(), ids=FLEETS)
def test_a_fleet_that_is_all_away_is_told_beforehand(runtimes: list[str]) -> None:
    """Each gate that will stop it is named by the plan, and stops it; nobody is asked blindly."""
    world = World(runtimes, away=range(1, len(runtimes) + 1))
    plan = world.plan("1.0.0")
    waves = [each.number for each in plan.waves]
    assert [each.wave for each in plan.obstacles if each.reason is ObstacleReason.WAVE_AWAY] == (
        waves
    )
    name = world.start("1.0.0")
    world.runs(NIGHT_S, every=600.0)

    assert state_of(world, name) is RolloutState.PAUSED
    cause = world.rollouts[name].cause
    assert cause is not None
    assert cause.code == GateReason.SAMPLE_TOO_SMALL
    assert world.desired == {}


@pytest.mark.parametrize("dead", [2, 5, 6])
def test_one_dead_device_stops_nobody(dead: int) -> None:
    """It is set aside; everybody else has the new version, and it gets it when it is back."""
    world = on("1.0.0", FLEETS["six of two classes"])
    world.goes(dead)
    name = world.start("2.0.0")
    world.runs()

    assert state_of(world, name) is RolloutState.DONE
    assert serving(world).count("2.0.0") == 5
    assert world.rollouts[name].set_aside() == (f"d-{dead}",)
    world.returns(dead)
    world.runs(600.0)
    assert serving(world) == ["2.0.0"] * 6


def test_a_class_whose_every_device_is_away_is_named_and_caught_up() -> None:
    """Its first one to return is its canary, and the next waits for it."""
    world = on("1.0.0", FLEETS["six of two classes"])
    world.goes(5)
    world.goes(6)
    plan = world.plan("2.0.0")
    assert [each.parameters["targets"] for each in plan.obstacles] == ["2"]
    name = world.start("2.0.0")
    world.runs()
    assert state_of(world, name) is RolloutState.DONE

    world.returns(5)
    world.returns(6)
    world.advance()
    asked = [each.target for each in world.rollouts[name].targets if each.state == "asked"]
    assert asked == ["d-5"]
    world.runs(600.0)
    assert serving(world) == ["2.0.0"] * 6


def test_a_late_returner_after_the_end_is_gated_by_its_class() -> None:
    """Done is done; a class that then turns out not to take it is met by one device of it."""
    world = on("1.0.0", [LITERT] * 2 + [TFLITE] * 3)
    for number in (3, 4, 5):
        world.goes(number)
    world.bad("2.0.0", TFLITE)
    name = world.start("2.0.0")
    world.runs(NIGHT_S, every=300.0)
    world.say(name, RolloutHappening.RESUMED)  # the last wave is all away, as the plan said
    for number in (3, 4, 5):
        world.returns(number)
    world.runs(NIGHT_S, every=300.0)

    assert state_of(world, name) is RolloutState.DONE
    assert states(world.rollouts[name]) == {
        "d-1": "committed",
        "d-2": "committed",
        "d-3": "refused",
        "d-4": "planned",
        "d-5": "planned",
    }
    assert "2.0.0" not in world.device(4).took | world.device(5).took
    assert serving(world) == ["2.0.0"] * 2 + ["1.0.0"] * 3


HOW = st.sampled_from([Conduct.REFUSE, Conduct.FALL_BACK, Conduct.MUTE])


@settings(max_examples=40)
@given(
    runtimes=st.lists(st.sampled_from([LITERT, TFLITE]), min_size=1, max_size=8),
    how=HOW,
    away=st.sets(st.integers(1, 8)),
)
def test_a_model_bad_on_a_class_reaches_only_its_canary(
    runtimes: list[str], how: Conduct, away: set[int]
) -> None:
    """One device of the class takes it, and then the whole fleet is back by itself.

    Who was away all the time never saw it.
    """
    world = on("1.0.0", runtimes)
    for number in away:
        if number <= len(runtimes):
            world.goes(number)
    world.bad("2.0.0", TFLITE, how=how)
    name = world.start("2.0.0")
    world.runs(NIGHT_S, every=200.0)

    here = [each for each in world.devices.values() if each.online]
    took = [each for each in world.devices.values() if "2.0.0" in each.took]
    bad_here = [each for each in here if each.runtime == TFLITE]
    assert len([each for each in took if each.runtime == TFLITE]) == min(1, len(bad_here))
    assert all(each.online for each in took)
    if bad_here:
        assert {each.serves() for each in here} == {"1.0.0"}
        mute = how is Conduct.MUTE
        assert state_of(world, name) is RolloutState.ROLLED_BACK
        cause = world.rollouts[name].cause
        assert cause is not None
        assert cause.code == GateReason.CANARY_FAILED
        assert cause.parameters["cause"] == (
            "timed-out" if mute else "GOLDEN_MISMATCH" if how is Conduct.REFUSE else "CRASH_LOOP"
        )
    for device in world.devices.values():
        if not device.online:
            assert "2.0.0" not in device.took
            world.returns(int(device.id[2:]))
    world.runs(NIGHT_S, every=200.0)
    if bad_here:
        assert set(serving(world)) == {"1.0.0"}
    again = [each for each in world.devices.values() if "2.0.0" in each.took]
    assert len([each for each in again if each.runtime == TFLITE]) <= 1


@settings(max_examples=30)
@given(flaps=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), max_size=30))
def test_with_devices_that_flap_one_of_a_class_is_tried_at_a_time(
    flaps: list[tuple[int, int]],
) -> None:
    """The world itself counts who is tried at a time; in the end all are back on what was good."""
    world = on("1.0.0", [LITERT] * 2 + [TFLITE] * 4)
    world.bad("2.0.0", TFLITE)
    name = world.start("2.0.0")
    for number, steps in flaps:
        world.runs(20.0 * steps)
        if world.device(number).online:
            world.goes(number)
        else:
            world.returns(number)
    for number in range(1, 7):
        world.returns(number)
    world.runs(NIGHT_S, every=100.0)

    assert state_of(world, name) is RolloutState.ROLLED_BACK
    assert serving(world) == ["1.0.0"] * 6


@pytest.mark.parametrize("first", ["1.0.0", None], ids=["had one", "had none"])
def test_going_back_is_a_newer_document_with_the_older_content(first: str | None) -> None:
    """Or without the deployment, where there was none; no order and no revision goes back."""
    world = World([LITERT, TFLITE])
    if first is not None:
        world.start(first)
        world.runs()
    before = dict(world.desired)
    world.bad("2.0.0", TFLITE)
    name = world.start("2.0.0")
    world.runs()

    assert state_of(world, name) is RolloutState.ROLLED_BACK
    assert serving(world) == [first] * 2
    for device, document in world.desired.items():
        assert device not in before or document.order > before[device].order
        names = {each.bundle.version for each in document.deployments}
        assert names == (set() if first is None else {first})


def test_a_target_that_cannot_go_back_is_named() -> None:
    """Then the rollout has failed; everybody else is back."""
    world = on("1.0.0", [LITERT] * 3)
    name = world.start("2.0.0")
    world.runs()
    world.bad("1.0.0", LITERT)
    world.device(1).quarantined.add(world.paper.bundle("1.0.0").digest)
    world.conduct.clear()
    world.say(name, RolloutHappening.RETURN_ASKED)
    world.runs()

    assert state_of(world, name) is RolloutState.FAILED
    assert states(world.rollouts[name]) == {
        "d-1": "not-returned",
        "d-2": "returned",
        "d-3": "returned",
    }


def test_a_model_that_dies_while_its_wave_soaks_takes_the_fleet_back() -> None:
    """Committed is not yet approved: the soak is for this."""
    world = on("1.0.0", [LITERT] * 4)
    world.bad("2.0.0", LITERT, how=Conduct.CRASH)
    name = world.start("2.0.0")
    world.runs()

    assert state_of(world, name) is RolloutState.ROLLED_BACK
    assert serving(world) == ["1.0.0"] * 4
    assert [device.id for device in world.devices.values() if "2.0.0" in device.took] == ["d-1"]


def test_no_gate_is_passed_on_no_data() -> None:
    """With everybody away and no time left, it is inconclusive; a person may let it pass."""
    world = on("1.0.0", [LITERT] * 4)
    name = world.start("2.0.0")
    world.advance()
    for number in range(1, 5):
        world.goes(number)
    held = dict(world.desired)
    world.runs(NIGHT_S, every=300.0)
    rollout = world.rollouts[name]

    assert rollout.state is RolloutState.PAUSED
    assert [wave.state for wave in rollout.waves] == [
        WaveState.INCONCLUSIVE,
        WaveState.WAITING,
        WaveState.WAITING,
    ]
    assert held == world.desired


def test_after_an_inconclusive_gate_resume_lets_the_wave_pass() -> None:
    """The next one begins, and who was away is caught up later."""
    world = on("1.0.0", [LITERT] * 2)
    world.goes(2)
    name = world.start("2.0.0")
    world.runs(NIGHT_S, every=300.0)
    assert state_of(world, name) is RolloutState.PAUSED
    assert [wave.state for wave in world.rollouts[name].waves] == [
        WaveState.PASSED,
        WaveState.INCONCLUSIVE,
    ]

    world.say(name, RolloutHappening.RESUMED)
    assert state_of(world, name) is RolloutState.DONE
    world.returns(2)
    world.runs(600.0)
    assert serving(world) == ["2.0.0"] * 2


def test_a_policy_may_skip_a_gate_that_cannot_decide() -> None:
    """The plan names the gate, and the rollout goes on by itself."""
    world = on("1.0.0", [LITERT] * 5)
    policy = with_gates(CAREFUL, minimum_sample=2, inconclusive=Inconclusive.SKIP)
    obstacle = world.plan("2.0.0", "digits", policy).obstacles[0]
    assert (obstacle.reason, obstacle.wave) == (ObstacleReason.SAMPLE_OUT_OF_REACH, 1)
    assert obstacle.parameters["then"] == "skip"
    name = world.start("2.0.0", "digits", policy)
    world.runs()

    assert state_of(world, name) is RolloutState.DONE
    assert serving(world) == ["2.0.0"] * 5


def test_a_gate_that_skips_still_waits_for_who_is_away_until_its_deadline() -> None:
    """Skipping is for what cannot be decided, not for what was not waited for."""
    world = on("1.0.0", [LITERT] * 2)
    world.goes(2)
    policy = with_gates(CAREFUL, inconclusive=Inconclusive.SKIP)
    name = world.start("2.0.0", "digits", policy)
    world.runs(3000.0)
    assert state_of(world, name) is RolloutState.RUNNING
    world.runs(1200.0)
    assert state_of(world, name) is RolloutState.DONE


def test_pause_asks_nobody_new() -> None:
    """Who is on the way arrives; resumed, it goes on from there."""
    world = on("1.0.0", [LITERT] * 5)
    name = world.start("2.0.0")
    world.advance()
    world.say(name, RolloutHappening.PAUSED)
    writes = world.writes
    world.runs(NIGHT_S, every=300.0)
    assert (writes, 1) == (world.writes, serving(world).count("2.0.0"))

    world.say(name, RolloutHappening.RESUMED)
    world.runs()
    assert serving(world) == ["2.0.0"] * 5


def test_abort_leaves_everybody_as_they_are() -> None:
    """Nobody new, nobody back; and a later word still returns them."""
    world = on("1.0.0", [LITERT] * 5)
    name = world.start("2.0.0")
    world.runs(200.0)
    has = serving(world)
    assert {"1.0.0", "2.0.0"} == set(has)
    world.say(name, RolloutHappening.ABORTED)
    world.runs()
    assert has == serving(world)

    world.say(name, RolloutHappening.RETURN_ASKED)
    world.runs()
    assert serving(world) == ["1.0.0"] * 5


@pytest.mark.parametrize("after_s", [0.0, 100.0, 200.0, 3600.0])
@pytest.mark.parametrize("paused", [False, True], ids=["going", "paused"])
def test_rollback_returns_everybody(after_s: float, paused: bool) -> None:  # noqa: FBT001  # a parameter
    """Of a rollout that runs, is paused, or was done long ago."""
    world = on("1.0.0", [LITERT] * 5)
    name = world.start("2.0.0")
    world.advance()
    world.runs(after_s)
    if paused and state_of(world, name) is RolloutState.RUNNING:
        world.say(name, RolloutHappening.PAUSED)
    world.say(name, RolloutHappening.RETURN_ASKED)
    world.runs()

    assert state_of(world, name) is RolloutState.ROLLED_BACK
    assert serving(world) == ["1.0.0"] * 5
    assert {str(each.state) for each in world.rollouts[name].targets} <= {"returned", "not-asked"}


def test_a_target_that_its_owner_holds_is_set_aside() -> None:
    """No document is written for it, no timer runs; released, it is caught up."""
    world = on("1.0.0", [LITERT] * 3)
    name = world.start("2.0.0")
    world.holds(3)
    world.runs(NIGHT_S, every=200.0)
    assert world.rollouts[name].set_aside() == ("d-3",)
    assert world.device(3).document == world.desired["d-3"]
    assert serving(world) == ["2.0.0", "2.0.0", "1.0.0"]

    world.holds(3, held=False)
    if state_of(world, name) is RolloutState.PAUSED:
        world.say(name, RolloutHappening.RESUMED)
    world.runs(600.0)
    assert serving(world) == ["2.0.0"] * 3


def test_a_deadline_starts_when_a_target_can_be_reached() -> None:
    """Asked, then away for a night, then back: it has its whole time again."""
    world = on("1.0.0", [LITERT] * 1 + [TFLITE] * 1)
    world.bad("2.0.0", TFLITE, how=Conduct.MUTE)
    name = world.start("2.0.0")
    world.advance()
    world.goes(2)
    world.runs(NIGHT_S, every=300.0)
    world.returns(2)
    world.runs(3000.0)
    assert world.rollouts[name].by_target()["d-2"].state is not TargetState.TIMED_OUT
    world.runs(1200.0)

    assert world.rollouts[name].by_target()["d-2"].state in (
        TargetState.TIMED_OUT,
        TargetState.RETURNED,
    )


def test_two_rollouts_of_two_deployments_finish_independently() -> None:
    """On the same devices at the same time: one goes through, the other goes back."""
    world = on("1.0.0", FLEETS["six of two classes"])
    world.start("1.0.0", "wake")
    world.runs()
    world.bad("3.0.0", TFLITE)
    first, second = world.start("2.0.0"), world.start("3.0.0", "wake")
    world.runs()

    assert (RolloutState.DONE, RolloutState.ROLLED_BACK) == (
        state_of(world, first),
        state_of(world, second),
    )
    assert (serving(world), serving(world, "wake")) == (["2.0.0"] * 6, ["1.0.0"] * 6)


@pytest.mark.parametrize("steps", range(16))
@pytest.mark.parametrize("bad", [False, True], ids=["good", "going back"])
def test_a_newer_rollout_overtakes_at_any_point_and_is_never_undone(steps: int, bad: bool) -> None:  # noqa: FBT001  # a parameter
    """Whatever the older one was doing, everybody ends on what was asked for last."""
    world = on("1.0.0", FLEETS["six of two classes"])
    if bad:
        world.bad("2.0.0", TFLITE)
    older = world.start("2.0.0")
    world.runs(20.0 * steps)
    newer = world.start("3.0.0")
    world.runs()

    assert state_of(world, newer) is RolloutState.DONE
    assert serving(world) == ["3.0.0"] * 6
    world.say(newer, RolloutHappening.RETURN_ASKED)
    world.runs()
    ended = {RolloutState.SUPERSEDED, RolloutState.ROLLED_BACK, RolloutState.DONE}
    assert state_of(world, older) in ended
    if bad:
        assert set(serving(world)) <= {"1.0.0", "2.0.0"}
        assert serving(world)[4:] == ["1.0.0"] * 2


def test_what_a_newer_rollout_goes_back_to_is_what_the_older_one_left() -> None:
    """The older one was rolled back in between: nobody returns to what it had withdrawn."""
    world = on("1.0.0", [LITERT] * 5)
    older = world.start("2.0.0")
    world.runs()
    newer = world.start("3.0.0")
    world.advance()
    world.say(older, RolloutHappening.RETURN_ASKED)
    world.runs(240.0)
    assert serving(world) == ["3.0.0", "3.0.0", "3.0.0", "1.0.0", "1.0.0"]
    world.say(newer, RolloutHappening.RETURN_ASKED)
    world.runs()

    assert state_of(world, newer) is RolloutState.ROLLED_BACK
    assert serving(world) == ["2.0.0", "1.0.0", "1.0.0", "1.0.0", "1.0.0"]


def test_what_waits_for_who_is_away_is_not_the_one_that_was_bad() -> None:
    """It was asked, and went; the rest is taken back, and it finds the way back when it returns."""
    world = on("1.0.0", [LITERT, TFLITE])
    world.bad("2.0.0", TFLITE)
    name = world.start("2.0.0")
    world.advance()
    world.goes(1)
    world.runs(600.0)
    assert state_of(world, name) is RolloutState.ROLLED_BACK
    assert world.desired["d-1"].deployments[0].bundle.version == "1.0.0"
    world.returns(1)
    world.runs(600.0)

    assert serving(world) == ["1.0.0"] * 2
    assert "2.0.0" not in world.device(1).took
    assert {"returned"} == set(states(world.rollouts[name]).values())


def test_a_rollback_reaches_who_came_back_to_it_by_another_rollback() -> None:
    """The newer one failed and went back to this one's content: this one can still be undone."""
    world = on("1.0.0", [LITERT] * 3)
    older = world.start("2.0.0")
    world.runs()
    newer = world.start("3.0.0")
    world.runs()
    world.say(newer, RolloutHappening.RETURN_ASKED)
    world.runs()
    assert serving(world) == ["2.0.0"] * 3

    world.say(older, RolloutHappening.RETURN_ASKED)
    world.runs()
    assert serving(world) == ["1.0.0"] * 3
    assert state_of(world, older) is RolloutState.ROLLED_BACK


def test_who_wants_the_newest_already_is_not_moved_by_an_older_rollout() -> None:
    """Going back to what most still have overtakes what was under way for them."""
    world = on("1.0.0", [LITERT] * 5)
    older = world.start("2.0.0")
    world.runs(60.0)
    assert serving(world) == ["2.0.0", *["1.0.0"] * 4]
    world.start("1.0.0")
    world.runs()

    assert serving(world) == ["1.0.0"] * 5
    assert state_of(world, older) in (RolloutState.SUPERSEDED, RolloutState.DONE)
    assert all("2.0.0" not in device.took for device in list(world.devices.values())[1:])


def test_a_wave_that_was_taken_over_opens_no_gate() -> None:
    """Somebody takes the first wave for something else: nobody vouches for it, so a person must."""
    gate = Gate(success_percent=100, error_percent=0)
    policy = Policy(
        name="first-one",
        waves=(
            WaveRule(size=Count(targets=1), gate=gate),
            WaveRule(size=Percent(percent=100), gate=gate),
        ),
    )
    world = on("1.0.0", [LITERT] * 4)
    name = world.start("2.0.0", "digits", policy)
    world.start("3.0.0", "digits", CAREFUL, "d-1")
    world.runs()

    assert state_of(world, name) is RolloutState.PAUSED
    assert serving(world) == ["3.0.0", "1.0.0", "1.0.0", "1.0.0"]
    world.say(name, RolloutHappening.RESUMED)
    world.runs()
    assert serving(world) == ["3.0.0", "2.0.0", "2.0.0", "2.0.0"]


def test_a_centre_that_was_away_rolls_nobody_back_for_its_own_absence() -> None:
    """No deadline runs while there is nobody to hear; what was proven, and a soak, go on."""
    world = on("1.0.0", [LITERT] * 4)
    world.start("2.0.0")
    world.advance()
    world.is_restarted()
    world.now += timedelta(days=1)
    world.advance()
    assert "2.0.0" not in serving(world)
    world.runs()

    assert serving(world) == ["2.0.0"] * 4


def test_a_word_right_after_a_document_was_written_misses_nobody() -> None:
    """The document is there and no pass has seen it: it is returned all the same."""
    world = on("1.0.0", [LITERT] * 2)
    name = world.start("2.0.0", "digits", ALL_AT_ONCE)
    world._pass(name)
    assert states(world.rollouts[name]) == {"d-1": "planned", "d-2": "planned"}
    world.say(name, RolloutHappening.RETURN_ASKED)
    world.runs()

    assert serving(world) == ["1.0.0"] * 2
    assert state_of(world, name) is RolloutState.ROLLED_BACK


def test_errors_count_only_above_the_minimum_sample() -> None:
    """One bad of one decides nothing where three are needed; two bad of three do."""
    gate = Gate(success_percent=60, error_percent=40, minimum_sample=3)
    policy = Policy(name="three", waves=(WaveRule(size=Percent(percent=100), gate=gate),))
    world = on("1.0.0", [TFLITE, TFLITE, LITERT])
    world.bad("2.0.0", TFLITE)
    for number in (2, 3):
        world.goes(number)
    name = world.start("2.0.0", "digits", policy)
    world.runs(600.0)
    assert state_of(world, name) is RolloutState.RUNNING
    world.returns(2)
    world.returns(3)
    world.runs(600.0)

    assert state_of(world, name) is RolloutState.ROLLED_BACK
    cause = world.rollouts[name].cause
    assert cause is not None
    assert (GateReason.ERRORS_ABOVE, "2", "3") == (
        cause.code,
        cause.parameters["bad"],
        cause.parameters["of"],
    )
    assert serving(world) == ["1.0.0"] * 3
