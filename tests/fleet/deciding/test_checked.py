"""What is measured while it serves stops a rollout; what nobody measured says nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.wire.v1 import DeploymentHealth
from fleet.clock import written
from fleet.rollouts.findings import Against, Evidence, Outcome
from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.gate import GateReason
from fleet.rollouts.policy import Check, Gate, Inconclusive, Percent, Policy, WaveRule
from fleet.rollouts.states import RolloutHappening, RolloutState, TargetState, WaveState
from fleet.rollouts.why import judged, why
from fleet.sentences import explain
from tests.fleet.deciding.traffic import Pace, Used, checked, far
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct

SLOWER = "latency_p95 / control.latency_p95 <= 1.15"
FEW_ERRORS = "error_rate <= 0.02"


def on(runtimes: list[str]) -> Used:
    """Return a fleet that serves 1.0.0, and is used."""
    world = Used(runtimes)
    world.start("1.0.0")
    world.runs()
    return world


def findings(world: Used, name: str, wave: int = 1) -> dict[str, tuple[str, str, str]]:
    """Return what a wave's checks say: outcome, class, and against what."""
    rollout = world.rollouts[name]
    each, members = list(rollout.members())[wave - 1]
    return {
        said.check: (said.outcome, said.class_name, said.against)
        for said in judged(rollout, each, members, world.now).findings
    }


def test_who_is_as_good_as_before_goes_through() -> None:
    """Each wave soaks until its checks hold, and the rollout ends by itself."""
    world = on([LITERT] * 4 + [TFLITE] * 4)
    name = world.start("2.0.0", policy=checked(SLOWER, FEW_ERRORS))
    world.runs()

    assert RolloutState.DONE is world.rollouts[name].state
    assert {device.serves() for device in world.devices.values()} == {"2.0.0"}


def test_slower_on_one_runtime_is_stopped_though_the_others_are_well() -> None:
    """1.3 times slower, on a quarter of the fleet: no class hides behind the others."""
    world = on([LITERT] * 9 + [TFLITE] * 3)
    world.paces["2.0.0", TFLITE] = Pace(latency_s=0.013)
    name = world.start("2.0.0", policy=checked(SLOWER))
    world.runs()

    rollout = world.rollouts[name]
    assert RolloutState.ROLLED_BACK is rollout.state
    assert rollout.cause is not None
    assert GateReason.CHECK_FAILED == rollout.cause.code
    assert TFLITE in rollout.cause.parameters["class_name"]
    assert Against.CONTROL == rollout.cause.parameters["against"]
    assert 1.2 < float(rollout.cause.parameters["observed"]) < 1.4
    assert {device.serves() for device in world.devices.values()} == {"1.0.0"}
    assert SLOWER in explain(rollout.cause.code, rollout.cause.parameters).meaning


def test_errors_above_the_limit_stop_it_and_at_the_limit_do_not() -> None:
    """A limit is what it says: 2 % passes `<= 0.02`."""
    for errors, state in ((2, RolloutState.DONE), (3, RolloutState.ROLLED_BACK)):
        world = on([LITERT] * 4)
        world.paces["2.0.0", LITERT] = Pace(errors=errors)
        name = world.start("2.0.0", policy=checked(FEW_ERRORS))
        world.runs()

        assert state is world.rollouts[name].state


@pytest.mark.parametrize(
    ("check", "pace"),
    [
        ("crashes <= 0", Pace(restarts=1)),
        ("crashes_per_hour <= 1", Pace(restarts=1)),
        ("memory - control.memory < 0.2", Pace(memory_bytes=400)),
        ("latency_p50 < 0.1", Pace(latency_s=0.2)),
        ("requests > 1000", Pace()),
    ],
)
def test_each_measure_can_stop_it(check: str, pace: Pace) -> None:
    """What is told of is what is read."""
    world = on([LITERT] * 4)
    world.paces["2.0.0", LITERT] = pace
    name = world.start("2.0.0", policy=checked(check))
    world.runs()

    assert RolloutState.ROLLED_BACK is world.rollouts[name].state
    assert findings(world, name)[check][0] == Outcome.FAILS


