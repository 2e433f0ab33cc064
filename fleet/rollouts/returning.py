"""Who goes back now, of a rollout that is rolled back. Pure.

At once, or where its policy says so in the waves in which they went: the first of each class
prove the way back, too. What is not well, or away, goes back at once in either case: for who is
away a document waits, and that must not be the one that was bad. A way back that fails in a wave
more often than its gate lets pass ends there, and leaves the others with what they serve: a
person decides. What a person asks for is at once.
"""

from fleet.rollouts.policy import OnFailure
from fleet.rollouts.progress import PersonReason, Progress, Rollout
from fleet.rollouts.states import TO_RETURN, TargetState

_ON_THE_WAY = frozenset({*TO_RETURN, TargetState.RETURNING})


def is_in_waves(rollout: Rollout) -> bool:
    """Tell whether it goes back wave by wave."""
    by_person = (
        rollout.cause is not None and rollout.cause.code == PersonReason.ROLLED_BACK_BY_PERSON
    )
    return rollout.on_failure is OnFailure.ROLL_BACK_IN_WAVES and not by_person


def to_return(rollout: Rollout) -> tuple[Progress, ...]:
    """Return the targets whose document with the old content is to be written now."""
    waiting = [progress for progress in rollout.targets if progress.state in TO_RETURN]
    if not is_in_waves(rollout):
        return tuple(waiting)
    found = [
        progress
        for progress in waiting
        if progress.state is not TargetState.COMMITTED or not progress.reachable
    ]
    for _, members in rollout.members():
        here = [progress for progress in members if progress.reachable]
        found += [progress for progress in here if progress.state is TargetState.COMMITTED]
        if any(progress.state in _ON_THE_WAY for progress in here):
            break
    return tuple(found)


def is_stuck(rollout: Rollout) -> bool:
    """Tell whether the way back fails too often to let more follow."""
    if not is_in_waves(rollout):
        return False
    for wave, members in rollout.members():
        bad = sum(progress.state is TargetState.NOT_RETURNED for progress in members)
        back = sum(
            progress.state is TargetState.RETURNED or progress.state in _ON_THE_WAY
            for progress in members
        )
        limit_percent = 0 if wave.gate is None else wave.gate.error_percent
        if bad * 100 > limit_percent * (bad + back):
            return True
    return False
