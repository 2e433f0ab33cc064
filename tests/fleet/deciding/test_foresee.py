"""What a plan says beforehand holds: how many are exposed, what it costs, what stops it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire.v1 import DeploymentSettings, ShadowSettings
from fleet.rollouts.foresee import (
    Obstacle,
    ObstacleReason,
    SiteCost,
    blast_radius,
    can_stop,
    exposure,
)
from fleet.rollouts.plan import Plan, plan
from fleet.rollouts.policy import (
    CAREFUL,
    Budget,
    Count,
    EachClass,
    Gate,
    Inconclusive,
    Percent,
    Policy,
    WaveRule,
)
from fleet.rollouts.states import RolloutState, WaveState
from fleet.rollouts.waves import Wave
from fleet.sentences import explain
from tests.fleet.deciding.paper import NOW, Paper
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct, World, with_gates

STRICT = Gate(success_percent=100, error_percent=0)
BLIND = Gate(success_percent=100, error_percent=0, minimum_sample=9, inconclusive=Inconclusive.SKIP)


def waved(*gates: Gate | None) -> list[Wave]:
    """Return waves of 1, 2, 3, … targets behind these gates."""
    return [
        Wave(
            number=number,
            title="",
            targets=tuple(f"d-{number}-{each}" for each in range(number)),
            gate=gate,
        )
        for number, gate in enumerate(gates, 1)
    ]


@pytest.mark.parametrize(
    ("gates", "exposed"),
    [
        ((STRICT, STRICT, STRICT), (1, 3, 6)),
        ((None, STRICT, None), (3, 3, 6)),
        ((None, None, None), (6, 6, 6)),
        ((BLIND, STRICT, BLIND), (3, 3, 6)),
        ((replace(BLIND, inconclusive=Inconclusive.PAUSE), STRICT), (1, 3)),
        ((Gate(success_percent=0, error_percent=100), STRICT), (3, 3)),
        ((Gate(success_percent=0, error_percent=100, approval=True), STRICT), (1, 3)),
    ],
    ids=["gated", "gap", "no gate", "skipped", "paused", "lets all pass", "approved"],
)
def test_a_gate_that_cannot_stop_it_protects_nobody(
    gates: tuple[Gate | None, ...], exposed: tuple[int, ...]
) -> None:
    """Exposed are all up to the next wave whose gate can fail, or wait for a person."""
    waves = waved(*gates)
    assert (exposure(waves), blast_radius(waves)) == (exposed, exposed[0])


def test_no_wave_exposes_nobody() -> None:
    """Nothing to do is no risk."""
    assert (exposure(()), blast_radius(())) == ((), 0)
    assert not can_stop(waved(None)[0])


SIZES = st.one_of(
    st.builds(Count, targets=st.integers(1, 4)),
    st.builds(Percent, percent=st.integers(1, 100)),
    st.builds(EachClass, per_class=st.integers(1, 2)),
)
GATES = st.one_of(
    st.none(),
    st.builds(
        Gate,
        success_percent=st.integers(0, 100),
        error_percent=st.integers(0, 100),
        minimum_sample=st.integers(1, 4),
        deadline_s=st.just(600.0),
        inconclusive=st.sampled_from([Inconclusive.PAUSE, Inconclusive.SKIP]),
    ),
    st.just(Gate(success_percent=100, error_percent=0, everyone=True, deadline_s=600.0)),
)
POLICIES = st.builds(
    Policy,
    name=st.just("drawn"),
    per_class=st.one_of(st.none(), st.integers(1, 2)),
    waves=st.lists(st.builds(WaveRule, size=SIZES, gate=GATES), min_size=1, max_size=4).map(tuple),
    budgets=st.sampled_from([(), (Budget(label="line", targets=1),)]),
)


@settings(max_examples=80)
@given(
    policy=POLICIES,
    runtimes=st.lists(st.sampled_from([LITERT, TFLITE]), min_size=1, max_size=8),
    bad=st.sets(st.integers(1, 8)),
    away=st.sets(st.integers(1, 8), max_size=3),
    how=st.sampled_from([Conduct.REFUSE, Conduct.FALL_BACK, Conduct.CRASH, Conduct.MUTE]),
)
def test_a_model_bad_on_any_devices_is_stopped_within_what_the_plan_printed(
    policy: Policy, runtimes: list[str], bad: set[int], away: set[int], how: Conduct
) -> None:
    """Whatever the policy: who ever took it are at most those exposed by the wave that stopped it.

    That is the blast radius, where it was the first gate that can.
    """
    world = World(runtimes)
    world.start("1.0.0")
    world.runs()
    for number in bad:
        if number <= len(runtimes):
            world.conduct["2.0.0", f"d-{number}"] = how
    for number in away:
        if number <= len(runtimes):
            world.goes(number)
    made = world.plan("2.0.0", "digits", policy)
    name = world.start("2.0.0", "digits", policy)
    for step in range(60):
        if step == 30:
            for number in range(1, len(runtimes) + 1):
                world.returns(number)
        world.runs(200.0, every=50.0)
    rollout = world.rollouts[name]
    took = sum("2.0.0" in each.took for each in world.devices.values())
    begun = [wave for wave in rollout.waves if wave.started_at is not None]
    assert took <= (made.exposure[len(begun) - 1] if begun else 0)


def the_plan(paper: Paper, policy: Policy = CAREFUL, count: int = 2, **request: object) -> Plan:
    """Return a plan for targets that have an older version already."""
    held = [
        paper.target(
            number,
            site="porto" if number % 2 else None,
            desired=paper.desired(f"d-{number}", paper.deployment(version="0.9.0")),
        )
        for number in range(1, count + 1)
    ]
    asked = paper.request("1.0.0", **request)
    return plan(asked, policy, paper.inventory(*held), paper.cards(asked.bundle), NOW)


def reasons(made: Plan) -> list[tuple[ObstacleReason, int | None]]:
    return [(each.reason, each.wave) for each in made.obstacles]


def said(obstacle: Obstacle) -> str:
    wave = {"wave": str(obstacle.wave)}
    return explain(obstacle.reason, {**wave, **obstacle.parameters}).meaning


def test_the_bytes_of_a_site_are_those_of_its_targets(paper: Paper) -> None:
    """Who has the bundle under another name fetches nothing, and is not counted."""
    made = the_plan(paper, count=3)
    assert made.by_site == (
        SiteCost(site="porto", targets=2, fetch_bytes=20000),
        SiteCost(site=None, targets=1, fetch_bytes=10000),
    )
    assert made.fetch_bytes == 30000


def test_a_shadow_without_enough_traffic_is_foretold(paper: Paper) -> None:
    """How many requests a device needs, and in what time; only where something serves."""
    shadow = DeploymentSettings(shadow=ShadowSettings(share=0.3, requests=100, limit_s=7200.0))
    made = the_plan(paper, settings=shadow)
    assert reasons(made) == [
        (ObstacleReason.SHADOW_NEEDS_TRAFFIC, wave.number) for wave in made.waves
    ]
    assert said(made.obstacles[0]).startswith(
        "In wave 1, 1 compare it on live requests: one with fewer than 334 in 3600 s refuses it"
    )
    inventory = paper.inventory(paper.target(1))
    asked = paper.request(settings=shadow)
    fresh = plan(asked, CAREFUL, inventory, paper.cards(asked.bundle), NOW)
    assert fresh.obstacles == ()


def test_a_trial_longer_than_the_deadline_is_foretold(paper: Paper) -> None:
    """Nobody could come to an end in time: every one would count as failed."""
    made = the_plan(paper, settings=DeploymentSettings(probation_s=3600.0))
    assert {reason for reason, _ in reasons(made)} == {ObstacleReason.DEADLINE_TOO_SHORT}
    assert the_plan(paper, settings=DeploymentSettings(probation_s=3599.0)).obstacles == ()


def test_a_gate_that_has_too_few_in_reach_is_foretold_with_what_it_will_do() -> None:
    """It waits for those away until its deadline; then the policy's word."""
    world = World([LITERT] * 4, away=[2, 3, 4])
    policy = Policy(
        name="three",
        waves=(
            WaveRule(
                size=Percent(percent=100),
                gate=replace(STRICT, minimum_sample=3, inconclusive=Inconclusive.APPROVE),
            ),
        ),
    )
    (obstacle,) = world.plan("1.0.0", "digits", policy).obstacles
    assert said(obstacle) == (
        "Of wave 1, 1 can be reached, and its gate wants 3 of 4: it waits for the others, and "
        "after its deadline it will wait for approval."
    )


