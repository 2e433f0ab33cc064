"""Who is to be asked now, and who no longer. Pure.

Asked are targets of waves that are open, while they can be reached, and of a class
that isn't proven yet no more than its canaries. After a rollout has ended well, who
was away then is caught up under the same gates: one whose gate has failed since
lets nobody through. Who is away may be asked by a document that is carried there,
by the same rules.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from fleet.rollouts.gate import Verdict, decides_at, judge, late_at, unproven
from fleet.rollouts.plan import Plan
from fleet.rollouts.progress import Event, Progress, Rollout, RolloutWave, TargetEvent
from fleet.rollouts.states import (
    BAD,
    ENDED,
    OPEN_WAVES,
    TO_RETURN,
    UNDER_WAY,
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
    (`Progress.returning`), whether they can be reached or not: what waits for them
    at the broker must not be the one that was bad.
    """
    if rollout.state is RolloutState.ROLLING_BACK:
        return tuple(progress for progress in rollout.targets if progress.state in TO_RETURN)
    if rollout.state not in _ASKING:
        return ()
    classes = unproven(rollout)
    room = _room(rollout)
    asked = []
    for wave, members in rollout.members():
        if not is_open(rollout, wave, members, now):
            continue
        for progress in members:
            if progress.state is not TargetState.PLANNED:
                continue
            if not progress.reachable and progress.target != carried_to:
                continue
            if progress.class_name in classes:
                room[progress.class_name] -= 1
                if room[progress.class_name] < 0:
                    continue
            asked.append(progress)
    return tuple(asked)


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


def overtaken(older: Rollout, newer: Plan) -> tuple[Event, ...]:
    """Return what a newer rollout's start means to an older one of the same deployment.

    Whoever the newer one decided about and the older one has not asked yet, it
    never will: also who is left out, because it serves what is wanted now, or
    can't have it. Who is on the way carries on, and is evidence, until the newer
    one asks. A return goes on, below the newer one's revision.
    """
    if older.deployment != newer.request.deployment:
        return ()
    decided = {step.target for step in newer.steps} | {left.target for left in newer.excluded}
    return tuple(
        TargetEvent(target=progress.target, happening=TargetHappening.OVERTAKEN)
        for progress in older.targets
        if progress.target in decided and progress.state is TargetState.PLANNED
    )


def look_again_at(rollout: Rollout, now: datetime) -> datetime | None:
    """Return when time alone may change something: a soak or a deadline ends. None: never."""
    times: list[datetime | None] = []
    for wave, members in rollout.members():
        if wave.state is WaveState.SOAKING:
            times.append(decides_at(wave))
        if wave.state is WaveState.RUNNING and wave.gate is not None and wave.since is not None:
            times.append(wave.since + timedelta(seconds=wave.gate.deadline_s))
        times += [late_at(progress, wave) for progress in members if progress.reachable]
    return min((each for each in times if each is not None and each > now), default=None)


def _room(rollout: Rollout) -> Counter[str]:
    """Count, by class, how many more may be asked before enough of it have committed."""
    room: Counter[str] = Counter()
    if rollout.canaries is None:
        return room
    for name in {progress.class_name for progress in rollout.targets}:
        room[name] = rollout.canaries
    for progress in rollout.targets:
        trying = progress.state in UNDER_WAY and progress.reachable
        if trying or progress.state is TargetState.COMMITTED or progress.state in BAD:
            room[progress.class_name] -= 1
    return room
