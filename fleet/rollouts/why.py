"""Why a rollout is no further, and why one of its targets is where it is. Pure.

Answers are codes with parameters, the main one first; the sentences and the
next steps are the reader's (`fleet.sentences`). Nothing is decided in here: it
asks what decides.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.clock import written
from fleet.rollouts.asking import due, is_open, is_trying
from fleet.rollouts.budgets import groups_of, used
from fleet.rollouts.gate import GateReason, Judgement, decides_at, judge, unproven
from fleet.rollouts.outline import Outline
from fleet.rollouts.progress import Cause, Progress, Rollout, RolloutWave
from fleet.rollouts.states import (
    OPEN_WAVES,
    TO_APPROVE,
    RolloutState,
    TargetState,
    WaveState,
)

_NEWER = {"newer": "ID"}  # whoever shows it knows the other rollouts, and puts it in
_NAMED = 3  # of those something waits for; the rest are counted


class WhyReason(StrEnum):
    """Why something is as it is, where no gate, person, device or planner has given a reason."""

    # Of a rollout
    NOT_STARTED = "NOT_STARTED"
    SOAKING = "SOAKING"
    SOAK_IS_HELD = "SOAK_IS_HELD"
    TARGETS_UNDER_WAY = "TARGETS_UNDER_WAY"
    WAITS_FOR_APPROVAL = "WAITS_FOR_APPROVAL"
    WAVES_PASSED = "WAVES_PASSED"
    OVERTAKEN_IN_PART = "OVERTAKEN_IN_PART"
    CATCHES_UP = "CATCHES_UP"
    TARGETS_RETURNING = "TARGETS_RETURNING"
    RETURNS_LATER = "RETURNS_LATER"
    SOME_NOT_RETURNED = "SOME_NOT_RETURNED"
    OVERTAKEN_EVERYWHERE = "OVERTAKEN_EVERYWHERE"
    # Of a target
    NOT_MEANT = "NOT_MEANT"
    WAITS_FOR_WAVE = "WAITS_FOR_WAVE"
    CLASS_UNPROVEN = "CLASS_UNPROVEN"
    BUDGET_FULL = "BUDGET_FULL"
    ASKED_AGAIN = "ASKED_AGAIN"
    NOBODY_NEW = "NOBODY_NEW"
    GATE_CLOSED = "GATE_CLOSED"
    ASKED_NEXT = "ASKED_NEXT"
    AWAY = "AWAY"
    NO_WORD_YET = "NO_WORD_YET"
    ON_ITS_WAY = "ON_ITS_WAY"
    COMPARED = "COMPARED"
    HAS_UNTIL = "HAS_UNTIL"
    SERVES_IT = "SERVES_IT"
    WENT_BACK = "WENT_BACK"
    REFUSED_IT = "REFUSED_IT"
    TOO_LATE = "TOO_LATE"
    GOES_BACK = "GOES_BACK"
    IS_BACK = "IS_BACK"
    IS_WITHOUT = "IS_WITHOUT"
    NOT_BACK = "NOT_BACK"
    OVERTAKEN_HERE = "OVERTAKEN_HERE"
    SPARED = "SPARED"


def why(rollout: Rollout, progress: Progress | None, now: datetime) -> tuple[Cause, ...]:
    """Return why a rollout, or one of its targets, is no further than it is."""
    if progress is None:
        return _of_rollout(rollout, now)
    return (*_away(progress), *_of_target(rollout, progress, now))


def present(rollout: Rollout | Outline) -> RolloutWave | None:
    """Return the wave that a rollout is at: the first that is under way. None: there is none."""
    under_way = (*OPEN_WAVES - {WaveState.PASSED}, WaveState.WAITING)
    return next((wave for wave in rollout.waves if wave.state in under_way), None)


def waits_for_approval(rollout: Rollout | Outline) -> bool:
    """Tell whether a rollout runs, and its wave waits for a person's approval."""
    running = rollout.state is RolloutState.RUNNING
    return running and any(wave.state in TO_APPROVE for wave in rollout.waves)


def judged(
    rollout: Rollout, wave: RolloutWave, members: Sequence[Progress], now: datetime
) -> Judgement:
    """Return what a wave has shown so far."""
    return judge(wave, members, unproven(rollout), now)


def reasoned(wave: RolloutWave, judgement: Judgement) -> Cause:
    """Return why a gate says what it says, with what its sentence asks for."""
    told = dict(judgement.parameters)
    match judgement.reason:
        case GateReason.UNDER_WAY:
            told = {"under_way": str(judgement.under_way)}
        case GateReason.WAITS_FOR_AWAY:
            told = {"sample": str(judgement.ended), "away": str(judgement.away)}
        case GateReason.ENOUGH_COMMITTED:
            told = {"good": str(judgement.good), "sample": str(judgement.ended)}
        case _:
            pass  # it says all of it by itself
    return Cause(code=judgement.reason, parameters={"wave": str(wave.number), **told})


