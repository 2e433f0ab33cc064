"""Who gets what, who doesn't and why: a rollout request against what was last seen. Pure.

`plan` is an ordinary function. It returns a frozen value with a reason for each
target it leaves out; the value has a digest, so that a person can say "start
this one" and be told when the world has moved. Planning again from where a plan
leads yields no step.

Rules:
- A step changes one deployment of one target; `fleet.rollouts.documents` puts it into
  whatever the target's newest document is then. No other deployment's revision moves.
- A revision changes only when the bundle, the settings or the unit do. It never
  returns to a number that the target has seen under that name, and leaves one
  free below it: by that one, an older rollout that is rolled back meanwhile returns
  the target, without overtaking this one.
- What a target goes back to is what it has proven (`replaced`).
- A target is never driven backwards: one that is ahead of the store is left out.
- Content that a target has in quarantine is not asked of it: it would be the canary that fails.
- What a target wants already is no step, unless it has settled on not having it.
- An offline target gets its step like any other, and so does one that its owner
  holds; it is set aside meanwhile (`fleet.rollouts.progress`), which is not a failure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.wire.codec import WireError, encode
from agent.wire.limits import DEPLOYMENTS_LIMIT, SIGNED_LIMIT_BYTES
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import Deployment, DeploymentSettings, Desired, Order, Quarantined
from fleet.canonical import digest
from fleet.clock import written
from fleet.inventory import Inventory, Target
from fleet.rollouts.documents import next_order, renewed
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.foresee import (
    Obstacle,
    SiteCost,
    Step,
    before_windows,
    blast_radius,
    by_site,
    exposure,
    obstacles,
)
from fleet.rollouts.policy import BUILT_IN, Policy, RolloutRequest
from fleet.rollouts.waves import Member, Wave, compose
from models.card import Card, Variant
from models.fit import Hardware, Misfits, fit

REVISION_GAP = 2
"""By how much a revision rises: one number is left for a return in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """One target gets nothing, and why: a code, a short text, parameters for its sentence."""

    target: str
    name: str
    reason: str
    message: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, and why. Everything but `planned_at` is in its digest.

    `blast_radius` is how many targets can serve the bundle before anything can stop it;
    `exposure` is, for each wave, how many can when it is that wave's gate that stops it.
    `fetch_bytes` is the sum over all steps, and `by_site` says where they go, before
    neighbours share. `obstacles` are the gates that will stop it, as far as that is known
    now.
    """

    fleet: str
    request: RolloutRequest
    policy: Policy
    steps: tuple[Step, ...]
    excluded: tuple[Exclusion, ...]
    waves: tuple[Wave, ...]
    blast_radius: int
    fetch_bytes: int
    planned_at: str
    obstacles: tuple[Obstacle, ...] = ()
    exposure: tuple[int, ...] = ()
    by_site: tuple[SiteCost, ...] = ()
    _digest: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """The digest of everything but the time: the same world and request give the same one.

        It takes seconds for a large fleet, and is remembered.
        """
        if not self._digest:
            self._digest.append(digest(replace(self, planned_at="")))
        return self._digest[0]


def plan(
    request: RolloutRequest,
    policy: Policy,
    inventory: Inventory,
    cards: Mapping[str, Card],
    now: datetime,
) -> Plan:
    """Decide for each target that the request names or matches.

    Args:
        request: what a person asked for.
        policy: the policy that `request.policy` names.
        inventory: what was last seen of the fleet.
        cards: the cards of known bundles, by manifest digest.
        now: shown to people, and nothing else.

    Raises:
        PlanError: the bundle is not known, or the request can't be written into a
            document.
    """
    policy = policy.soaking(request.soak_s)
    card = _card_of(request, cards)
    planned_at = written(now)
    labels = [budget.label for budget in policy.budgets]
    decisions = [
        _grouped(decision, target, labels)
        for target in sorted(inventory.targets, key=lambda target: target.device)
        if _asked_for(request, target)
        for decision in [_decide(request, card, inventory, target, planned_at)]
    ]
    known = {target.device for target in inventory.targets}
    unknown = [
        Exclusion(target=target, name=target, reason=PlanReason.TARGET_UNKNOWN)
        for target in sorted(request.targets)
        if target not in known
    ]
    steps = tuple(decision for decision in decisions if isinstance(decision, Step))
    excluded = [decision for decision in decisions if isinstance(decision, Exclusion)]
    waves = _waves(steps, inventory, policy)
    return Plan(
        fleet=inventory.fleet,
        request=request,
        policy=policy,
        steps=steps,
        excluded=(*excluded, *unknown),
        waves=waves,
        blast_radius=blast_radius(waves),
        fetch_bytes=sum(step.fetch_bytes for step in steps),
        planned_at=planned_at,
        obstacles=(
            *obstacles(steps, waves, policy),
            *before_windows(waves, _windowed(inventory)),
        ),
        exposure=exposure(waves),
        by_site=by_site(steps),
    )


def policy_of(request: RolloutRequest) -> Policy:
    """Return the policy that a request asks for.

    Raises:
        PlanError: it names one that is not built in.
    """
    return request.own_policy or find_policy(request.policy)


def find_policy(name: str) -> Policy:
    """Return the built-in policy of this name.

    Raises:
        PlanError: there is none.
    """
    try:
        return BUILT_IN[name]
    except KeyError:
        raise PlanError(
            PlanReason.POLICY_UNKNOWN, f"no policy {name[:80]!r}; there are {', '.join(BUILT_IN)}"
        ) from None


def replaced(target: Target, name: str) -> Deployment | None:
    """Return what the target goes back to, were something else to fail under this name.

    That is what it has proven: what it wants, or what serves meanwhile.
    """
    wanted, told = target.wanted(name), target.told(name)
    if wanted is None or told is None or told.revision + 1 == wanted.revision:
        return wanted  # one above what was told: it is on its way back already
    mine = told.revision == wanted.revision
    if told.active is None:
        return None if mine and told.phase in (Phase.REFUSED, Phase.ROLLED_BACK) else wanted
    active = told.active
    if (mine and told.phase is Phase.COMMITTED) or active.bundle.digest == wanted.bundle.digest:
        return wanted
    return replace(wanted, bundle=active.bundle, revision=active.revision)


def _card_of(request: RolloutRequest, cards: Mapping[str, Card]) -> Card:
    bundle = request.bundle
    card = cards.get(bundle.digest)
    if card is None:
        raise PlanError(
            PlanReason.BUNDLE_UNKNOWN, f"bundle {bundle.name}:{bundle.version} is not published"
        )
    if str(card.ref) != f"{bundle.name}:{bundle.version}":
        raise PlanError(
            PlanReason.BUNDLE_UNKNOWN,
            f"bundle {bundle.name}:{bundle.version} was asked for, and its digest is {card.ref}",
        )
    return card


def _asked_for(request: RolloutRequest, target: Target) -> bool:
    if target.device in request.targets:
        return True
    return request.selector is not None and request.selector.matches(target.attributes)


def _decide(
    request: RolloutRequest, card: Card, inventory: Inventory, target: Target, planned_at: str
) -> Step | Exclusion:
    """Go from the most final reason to the least; whoever passes them all gets a step."""
    hindered = _hindered(request, target)
    if hindered is not None:
        return hindered
    hardware = target.hardware
    if hardware is None:
        return _left_out(target, PlanReason.FACTS_UNKNOWN)
    fitting = fit(card, hardware)
    if isinstance(fitting, Misfits):
        texts = "; ".join(text for _, text in fitting.reasons)
        return _left_out(target, fitting.reasons[0][0], texts)
    deployment = _deployment(request, target, inventory.epoch)
    held = None if target.reported is None else target.reported.hold
    document = renewed(
        target.desired,
        deployment,
        fleet=inventory.fleet,
        target=target.device,
        epoch=inventory.epoch,
        issued_at=planned_at,
    )
    if _too_large(document):
        return _left_out(target, Reason.TOO_LARGE, limit=str(SIGNED_LIMIT_BYTES))
    return Step(
        target=target.device,
        name=target.name,
        deployment=deployment,
        order=document.order,
        variant=fitting.variant.digest,
        class_name=_class_name(hardware, fitting.variant),
        fetch_bytes=_fetch_bytes(request, target, card, fitting.variant),
        online=target.online,
        hold=None if held is None else held.reason,
        site=target.site,
        replaces=replaced(target, request.deployment),
    )


def _grouped(decision: Step | Exclusion, target: Target, labels: Sequence[str]) -> Step | Exclusion:
    if isinstance(decision, Exclusion) or not labels:
        return decision
    values = target.attributes
    return replace(decision, groups={label: values.get(label, "") for label in labels})


def _hindered(request: RolloutRequest, target: Target) -> Exclusion | None:
    """Say what keeps a target out whatever the bundle needs."""
    # The store was restored: its document would be refused as stale, or drive the device back.
    if (ahead := target.ahead) is not None:
        observed = f"{ahead.epoch}.{ahead.generation}"
        return _left_out(target, PlanReason.TARGET_AHEAD, observed=observed)
    # Before the quarantine and the fit: what a target already wants needs no step.
    wanted = target.wanted(request.deployment)
    if wanted is not None and _same(wanted, request) and not _parted_with(target, wanted):
        return _left_out(target, PlanReason.NO_CHANGE, revision=str(wanted.revision))
    if (verdict := _quarantined(target, request)) is not None:
        return _left_out(target, Reason.QUARANTINED, cause=verdict.reason, since=verdict.since)
    held = 0 if target.desired is None else len(target.desired.deployments)
    if wanted is None and held >= DEPLOYMENTS_LIMIT:
        return _left_out(target, PlanReason.DEPLOYMENTS_LIMIT, limit=str(DEPLOYMENTS_LIMIT))
    return None


def _parted_with(target: Target, wanted: Deployment) -> bool:
    """Tell whether a target has refused what it wants, or went back from it: it may try again."""
    told = target.told(wanted.name)
    if told is None or (told.revision, told.digest) != (wanted.revision, wanted.bundle.digest):
        return False
    return told.phase in (Phase.REFUSED, Phase.ROLLED_BACK)


def _quarantined(target: Target, request: RolloutRequest) -> Quarantined | None:
    """Return why a target would refuse this content at once; what serves there is not refused."""
    told, digest = target.told(request.deployment), request.bundle.digest
    active = None if told is None else told.active
    if target.reported is None or (active is not None and active.bundle.digest == digest):
        return None
    return next((each for each in target.reported.quarantined if each.digest == digest), None)


def _left_out(target: Target, reason: str, message: str = "", **parameters: str) -> Exclusion:
    return Exclusion(
        target=target.device,
        name=target.name,
        reason=reason,
        message=message,
        parameters=parameters,
    )


def _class_name(hardware: Hardware, variant: Variant) -> str:
    """Name what such targets have in common: a model that is bad on one is bad on all of them."""
    runtime = f"{hardware.runtime} {hardware.runtime_version}"
    accelerator = variant.requirements.accelerator
    return f"{runtime}, {hardware.architecture}, {accelerator}, {variant.format}"


def _same(wanted: Deployment, request: RolloutRequest) -> bool:
    same_settings = request.settings is None or request.settings == wanted.settings
    return same_settings and wanted.bundle.digest == request.bundle.digest


def _deployment(request: RolloutRequest, target: Target, epoch: int) -> Deployment:
    """Return the deployment with its next revision: a number this target never saw under the name.

    The generation it comes with is such a number even where the deployment was
    removed in between; the other two matter after a recovery, when generations
    may begin again in a new epoch.
    """
    order = Order(epoch=epoch, generation=1)
    if target.desired is not None:
        order = next_order(target.desired.order)
    wanted, told = target.wanted(request.deployment), target.told(request.deployment)
    used = (0 if wanted is None else wanted.revision, 0 if told is None else told.revision)
    kept = DeploymentSettings() if wanted is None else wanted.settings
    return Deployment(
        name=request.deployment,
        bundle=request.bundle,
        revision=max(order.generation, REVISION_GAP + max(used)) if max(used) else order.generation,
        settings=kept if request.settings is None else request.settings,
        unit=None if wanted is None else wanted.unit,
    )


def _windowed(inventory: Inventory) -> frozenset[str]:
    """Return who downloads, or changes what it serves, in windows of its own alone."""
    return frozenset(
        target.device
        for target in inventory.targets
        if target.desired is not None
        and (
            target.desired.settings.download_windows or target.desired.settings.maintenance_windows
        )
    )


def _waves(steps: Sequence[Step], inventory: Inventory, policy: Policy) -> tuple[Wave, ...]:
    targets = inventory.by_device()
    members = [
        Member(
            target=step.target,
            class_name=step.class_name,
            reachable=step.reachable,
            attributes=targets[step.target].attributes,
        )
        for step in steps
    ]
    return compose(members, policy)


def _too_large(document: Desired) -> bool:
    """Say whether the document would be larger than what travels signed.

    Raises:
        PlanError: it can't be written at all, for a reason that is the request's own.
    """
    try:
        encode(document)
    except WireError as error:
        if error.reason is Reason.TOO_LARGE:
            return True
        raise PlanError(error.reason, f"the settings can't be sent: {error}") from error
    return False


def _fetch_bytes(request: RolloutRequest, target: Target, card: Card, variant: Variant) -> int:
    """Count the files of the bundle that the target doesn't already want under any name."""
    deployments = () if target.desired is None else target.desired.deployments
    if any(held.bundle.digest == request.bundle.digest for held in deployments):
        return 0
    return variant.size_bytes + card.golden.size_bytes
