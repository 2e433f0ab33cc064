"""Who is to be asked now, and who no longer. Pure.

Asked are targets of waves that are open, while they can be reached, and of a class
that isn't proven yet no more than its canaries, one that went away on the way among them
until its deadline; and of a group that a budget is about no more at once than it allows
(`fleet.rollouts.budgets`). A return waits for no budget:
what is bad goes at once. After a rollout has ended well, who
was away then is caught up under the same gates: one whose gate has failed since
lets nobody through. Who is away may be asked by a document that is carried there,
by the same rules.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from fleet.rollouts.budgets import groups_of, is_down, spare_of
from fleet.rollouts.errors import PlanReason
from fleet.rollouts.gate import (
    Verdict,
    aside_at,
    decides_at,
    judge,
    late_at,
    measured_by,
    unproven,
)
from fleet.rollouts.plan import Plan
from fleet.rollouts.progress import (
    Event,
    LeftEvent,
    Progress,
    Rollout,
    RolloutEvent,
    RolloutWave,
    TargetEvent,
)
from fleet.rollouts.returning import looked_at, to_return
from fleet.rollouts.states import (
    BAD,
    ENDED,
    OPEN_WAVES,
    TIMED,
    TO_RETURN,
    UNDER_WAY,
    RolloutHappening,
    RolloutState,
    TargetHappening,
    TargetState,
    WaveState,
)

_ASKING = frozenset({RolloutState.RUNNING, RolloutState.DONE, RolloutState.FAILED})


def due(rollout: Rollout, now: datetime, *, carried_to: str | None = None) -> tuple[Progress, ...]:
    """Return the targets whose next document is to be written to the store now.

    The target that somebody carries its document to counts as one in reach.

    While a rollout is rolled back, that is the document they return by
    (`Progress.returning`), in the order of `fleet.rollouts.returning`.
    """
    if rollout.state is RolloutState.ROLLING_BACK:
        return to_return(rollout, now)
    if rollout.state not in _ASKING:
        return ()
    classes = unproven(rollout)
    room, spare = _room(rollout, classes, now), spare_of(rollout, now)
    asked = []
    for wave, members in rollout.members():
        if not is_open(rollout, wave, members, now):
            continue
        # Whoever is on the way to a target has one chance: it comes first where there is room.
        first = (each for each in members if each.target == carried_to)
        rest = (each for each in members if each.target != carried_to)
        for progress in (*first, *rest) if carried_to else members:
            if not _can_be_asked(progress, now, carried_to):
                continue
            again = progress.again_at is not None  # it has had its room among the canaries
            groups = groups_of(rollout, progress)
            canary = progress.class_name in classes and not again
            full = canary and room[progress.class_name] <= 0
            if full or any(spare[group] <= 0 for group in groups):
                continue
            room[progress.class_name] -= canary
            spare.subtract(groups)
            asked.append(replace(progress, deployment=progress.again) if again else progress)
    return tuple(asked)


def _can_be_asked(progress: Progress, now: datetime, carried_to: str | None) -> bool:
    """Tell whether a target waits to be asked, and could be: whatever others do."""
    if not progress.reachable and progress.target != carried_to:
        return False
    if progress.again_at is not None:
        return now >= progress.again_at
    return progress.state is TargetState.PLANNED


def is_open(
    rollout: Rollout, wave: RolloutWave, members: Sequence[Progress], now: datetime
) -> bool:
    """Tell whether targets of this wave may be asked, were they in reach and their class proven."""
    if wave.state not in OPEN_WAVES:
        # Nothing gated it: who was away gets it all the same.
        return rollout.state is RolloutState.FAILED and wave.state is WaveState.FAILED
    if rollout.state in ENDED and wave.gate is not None:
        return judge(wave, members, unproven(rollout), now).verdict is not Verdict.FAILURE
    return True


def is_trying(progress: Progress, wave: RolloutWave, now: datetime) -> bool:
    """Tell whether a target is on its way, and so one of the canaries of its class.

    Who went away takes room as it does of a budget: it may be trying it meanwhile, and of what
    is bad on a class no more must get it with each that comes and goes.
    """
    here = progress.state in UNDER_WAY and progress.reachable
    return here or is_down(progress, wave, now)


def overtaken(older: Rollout, newer: Plan) -> tuple[Event, ...]:
    """Return what a newer rollout's start means to an older one of the same deployment.

    Whoever the newer one decided about and the older one has not asked yet, it
    never will: also who is left out, because it serves what is wanted now, or
    can't have it. Who is on the way carries on, and is evidence, until the newer
    one asks; who failed is not asked again. A return goes on, below the newer one's revision.
    One that a failed gate has stopped is over when all of its targets are decided about, and
    whoever may serve what was bad gets something else.
    """
    if older.deployment != newer.request.deployment:
        return ()
    decided = {step.target for step in newer.steps} | {left.target for left in newer.excluded}
    mine = [progress for progress in older.targets if progress.target in decided]
    stopped = older.state is RolloutState.PAUSED and any(
        wave.state is WaveState.FAILED for wave in older.waves
    )
    reached = {step.target for step in newer.steps} | {
        left.target for left in newer.excluded if left.reason == PlanReason.NO_CHANGE
    }
    serving = {progress.target for progress in older.targets if progress.state in TO_RETURN}
    mended = stopped and len(mine) == len(older.targets) and serving <= reached
    return (
        *([RolloutEvent(rollout=RolloutHappening.OVERTAKEN)] if mended else ()),
        *(
            TargetEvent(target=progress.target, happening=TargetHappening.OVERTAKEN)
            for progress in mine
            if progress.state is TargetState.PLANNED
        ),
        *(
            TargetEvent(target=progress.target, happening=TargetHappening.SPARED)
            for progress in mine
            if progress.again_at is not None
        ),
        *(
            LeftEvent(target=progress.target)
            for progress in mine
            if older.retry is not None and progress.state in UNDER_WAY | BAD
        ),
    )


def look_again_at(rollout: Rollout, now: datetime) -> datetime | None:
    """Return when time alone may change something: a soak or a deadline ends. None: never."""
    times: list[datetime | None] = []
    for wave, members in rollout.members():
        if wave.state is WaveState.SOAKING:
            times += [decides_at(wave), measured_by(wave)]
        if wave.state is WaveState.RUNNING and wave.gate is not None and wave.since is not None:
            times.append(wave.since + timedelta(seconds=wave.gate.deadline_s))
        timed = [progress for progress in members if progress.state in TIMED]
        times += [late_at(progress, wave) for progress in timed if progress.reachable]
        times += [progress.again_at for progress in members if progress.again_at is not None]
        times += [looked_at(progress, wave) for progress in timed]
        if rollout.budgets or rollout.canaries:  # who is late is down no longer, and no canary
            times += [aside_at(progress, wave) for progress in timed]
    return min((each for each in times if each is not None and each > now), default=None)


def _room(rollout: Rollout, classes: frozenset[str], now: datetime) -> Counter[str]:
    """Count, by class, how many more may be asked before enough of it have committed."""
    room: Counter[str] = Counter()
    if rollout.canaries is None or not classes:
        return room
    for name in classes:
        room[name] = rollout.canaries
    for wave, members in rollout.members():
        for progress in members:
            if progress.class_name not in classes:
                continue
            ended = progress.state is TargetState.COMMITTED or progress.state in BAD
            room[progress.class_name] -= ended or is_trying(progress, wave, now)
    return room
