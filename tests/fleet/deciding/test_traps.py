"""Traps that a planner of rollouts falls into, where no other test is about them.

Each has its patch in `tests/mutants`, which plants it, and sees the test here turn red.
"""

from dataclasses import replace

import pytest

from agent.wire.phases import Phase
from agent.wire.v1 import Active, Order, Quarantined
from fleet.rollouts.check import check
from fleet.rollouts.documents import renewed
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.fold import IllegalEventError
from fleet.rollouts.policy import ALL_AT_ONCE, Gate, Percent, Policy, WaveRule
from fleet.rollouts.states import RolloutHappening, RolloutState, WaveState
from tests.fleet.deciding.paper import FLEET, Paper, states
from tests.fleet.deciding.world import ISSUED, LITERT, Conduct, World


def all_at_once(gate: Gate) -> Policy:
    """Return a policy of one wave behind this gate, in which no class has canaries."""
    return Policy(name="gated", waves=(WaveRule(size=Percent(percent=100), gate=gate),))


def test_who_is_back_after_the_end_passes_the_same_gate() -> None:
    """One of those that were away fails when it is back: the next one is not asked any more."""
    world = World([LITERT] * 4, away=(3, 4))
    world.conduct["1.0.0", "d-3"] = Conduct.REFUSE
    gate = Gate(success_percent=80, error_percent=20)
    name = world.start("1.0.0", "digits", all_at_once(gate))
    world.runs()
    assert world.rollouts[name].state is RolloutState.DONE

    world.returns(3)
    world.runs()
    world.returns(4)
    world.runs()
    assert states(world.rollouts[name]) == {
        "d-1": "committed",
        "d-2": "committed",
        "d-3": "refused",
        "d-4": "planned",
    }
    assert world.device(4).serves() is None
    world.say(name, RolloutHappening.RETURN_ASKED)
    world.runs()
    assert world.rollouts[name].state is RolloutState.ROLLED_BACK


def test_a_pause_holds_for_whoever_comes_back() -> None:
    """Its wave is open, and it was never asked: it is asked when the rollout is resumed."""
    world = World([LITERT] * 3, away=(3,))
    name = world.start("1.0.0", "digits", ALL_AT_ONCE)
    world.advance()
    world.say(name, RolloutHappening.PAUSED)
    world.returns(3)
    world.runs()
    assert "d-3" not in world.desired

    world.say(name, RolloutHappening.RESUMED)
    world.runs()
    assert world.device(3).serves() == "1.0.0"


def test_one_that_is_back_is_waited_for_before_its_wave_is_approved() -> None:
    """It is asked, and the wave soaks anew: nobody approves what is still moving."""
    world = World([LITERT] * 3, away=(3,))
    gate = Gate(success_percent=60, error_percent=0, soak_s=30.0, approval=True)
    name = world.start("1.0.0", "digits", all_at_once(gate))
    world.runs()
    assert world.rollouts[name].waves[0].state is WaveState.TO_APPROVE

    world.returns(3)
    world.advance()
    assert world.rollouts[name].waves[0].state is WaveState.RUNNING
    with pytest.raises(IllegalEventError, match="no wave of it waits for that"):
        world.say(name, RolloutHappening.APPROVED)
    world.runs()
    world.say(name, RolloutHappening.APPROVED)
    assert world.rollouts[name].state is RolloutState.DONE
    assert world.device(3).serves() == "1.0.0"


@pytest.mark.parametrize("revision", [2, 3])
def test_nothing_is_put_over_what_is_newer(paper: Paper, revision: int) -> None:
    """A writer that was slow has the same number as who was first, or a lower one."""
    held = paper.desired("d-1", paper.deployment(revision=3, version="3.0.0"))
    slow = paper.deployment(revision=revision, version="2.0.0")
    with pytest.raises(PlanError) as raised:
        renewed(held, slow, fleet=FLEET, target="d-1", epoch=0, issued_at=ISSUED)
    assert raised.value.reason is PlanReason.OVERTAKEN


def test_after_a_recovery_no_number_comes_again_that_a_device_has_had(paper: Paper) -> None:
    """In a new epoch generations begin anew; what the device says of itself is above them."""
    lost = paper.target(desired=paper.desired("d-1", paper.deployment(revision=41), generation=41))
    told = paper.reported(lost, Phase.COMMITTED).reported
    assert told is not None
    found = paper.desired("d-1", paper.deployment(revision=1, version="0.9.0"))
    found = replace(found, order=Order(epoch=1, generation=1))
    inventory = replace(paper.inventory(replace(lost, desired=found, reported=told)), epoch=1)
    planned = paper.plan(inventory, paper.request("2.0.0"))

    assert [step.deployment.revision for step in planned.steps] == [43]
    assert check(planned, inventory) == ()


def test_what_failed_on_a_device_is_not_asked_of_it_though_it_serves_something(
    paper: Paper,
) -> None:
    """It is in quarantine there: asked for once more, it would be the canary that fails."""
    serves, failed = paper.bundle("1.0.0"), paper.bundle("2.0.0")
    wanted = paper.target(desired=paper.desired("d-1", paper.deployment(revision=3)))
    report = paper.reported(wanted, Phase.COMMITTED).reported
    assert report is not None
    active = Active(
        revision=3, bundle=serves, variant=serves.digest, runtime="litert 2.3.0", accelerator="cpu"
    )
    verdict = Quarantined(digest=failed.digest, reason="TOO_SLOW", since=ISSUED)
    told = (replace(report.deployments[0], active=active),)
    report = replace(report, deployments=told, quarantined=(verdict,))
    planned = paper.plan(paper.inventory(replace(wanted, reported=report)), paper.request("2.0.0"))

    assert [(each.target, each.reason) for each in planned.excluded] == [("d-1", "QUARANTINED")]