@pytest.mark.parametrize(
    ("inconclusive", "state"),
    [
        (Inconclusive.PAUSE, RolloutState.PAUSED),
        (Inconclusive.SKIP, RolloutState.DONE),
        (Inconclusive.APPROVE, RolloutState.RUNNING),
    ],
)
def test_without_traffic_it_is_inconclusive_and_the_policy_says_what_then(
    inconclusive: Inconclusive, state: RolloutState
) -> None:
    """Never a silent pass: it soaks to its deadline, and the plan has said so beforehand."""
    world = on([LITERT] * 4)
    world.traffic = False
    policy = checked(FEW_ERRORS, inconclusive=inconclusive)
    foretold = {each.reason for each in world.plan("2.0.0", policy=policy).obstacles}
    assert ObstacleReason.CHECK_NEEDS_TRAFFIC in foretold
    name = world.start("2.0.0", policy=policy)
    world.runs(600)
    rollout = world.rollouts[name]
    assert (RolloutState.RUNNING, WaveState.SOAKING) == (rollout.state, rollout.waves[0].state)
    assert [GateReason.MEASURING] == [each.code for each in why(rollout, None, world.now)]
    world.runs(2 * 3600)

    rollout = world.rollouts[name]
    assert state is rollout.state
    if inconclusive is Inconclusive.PAUSE:
        assert rollout.cause is not None
        assert GateReason.CHECK_UNDECIDED == rollout.cause.code
        assert ("0", "100") == (
            rollout.cause.parameters["sample"],
            rollout.cause.parameters["least"],
        )


def test_a_pause_for_want_of_data_ends_with_a_persons_word_or_with_data() -> None:
    """Who resumes has decided; and what is told after all counts."""
    world = on([LITERT] * 4)
    world.traffic = False
    name = world.start("2.0.0", policy=checked(FEW_ERRORS))
    world.runs(2 * 3600)
    assert WaveState.INCONCLUSIVE is world.rollouts[name].waves[0].state
    world.say(name, RolloutHappening.RESUMED)
    world.runs(600)
    assert WaveState.PASSED is world.rollouts[name].waves[0].state

    world.traffic = True
    world.runs()
    assert RolloutState.DONE is world.rollouts[name].state


def test_a_first_install_has_nothing_to_compare_with_and_the_plan_says_so() -> None:
    """A comparison without an incumbent is no comparison: it never holds."""
    world = Used([LITERT] * 2)
    foretold = world.plan("1.0.0", policy=checked(SLOWER)).obstacles
    assert [ObstacleReason.CHECK_NEEDS_INCUMBENT] * 2 == [each.reason for each in foretold]
    name = world.start("1.0.0", policy=checked(SLOWER))
    world.runs()

    rollout = world.rollouts[name]
    assert RolloutState.PAUSED is rollout.state
    assert rollout.cause is not None
    assert GateReason.CHECK_UNDECIDED == rollout.cause.code


@pytest.mark.parametrize(
    ("devices", "against"), [(1, Against.BEFORE), (2, Against.CONTROL), (3, Against.CONTROL)]
)
def test_a_small_fleet_is_compared_with_who_waits_or_with_what_it_served_itself(
    devices: int, against: Against
) -> None:
    """Nobody is left who was not asked: then what was told before this wave is the control."""
    world = on([LITERT] * devices)
    world.paces["2.0.0", LITERT] = Pace(latency_s=0.02)
    name = world.start("2.0.0", policy=checked(SLOWER, sizes=(100,)))
    world.runs()

    rollout = world.rollouts[name]
    assert RolloutState.ROLLED_BACK is rollout.state
    assert rollout.cause is not None
    assert against == rollout.cause.parameters["against"]


def test_a_document_counts_once_however_often_the_centre_looks() -> None:
    """A sample is of requests, not of looks."""
    world = on([LITERT] * 2)
    name = world.start("2.0.0", policy=checked("error_rate < 1"))
    world.runs(180)
    rollout = world.rollouts[name]
    evidence = rollout.waves[0].evidence
    assert evidence is not None
    for _ in range(5):
        world.waits(1)
    again = world.rollouts[name].waves[0].evidence
    assert again == evidence
    world.feels()
    world.waits(1)
    more = world.rollouts[name].waves[0].evidence
    assert more is not None
    (before,), (after,) = evidence.serving.values(), more.serving.values()
    assert before.requests + 100 == after.requests


def documents(evidence: Evidence) -> int:
    told = (*evidence.serving.values(), *evidence.control.values())
    return sum(each.documents for each in told)


def test_what_comes_in_one_second_counts_whole_however_often_it_is_looked_at() -> None:
    """A second is read when it is over: times are to the second, and looks are not."""
    world = on([LITERT] * 6)
    name = world.start("2.0.0", policy=checked("error_rate < 1", sizes=(100,)))
    world.runs(80)
    rollout = world.rollouts[name]
    wave = replace(rollout.waves[0], evidence=Evidence(until=""))
    rollout = replace(rollout, waves=(wave,))
    targets = rollout.waves[0].targets
    world.health.clear()
    counted = 0
    for target in targets:
        world.health[target] = (world.health_of(world.devices[target]), written(world.now))
        for event in world.measures(rollout):
            counted += documents(event.evidence)
    assert 0 == counted
    world.now += timedelta(seconds=1)
    (event,) = world.measures(rollout)

    assert len(targets) == documents(event.evidence)


