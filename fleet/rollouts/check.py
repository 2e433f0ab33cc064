"""The linter for plans: what no plan may do, whoever made it. Pure.

It shares no rule with the planner beyond the values: it looks at the plan and
the inventory it was made from, and carries each step out on paper. The tests
hold every plan to a clean bill.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from agent.wire.codec import WireError, encode
from agent.wire.limits import DEPLOYMENTS_LIMIT
from fleet.inventory import Inventory, Target
from fleet.rollouts.documents import renewed
from fleet.rollouts.errors import PlanError
from fleet.rollouts.foresee import Step
from fleet.rollouts.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing wrong with a plan: the rule that is broken, and by which target; None, by all."""

    rule: str
    target: str | None
    message: str = ""


def check(plan: Plan, inventory: Inventory) -> tuple[Finding, ...]:
    """Return all that is wrong with a plan made from this inventory; nothing, if it is sound."""
    targets = inventory.by_device()
    found = [*_decided(plan, inventory), *_waves(plan), *_sums(plan)]
    for step in plan.steps:
        target = targets.get(step.target)
        if target is None:
            found.append(Finding(rule="a step is for a known target", target=step.target))
            continue
        found += _asked_for(plan, step)
        found += _forward(step, target)
        found += _carried_out(plan, step, target, inventory.epoch)
    return tuple(found)


def _decided(plan: Plan, inventory: Inventory) -> Iterator[Finding]:
    """Everyone who was asked for is decided, once and with a reason, and nobody else is."""
    decided = Counter(
        [*(step.target for step in plan.steps), *(excluded.target for excluded in plan.excluded)]
    )
    selector = plan.request.selector
    matched = {
        target.device
        for target in inventory.targets
        if selector is not None and selector.matches(target.attributes)
    }
    wanted = matched | set(plan.request.targets)
    for target in sorted(wanted - decided.keys()):
        yield Finding(rule="who was asked for is decided", target=target)
    for target in sorted(decided.keys() - wanted):
        yield Finding(rule="who was not asked for is left alone", target=target)
    for target in _twice(decided):
        yield Finding(rule="a target is decided once", target=target)
    for excluded in plan.excluded:
        if not excluded.reason:
            yield Finding(rule="who is left out is told why", target=excluded.target)


def _waves(plan: Plan) -> Iterator[Finding]:
    waved = Counter(target for wave in plan.waves for target in wave.targets)
    stepped = {step.target for step in plan.steps}
    for target in _twice(waved):
        yield Finding(rule="a target is in one wave", target=target)
    if not all(wave.targets for wave in plan.waves):
        yield Finding(rule="no wave is empty", target=None)
    for target in sorted(waved.keys() ^ stepped):
        yield Finding(rule="who has a step is in a wave, and nobody else", target=target)


def _sums(plan: Plan) -> Iterator[Finding]:
    gated = next((number for number, wave in enumerate(plan.waves, 1) if wave.gate), None)
    before = sum(len(wave.targets) for wave in plan.waves[:gated])
    if plan.blast_radius < before or plan.blast_radius not in (0, *plan.exposure):
        yield Finding(rule="the blast radius is all that serve before a gate", target=None)
    reached = [len(wave.targets) for wave in plan.waves]
    if any(each < sum(reached[:at]) for at, each in enumerate(plan.exposure, 1)):
        yield Finding(rule="who is in a wave is exposed in it", target=None)
    if plan.fetch_bytes != sum(cost.fetch_bytes for cost in plan.by_site):
        yield Finding(rule="the bytes of all sites add up", target=None)
    if plan.fetch_bytes != sum(step.fetch_bytes for step in plan.steps):
        yield Finding(rule="the bytes add up", target=None)


def _asked_for(plan: Plan, step: Step) -> Iterator[Finding]:
    if step.deployment.bundle != plan.request.bundle:
        yield Finding(rule="a step brings the bundle that was asked for", target=step.target)
    if step.deployment.name != plan.request.deployment:
        yield Finding(rule="a step changes the deployment that was asked for", target=step.target)


def _forward(step: Step, target: Target) -> Iterator[Finding]:
    """No number that the target has heard or said comes again."""
    told = target.told(step.deployment.name)
    if told is not None and told.revision >= step.deployment.revision:
        yield Finding(
            rule="a revision is new to its target",
            target=step.target,
            message=f"it reported {told.revision}",
        )
    observed = None if target.reported is None else target.reported.observed
    if observed is not None and observed >= step.order:
        yield Finding(
            rule="no target is driven backwards",
            target=step.target,
            message=f"it acts on {observed.epoch}.{observed.generation}",
        )


def _carried_out(plan: Plan, step: Step, target: Target, epoch: int) -> Iterator[Finding]:
    """Carry the step out on paper, and look at the document that comes of it."""
    held = target.desired
    names = set() if held is None else {wanted.name for wanted in held.deployments}
    if len(names | {step.deployment.name}) > DEPLOYMENTS_LIMIT:
        yield Finding(rule="a device has at most 16 deployments", target=step.target)
        return
    try:
        document = renewed(
            held,
            step.deployment,
            fleet=plan.fleet,
            target=step.target,
            epoch=epoch,
            issued_at=plan.planned_at,
        )
        encode(document)
    except PlanError as error:
        yield Finding(
            rule="a step is newer than what it replaces", target=step.target, message=str(error)
        )
    except WireError as error:
        yield Finding(rule="a document can be sent", target=step.target, message=str(error))
    else:
        if document.order != step.order:
            yield Finding(rule="a step has the order of its document", target=step.target)


def _twice(counted: Counter[str]) -> list[str]:
    return [target for target, times in counted.items() if times > 1]