def _of_rollout(rollout: Rollout, now: datetime) -> tuple[Cause, ...]:
    because = () if rollout.cause is None else (rollout.cause,)
    match rollout.state:
        case RolloutState.PLANNED:
            return (Cause(code=WhyReason.NOT_STARTED),)
        case RolloutState.RUNNING | RolloutState.PAUSED:
            return (*because, *_of_wave(rollout, now))
        case RolloutState.DONE:
            return (_passed(rollout), *_later(rollout, WhyReason.CATCHES_UP))
        case RolloutState.SUPERSEDED:
            return (Cause(code=WhyReason.OVERTAKEN_EVERYWHERE, parameters=_NEWER),)
        case _:
            return (*because, *_of_return(rollout))


def _of_wave(rollout: Rollout, now: datetime) -> tuple[Cause, ...]:
    """Say what the present wave waits for; a pause goes on beside it."""
    wave = present(rollout)
    if wave is None or wave.state is WaveState.WAITING:
        return ()
    members = next(members for each, members in rollout.members() if each is wave)
    judgement = judged(rollout, wave, members, now)
    measuring = judgement.reason is GateReason.MEASURING
    soaked = decides_at(wave) if wave.state is WaveState.SOAKING else None
    if soaked is not None and not (measuring and now >= soaked):
        told = {"wave": str(wave.number), "until": written(soaked)}
        paused = rollout.state is RolloutState.PAUSED
        return (
            Cause(code=WhyReason.SOAK_IS_HELD if paused else WhyReason.SOAKING, parameters=told),
        )
    if judgement.reason is not GateReason.UNDER_WAY:
        because = reasoned(wave, judgement)
        known = rollout.cause is not None and rollout.cause.code == because.code
        return (*_approval(rollout, wave), *(() if known else (because,)))
    moving = [progress for progress in members if progress.reachable and not progress.settled]
    return (_counted(WhyReason.TARGETS_UNDER_WAY, moving, wave=str(wave.number)),)


def _approval(rollout: Rollout, wave: RolloutWave) -> tuple[Cause, ...]:
    """Say that a person decides, where one does and the rollout goes on meanwhile."""
    if not waits_for_approval(rollout):
        return ()
    return (Cause(code=WhyReason.WAITS_FOR_APPROVAL, parameters={"wave": str(wave.number)}),)


def _of_return(rollout: Rollout) -> tuple[Cause, ...]:
    back = [progress for progress in rollout.targets if progress.state is TargetState.RETURNING]
    here = [progress for progress in back if progress.reachable]
    stuck = [progress for progress in rollout.targets if progress.state is TargetState.NOT_RETURNED]
    found = {
        WhyReason.TARGETS_RETURNING: here,
        WhyReason.RETURNS_LATER: [progress for progress in back if not progress.reachable],
        WhyReason.SOME_NOT_RETURNED: stuck,
    }
    return tuple(_counted(code, progresses) for code, progresses in found.items() if progresses)


def _passed(rollout: Rollout) -> Cause:
    over = [each for each in rollout.targets if each.state is TargetState.SUPERSEDED]
    if not over:
        return Cause(code=WhyReason.WAVES_PASSED)
    return _counted(WhyReason.OVERTAKEN_IN_PART, over, targets=str(len(rollout.targets)), **_NEWER)


def _later(rollout: Rollout, code: WhyReason) -> tuple[Cause, ...]:
    away = [progress for progress in rollout.targets if progress.set_aside]
    return (_counted(code, away),) if away else ()


def _away(progress: Progress) -> tuple[Cause, ...]:
    if not progress.set_aside:
        return ()
    if progress.before_window:
        return _own_word(progress)
    return (Cause(code=Reason.HELD_BY_OWNER if progress.held else WhyReason.AWAY),)


def _of_target(  # noqa: PLR0911  # one return a state
    rollout: Rollout, progress: Progress, now: datetime
) -> tuple[Cause, ...]:
    match progress.state:
        case TargetState.PLANNED:
            return _of_planned(rollout, progress, now)
        case TargetState.ASKED:
            return (Cause(code=WhyReason.NO_WORD_YET), *_deadline(rollout, progress))
        case TargetState.UPDATING:
            return (_moving(progress), *_deadline(rollout, progress))
        case TargetState.SUPERSEDED:
            return (Cause(code=WhyReason.OVERTAKEN_HERE, parameters=_NEWER),)
        case TargetState.RETURNED:
            return _of_returned(progress)
        case state:
            ended = Cause(code=_ENDS[state])
            if progress.again_at is not None:
                return (*_of_again(rollout, progress, now), ended, *_own_word(progress))
            # One that ended well may still report what went wrong on the way.
            return (ended,) if state is TargetState.COMMITTED else (ended, *_own_word(progress))


_ENDS = {
    TargetState.COMMITTED: WhyReason.SERVES_IT,
    TargetState.ROLLED_BACK: WhyReason.WENT_BACK,
    TargetState.REFUSED: WhyReason.REFUSED_IT,
    TargetState.TIMED_OUT: WhyReason.TOO_LATE,
    TargetState.RETURNING: WhyReason.GOES_BACK,
    TargetState.NOT_RETURNED: WhyReason.NOT_BACK,
    TargetState.NOT_ASKED: WhyReason.SPARED,
}


