"""A fleet that there is not, and a bundle for it: what a plan needs, made from numbers. Pure."""

from datetime import datetime
from itertools import product

from agent.wire import facts
from agent.wire.v1 import BundleRef, Deployment, Desired, Order
from fleet.inventory import Inventory, Target
from fleet.rollouts.plan import Plan, plan
from fleet.rollouts.policy import Policy, RolloutRequest
from fleet.selector import Selector
from fleet.simulate.twin import Draw
from models.card import Card, Golden, Provenance, Requirements, Tensor, Tolerance, Variant
from models.values import Datatype, Digest, ModelRef, digest_of

CLASSES_LIMIT = 48
_FLEET = "simulated"
_NAME = "model"
_ISSUED_AT = "2026-01-01T00:00:00Z"
_KINDS = tuple(
    product(
        ("litert", "tflite"),
        ("aarch64", "x86_64", "armv7l"),
        ("2.0.0", "2.1.0", "2.2.0", "2.3.0", "2.4.0", "2.5.0", "2.6.0", "2.7.0"),
    )
)


def invented(
    devices: int, classes: int, policy: Policy, *, away_share: float, draw: Draw, now: datetime
) -> Plan:
    """Return the plan of a bundle's next version for so many devices of so many classes.

    They all serve the version before, and `away_share` of them, as drawn, are away when it
    begins.
    """
    if not 1 <= classes <= CLASSES_LIMIT:
        raise ValueError(f"{classes} classes; there can be from 1 to {CLASSES_LIMIT}")
    before, after = _bundle("1.0.0"), _bundle("2.0.0")
    held = Deployment(name=_NAME, bundle=before, revision=1)
    targets = tuple(
        _target(number, classes, held, online=draw() >= away_share)
        for number in range(1, devices + 1)
    )
    request = RolloutRequest(
        bundle=after, deployment=_NAME, selector=Selector(), policy=policy.name, own_policy=policy
    )
    inventory = Inventory(fleet=_FLEET, targets=targets)
    return plan(request, policy, inventory, {after.digest: _card(after)}, now)


def _target(number: int, classes: int, held: Deployment, *, online: bool) -> Target:
    # Kinds that differ in runtime and architecture come first.
    runtime, architecture, version = _KINDS[(number % classes) * 8 % 48 + (number % classes) // 6]
    device = f"d-{number:06}"
    order = Order(epoch=0, generation=1)
    return Target(
        device=device,
        name=device,
        facts={
            facts.ARCHITECTURE: architecture,
            facts.MEMORY_MIB: "1024",
            facts.RUNTIME: runtime,
            facts.RUNTIME_VERSION: version,
        },
        online=online,
        desired=Desired(
            fleet=_FLEET, target=device, order=order, issued_at=_ISSUED_AT, deployments=(held,)
        ),
    )


def _bundle(version: str) -> BundleRef:
    return BundleRef(digest=digest_of(f"{_NAME}:{version}".encode()), name=_NAME, version=version)


def _card(bundle: BundleRef) -> Card:
    some = Digest("sha256:" + "0" * 64)
    return Card(
        ref=ModelRef(bundle.name, bundle.version),
        task="classification",
        inputs=(Tensor(name="in", datatype=Datatype.INT8, shape=(1,)),),
        outputs=(Tensor(name="out", datatype=Datatype.INT8, shape=(1,)),),
        variants=(
            Variant(
                digest=some,
                size_bytes=1 << 20,
                format="int8",
                requirements=Requirements(memory_bytes=1 << 20, operators=()),
            ),
        ),
        provenance=Provenance(source_digest=some),
        golden=Golden(
            digest=some,
            size_bytes=1,
            vectors=1,
            origin="simulated",
            tolerances=(Tolerance(largest=1.0, mean=1.0),),
            measured_on=(),
        ),
        licence="none",
    )
