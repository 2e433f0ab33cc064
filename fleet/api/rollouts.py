"""`/api/v1/rollouts`: plan, start, look."""

import json
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, JsonValue
from starlette.concurrency import run_in_threadpool

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.execute import Started, progress_of
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.plan import Exclusion, Plan, Step
from fleet.rollouts.policy import CAREFUL, RolloutRequest
from fleet.rollouts.progress import Progress, Rollout, RolloutWave
from fleet.selector import SelectorError, asked
from fleet.store import bundles, devices, rollouts


class RolloutWish(BaseModel):
    """Serve a bundle under a name, on devices that a selector matches or that are named."""

    bundle: str = Field(description="`name:version`, a digest, or a name with one version.")
    deployment: str = Field(description="The name clients call.")
    selector: str | None = Field(
        None, description="Kubernetes syntax, or `all` for every device; never empty."
    )
    targets: list[str] = Field([], description="Devices by id or name.", max_length=5000)
    settings: v1.DeploymentSettings | None = Field(
        None, description="Null: each device keeps what it has."
    )
    policy: str = Field(CAREFUL.name, description="How it spreads.")


class StartWish(RolloutWish):
    """A rollout to start."""

    if_plan: str | None = Field(None, description="Start only if the plan still has this digest.")
    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class PlanShown(BaseModel):
    """What would be done, to whom not, and why."""

    digest: str
    bundle: v1.BundleRef
    deployment: str
    policy: str
    steps: list[Step]
    excluded: list[Exclusion]
    waves: list[list[str]]
    fetch_bytes: int = Field(description="What all devices together must fetch.")
    planned_at: str


class RolloutSummary(BaseModel):
    """One rollout in a list."""

    id: str
    state: str
    deployment: str
    plan_digest: str
    counts: dict[str, int] = Field(description="Targets by state.")
    set_aside: list[str] = Field(description="Targets that are away and have not settled.")
    created_at: str


class RolloutList(BaseModel):
    """All rollouts."""

    rollouts: list[RolloutSummary]


class RolloutDetail(RolloutSummary):
    """One rollout, target by target, and the plan it was started from."""

    waves: list[RolloutWave]
    targets: list[Progress]
    plan: JsonValue


class RolloutStarted(BaseModel):
    """A rollout that was just started."""

    id: str
    plan: PlanShown


def routes(parts: Parts, operator: object) -> APIRouter:
    """Return the routes about rollouts."""
    router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])

    @router.post("/plan", operation_id="planRollout", responses=answers(401, 404, 409, body=True))
    def plan(wish: RolloutWish) -> PlanShown:
        """Say what would be done now. Nothing is changed."""
        return _shown(parts.executor.plan(_request(parts, wish)))

    @router.post(
        "",
        operation_id="startRollout",
        status_code=201,
        responses=answers(401, 404, 409, body=True),
    )
    async def start(wish: StartWish, actor: Annotated[str, Depends(operator)]) -> RolloutStarted:
        """Start a rollout; the devices are asked at once, and come when they come."""
        started = await run_in_threadpool(_start, parts, wish, actor)
        parts.executor.wake()
        return RolloutStarted(id=started.id, plan=_shown(started.plan))

    @router.get("", operation_id="listRollouts", responses=answers(401))
    def every() -> RolloutList:
        """List all rollouts, the newest first."""
        with parts.store.read() as connection:
            found = rollouts.every(connection)
        return RolloutList(rollouts=[_summary(kept, progress_of(kept)) for kept in found])

    @router.get("/{rollout}", operation_id="getRollout", responses=answers(401, 404))
    def one(rollout: str) -> RolloutDetail:
        """Show one rollout."""
        with parts.store.read() as connection:
            kept = rollouts.named(connection, rollout)
        now = progress_of(kept)
        return RolloutDetail(
            **dict(_summary(kept, now)),
            waves=list(now.waves),
            targets=list(now.targets),
            plan=json.loads(kept.plan),
        )

    return router


def _start(parts: Parts, wish: StartWish, actor: str) -> Started:
    return parts.executor.start(
        _request(parts, wish), if_plan=wish.if_plan, actor=actor, reason=wish.reason
    )


def _request(parts: Parts, wish: RolloutWish) -> RolloutRequest:
    with parts.store.read() as connection:
        bundle = bundles.named(connection, wish.bundle)
        targets = tuple(devices.named(connection, name).id for name in wish.targets)
    try:
        return RolloutRequest(
            bundle=v1.BundleRef(digest=bundle.digest, name=bundle.name, version=bundle.version),
            deployment=wish.deployment,
            selector=None if wish.selector is None else asked(wish.selector),
            targets=targets,
            settings=wish.settings,
            policy=wish.policy,
        )
    except SelectorError as error:
        raise PlanError(PlanReason.SELECTOR_MALFORMED, str(error)) from error
    except ValueError as error:
        raise PlanError(Reason.MALFORMED, str(error)) from error


def _shown(plan: Plan) -> PlanShown:
    return PlanShown(
        digest=plan.digest,
        bundle=plan.request.bundle,
        deployment=plan.request.deployment,
        policy=plan.policy.name,
        steps=list(plan.steps),
        excluded=list(plan.excluded),
        waves=[list(wave.targets) for wave in plan.waves],
        fetch_bytes=plan.fetch_bytes,
        planned_at=plan.planned_at,
    )


def _summary(kept: rollouts.KeptRollout, now: Rollout) -> RolloutSummary:
    return RolloutSummary(
        id=kept.id,
        state=kept.state,
        deployment=now.deployment,
        plan_digest=kept.plan_digest,
        counts={str(state): count for state, count in now.count().items() if count},
        set_aside=list(now.set_aside()),
        created_at=kept.created_at,
    )
