"""Fleets of one, two, five and six devices, one of each accelerator, with and without traffic.

Under the default policy each finishes unattended, or its plan names beforehand what stops it.
"""

from dataclasses import replace

import pytest

from agent.wire.v1 import DeploymentSettings, ShadowSettings
from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.states import RolloutState
from tests.fleet.deciding.paper import NOW
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct, World

CPU = "cpu"
KINDS = ("cpu", "edgetpu", "hexagon", "ethos", "gpu", "nnapi")
FLEETS = {
    "one": (CPU,),
    "two": (CPU, CPU),
    "two, one of each": KINDS[:2],
    "five": (CPU,) * 5,
    "five, one of each": KINDS[:5],
    "six": (CPU,) * 6,
    "six, one of each": KINDS,
}
SHADOW = DeploymentSettings(shadow=ShadowSettings(requests=50))


def fleet(kinds: tuple[str, ...]) -> World:
    """Return a fleet in which a kind is a class of its own, as an accelerator is."""
    world = World([])
    for kind in kinds:
        world.join(TFLITE if kind == CPU else LITERT).architecture = kind
    return world


@pytest.mark.parametrize("traffic", [True, False], ids=["traffic", "no traffic"])
@pytest.mark.parametrize("kinds", FLEETS.values(), ids=FLEETS)
def test_a_small_fleet_needs_nobody(kinds: tuple[str, ...], *, traffic: bool) -> None:
    """First installed and then updated: without a shadow traffic makes no difference."""
    world = fleet(kinds)
    world.traffic = traffic
    for version in ("1.0.0", "2.0.0"):
        made = world.plan(version)
        assert made.obstacles == ()
        assert len(made.waves[0].targets) == len(set(kinds))
        name = world.start(version)
        world.runs(2 * 3600.0)
        assert world.rollouts[name].state is RolloutState.DONE
        assert {each.serves() for each in world.devices.values()} == {version}


@pytest.mark.parametrize("traffic", [True, False], ids=["traffic", "no traffic"])
@pytest.mark.parametrize("kinds", FLEETS.values(), ids=FLEETS)
def test_a_shadow_needs_traffic_and_the_plan_says_so(
    kinds: tuple[str, ...], *, traffic: bool
) -> None:
    """With it each small fleet is done; without it the named gate sends everybody back."""
    world = fleet(kinds)
    world.settings = SHADOW
    first = world.start("1.0.0")
    world.runs(2 * 3600.0)
    assert world.rollouts[first].state is RolloutState.DONE, "nothing to compare it with"

    world.traffic = traffic
    made = world.plan("2.0.0")
    assert {(each.reason, each.wave) for each in made.obstacles} == {
        (ObstacleReason.SHADOW_NEEDS_TRAFFIC, wave.number) for wave in made.waves
    }
    name = world.start("2.0.0")
    world.runs(2 * 3600.0)
    rollout = world.rollouts[name]
    if traffic:
        assert rollout.state is RolloutState.DONE
        return
    assert rollout.state is RolloutState.ROLLED_BACK
    assert rollout.cause is not None
    assert rollout.cause.parameters["wave"] == "1"
    assert {each.serves() for each in world.devices.values()} == {"1.0.0"}


@pytest.mark.parametrize("kinds", FLEETS.values(), ids=FLEETS)
def test_a_small_fleet_goes_back_by_itself_too(kinds: tuple[str, ...]) -> None:
    """Bad on the last kind only: one device of it has tried it, and all serve the old one."""
    world = fleet(kinds)
    world.start("1.0.0")
    world.runs()
    for device in world.devices.values():
        if device.architecture == kinds[-1]:
            world.conduct["2.0.0", device.id] = Conduct.FALL_BACK
    made = world.plan("2.0.0")
    name = world.start("2.0.0")
    world.runs(2 * 3600.0)
    assert world.rollouts[name].state is RolloutState.ROLLED_BACK
    took = [each for each in world.devices.values() if "2.0.0" in each.took]
    assert sum(each.architecture == kinds[-1] for each in took) == 1
    assert len(took) <= made.blast_radius
    assert {each.serves() for each in world.devices.values()} == {"1.0.0"}


def test_the_plan_is_a_value_of_the_world_it_was_made_from() -> None:
    """The same small fleet, asked a moment later, gives the same plan."""
    world = fleet(KINDS)
    made = world.plan("1.0.0")
    world.now = NOW.replace(hour=13)
    again = world.plan("1.0.0")
    assert made.digest == again.digest
    assert replace(again, planned_at=made.planned_at) == made
