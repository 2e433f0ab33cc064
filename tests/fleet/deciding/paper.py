"""A small fleet on paper: builders of the values that the deciding modules read."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from agent.wire import facts
from agent.wire.phases import Phase
from agent.wire.v1 import (
    BundleRef,
    Deployment,
    Desired,
    Order,
    Problem,
    Reported,
    ReportedDeployment,
)
from fleet.inventory import Inventory, Target
from fleet.rollouts.asking import due
from fleet.rollouts.documents import renewed
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import Plan, plan
from fleet.rollouts.policy import ALL_AT_ONCE, RolloutRequest
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.states import RolloutHappening
from fleet.selector import Selector
from models.card import Card, Golden, Operator, Provenance, Requirements, Tensor, Tolerance, Variant
from models.values import Datatype, Digest, ModelRef, digest_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FLEET = "harbour"
FACTS = {
    facts.ARCHITECTURE: "x86_64",
    facts.MEMORY_MIB: "512",
    facts.RUNTIME: "litert",
    facts.RUNTIME_VERSION: "2.3.0",
}


def look(rollout: Rollout, inventory: Inventory, now: datetime = NOW) -> Rollout:
    """One pass of the rim that has only looked."""
    return fold(rollout, seen(rollout, inventory, now), now)


def states(rollout: Rollout) -> dict[str, str]:
    """Return the state of each target."""
    return {progress.target: str(progress.state) for progress in rollout.targets}


class Paper:
    """Builders with defaults, so that a test names only what it is about."""

    now = NOW
    fleet = FLEET
    facts = FACTS

    def bundle(self, version: str = "1.0.0", name: str = "digits") -> BundleRef:
        digest = digest_of(f"{name}:{version}".encode())
        return BundleRef(digest=digest, name=name, version=version)

    def card(self, bundle: BundleRef, *, needs: Requirements | None = None) -> Card:
        some = Digest("sha256:" + "5" * 64)
        requirements = needs or Requirements(
            memory_bytes=1 << 20, operators=(Operator(name="CONV_2D", version=1, count=1),)
        )
        return Card(
            ref=ModelRef(bundle.name, bundle.version),
            task="classification",
            inputs=(Tensor(name="image", datatype=Datatype.INT8, shape=(1, 64)),),
            outputs=(Tensor(name="scores", datatype=Datatype.INT8, shape=(1, 10)),),
            variants=(
                Variant(digest=some, size_bytes=9000, format="int8", requirements=requirements),
            ),
            provenance=Provenance(source_digest=some),
            golden=Golden(
                digest=some,
                size_bytes=1000,
                vectors=4,
                origin="test rows",
                tolerances=(Tolerance(largest=1.0, mean=0.5),),
                measured_on=(),
            ),
            licence="Apache-2.0",
        )

    def cards(self, *bundles: BundleRef, **changes: Requirements) -> Mapping[str, Card]:
        return {bundle.digest: self.card(bundle, **changes) for bundle in bundles}

    def deployment(
        self, name: str = "digits", revision: int = 1, version: str = "1.0.0"
    ) -> Deployment:
        return Deployment(name=name, bundle=self.bundle(version), revision=revision)

    def desired(self, device: str, *deployments: Deployment, generation: int = 1) -> Desired:
        return Desired(
            fleet=FLEET,
            target=device,
            order=Order(epoch=0, generation=generation),
            issued_at="2026-03-01T11:00:00Z",
            deployments=deployments,
        )

    def target(self, number: int = 1, **changes: object) -> Target:
        fields: dict[str, object] = {
            "device": f"d-{number}",
            "name": f"buoy-{number}",
            "facts": FACTS,
            "online": True,
            **changes,
        }
        return Target(**fields)  # type: ignore[arg-type]

    def targets(self, count: int, **changes: object) -> tuple[Target, ...]:
        return tuple(self.target(number, **changes) for number in range(1, count + 1))

    def inventory(self, *targets: Target) -> Inventory:
        return Inventory(fleet=FLEET, targets=targets)

    def request(self, version: str = "1.0.0", **changes: object) -> RolloutRequest:
        fields: dict[str, object] = {
            "bundle": self.bundle(version),
            "deployment": "digits",
            "selector": Selector(),
            "policy": "all-at-once",
            **changes,
        }
        return RolloutRequest(**fields)  # type: ignore[arg-type]

    def plan(
        self, inventory: Inventory, request: RolloutRequest | None = None, **needs: Requirements
    ) -> Plan:
        asked = request or self.request()
        return plan(asked, ALL_AT_ONCE, inventory, self.cards(asked.bundle, **needs), NOW)

    def reported(
        self,
        target: Target,
        phase: Phase,
        *,
        name: str = "digits",
        revision: int | None = None,
        digest: str | None = None,
        reason: str | None = None,
    ) -> Target:
        """Return the target after it said this of a deployment (by default, of what it wants)."""
        wanted = target.wanted(name)
        assert wanted is not None
        assert target.desired is not None
        told = ReportedDeployment(
            name=name,
            revision=revision or wanted.revision,
            digest=digest or wanted.bundle.digest,
            phase=phase,
            last_error=None if reason is None else Problem(reason=reason),
        )
        report = Reported(
            fleet=FLEET,
            device=target.device,
            session=1,
            observed=target.desired.order,
            deployments=(told,),
        )
        return replace(target, reported=report)

    def held(self, target: Target) -> Desired:
        """Return the document the store holds, which this test knows is there."""
        assert target.desired is not None
        return target.desired

    def wanted(self, target: Target, name: str = "digits") -> Deployment:
        """Return what the store wants, which this test knows is there."""
        wanted = target.wanted(name)
        assert wanted is not None
        return wanted

    def carried_out(self, inventory: Inventory, planned: Plan) -> Inventory:
        """Return the inventory after the store holds each step's document."""
        steps = {step.target: step.deployment for step in planned.steps}
        return self.written(inventory, steps)

    def written(self, inventory: Inventory, deployments: Mapping[str, Deployment]) -> Inventory:
        return replace(
            inventory,
            targets=tuple(
                replace(
                    target,
                    desired=renewed(
                        target.desired,
                        deployments[target.device],
                        fleet=FLEET,
                        target=target.device,
                        epoch=inventory.epoch,
                        issued_at="2026-03-01T12:00:00Z",
                    ),
                )
                if target.device in deployments
                else target
                for target in inventory.targets
            ),
        )

    def started(self, inventory: Inventory, planned: Plan) -> tuple[Rollout, Inventory]:
        """Start a rollout, and write what is due to the store."""
        word = RolloutEvent(rollout=RolloutHappening.STARTED)
        rollout = fold(begin(planned, "r-1"), [word], NOW)
        due_now = {progress.target: progress.deployment for progress in due(rollout, NOW)}
        return rollout, self.written(inventory, due_now)

    def says(self, inventory: Inventory, device: str, phase: Phase, **said: object) -> Inventory:
        return replace(
            inventory,
            targets=tuple(
                self.reported(target, phase, **said) if target.device == device else target  # type: ignore[arg-type]
                for target in inventory.targets
            ),
        )

    def change(self, inventory: Inventory, device: str, **changes: object) -> Inventory:
        return replace(
            inventory,
            targets=tuple(
                replace(target, **changes) if target.device == device else target  # type: ignore[arg-type]
                for target in inventory.targets
            ),
        )
