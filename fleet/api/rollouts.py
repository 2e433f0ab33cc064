"""`/api/v1/rollouts`: plan, start, look, ask why; pause, resume, approve, …, roll back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.api.parts import Parts
from fleet.api.policies import PolicyWish
from fleet.api.refusals import answers
from fleet.api.rollout_shown import (
    ExclusionShown,
    PlanShown,
    RolloutDetail,
    RolloutOfTarget,
    RolloutSummary,
    WhyShown,
    detail,
    left_out,
    newer_named,
    plan_shown,
    summary,
    told,
)
from fleet.api.rollout_shown import of_target as shown_of_target
from fleet.api.wish import Wish
from fleet.clock import written
from fleet.execute import Started
from fleet.health.heard import so_far
from fleet.kept import Overtaking, overtaking, progress_of
from fleet.observe import cards, wanted
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.look import outlived
from fleet.rollouts.plan import Plan
from fleet.rollouts.policy import CAREFUL, RolloutRequest
from fleet.rollouts.progress import Cause, Progress, Rollout
from fleet.rollouts.states import RolloutHappening, TargetState
from fleet.rollouts.trace import Trace, of_header
from fleet.rollouts.why import WhyReason, why
from fleet.selector import SelectorError, asked
from fleet.store import audit, bundles, devices, health, rollouts

_WORDS_READ = 200
"""Of the audit's entries about one rollout; the first of them is its start."""

_MAY_BE_OVERTAKEN = frozenset({TargetState.COMMITTED, TargetState.SUPERSEDED})
_OF_TARGET = 10
_OF_TARGET_READ = 64 << 20
"""Rollouts that are told of one device, and how long their progress may be together: of a rollout
to 100,000 devices it is some 58 MB, and takes seconds to read."""


class RolloutWish(Wish):
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
    policy: str = Field(CAREFUL.name, description="How it spreads: `careful` or `all-at-once`.")
    own_policy: PolicyWish | None = Field(
        None, description="How it spreads, as a document, instead of one that `policy` names."
    )
    soak_s: float | None = Field(
        None, description="How long each gate watches before it decides; null: as the policy says."
    )


class StartWish(RolloutWish):
    """A rollout to start."""

    if_plan: str | None = Field(None, description="Start only if the plan still has this digest.")
    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class Word(Wish):
    """A person's word about a rollout."""

    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class GivenWord(Wish):
    """A person's word that needs a reason."""

    reason: str = Field(
        min_length=1, max_length=1000, pattern=r"\S", description="Why, for the audit."
    )


class RolloutList(BaseModel):
    """All rollouts."""

    rollouts: list[RolloutSummary]
    as_of: str = Field(description="When the centre said this, by its own clock.")


class RolloutStarted(BaseModel):
    """A rollout that was just started."""

    id: str
    trace_id: str = Field(description="In every line of the logs about it, here and on devices.")
    plan: PlanShown


def routes(parts: Parts, operator: object) -> APIRouter:
    """Return the routes about rollouts."""
    router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])

    @router.post("/plan", operation_id="planRollout", responses=answers(401, 404, 409, body=True))
    def plan(wish: RolloutWish) -> PlanShown:
        """Say what would be done now. Nothing is changed."""
        return planned(parts, wish)

    @router.post(
        "",
        operation_id="startRollout",
        status_code=201,
        responses=answers(401, 404, 409, body=True),
    )
    async def start(
        wish: StartWish,
        actor: Annotated[str, Depends(operator)],
        traceparent: Annotated[
            str | None,
            Header(
                description="W3C Trace Context: the trace that the rollout is to belong to.",
                max_length=512,
            ),
        ] = None,
    ) -> RolloutStarted:
        """Start a rollout; the devices of its first wave are asked at once."""
        trace = None if traceparent is None else of_header(traceparent)
        started = await run_in_threadpool(begun, parts, wish, actor, trace)
        parts.executor.wake()
        plan = await run_in_threadpool(_planned, parts, started.plan)
        return RolloutStarted(id=started.id, trace_id=started.trace.id, plan=plan)

    @router.get("", operation_id="listRollouts", responses=answers(401))
    def every() -> RolloutList:
        """List all rollouts, the newest first."""
        return listed(parts)

    @router.get("/{rollout}", operation_id="getRollout", responses=answers(401, 404))
    def one(rollout: str) -> RolloutDetail:
        """Show one rollout."""
        return shown(parts, rollout)

    @router.get("/{rollout}/why", operation_id="whyRollout", responses=answers(401, 404, 409))
    def because(rollout: str, target: str | None = None) -> WhyShown:
        """Say why a rollout is no further, or why one device is where it is in it."""
        return _why(parts, rollout, target)

    _say_routes(router, parts, operator)
    return router


