"""How rollouts are shown: values for people, with the sentence of every reason."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from pydantic import BaseModel, Field

from agent.wire import v1
from fleet.api.cursor import cursor
from fleet.api.plan_shown import ServingShown, serving
from fleet.api.rollout_targets import Placed, aside
from fleet.clock import written
from fleet.kept import Overtaking
from fleet.rollouts.gate import decides_at
from fleet.rollouts.outline import Outline, outline
from fleet.rollouts.policy import Gate
from fleet.rollouts.progress import Cause, Progress, Rollout, RolloutWave
from fleet.rollouts.states import OPEN_WAVES, TO_RETURN, TargetState, WaveState
from fleet.rollouts.why import WhyReason, judged, present, reasoned, waits_for_approval, why
from fleet.sentences import explain
from fleet.store import audit, rollouts


class Because(BaseModel):
    """A reason: its code, what came with it, who said it, and what that means to a person."""

    code: str
    parameters: dict[str, str]
    by: str = Field(description="Who said it; empty: nobody did, a rule or a device decided.")
    sentence: str
    next: str = Field(description="What to do next.")


class RolloutSummary(BaseModel):
    """One rollout in a list."""

    id: str
    state: str
    deployment: str
    bundle: v1.BundleRef | None
    replaces: list[str] = Field(description="What its targets had before, as `name:version`.")
    plan_digest: str
    counts: dict[str, int] = Field(description="Targets by state.")
    set_aside: int = Field(description="How many are away and have not settled.")
    wave: int | None = Field(description="The wave it is at; null: all are over.")
    wave_count: int
    decides_at: str | None = Field(description="When the wave that soaks has soaked.")
    waits_for_approval: bool = Field(description="It runs, and its wave waits for a person.")
    cause: Because | None = Field(description="Why it is paused, goes back or ended so.")
    created_at: str
    trace_id: str | None = Field(
        description="In every line of the logs about it, here and on devices. Null: it had none."
    )


class FindingShown(BaseModel):
    """What one of a gate's checks says, of the class that it is worst for."""

    check: str
    outcome: str = Field(description="`success`, `failure`, or `inconclusive`: too little told.")
    class_name: str = Field(description="Empty: nothing has committed or told of itself yet.")
    observed: float | None = Field(description="Its left side; null: no value.")
    limit: float | None = Field(description="Its right side; null: no value.")
    sample: int = Field(description="The smallest of what it rests on.")
    least: int = Field(description="What it wants of that.")
    against: str = Field(description="With what it was compared.")


class JudgementShown(BaseModel):
    """What a wave's gate says so far, and the numbers it rests on. The gate has what it wants."""

    verdict: str
    because: Because
    good: int = Field(description="Committed.")
    bad: int = Field(description="Refused it, went back, or were too late.")
    under_way: int = Field(description="In reach, and not at an end.")
    away: int = Field(description="Can't be reached; they count neither way.")
    findings: list[FindingShown] = Field(description="What its checks say; empty: it has none.")


class WaveShown(BaseModel):
    """One wave and how far it is."""

    number: int
    title: str
    state: str
    since: str | None = Field(description="When its state began.")
    decides_at: str | None
    targets: int = Field(description="How many are in it.")
    counts: dict[str, int]
    set_aside: int
    gate: Gate | None
    judgement: JudgementShown | None = Field(
        description="Null: it has not begun, or was ended: then the rollout's cause says why."
    )


class TargetShown(BaseModel):
    """One target and how far it is."""

    target: str
    name: str
    class_name: str
    wave: int
    state: str
    set_aside: str | None = Field(
        description="`offline`, `held` or `window`, where that keeps it waiting."
    )
    online: bool
    phase: str | None = Field(description="Its last word about this revision.")
    reason: str | None = Field(description="The code it gave with its last word.")
    sentence: str | None
    so_far: str | None = Field(description="How far it is compared with what serves, if it is.")
    since: str | None = Field(description="When its state began.")
    again_at: str | None = Field(
        description="It failed, and is asked again from then on. Null: it is not."
    )
    deployment: v1.Deployment
    replaces: v1.Deployment | None
    overtaken_by: str | None = Field(description="The later rollout that it went on to.")


class ReturnShown(BaseModel):
    """How many targets would go back if the rollout were rolled back now, and to what."""

    to: dict[str, int] = Field(description="By what they had before, as `name:version`.")
    to_nothing: int = Field(description="Those that had nothing under that name.")
    away: int = Field(description="Of all these can't be reached now.")


