"""How plans are shown: values for people, with the sentence of every reason."""

import json
from collections.abc import Container, Iterable, Iterator, Mapping

from pydantic import BaseModel, Field

from agent.wire import v1
from fleet.api.bundles import DifferenceShown, difference
from fleet.rollouts.foresee import SiteCost, Step
from fleet.rollouts.plan import Exclusion, Plan
from fleet.rollouts.policy import Budget, Gate, OnFailure, Retry
from fleet.rollouts.progress import Progress
from fleet.sentences import explain
from models.card import Card, Metric


class ExclusionShown(BaseModel):
    """One target gets nothing, and why."""

    target: str
    name: str
    reason: str
    message: str = Field(description="What it is in particular; may be empty.")
    parameters: dict[str, str]
    sentence: str
    next: str


class ObstacleShown(BaseModel):
    """What will stop, skip or delay a wave; a wave of null: no one wave."""

    reason: str
    wave: int | None
    parameters: dict[str, str]
    sentence: str
    next: str


class WavePlanned(BaseModel):
    """One wave of a plan. A gate of null: the next wave starts when this one has settled."""

    number: int
    title: str = Field(description="Who is in it.")
    targets: list[str]
    gate: Gate | None
    exposed: int = Field(
        description="How many can serve it by the time that a gate can stop it here."
    )


class MeasuredShown(BaseModel):
    """One measurement in the bundle's card; before is null where the one before has no such."""

    name: str
    before: float | None
    after: float
    format: str = Field(description="The variant it was taken of: int8, float32, …")
    dataset: str
    samples: int
    runtime: str


class ServingShown(BaseModel):
    """How so many targets of a rollout serve what it brings. Each way is told once."""

    settings: v1.DeploymentSettings
    kept: bool = Field(description="They are those that its targets had before.")
    targets: int = Field(description="How many.")


class PlanShown(BaseModel):
    """What would be done, to whom not, and why."""

    digest: str
    bundle: v1.BundleRef
    deployment: str
    policy: str
    steps: list[Step]
    excluded: list[ExclusionShown]
    waves: list[WavePlanned]
    obstacles: list[ObstacleShown]
    serving: list[ServingShown] = Field(description="How its targets will serve; most first.")
    differences: list[DifferenceShown] = Field(
        description="What it means to the clients of each bundle that it takes the place of."
    )
    measured: list[MeasuredShown] = Field(
        description="Of the variants that its targets get, as their cards say."
    )
    blast_radius: int = Field(description="How many can serve it before any gate can stop it.")
    fetch_bytes: int = Field(description="What all devices together must fetch.")
    by_site: list[SiteCost] = Field(
        description="What goes over each site's line, most first; a site of null: it has none."
    )
    budgets: list[Budget] = Field(description="How many of a group may be under way or down.")
    retry: Retry | None = Field(description="Null: who failed is not asked again by itself.")
    on_failure: OnFailure = Field(description="What a gate that failed leads to.")
    planned_at: str


def plan_shown(plan: Plan, cards: Mapping[str, Card]) -> PlanShown:
    """Return a plan as it is shown; `cards` are of known bundles, by manifest digest."""
    obstacles = []
    for obstacle in plan.obstacles:
        wave = {} if obstacle.wave is None else {"wave": str(obstacle.wave)}
        said = explain(obstacle.reason, {**wave, **obstacle.parameters})
        obstacles.append(
            ObstacleShown(
                reason=obstacle.reason,
                wave=obstacle.wave,
                parameters=dict(obstacle.parameters),
                sentence=said.meaning,
                next=said.next_step,
            )
        )
    return PlanShown(
        digest=plan.digest,
        bundle=plan.request.bundle,
        deployment=plan.request.deployment,
        policy=plan.policy.name,
        steps=list(plan.steps),
        excluded=[_excluded(each) for each in plan.excluded],
        waves=[
            WavePlanned(
                number=wave.number,
                title=wave.title,
                targets=list(wave.targets),
                gate=wave.gate,
                exposed=exposed,
            )
            for wave, exposed in zip(plan.waves, plan.exposure, strict=True)
        ],
        obstacles=obstacles,
        serving=serving(plan.steps, given=plan.request.settings is not None),
        differences=_differences(plan, cards),
        measured=_measured(plan, cards),
        blast_radius=plan.blast_radius,
        fetch_bytes=plan.fetch_bytes,
        by_site=list(plan.by_site),
        budgets=list(plan.policy.budgets),
        retry=plan.policy.retry,
        on_failure=plan.policy.on_failure,
        planned_at=plan.planned_at,
    )


def left_out(plan: str) -> list[ExclusionShown]:
    """Return whom a plan left out, as it is kept."""
    return [_excluded(Exclusion(**each)) for each in json.loads(plan)["excluded"]]


def serving(targets: Iterable[Step | Progress], *, given: bool) -> list[ServingShown]:
    """Group targets by the settings that they get; `given`: the rollout says them.

    One that parted with its last revision goes back to nothing, and keeps its settings all
    the same; where nothing was before, the defaults are new.
    """
    found: list[ServingShown] = []
    for target in targets:
        settings = target.deployment.settings
        had = target.replaces is not None and target.replaces.settings == settings
        kept = had or (not given and settings != v1.DeploymentSettings())
        alike = (each for each in found if (each.settings, each.kept) == (settings, kept))
        if (known := next(alike, None)) is not None:
            known.targets += 1
        else:
            found.append(ServingShown(settings=settings, kept=kept, targets=1))
    return sorted(found, key=lambda each: -each.targets)


def _differences(plan: Plan, cards: Mapping[str, Card]) -> list[DifferenceShown]:
    """Compare the bundle with each that its targets have now, and whose card is known."""
    after = cards.get(plan.request.bundle.digest)
    if after is None:
        return []
    had = {step.replaces.bundle.digest for step in plan.steps if step.replaces is not None}
    had.discard(plan.request.bundle.digest)
    known = [cards[digest] for digest in had if digest in cards]
    return [difference(card, after) for card in sorted(known, key=lambda card: str(card.ref))]


def _measured(plan: Plan, cards: Mapping[str, Card]) -> list[MeasuredShown]:
    """Compare what was measured alike: the same metric, rows, format, runtime, architecture."""
    held = {step.replaces.bundle.digest for step in plan.steps if step.replaces is not None}
    card = cards.get(plan.request.bundle.digest)
    before = cards.get(held.pop()) if len(held) == 1 else None
    got = {step.variant for step in plan.steps}
    known = {} if before is None else dict(_metrics(before))
    return [
        MeasuredShown(
            name=metric.name,
            before=None if key not in known else known[key].value,
            after=metric.value,
            format=key[0],
            dataset=metric.dataset,
            samples=metric.samples,
            runtime=metric.runtime,
        )
        for key, metric in (() if card is None else _metrics(card, got))
    ]


def _metrics(
    card: Card, only: Container[str] | None = None
) -> Iterator[tuple[tuple[str, ...], Metric]]:
    """Return measurements by what they are of."""
    for variant in card.variants:
        for metric in variant.metrics if only is None or variant.digest in only else ():
            alike = (metric.name, metric.dataset, metric.runtime, metric.architecture)
            yield (variant.format, *alike), metric


def _excluded(left: Exclusion) -> ExclusionShown:
    said = explain(left.reason, left.parameters)
    return ExclusionShown(
        target=left.target,
        name=left.name,
        reason=left.reason,
        message=left.message,
        parameters=dict(left.parameters),
        sentence=said.meaning,
        next=said.next_step,
    )
