"""`/api/v1/rollouts`: plan, start, look, ask why; pause, resume, approve, …, roll back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.api import named_policies
from fleet.api.cursor import cursor as placed_at
from fleet.api.cursor import place
from fleet.api.parts import Parts
from fleet.api.plan_shown import ExclusionShown, PlanShown, left_out, plan_shown
from fleet.api.policies import PolicyWish
from fleet.api.refusals import answers
from fleet.api.rollout_shown import (
    RolloutDetail,
    RolloutOfTarget,
    RolloutSummary,
    TargetList,
    WhyShown,
    detail,
    listed_targets,
    newer_named,
    summary,
    told,
)
from fleet.api.rollout_shown import of_target as shown_of_target
from fleet.api.rollout_targets import PAGE, PAGE_LIMIT, Place, Placed, after, placed
from fleet.api.wish import Wish
from fleet.clock import written
from fleet.execute import Started
from fleet.health.heard import so_far
from fleet.kept import Overtaking, outline_of, overtaking
from fleet.observe import cards, wanted
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.look import outlived
from fleet.rollouts.plan import Plan
from fleet.rollouts.policy import CAREFUL, RolloutRequest
from fleet.rollouts.progress import Cause, Progress, Rollout
from fleet.rollouts.states import ENDED, RolloutHappening, TargetState
from fleet.rollouts.trace import Trace, of_header
from fleet.rollouts.why import WhyReason, why
from fleet.selector import SelectorError, asked
from fleet.store import audit, bundles, devices, health, rollouts

_WORDS_READ = 200
"""Of the audit's entries about one rollout; the first of them is its start."""

LISTED_LIMIT = 500
"""Rollouts of a page at the most, some 2 kB each."""

_OF_TARGET = 10
_OF_TARGET_READ = 200_000
"""Rollouts that are told of one device, and how many targets they may have together: those of one
that nobody remembers take a second to read for each 100,000."""


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
    policy: str = Field(
        CAREFUL.name,
        description="How it spreads: `careful`, `all-at-once`, or one that the centre keeps.",
    )
    own_policy: PolicyWish | None = Field(
        None, description="How it spreads, as a document, instead of one that `policy` names."
    )
    soak_s: float | None = Field(
        None,
        allow_inf_nan=False,
        description="How long each gate watches before it decides; null: as the policy says.",
    )


class StartWish(RolloutWish):
    """A rollout to start."""

    if_plan: str | None = Field(None, description="Start only if the plan still has this digest.")
    once: bool = Field(
        default=False,
        description="Start it only if `/rollouts/diff` says `start` now: whoever comes second "
        "starts nothing.",
    )
    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class Word(Wish):
    """A person's word about a rollout."""

    reason: str = Field("", max_length=1000, description="Why, for the audit.")


_WAVE = "The wave that was seen: another one is not let pass. Null: whichever is present."


class WaveWord(Word):
    """A person's word about the present wave."""

    wave: int | None = Field(None, ge=1, description=_WAVE)


class GivenWord(Wish):
    """A person's word that needs a reason."""

    reason: str = Field(
        min_length=1, max_length=1000, pattern=r"\S", description="Why, for the audit."
    )


class GivenWaveWord(GivenWord):
    """A person's word about the present wave, which needs a reason."""

    wave: int | None = Field(None, ge=1, description=_WAVE)