def test_only_what_is_of_the_wave_and_of_its_revision_is_evidence() -> None:
    """Not of other waves, nor of an older revision; and who went back is no control."""
    world = on([LITERT] * 6)
    policy = checked("error_rate < 1", sizes=(50, 100))
    name = world.start("2.0.0", policy=policy)
    world.conduct["2.0.0", "d-2"] = Conduct.REFUSE
    world.runs(120)
    rollout = world.rollouts[name]
    assert rollout.waves[0].evidence is not None
    rollout = replace(
        rollout,
        waves=(
            replace(rollout.waves[0], evidence=Evidence(until="")),
            *rollout.waves[1:],
        ),
    )
    states = (
        (1, TargetState.COMMITTED, 1, "2.0.0"),
        (2, TargetState.ROLLED_BACK, 1, "1.0.0"),
        (3, TargetState.COMMITTED, 0, "2.0.0"),
        (4, TargetState.PLANNED, 1, "2.0.0"),
        (5, TargetState.PLANNED, 0, "1.0.0"),
        (6, TargetState.PLANNED, 0, "2.0.0"),
    )
    members = rollout.by_target()
    for number, state, newer, version in states:
        progress = replace(members[f"d-{number}"], state=state)
        members[f"d-{number}"] = progress
        revision = progress.deployment.revision - 1 + newer
        told = DeploymentHealth(
            name="digits",
            revision=revision,
            digest=world.paper.bundle(version).digest,
            requests=10**number,
            errors=0,
        )
        health = replace(world.health_of(world.device(number)), deployments=(told,))
        world.health[f"d-{number}"] = (health, "2026-03-01T12:00:01Z")
    rollout = replace(rollout, targets=tuple(members.values()))
    (event,) = world.measures(rollout)

    assert {"d-1", "d-2", "d-3"} == set(rollout.waves[0].targets)
    assert [10] == [each.requests for each in event.evidence.serving.values()]
    assert [10**5] == [each.requests for each in event.evidence.control.values()]


def test_drift_of_the_wave_is_read_from_all_of_it_together() -> None:
    """Counts add up, and the card's reference judges them: as they are now, not over time."""
    for psi, state in ((0.1, RolloutState.DONE), (0.4, RolloutState.ROLLED_BACK)):
        world = on([LITERT] * 4)
        world.judged = (far(psi),)
        name = world.start("2.0.0", policy=checked("drift < 0.25"))
        world.runs()

        assert state is world.rollouts[name].state
        assert ({"c": [0, 8]} in world.counted) is (state is RolloutState.DONE)


def test_a_gate_with_checks_can_stop_a_rollout_that_nobody_fails() -> None:
    """So it bounds how many serve something bad, whatever share may fail."""
    world = on([LITERT] * 4)
    check = Check(check=FEW_ERRORS)
    gate = Gate(success_percent=0, error_percent=100, inconclusive=Inconclusive.SKIP)
    for checks, radius in (((), 4), ((check,), 2)):
        waves = (
            WaveRule(size=Percent(percent=50), gate=replace(gate, checks=checks)),
            WaveRule(size=Percent(percent=100)),
        )
        assert radius == world.plan("2.0.0", policy=Policy(name="p", waves=waves)).blast_radius


def test_evidence_outlives_the_centre() -> None:
    """What was told is kept with the wave: a restart begins no sample anew."""
    world = on([LITERT] * 2)
    name = world.start("2.0.0", policy=checked("error_rate < 1"))
    world.runs(180)
    evidence = world.rollouts[name].waves[0].evidence
    world.is_restarted()
    world.waits(1)

    assert evidence == world.rollouts[name].waves[0].evidence


def test_a_passed_wave_is_measured_no_more() -> None:
    """Only the wave that is judged: what was decided stays decided."""
    world = on([LITERT] * 4)
    name = world.start("2.0.0", policy=checked(FEW_ERRORS))
    while world.rollouts[name].waves[0].state is not WaveState.PASSED:
        world.runs(60)
    evidence = world.rollouts[name].waves[0].evidence
    world.runs(300)

    assert evidence == world.rollouts[name].waves[0].evidence