def _moving(progress: Progress) -> Cause:
    if progress.phase is Phase.SHADOWING:
        return Cause(code=WhyReason.COMPARED)
    phase = "" if progress.phase is None else str(progress.phase)
    return Cause(code=WhyReason.ON_ITS_WAY, parameters={"phase": phase})


def _of_returned(progress: Progress) -> tuple[Cause, ...]:
    """Say what a target is back on, and why it went back where that was its own word."""
    code = WhyReason.IS_WITHOUT if progress.replaces is None else WhyReason.IS_BACK
    name = {"deployment": progress.deployment.name}
    back = Cause(code=code, parameters=name if code is WhyReason.IS_WITHOUT else {})
    failed = progress.phase in (Phase.REFUSED, Phase.ROLLED_BACK)
    return (back, *_own_word(progress)) if failed else (back,)


def _own_word(progress: Progress) -> tuple[Cause, ...]:
    """Return the reason that a target itself has given, if it has."""
    if progress.reason is None:
        return ()
    return (Cause(code=progress.reason, parameters=progress.parameters),)


def _of_planned(rollout: Rollout, progress: Progress, now: datetime) -> tuple[Cause, ...]:
    """Say what has to happen before a target is asked, beside that it can be reached."""
    wave, members = next(each for each in rollout.members() if progress.target in each[0].targets)
    if wave.state is WaveState.WAITING:
        at = present(rollout)
        before = str(wave.number if at is None else at.number)
        told = {"wave": str(wave.number), "before": before}
        waits = Cause(code=WhyReason.WAITS_FOR_WAVE, parameters=told)
        paused = rollout.state is RolloutState.PAUSED
        return (Cause(code=WhyReason.NOBODY_NEW), waits) if paused else (waits,)
    if rollout.state is RolloutState.PAUSED:
        return (Cause(code=WhyReason.NOBODY_NEW),)
    if not is_open(rollout, wave, members, now):
        return (Cause(code=WhyReason.GATE_CLOSED, parameters={"wave": str(wave.number)}),)
    return _of_turn(rollout, progress, now)


def _of_again(rollout: Rollout, progress: Progress, now: datetime) -> tuple[Cause, ...]:
    """Say when a target that failed is asked again."""
    if rollout.state is RolloutState.PAUSED:
        return (Cause(code=WhyReason.NOBODY_NEW),)
    if progress.again_at is not None and now >= progress.again_at:
        return _of_turn(rollout, progress, now)
    until = "" if progress.again_at is None else written(progress.again_at)
    return (Cause(code=WhyReason.ASKED_AGAIN, parameters={"until": until}),)


def _of_turn(rollout: Rollout, progress: Progress, now: datetime) -> tuple[Cause, ...]:
    """Say whether a target is asked now, or waits for others of its group or of its class."""
    asked = due(rollout, now)
    if any(progress.target == each.target for each in asked):
        return (Cause(code=WhyReason.ASKED_NEXT),)
    groups = used(rollout, now)
    taken = Counter(group for each in asked for group in groups_of(rollout, each))
    for group in groups_of(rollout, progress):
        use = groups[group]
        if use.taken + taken[group] >= use.limit:
            told = {"taken": str(use.taken + taken[group]), "limit": str(use.limit)}
            return (Cause(code=WhyReason.BUDGET_FULL, parameters={**told, "group": str(group)}),)
    return _of_class(rollout, progress, asked, now)


def _of_class(
    rollout: Rollout, progress: Progress, asked: Sequence[Progress], now: datetime
) -> tuple[Cause, ...]:
    """Say for which other one of its class a target waits."""
    first = [
        other
        for wave, members in rollout.members()
        for other in members
        if other.class_name == progress.class_name
        and (other in asked or is_trying(other, wave, now))
    ]
    if progress.class_name not in unproven(rollout) or not first:
        return ()  # that it is away is all
    told = {"class_name": progress.class_name, "waits_for": _names(first[:1])}
    return (Cause(code=WhyReason.CLASS_UNPROVEN, parameters=told),)


def _deadline(rollout: Rollout, progress: Progress) -> tuple[Cause, ...]:
    """Say until when a target has to come to an end: while it can be reached, behind a gate."""
    wave = next(wave for wave in rollout.waves if progress.target in wave.targets)
    if wave.gate is None or progress.since is None or not progress.reachable:
        return ()
    until = written(progress.since + timedelta(seconds=wave.gate.deadline_s))
    return (Cause(code=WhyReason.HAS_UNTIL, parameters={"until": until}),)


def _counted(code: WhyReason, progresses: Sequence[Progress], **told: str) -> Cause:
    told |= {"count": str(len(progresses)), "names": _names(progresses)}
    return Cause(code=code, parameters=told)


def _names(progresses: Sequence[Progress]) -> str:
    named = [progress.name or progress.target for progress in progresses]
    rest = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