class RolloutList(BaseModel):
    """Rollouts, the newest first, a page of them."""

    rollouts: list[RolloutSummary]
    as_of: str = Field(description="When the centre said this, by its own clock.")
    after: str | None = Field(description="Where the next page begins; null: this is the last.")


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
    def every(
        after: Annotated[
            str, Query(description="Where the page begins: `after` of another.", max_length=1000)
        ] = "",
        limit: Annotated[int, Query(ge=1, le=LISTED_LIMIT)] = LISTED_LIMIT,
    ) -> RolloutList:
        """List rollouts, the newest first, a page at a time."""
        return listed(parts, start=after, limit=limit)

    @router.get("/{rollout}", operation_id="getRollout", responses=answers(401, 404))
    def one(rollout: str) -> RolloutDetail:
        """Show one rollout."""
        return shown(parts, rollout)

    @router.get(
        "/{rollout}/targets", operation_id="listRolloutTargets", responses=answers(401, 404)
    )
    def targets(
        rollout: str,
        *,
        wave: Annotated[int | None, Query(description="Only of this wave.", ge=1)] = None,
        outcome: Annotated[
            str, Query(description="Only in this state, or set aside by this.", max_length=32)
        ] = "",
        cursor: Annotated[
            str | None,
            Query(description="Where the page begins: `next` of another.", max_length=1000),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = PAGE,
    ) -> TargetList:
        """List the targets of a rollout, those that need a person first."""
        return _targets(parts, rollout, wave=wave, outcome=outcome, cursor=cursor, limit=limit)

    @router.get("/{rollout}/why", operation_id="whyRollout", responses=answers(401, 404, 409))
    def because(rollout: str, target: str | None = None) -> WhyShown:
        """Say why a rollout is no further, or why one device is where it is in it."""
        return _why(parts, rollout, target)

    _say_routes(router, parts, operator)
    return router


def _say_routes(router: APIRouter, parts: Parts, operator: object) -> None:
    """Add the routes by which a person says something about a rollout under way."""
    refused = answers(401, 404, 409, body=True)

    async def say(
        rollout: str, word: RolloutHappening, actor: str, reason: str, *, wave: int | None = None
    ) -> RolloutDetail:
        await run_in_threadpool(
            parts.executor.say, rollout, word, actor=actor, reason=reason, wave=wave
        )
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
        """Go on; a wave that its gate could not decide on passes, unless it wants approval."""
        return await say(rollout, RolloutHappening.RESUMED, actor, word.reason)

    @router.post("/{rollout}/approve", operation_id="approveRollout", responses=refused)
    async def approve(
        rollout: str, word: WaveWord, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Let the wave pass that waits for a person: for approval, or because a gate can't tell."""
        return await say(rollout, RolloutHappening.APPROVED, actor, word.reason, wave=word.wave)

    @router.post("/{rollout}/promote", operation_id="promoteRollout", responses=refused)
    async def promote(
        rollout: str, word: GivenWaveWord, actor: Annotated[str, Depends(operator)]
    ) -> RolloutDetail:
        """Let the present wave pass now, before its soak or its gate has; a failed one never."""
        return await say(rollout, RolloutHappening.PROMOTED, actor, word.reason, wave=word.wave)

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
    return _planned(parts, parts.executor.plan(request_of(parts, wish)))


def _planned(parts: Parts, plan: Plan) -> PlanShown:
    with parts.store.read() as connection:
        return plan_shown(plan, cards(connection))


def listed(parts: Parts, *, start: str = "", limit: int = LISTED_LIMIT) -> RolloutList:
    """Return rollouts, the newest first, from where a page begins.

    Raises:
        PlanError: it begins nowhere.
    """
    last = place(start, (str,), of="after")[0] if start else None
    with parts.store.read() as connection:
        found = rollouts.every(connection, after=last, limit=limit + 1)
    here = found[:limit]
    return RolloutList(
        rollouts=[summary(kept, outline_of(kept)) for kept in here],
        as_of=written(parts.clock()),
        after=placed_at((here[-1].id,)) if len(found) > limit else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A rollout as it is to be read at a moment, and by which later ones it was overtaken."""

    kept: rollouts.KeptRollout
    now: Rollout
    later: Overtaking
    at: datetime


def view(parts: Parts, connection: Connection, rollout: str, *, of: str | None = None) -> View:
    """Return a rollout as it is to be read now.

    Where only the rollout and one target (`of`) are asked about, no other target is looked up.

    Raises:
        NotFoundError: there is none with this id.
    """
    kept = rollouts.named(connection, rollout)
    now = parts.executor.memory.whole(connection, kept)
    # What it wants by now matters of who has it after the end, or may have gone on to another.
    led_on = _LED_ON if now.state in ENDED else {TargetState.SUPERSEDED}
    mine = [each for each in now.targets if of in (None, each.target)]
    asked_of = [each.target for each in mine if each.state in led_on]
    if not asked_of:
        later = Overtaking(brought={}, asked={})
        return View(kept=kept, now=now, later=later, at=parts.clock())
    held = wanted(connection, asked_of, now.deployment)
    later = overtaking(connection, now, held, of=of)
    read = outlived(replace(now, targets=tuple(mine)), held, later.brought).by_target()
    now = replace(now, targets=tuple(read.get(each.target, each) for each in now.targets))
    return View(kept=kept, now=now, later=later, at=parts.clock())


_LED_ON = frozenset({TargetState.COMMITTED, TargetState.SUPERSEDED})


def shown(parts: Parts, rollout: str) -> RolloutDetail:
    """Return one rollout.

    Raises:
        NotFoundError: there is none with this id.
    """
    with parts.store.read() as connection:
        seen = view(parts, connection, rollout)
        words = audit.latest(connection, limit=_WORDS_READ, about=rollout)
        first = target_page(connection, seen, placed(seen.now))
    if first.next is None:  # all of them are here: in the order of the plan, as they stay
        shown_by = {each.target: each for each in first.targets}
        targets = [shown_by[each.target] for each in seen.now.targets if each.target in shown_by]
        first = first.model_copy(update={"targets": targets})
    return detail(seen.kept, seen.now, words, seen.later, seen.at, first=first)


def target_page(
    connection: Connection,
    seen: View,
    found: Sequence[Placed],
    *,
    start: int = 0,
    limit: int = PAGE,
) -> TargetList:
    """Return a page of these targets of a rollout."""
    here = found[start : start + limit + 1]
    compared = _compared(connection, [each.progress for each in here])
    return listed_targets(
        here, seen.later, compared, matching=len(found), limit=limit, as_of=seen.at
    )


def _targets(
    parts: Parts, rollout: str, *, wave: int | None, outcome: str, cursor: str | None, limit: int
) -> TargetList:
    begin: Place | None = None
    if cursor is not None:
        rank, number, name, target = place(cursor, (int, int, str, str), of="cursor")
        begin = rank, number, name, target
    with parts.store.read() as connection:
        seen = view(parts, connection, rollout)
        found = placed(seen.now, wave=wave, word=outcome)
        start = len(found) - len(after(found, begin))
        return target_page(connection, seen, found, start=start, limit=limit)


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


def of_target(
    parts: Parts, connection: Connection, device: devices.Device
) -> tuple[list[RolloutOfTarget], bool]:
    """Return the newest open rollouts that have a device, and whether there are more."""
    found: list[RolloutOfTarget] = []
    read = 0
    for kept in rollouts.open_with(connection, device.id, limit=_OF_TARGET + 1):
        read += outline_of(kept).size
        if found and (len(found) == _OF_TARGET or read > _OF_TARGET_READ):
            return found, True
        seen = view(parts, connection, kept.id, of=device.id)
        progress = seen.now.by_target().get(device.id)
        said = _said(connection, seen, device)
        found.append(shown_of_target(said, seen.now, progress, seen.later, seen.at))
    return found, False


def _why(parts: Parts, rollout: str, target: str | None) -> WhyShown:
    with parts.store.read() as connection:
        device = None if target is None else devices.named(connection, target)
        return _said(connection, view(parts, connection, rollout), device)


def _said(connection: Connection, seen: View, device: devices.Device | None) -> WhyShown:
    """Look among the targets, then among those the plan left out."""
    progress: Progress | None = None
    because = why(seen.now, None, seen.at) if device is None else ()
    if device is not None and (progress := seen.now.by_target().get(device.id)) is not None:
        because = why(seen.now, progress, seen.at)
        beside = _compared(connection, [progress]).get(device.id, {})
        because = tuple(
            replace(each, parameters=beside) if each.code == WhyReason.COMPARED else each
            for each in because
        )
    elif device is not None:
        left = left_out(rollouts.plan_of(connection, seen.kept.id))
        told_why = tuple(_exclusion(each) for each in left if each.target == device.id)
        because = told_why or (Cause(code=WhyReason.NOT_MEANT),)
    return WhyShown(
        rollout=seen.kept.id,
        state=seen.kept.state,
        target=None if device is None else device.id,
        name=None if device is None else device.name,
        trace_id=seen.now.trace.id if seen.now.trace else None,
        target_state=None if progress is None else progress.state,
        because=[told(newer_named(each, seen.now, progress, seen.later)) for each in because],
        as_of=written(seen.at),
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
        request_of(parts, wish),
        if_plan=wish.if_plan,
        actor=actor,
        reason=wish.reason,
        trace=trace,
        once=wish.once,
    )


def request_of(parts: Parts, wish: RolloutWish) -> RolloutRequest:
    """Return what is wished for, with the policy that is kept under the name it says.

    Raises:
        PlanError: it can't be meant, or there is no such policy.
        NotFoundError: there is no such bundle, or no such device.
        AmbiguousError: several have the name.
    """
    with parts.store.read() as connection:
        bundle = bundles.named(connection, wish.bundle)
        targets = tuple(devices.named(connection, name).id for name in wish.targets)
        own = wish.own_policy or named_policies.found(connection, wish.policy)
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
