"""Who goes back now, of a rollout that is rolled back. Pure.

At once, or where its policy says so in the waves in which they went: the first of each class
prove the way back, too. What is not well goes back at once in either case, also where it is
away: what waits for it must not be what was bad. One that was told to go back and went away
holds up its wave until its deadline. A way back that fails in a wave more often than its gate
lets pass, of those that were well, ends there, and leaves the others with what they serve: a
person decides. What a person asks for is at once.
"""

from datetime import datetime, timedelta

from agent.wire.phases import Phase
from fleet.rollouts.gate import deadline_s
from fleet.rollouts.policy import OnFailure
from fleet.rollouts.progress import PersonReason, Progress, Rollout, RolloutWave
from fleet.rollouts.states import TO_RETURN, TargetState

_WELL = frozenset({Phase.PROBATION, Phase.COMMITTED})
_COUNTED = frozenset({*TO_RETURN, TargetState.RETURNING, TargetState.RETURNED})


def is_in_waves(rollout: Rollout) -> bool:
    """Tell whether it goes back wave by wave."""
    by_person = (
        rollout.cause is not None and rollout.cause.code == PersonReason.ROLLED_BACK_BY_PERSON
    )
    return rollout.on_failure is OnFailure.ROLL_BACK_IN_WAVES and not by_person


def to_return(rollout: Rollout, now: datetime) -> tuple[Progress, ...]:
    """Return the targets whose document with the old content is to be written now."""
    waiting = [progress for progress in rollout.targets if progress.state in TO_RETURN]
    if not is_in_waves(rollout):
        return tuple(waiting)
    found = [progress for progress in waiting if not _is_well(progress)]
    for wave, members in rollout.members():
        well = [each for each in members if each.state in TO_RETURN and _is_well(each)]
        if well:
            return (*found, *well)
        if any(_holds_up(each, wave, now) for each in members):
            break
    return tuple(found)


def is_over(rollout: Rollout, now: datetime) -> bool:
    """Tell whether everybody is back who is waited for."""
    in_waves = is_in_waves(rollout)
    return not any(
        each.state in TO_RETURN or (_holds_up(each, wave, now) if in_waves else _is_awaited(each))
        for wave, members in rollout.members()
        for each in members
    )


def is_stuck(rollout: Rollout) -> bool:
    """Tell whether the way back fails too often to let more follow."""
    if not is_in_waves(rollout):
        return False
    for wave, members in rollout.members():
        well = [each for each in members if each.phase in _WELL]
        bad = sum(each.state is TargetState.NOT_RETURNED for each in well)
        others = sum(each.state in _COUNTED for each in well)
        limit_percent = 0 if wave.gate is None else wave.gate.error_percent
        if bad * 100 > limit_percent * (bad + others):
            return True
    return False


def looked_at(progress: Progress, wave: RolloutWave) -> datetime | None:
    """Return when one that went away on its way back holds up its wave no longer. None: never."""
    if progress.state is not TargetState.RETURNING or progress.began_at is None:
        return None
    return progress.began_at + timedelta(seconds=deadline_s(wave))


def _is_well(progress: Progress) -> bool:
    """Tell whether it serves the new content without complaint, as far as it said."""
    committed = progress.state is TargetState.COMMITTED
    return committed or (
        progress.state is TargetState.UPDATING and progress.phase is Phase.PROBATION
    )


def _is_awaited(progress: Progress) -> bool:
    return progress.state is TargetState.RETURNING and progress.reachable


def _holds_up(progress: Progress, wave: RolloutWave, now: datetime) -> bool:
    """Tell whether others wait for its return: while it is here, or still in time."""
    until = looked_at(progress, wave)
    return _is_awaited(progress) or (until is not None and now < until)
