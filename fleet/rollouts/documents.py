"""A target's next document: the newest one with one deployment put in, or taken out. Pure.

Two rollouts of two deployments don't undo each other, because each changes its
own in whatever the target's newest document is at that moment.
"""

from dataclasses import replace

from agent.wire.v1 import Deployment, Desired, Order
from fleet.rollouts.errors import PlanError, PlanReason


def renewed(
    held: Desired | None,
    deployment: Deployment,
    *,
    fleet: str,
    target: str,
    epoch: int,
    issued_at: str,
) -> Desired:
    """Return the target's next document: `held` with this one deployment put in.

    Args:
        held: the newest document in the store, None if the target has none.
        deployment: what a step wants.
        fleet: the fleet's id.
        target: the device's id.
        epoch: the epoch of a first document; later ones keep their own.
        issued_at: shown to people.

    Raises:
        PlanError: OVERTAKEN: the store holds this or a later revision of that
            name already, so this step comes too late and must change nothing.
    """
    if held is None:
        first = Order(epoch=epoch, generation=1)
        return Desired(
            fleet=fleet, target=target, order=first, issued_at=issued_at, deployments=(deployment,)
        )
    deployments = {wanted.name: wanted for wanted in held.deployments}
    current = deployments.get(deployment.name)
    if current is not None and current.revision >= deployment.revision:
        raise PlanError(
            PlanReason.OVERTAKEN,
            f"{target} wants revision {current.revision} of {deployment.name} already, "
            f"and this step has revision {deployment.revision}",
        )
    deployments[deployment.name] = deployment
    return replace(
        held,
        order=next_order(held.order),
        issued_at=issued_at,
        deployments=tuple(deployments.values()),
    )


def without(held: Desired | None, name: str, *, revision: int, issued_at: str) -> Desired:
    """Return the target's next document: `held` with this one deployment taken out.

    Args:
        held: the newest document in the store, None if the target has none.
        name: the deployment's name.
        revision: the one to take out; a later one stays.
        issued_at: shown to people.

    Raises:
        PlanError: OVERTAKEN: the store holds another revision of that name, or none.
    """
    deployments = {} if held is None else {wanted.name: wanted for wanted in held.deployments}
    current = deployments.pop(name, None)
    if held is None or current is None or current.revision != revision:
        whom = "it" if held is None else held.target
        raise PlanError(
            PlanReason.OVERTAKEN, f"{whom} no longer wants revision {revision} of {name}"
        )
    return replace(
        held,
        order=next_order(held.order),
        issued_at=issued_at,
        deployments=tuple(deployments.values()),
    )


def next_order(order: Order) -> Order:
    """Return what comes after `order` within its epoch."""
    return replace(order, generation=order.generation + 1)