class RolloutDetail(RolloutSummary):
    """One rollout, wave by wave, and the targets that need a person first."""

    policy: str
    started_by: str
    started_because: str = Field(description="The reason that was given for the audit.")
    because: list[Because] = Field(description="Why it is no further: the main reason first.")
    serving: list[ServingShown] = Field(description="How its targets serve it; most first.")
    waves: list[WaveShown]
    returns: ReturnShown
    targets: list[TargetShown] = Field(
        description="The worst of them first; in the order of the plan where all are here."
    )
    next: str | None = Field(description="The cursor of the targets after these; null: no more.")
    as_of: str = Field(description="When the centre said this, by its own clock.")


class TargetList(BaseModel):
    """Targets of a rollout, the worst first."""

    targets: list[TargetShown]
    matching: int = Field(description="How many there are with what is asked for, on all pages.")
    next: str | None = Field(description="The cursor of the page after this; null: the last.")
    as_of: str


class WhyShown(BaseModel):
    """Why a rollout, or one target of it, is no further: the main reason first."""

    rollout: str
    state: str
    target: str | None
    name: str | None
    target_state: str | None
    trace_id: str | None
    because: list[Because]
    as_of: str


class RolloutOfTarget(WhyShown):
    """A rollout that has a device, and why it is where it is in there."""

    deployment: str
    bundle: v1.BundleRef | None
    replaces: list[str] = Field(description="What it had before, as `name:version`.")
    wave: int | None = Field(description="The wave it is in; null: the plan left it out.")
    wave_count: int
    wave_state: str | None
    set_aside: str | None = Field(
        description="`offline`, `held` or `window`, where that keeps it waiting."
    )
    waits_for: list[Because] = Field(
        description="Why the rollout is no further, where that is what it waits for."
    )


def told(cause: Cause) -> Because:
    """Return a reason with its sentence."""
    said = explain(cause.code, cause.parameters)
    return Because(
        code=str(cause.code),
        parameters=dict(cause.parameters),
        by=cause.by,
        sentence=said.meaning,
        next=said.next_step,
    )


def summary(kept: rollouts.KeptRollout, now: Outline) -> RolloutSummary:
    """Return a rollout as it is listed."""
    at = present(now)
    soaks = at is not None and at.state is WaveState.SOAKING
    return RolloutSummary(
        id=kept.id,
        state=kept.state,
        deployment=now.deployment,
        bundle=now.bundle,
        replaces=sorted({f"{name}:{version}" for name, version, _ in now.replaces}),
        plan_digest=kept.plan_digest,
        counts={str(state): count for state, count in now.counts.items()},
        set_aside=now.set_aside,
        wave=None if at is None else at.number,
        wave_count=len(now.waves),
        decides_at=_when(decides_at(at) if at is not None and soaks else None),
        waits_for_approval=waits_for_approval(now),
        cause=None if now.cause is None else told(now.cause),
        created_at=kept.created_at,
        trace_id=now.trace.id if now.trace else None,
    )


def newer_named(
    cause: Cause, rollout: Rollout, progress: Progress | None, later: Overtaking
) -> Cause:
    """Return a reason that tells of a newer rollout with its id, where it is one."""
    if cause.code not in _OVERTAKEN:
        return cause
    over = [each for each in rollout.targets if each.state is TargetState.SUPERSEDED]
    found = {later.by(each.target) for each in (over if progress is None else [progress])}
    newer = sorted(each for each in found if each is not None)
    named = {"newer": newer[0]} if len(newer) == 1 else {}
    return replace(cause, parameters={**cause.parameters, **named})


_OVERTAKEN = frozenset(
    {WhyReason.OVERTAKEN_EVERYWHERE, WhyReason.OVERTAKEN_IN_PART, WhyReason.OVERTAKEN_HERE}
)


def detail(
    kept: rollouts.KeptRollout,
    rollout: Rollout,
    words: Iterable[audit.Entry],
    later: Overtaking,
    now: datetime,
    *,
    first: TargetList,
) -> RolloutDetail:
    """Return one rollout as it is shown; `words` are the audit's entries about it.

    `first` is the first page of its targets.
    """
    start = next((entry for entry in words if entry.action == "rollout.start"), None)
    return RolloutDetail(
        **dict(summary(kept, outline(rollout))),
        policy=kept.policy,
        started_by="" if start is None else start.actor,
        started_because="" if start is None else start.reason,
        because=[told(newer_named(each, rollout, None, later)) for each in why(rollout, None, now)],
        serving=serving(rollout.targets, given=kept.settings_given),
        waves=[_wave(rollout, wave, members, now) for wave, members in rollout.members()],
        returns=returns(rollout.targets),
        targets=first.targets,
        next=first.next,
        as_of=written(now),
    )