def _say_routes(router: APIRouter, parts: Parts, operator: object) -> None:
    """Add the routes by which a person says something about a rollout under way."""
    refused = answers(401, 404, 409, body=True)

    async def say(rollout: str, word: RolloutHappening, actor: str, reason: str) -> RolloutDetail:
        await run_in_threadpool(parts.executor.say, rollout, word, actor=actor, reason=reason)
        parts.executor.wake()
        return await run_in_threadpool(shown, parts, rollout)

    @router.post("/{rollout}/pause", operation_id="pauseRollout", responses=refused)
    async def pause(
        rollout: str, word: Word, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Ask nobody new until it is resumed; who was asked goes on."""
        return await say(rollout, RolloutHappening.PAUSED, actor, word.reason)

    @router.post("/{rollout}/resume", operation_id="resumeRollout", responses=refused)
    async def resume(
        rollout: str, word: Word, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Go on; a wave that its gate could not decide on passes by this."""
        return await say(rollout, RolloutHappening.RESUMED, actor, word.reason)

    @router.post("/{rollout}/approve", operation_id="approveRollout", responses=refused)
    async def approve(
        rollout: str, word: Word, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Let the wave pass that waits for a person: for approval, or because a gate can't tell."""
        return await say(rollout, RolloutHappening.APPROVED, actor, word.reason)

    @router.post("/{rollout}/promote", operation_id="promoteRollout", responses=refused)
    async def promote(
        rollout: str, word: GivenWord, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Let the present wave pass now, before its soak or its gate has; a failed one never."""
        return await say(rollout, RolloutHappening.PROMOTED, actor, word.reason)

    @router.post("/{rollout}/retry", operation_id="retryRollout", responses=refused)
    async def retry(
        rollout: str, word: Word, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Ask those again that failed, once each and at once, whatever the reason was."""
        return await say(rollout, RolloutHappening.RETRIED, actor, word.reason)

    @router.post("/{rollout}/abort", operation_id="abortRollout", responses=refused)
    async def abort(
        rollout: str, word: GivenWord, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Stop here: whoever has it keeps it, nobody else gets it."""
        return await say(rollout, RolloutHappening.ABORTED, actor, word.reason)

    @router.post("/{rollout}/rollback", operation_id="rollbackRollout", responses=refused)
    async def rollback(
        rollout: str, word: GivenWord, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Bring everybody back to what they had; also after it has ended."""
        return await say(rollout, RolloutHappening.RETURN_ASKED, actor, word.reason)


def planned(parts: Parts, wish: RolloutWish) -> PlanShown:
    """Return what would be done now.

    Raises:
        PlanError: it can't be planned.
        NotFoundError: there is no such bundle, or no such device.
        AmbiguousError: several have the name.
    """
    return _planned(parts, parts.executor.plan(_request(parts, wish)))


def _planned(parts: Parts, plan: Plan) -> PlanShown:
    with parts.store.read() as connection:
        return plan_shown(plan, cards(connection))


def listed(parts: Parts) -> RolloutList:
    """Return all rollouts, the newest first."""
    with parts.store.read() as connection:
        found = rollouts.every(connection)
    return RolloutList(
        rollouts=[summary(kept, progress_of(kept)) for kept in found],
        as_of=written(parts.clock()),
    )


def shown(parts: Parts, rollout: str) -> RolloutDetail:
    """Return one rollout.

    Raises:
        NotFoundError: there is none with this id.
    """
    with parts.store.read() as connection:
        kept = rollouts.named(connection, rollout)
        words = audit.latest(connection, limit=_WORDS_READ, about=rollout)
        now, later = _as_of_now(connection, kept)
        compared = _compared(connection, now.targets)
    return detail(kept, now, words, later, parts.clock(), compared=compared)


def _compared(connection: Connection, targets: Sequence[Progress]) -> dict[str, Mapping[str, str]]:
    """Return how far each target is that is compared with what serves there, as last heard."""
    under_way = {
        each.target: each.deployment.name for each in targets if each.phase is Phase.SHADOWING
    }
    return {
        each.document.device: so_far(each.document, under_way[each.document.device])
        for each in health.among(connection, list(under_way))
        if not each.late
    }


def _as_of_now(
    connection: Connection, kept: rollouts.KeptRollout, *, of: str | None = None
) -> tuple[Rollout, Overtaking]:
    """Return a rollout as it is to be read now, and by which later ones it was overtaken.

    Where only the rollout and one target (`of`) are asked about, no other target is looked up.
    """
    now = progress_of(kept)
    targets = [each for each in now.targets if of in (None, each.target)]
    if of is not None and not any(each.state in _MAY_BE_OVERTAKEN for each in targets):
        return now, Overtaking(brought={}, asked={})
    held = wanted(connection, [each.target for each in targets], now.deployment)
    later = overtaking(connection, replace(now, targets=tuple(targets)), held)
    if of is None:
        return outlived(now, held, later.brought), later
    mine = outlived(replace(now, targets=tuple(targets)), held, later.brought).by_target()
    return replace(now, targets=tuple(mine.get(each.target, each) for each in now.targets)), later


def of_target(
    connection: Connection, device: devices.Device, at: datetime
) -> tuple[list[RolloutOfTarget], bool]:
    """Return the newest open rollouts that have a device, and whether there are more."""
    found: list[RolloutOfTarget] = []
    read = 0
    for name, length in rollouts.open_with(connection, device.id, limit=_OF_TARGET + 1):
        read += length
        if found and (len(found) == _OF_TARGET or read > _OF_TARGET_READ):
            return found, True
        kept = rollouts.named(connection, name)
        now, later = _as_of_now(connection, kept, of=device.id)
        said = _said(connection, kept, now, later, device, at=at)
        found.append(shown_of_target(said, now, now.by_target().get(device.id), later, at))
    return found, False


def _why(parts: Parts, rollout: str, target: str | None) -> WhyShown:
    with parts.store.read() as connection:
        kept = rollouts.named(connection, rollout)
        device = None if target is None else devices.named(connection, target)
        now, later = _as_of_now(connection, kept)
        return _said(connection, kept, now, later, device, at=parts.clock())


def _said(
    connection: Connection,
    kept: rollouts.KeptRollout,
    now: Rollout,
    later: Overtaking,
    device: devices.Device | None,
    *,
    at: datetime,
) -> WhyShown:
    """Look among the targets, then among those the plan left out."""
    progress: Progress | None = None
    because = why(now, None, at) if device is None else (Cause(code=WhyReason.NOT_MEANT),)
    if device is not None and (progress := now.by_target().get(device.id)) is not None:
        because = why(now, progress, at)
        beside = _compared(connection, [progress]).get(device.id, {})
        because = tuple(
            replace(each, parameters=beside) if each.code == WhyReason.COMPARED else each
            for each in because
        )
    elif device is not None:
        left = [each for each in left_out(kept) if each.target == device.id]
        because = tuple(map(_exclusion, left)) or because
    return WhyShown(
        rollout=kept.id,
        state=kept.state,
        target=None if device is None else device.id,
        name=None if device is None else device.name,
        trace_id=now.trace.id if now.trace else None,
        target_state=None if progress is None else progress.state,
        because=[told(newer_named(each, now, progress, later)) for each in because],
        as_of=written(at),
    )


def _exclusion(left: ExclusionShown) -> Cause:
    message = {"it is": left.message} if left.message else {}
    return Cause(code=left.reason, parameters=left.parameters | message)


def begun(parts: Parts, wish: StartWish, actor: str, trace: Trace | None = None) -> Started:
    """Start what is wished for, on the condition that its plan is the one that was seen.

    Raises:
        PlanError: it can't be planned, changes nothing, or the plan has moved.
        NotFoundError: there is no such bundle, or no such device.
        AmbiguousError: several have the name.
    """
    return parts.executor.start(
        _request(parts, wish), if_plan=wish.if_plan, actor=actor, reason=wish.reason, trace=trace
    )


def _request(parts: Parts, wish: RolloutWish) -> RolloutRequest:
    with parts.store.read() as connection:
        bundle = bundles.named(connection, wish.bundle)
        targets = tuple(devices.named(connection, name).id for name in wish.targets)
    own = wish.own_policy
    if own is not None and wish.policy not in (CAREFUL.name, own.name):
        raise PlanError(Reason.MALFORMED, "policy and own_policy name two policies: say one")
    try:
        return RolloutRequest(
            bundle=v1.BundleRef(digest=bundle.digest, name=bundle.name, version=bundle.version),
            deployment=wish.deployment,
            selector=None if wish.selector is None else asked(wish.selector),
            targets=targets,
            settings=wish.settings,
            policy=wish.policy if own is None else own.name,
            own_policy=None if own is None else own.policy(),
            soak_s=wish.soak_s,
        )
    except SelectorError as error:
        raise PlanError(PlanReason.SELECTOR_MALFORMED, str(error)) from error
    except ValueError as error:
        raise PlanError(Reason.MALFORMED, str(error)) from error
