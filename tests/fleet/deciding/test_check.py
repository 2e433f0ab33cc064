"""The linter for plans finds what a plan may not do: every rule is broken once on purpose."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.wire.phases import Phase
from agent.wire.v1 import DeploymentSettings, Order
from fleet.inventory import Inventory
from fleet.rollouts.check import check
from fleet.rollouts.plan import Exclusion, Plan
from fleet.rollouts.waves import Wave
from tests.fleet.deciding.paper import Paper


def _step(plan: Plan, **changes: object) -> Plan:
    first, *others = plan.steps
    return replace(plan, steps=(replace(first, **changes), *others))  # type: ignore[arg-type]


def _deployment(plan: Plan, **changes: object) -> Plan:
    return _step(plan, deployment=replace(plan.steps[0].deployment, **changes))  # type: ignore[arg-type]


BREAKS: dict[str, Callable[[Plan], Plan]] = {
    "a target is in one wave": lambda plan: replace(
        plan, waves=(*plan.waves, Wave(number=2, title="", targets=("d-1",)))
    ),
    "who has a step is in a wave, and nobody else": lambda plan: replace(plan, waves=()),
    "a target is decided once": lambda plan: replace(
        plan, excluded=(Exclusion(target="d-1", name="buoy-1", reason="NO_CHANGE"),)
    ),
    "who was asked for is decided": lambda plan: replace(
        plan,
        steps=plan.steps[:1],
        waves=(Wave(number=1, title="", targets=("d-1",)),),
        blast_radius=1,
    ),
    "who was not asked for is left alone": lambda plan: replace(
        plan, request=replace(plan.request, selector=None, targets=("d-1",))
    ),
    "who is left out is told why": lambda plan: replace(
        plan, excluded=(Exclusion(target="d-9", name="", reason=""),)
    ),
    "the blast radius is all that serve before a gate": lambda plan: replace(plan, blast_radius=1),
    "the bytes add up": lambda plan: replace(plan, fetch_bytes=1),
    "a step is for a known target": lambda plan: _step(plan, target="d-9"),
    "a step brings the bundle that was asked for": lambda plan: _deployment(
        plan, bundle=replace(plan.request.bundle, version="6.6.6")
    ),
    "a step changes the deployment that was asked for": lambda plan: _deployment(
        plan, name="gauge"
    ),
    "a revision is new to its target": lambda plan: _deployment(plan, revision=3),
    "no target is driven backwards": lambda plan: _step(plan, order=Order(epoch=0, generation=5)),
    "a step is newer than what it replaces": lambda plan: _deployment(plan, revision=2),
    "a document can be sent": lambda plan: _deployment(
        plan, settings=DeploymentSettings(values={"a": "x" * 6000})
    ),
    "a step has the order of its document": lambda plan: _step(
        plan, order=Order(epoch=0, generation=7)
    ),
}


@pytest.fixture
def inventory(paper: Paper) -> Inventory:
    """Two targets that serve an older bundle, at generation 5."""
    targets = []
    for number in (1, 2):
        desired = paper.desired(f"d-{number}", paper.deployment(revision=3), generation=5)
        target = paper.target(number, desired=desired)
        targets.append(paper.reported(target, Phase.COMMITTED))
    return paper.inventory(*targets)


def test_the_planners_own_plan_has_a_clean_bill(paper: Paper, inventory: Inventory) -> None:
    """Nothing is found where nothing is wrong."""
    assert check(paper.plan(inventory, paper.request("2.0.0")), inventory) == ()


@pytest.mark.parametrize("rule", BREAKS)
def test_each_rule_is_found_broken(paper: Paper, inventory: Inventory, rule: str) -> None:
    """A plan with this one fault is told so."""
    broken = BREAKS[rule](paper.plan(inventory, paper.request("2.0.0")))

    assert rule in {finding.rule for finding in check(broken, inventory)}


def test_a_seventeenth_deployment_is_found(paper: Paper, inventory: Inventory) -> None:
    """The device would refuse the document."""
    planned = paper.plan(inventory, paper.request("2.0.0", deployment="wake"))
    sixteen = [paper.deployment(f"m{number}") for number in range(16)]
    full = paper.change(inventory, "d-1", desired=paper.desired("d-1", *sixteen, generation=5))

    assert ["a device has at most 16 deployments"] == [
        finding.rule for finding in check(planned, full)
    ]