def test_everyone_of_a_wave_must_commit_those_away_too() -> None:
    """One away is waited for, and one that fails takes all back whatever the shares say."""
    policy = with_gates(CAREFUL, everyone=True, success_percent=100, error_percent=0)
    world = World([LITERT] * 6)
    world.goes(6)
    name = world.start("1.0.0", "digits", policy)
    world.runs(2000.0)
    rollout = world.rollouts[name]
    assert [wave.state for wave in rollout.waves] == [
        WaveState.PASSED,
        WaveState.PASSED,
        WaveState.RUNNING,
    ]
    world.returns(6)
    world.runs()
    assert world.rollouts[name].state is RolloutState.DONE


def test_the_first_wave_of_a_stratified_policy_has_one_of_each_class_as_far_as_it_goes() -> None:
    """By count too; the class that finds no room in it is named, and begins with one later."""
    world = World([LITERT] * 3 + [TFLITE] * 2)
    gated = WaveRule(size=Count(targets=2), gate=STRICT)
    policy = Policy(name="two", per_class=1, waves=(gated,))
    made = world.plan("1.0.0", "digits", policy)
    assert made.waves[0].targets == ("d-1", "d-4")
    assert made.obstacles == ()
    one = Policy(name="one", per_class=1, waves=(WaveRule(size=Count(targets=1), gate=STRICT),))
    later = world.plan("1.0.0", "digits", one).obstacles
    assert [(each.reason, each.parameters["targets"]) for each in later] == [
        (ObstacleReason.CLASS_LATER, "2")
    ]
    world.bad("1.0.0", TFLITE)
    name = world.start("1.0.0", "digits", one)
    world.runs()
    assert world.rollouts[name].state is RolloutState.ROLLED_BACK
    took = [each.id for each in world.devices.values() if "1.0.0" in each.took]
    assert sum(each in {"d-4", "d-5"} for each in took) == 1