def listed_targets(
    found: Sequence[Placed],
    later: Overtaking,
    compared: Mapping[str, Mapping[str, str]],
    *,
    matching: int,
    limit: int,
    as_of: datetime,
) -> TargetList:
    """Return the first of these targets as a page of `matching`.

    `compared` is how far targets are that are compared with what serves there.
    """
    page = found[:limit]
    return TargetList(
        targets=[
            _target(each.progress, each.wave, later, compared.get(each.progress.target, {}))
            for each in page
        ],
        matching=matching,
        next=cursor(page[-1].place) if len(found) > limit else None,
        as_of=written(as_of),
    )


def returns(targets: Iterable[Progress]) -> ReturnShown:
    """Count whom a rollback would bring back, and to what."""
    back = [each for each in targets if each.state in TO_RETURN]
    had = Counter(
        f"{each.replaces.bundle.name}:{each.replaces.bundle.version}"
        for each in back
        if each.replaces is not None
    )
    return ReturnShown(
        to=dict(had),
        to_nothing=len(back) - had.total(),
        away=sum(not each.online for each in back),
    )


def of_target(
    said: WhyShown,
    rollout: Rollout,
    progress: Progress | None,
    later: Overtaking,
    now: datetime,
) -> RolloutOfTarget:
    """Return a rollout as one of its targets meets it; `said` is why it is where it is.

    A progress of None: the plan left it out.
    """
    had = None if progress is None else progress.replaces
    wave = next((each for each in rollout.waves if said.target in each.targets), None)
    waits = progress is not None and progress.state is TargetState.PLANNED
    known = {each.code for each in said.because}
    because = [newer_named(each, rollout, None, later) for each in why(rollout, None, now)]
    return RolloutOfTarget(
        **dict(said),
        deployment=rollout.deployment,
        bundle=rollout.bundle,
        replaces=[] if had is None else [f"{had.bundle.name}:{had.bundle.version}"],
        wave=None if wave is None else wave.number,
        wave_count=len(rollout.waves),
        wave_state=None if wave is None else wave.state,
        set_aside=None if progress is None else aside(progress),
        waits_for=[told(each) for each in because if each.code not in known] if waits else [],
    )


def _wave(
    rollout: Rollout, wave: RolloutWave, members: Sequence[Progress], now: datetime
) -> WaveShown:
    shown = None
    if wave.state in OPEN_WAVES:
        judgement = judged(rollout, wave, members, now)
        shown = JudgementShown(
            verdict=judgement.verdict,
            because=told(reasoned(wave, judgement)),
            good=judgement.good,
            bad=judgement.bad,
            under_way=judgement.under_way,
            away=judgement.away,
            findings=[FindingShown(**asdict(each)) for each in judgement.findings],
        )
    return WaveShown(
        number=wave.number,
        title=wave.title,
        state=wave.state,
        since=_when(wave.since),
        decides_at=_when(decides_at(wave) if wave.state is WaveState.SOAKING else None),
        targets=len(members),
        counts=dict(Counter(str(progress.state) for progress in members)),
        set_aside=sum(progress.set_aside for progress in members),
        gate=wave.gate,
        judgement=shown,
    )


def _target(
    progress: Progress, wave: int, later: Overtaking, compared: Mapping[str, str]
) -> TargetShown:
    over = progress.state is TargetState.SUPERSEDED
    reason = progress.reason
    return TargetShown(
        target=progress.target,
        name=progress.name or progress.target,
        class_name=progress.class_name,
        wave=wave,
        state=progress.state,
        set_aside=aside(progress),
        online=progress.online,
        phase=progress.phase,
        reason=reason,
        sentence=None if reason is None else explain(reason, progress.parameters).meaning,
        so_far=compared.get("so far"),
        since=_when(progress.since),
        again_at=_when(progress.again_at),
        deployment=progress.deployment,
        replaces=progress.replaces,
        overtaken_by=later.by(progress.target) if over else None,
    )


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else written(moment)
