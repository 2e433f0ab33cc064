"""Events fold a rollout into a new one, and all that follows from them. Pure.

The rim looks and acts; this decides. One pass: `fleet.rollouts.look.seen` tells what
the inventory implies, `fold` applies it, `fleet.rollouts.asking.due` says whose documents
are to be written now. A pass that is cut off anywhere is repaired by the next:
whether a target was asked is read from the store, not remembered.

What follows: a wave starts when all before it passed; its gate's verdict moves it
to soaking, passed, inconclusive or failed; a failed gate turns the whole rollout
back, an inconclusive one pauses it (or, by its policy, the first pauses it too, and the second is
skipped, or waits for approval). A target that failed for a reason that may pass is put off and
asked again, as often as the policy says. Once nothing is to come, targets that were never
asked are spared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from fleet.rollouts.gate import GateReason, Judgement, Verdict, decides_at, judge, unproven
from fleet.rollouts.policy import Inconclusive, OnFailure
from fleet.rollouts.progress import (
    AmendedEvent,
    Cause,
    Event,
    LeftEvent,
    MeasuredEvent,
    PersonReason,
    PresenceEvent,
    Progress,
    Rollout,
    RolloutEvent,
    RolloutWave,
    TargetEvent,
)
from fleet.rollouts.retrying import again_after, passes
from fleet.rollouts.returning import is_over, is_stuck
from fleet.rollouts.states import (
    BAD,
    ROLLOUT,
    TARGET,
    TIMED,
    TO_APPROVE,
    UNDECIDED_WAVES,
    WAVE,
    RolloutHappening,
    RolloutState,
    TargetHappening,
    TargetState,
    WaveHappening,
    WaveState,
)

StateT = TypeVar("StateT", bound=StrEnum)
HappeningT = TypeVar("HappeningT", bound=StrEnum)

_ACTIVE = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})
_OVER = frozenset({WaveState.PASSED, WaveState.SUPERSEDED})

_BY_PERSON = {
    RolloutHappening.PAUSED: PersonReason.PAUSED_BY_PERSON,
    RolloutHappening.ABORTED: PersonReason.ABORTED_BY_PERSON,
    RolloutHappening.RETURN_ASKED: PersonReason.ROLLED_BACK_BY_PERSON,
}


class IllegalEventError(Exception):
    """An event that the tables have no row for, named by state and event."""

    def __init__(self, subject: str, state: StrEnum, happening: StrEnum, why: str = "") -> None:
        because = f": {why}" if why else ""
        super().__init__(f"{subject} is {state}; it can't be {happening}{because}")
        self.subject = subject
        self.state = state
        self.happening = happening
        self.why = why


def fold(rollout: Rollout, events: Iterable[Event], now: datetime) -> Rollout:
    """Return the rollout after these events, and all that follows from them and from the time.

    Raises:
        IllegalEventError: the tables have no row for one of them; nothing is folded.
        KeyError: an event is about a target that is not in the rollout.
    """
    before, targets = rollout, rollout.by_target()
    for event in events:
        match event:
            case RolloutEvent():
                rollout = _said(rollout, event, now)
                if event.rollout is RolloutHappening.RETRIED:
                    targets = _asked_again(targets, event, now)
            case PresenceEvent():
                targets[event.target] = _present(targets[event.target], event, now)
            case TargetEvent():
                targets[event.target] = _happened(targets[event.target], event, now)
            case MeasuredEvent():
                rollout = _measured(rollout, event)
            case LeftEvent() | AmendedEvent():
                targets[event.target] = _changed(targets[event.target], event)
    rollout = replace(rollout, targets=tuple(targets.values()))
    while (after := _settle(rollout, now)) != rollout:
        rollout = after
    if rollout.state is before.state:
        return rollout
    return replace(rollout, since=now, started_at=before.started_at or now)


def _changed(progress: Progress, event: LeftEvent | AmendedEvent) -> Progress:
    """Apply what another rollout means to a target of this one."""
    if isinstance(event, LeftEvent):
        return replace(progress, left=True)
    return replace(progress, deployment=event.deployment, replaces=event.replaces)


def _measured(rollout: Rollout, event: MeasuredEvent) -> Rollout:
    waves = tuple(
        replace(wave, evidence=event.evidence) if wave.number == event.wave else wave
        for wave in rollout.waves
    )
    return replace(rollout, waves=waves)


def _said(rollout: Rollout, event: RolloutEvent, now: datetime) -> Rollout:
    """Apply a person's word."""
    state = _after(ROLLOUT, f"rollout {rollout.id}", rollout.state, event.rollout)
    if event.rollout in _OF_WAVES:
        return _let_pass(rollout, event, state, now)
    if event.rollout is RolloutHappening.RETRIED:
        return _looked_at_anew(rollout, event, now)
    code = _BY_PERSON.get(event.rollout)
    told = {"reason": event.reason} if event.reason else {}
    cause = None if code is None else Cause(code=code, parameters=told, by=event.by)
    waves = rollout.waves
    if event.rollout is RolloutHappening.RESUMED:
        _refuse_past_failure(rollout, event)
        # Whoever resumes a rollout that a gate could not decide on has decided; but for one that
        # wants approval there is a word of its own.
        waves = tuple(
            _wave_after(wave, WaveHappening.APPROVED, now)
            if wave.state is WaveState.INCONCLUSIVE
            and _if_undecided(wave) is Inconclusive.PAUSE
            and not (wave.gate is not None and wave.gate.approval)
            else wave
            for wave in waves
        )
    return replace(rollout, state=state, cause=cause, waves=waves)


_OF_WAVES = {
    RolloutHappening.APPROVED: (WaveHappening.APPROVED, TO_APPROVE),
    RolloutHappening.PROMOTED: (WaveHappening.PROMOTED, UNDECIDED_WAVES),
}
"""What a person says about the present wave: what happens to it, and in which states."""


def _let_pass(rollout: Rollout, event: RolloutEvent, state: RolloutState, now: datetime) -> Rollout:
    """Let the present wave pass, by a person's word; a pause that it was the cause of is over.

    A word that comes twice is about the wave that was seen: it lets no other one pass.
    """
    happening, states = _OF_WAVES[event.rollout]
    _refuse_past_failure(rollout, event)
    present = [wave.number for wave in rollout.waves if wave.state in states]
    if not present or event.wave not in {None, *present}:
        why = (
            f"its wave {event.wave} does not wait for that now"
            if present
            else "no wave of it waits for that"
        )
        raise IllegalEventError(f"rollout {rollout.id}", rollout.state, event.rollout, why)
    passing = present[0] if event.wave is None else event.wave
    undecided = any(wave.state is WaveState.INCONCLUSIVE for wave in rollout.waves)
    goes_on = rollout.state is RolloutState.PAUSED and undecided and not _by_person(rollout)
    waves = tuple(
        _wave_after(wave, happening, now) if wave.number == passing else wave
        for wave in rollout.waves
    )
    if goes_on:
        state = ROLLOUT[RolloutState.PAUSED][RolloutHappening.RESUMED]
    cause = None if goes_on else rollout.cause
    return replace(rollout, state=state, cause=cause, waves=waves)


def _refuse_past_failure(rollout: Rollout, event: RolloutEvent) -> None:
    """Refuse a word that would lead past a gate that failed."""
    if _is_stopped(rollout):
        why = "the gate of a wave failed; start what mends it, retry, or roll back"
        raise IllegalEventError(f"rollout {rollout.id}", rollout.state, event.rollout, why)


def _is_stopped(rollout: Rollout) -> bool:
    paused = rollout.state is RolloutState.PAUSED
    return paused and any(wave.state is WaveState.FAILED for wave in rollout.waves)


def _looked_at_anew(rollout: Rollout, word: RolloutEvent, now: datetime) -> Rollout:
    """Judge a wave that was inconclusive by what those show who are asked again.

    Where nothing is to be asked again, the word is refused. What a person has paused stays so.
    """
    failed = {progress.target for progress in rollout.targets if progress.state in BAD}
    if not failed - word.left_out and not _is_stopped(rollout):
        why = "no target of it failed that no later rollout has decided about"
        raise IllegalEventError(f"rollout {rollout.id}", rollout.state, word.rollout, why)
    over = rollout.state is RolloutState.FAILED
    ended = {each for wave in rollout.waves if not _goes_on(wave) for each in wave.targets}
    if over and failed - word.left_out <= ended:
        why = "the waves of those that failed have ended; start a rollout that asks them"
        raise IllegalEventError(f"rollout {rollout.id}", rollout.state, word.rollout, why)
    anew = {WaveState.INCONCLUSIVE}
    if rollout.state is RolloutState.PAUSED:
        anew.add(WaveState.FAILED)  # it was stopped, and not rolled back
    if not any(wave.state in anew for wave in rollout.waves):
        return rollout
    waves = tuple(
        _wave_after(wave, WaveHappening.RETRIED, now) if wave.state in anew else wave
        for wave in rollout.waves
    )
    if rollout.state is not RolloutState.PAUSED or _by_person(rollout):
        return replace(rollout, waves=waves)
    state = ROLLOUT[RolloutState.PAUSED][RolloutHappening.RESUMED]
    return replace(rollout, state=state, cause=None, waves=waves)


def _by_person(rollout: Rollout) -> bool:
    return rollout.cause is not None and bool(rollout.cause.by)


def _asked_again(
    targets: Mapping[str, Progress], word: RolloutEvent, now: datetime
) -> dict[str, Progress]:
    """Have everybody asked again who failed, whatever the reason and at once: a person said so."""
    return {
        target: replace(progress, again_at=now)
        if progress.state in BAD and target not in word.left_out
        else progress
        for target, progress in targets.items()
    }


def _put_off(rollout: Rollout, now: datetime) -> Rollout:
    """Have those asked again, later, who failed for a reason that may pass."""
    if rollout.retry is None:
        return rollout
    return replace(
        rollout, targets=tuple(_tried_again(rollout, each, now) for each in rollout.targets)
    )


def _tried_again(rollout: Rollout, progress: Progress, now: datetime) -> Progress:
    if not progress.failed or progress.left:
        return progress
    wait_s = again_after(rollout.retry, progress.tries, progress.state, progress.reason)
    if wait_s < 0:
        return progress
    again_at = now + timedelta(seconds=wait_s)
    return replace(progress, again_at=again_at, tries=progress.tries + 1)


def _present(progress: Progress, event: PresenceEvent, now: datetime) -> Progress:
    back = event.online and not event.held and not progress.reachable
    since = now if back and progress.state in TIMED else progress.since
    # Who waited for its window has had no time of its own yet: it has one from when it goes away.
    leaves = progress.keeps_window and not event.online
    began_at = now if leaves else progress.began_at
    return replace(progress, online=event.online, held=event.held, since=since, began_at=began_at)


def _happened(progress: Progress, event: TargetEvent, now: datetime) -> Progress:
    state = _after(TARGET, f"target {event.target}", progress.state, event.happening)
    retried = event.happening is TargetHappening.RETRIED
    if retried:  # its last word was about the revision before
        progress = replace(progress, deployment=progress.again, phase=None)
    # Its last word about this revision stays: what it says now is about the one before.
    goes_back = event.happening is TargetHappening.RETURN_FAILED
    late = state in BAD and progress.state in BAD and event.happening is not TargetHappening.SPARED
    still = late and passes(state, event.reason if event.phase is not None else progress.reason)
    return replace(
        progress,
        state=state,
        again_at=progress.again_at if still else None,  # a late word is no other try
        phase=progress.phase if event.phase is None or goes_back else event.phase,
        reason=progress.reason if event.phase is None else event.reason,
        parameters=progress.parameters if event.phase is None else event.parameters,
        since=now if state is not progress.state else progress.since,
        began_at=_began_at(progress, state, now),
        asked_at=now if state is TargetState.ASKED is not progress.state else progress.asked_at,
    )


def _began_at(progress: Progress, state: TargetState, now: datetime) -> datetime | None:
    """Return when a target's state began; None: it is away, and its way back holds nobody up."""
    if state is progress.state:
        return progress.began_at
    away = state is TargetState.RETURNING and not progress.reachable
    return None if away else now


def _settle(rollout: Rollout, now: datetime) -> Rollout:
    """Apply one round of what follows; `fold` repeats it until nothing changes."""
    if rollout.state in _ACTIVE or rollout.state is RolloutState.DONE:
        rollout = _put_off(rollout, now)
    if rollout.state in _ACTIVE:
        return _drive(rollout, now)
    if rollout.state is RolloutState.ROLLING_BACK:
        return _returned(_spared(_ended(rollout, now)), now)
    if rollout.state in (RolloutState.PLANNED, RolloutState.DONE, RolloutState.ROLLED_BACK):
        return rollout
    return _spared(_ended(rollout, now))


def _drive(rollout: Rollout, now: datetime) -> Rollout:
    """Move the waves of a rollout under way, and the rollout by them."""
    classes = unproven(rollout)
    waves: list[RolloutWave] = []
    for wave, members in rollout.members():
        happening, judgement = _of_wave(rollout, wave, members, classes, now)
        if _is_overtaken(rollout, wave, members):
            happening, judgement = WaveHappening.OVERTAKEN, None
        if happening is None and all(each.state in _OVER for each in waves):
            happening = _start(rollout, wave)
        waves.append(wave if happening is None else _wave_after(wave, happening, now))
        if happening is WaveHappening.SETTLED_BADLY and judgement is not None:
            verdict = _on_failure(rollout, wave)
            kept = verdict is RolloutHappening.STOPPED and _by_person(rollout)
            cause = rollout.cause if kept else _cause(wave, judgement)
            return _with(rollout, verdict, cause, _rest(rollout, waves))
        pauses = _if_undecided(wave) is Inconclusive.PAUSE
        if happening is WaveHappening.UNDECIDED and judgement is not None and pauses:
            running = rollout.state is RolloutState.RUNNING
            pause = RolloutHappening.INCONCLUSIVE if running else None
            cause = _cause(wave, judgement) if running else rollout.cause
            return _with(rollout, pause, cause, _rest(rollout, waves))
    after = replace(rollout, waves=tuple(waves))
    if all(wave.state is WaveState.SUPERSEDED for wave in waves):
        return _with(after, RolloutHappening.OVERTAKEN, None, after.waves)
    over = all(wave.state in _OVER for wave in waves)
    if over and rollout.state is RolloutState.RUNNING:
        return _with(after, RolloutHappening.PASSED, None, after.waves)
    return after


def _on_failure(rollout: Rollout, wave: RolloutWave) -> RolloutHappening:
    """Return what a wave that failed means to its rollout."""
    if wave.gate is None:
        return RolloutHappening.FAILED
    pauses = rollout.on_failure is OnFailure.PAUSE
    return RolloutHappening.STOPPED if pauses else RolloutHappening.GATE_FAILED


def _of_wave(
    rollout: Rollout,
    wave: RolloutWave,
    members: tuple[Progress, ...],
    classes: frozenset[str],
    now: datetime,
) -> tuple[WaveHappening | None, Judgement | None]:
    """Return what happens to one wave, if anything, and the judgement behind it."""
    passed = wave.state is WaveState.PASSED
    if wave.state not in UNDECIDED_WAVES and not passed:
        return None, None
    judgement = judge(wave, members, classes, now)
    if judgement.verdict is Verdict.FAILURE:
        return WaveHappening.SETTLED_BADLY, judgement
    if judgement.reason is GateReason.MEASURING:  # it soaks until enough was told
        running = wave.state is WaveState.RUNNING
        return (WaveHappening.SETTLED_WELL if running else None), judgement
    return (None if passed else _by_verdict(rollout, wave, judgement.verdict, now)), judgement


def _is_overtaken(rollout: Rollout, wave: RolloutWave, members: Sequence[Progress]) -> bool:
    """Tell whether nobody is left here, and whoever comes later needs no word from here.

    A gate that heard of nobody is no gate that was passed: who is still to come
    waits behind it.
    """
    if wave.state not in UNDECIDED_WAVES and wave.state is not WaveState.WAITING:
        return False
    if any(each.state is not TargetState.SUPERSEDED for each in members):
        return False
    if wave.gate is None:
        return True
    targets, later = rollout.by_target(), rollout.waves[wave.number :]
    return all(
        targets[target].state is TargetState.SUPERSEDED for each in later for target in each.targets
    )


def _by_verdict(  # noqa: PLR0911  # one case a verdict
    rollout: Rollout, wave: RolloutWave, verdict: Verdict, now: datetime
) -> WaveHappening | None:
    """Return where a verdict that is no failure leads a wave that is under way."""
    running = rollout.state is RolloutState.RUNNING
    match verdict, wave.state:
        case Verdict.SUCCESS, WaveState.SOAKING:
            soaked = (due := decides_at(wave)) is None or now >= due
            asks = wave.gate is not None and wave.gate.approval
            passes = WaveHappening.APPROVAL_WANTED if asks else WaveHappening.SOAKED
            return passes if soaked and running else None
        case Verdict.SUCCESS, WaveState.TO_APPROVE:
            return None
        case Verdict.SUCCESS, _:
            return WaveHappening.SETTLED_WELL
        case Verdict.PENDING, WaveState.SOAKING | WaveState.TO_APPROVE:
            return WaveHappening.UNSETTLED
        case Verdict.INCONCLUSIVE, WaveState.RUNNING | WaveState.SOAKING | WaveState.TO_APPROVE:
            return WaveHappening.UNDECIDED
        case _, WaveState.INCONCLUSIVE if _if_undecided(wave) is Inconclusive.SKIP and running:
            return WaveHappening.APPROVED
        case _:
            return None


def _start(rollout: Rollout, wave: RolloutWave) -> WaveHappening | None:
    running = rollout.state is RolloutState.RUNNING
    return WaveHappening.STARTED if running and wave.state is WaveState.WAITING else None


def _if_undecided(wave: RolloutWave) -> Inconclusive:
    return Inconclusive.PAUSE if wave.gate is None else wave.gate.inconclusive


def _cause(wave: RolloutWave, judgement: Judgement) -> Cause:
    return Cause(
        code=judgement.reason, parameters={"wave": str(wave.number), **judgement.parameters}
    )


def _with(
    rollout: Rollout,
    happening: RolloutHappening | None,
    cause: Cause | None,
    waves: tuple[RolloutWave, ...],
) -> Rollout:
    state = rollout.state
    if happening is not None:
        state = _after(ROLLOUT, f"rollout {rollout.id}", state, happening)
    return replace(rollout, state=state, cause=cause, waves=waves)


def _rest(rollout: Rollout, waves: list[RolloutWave]) -> tuple[RolloutWave, ...]:
    return (*waves, *rollout.waves[len(waves) :])


def _ended(rollout: Rollout, now: datetime) -> Rollout:
    """End the waves that will not go on."""
    waves = tuple(
        _wave_after(wave, WaveHappening.ABORTED, now)
        if wave.state is WaveState.WAITING or wave.state in UNDECIDED_WAVES
        else wave
        for wave in rollout.waves
    )
    return replace(rollout, waves=waves)


def _spared(rollout: Rollout) -> Rollout:
    """Spare who was never asked and never will be.

    Where no gate stood behind a wave that failed, who was away still gets it, there and in the
    waves that passed before.
    """
    catching_up = {
        target
        for wave in rollout.waves
        if rollout.state is RolloutState.FAILED and _goes_on(wave)
        for target in wave.targets
    }
    targets = tuple(
        _left_alone(progress) if progress.target not in catching_up else progress
        for progress in rollout.targets
    )
    return replace(rollout, targets=targets)


def _goes_on(wave: RolloutWave) -> bool:
    """Tell whether a wave's targets may still be asked once the rollout has failed."""
    ungated = wave.state is WaveState.FAILED and wave.gate is None
    return ungated or wave.state is WaveState.PASSED


def _left_alone(progress: Progress) -> Progress:
    """Return a target that will not be asked, or not again."""
    if progress.state is not TargetState.PLANNED and progress.again_at is None:
        return progress
    subject, spared = f"target {progress.target}", TargetHappening.SPARED
    return replace(progress, state=_after(TARGET, subject, progress.state, spared), again_at=None)


def _returned(rollout: Rollout, now: datetime) -> Rollout:
    """End a return once everybody who can be reached is back."""
    if is_stuck(rollout):
        return _with(rollout, RolloutHappening.RETURN_FAILED, rollout.cause, rollout.waves)
    if not is_over(rollout, now):
        return rollout
    stuck = any(progress.state is TargetState.NOT_RETURNED for progress in rollout.targets)
    happening = RolloutHappening.RETURN_FAILED if stuck else RolloutHappening.RETURNED
    return _with(rollout, happening, rollout.cause, rollout.waves)


def _wave_after(wave: RolloutWave, happening: WaveHappening, now: datetime) -> RolloutWave:
    state = _after(WAVE, f"wave {wave.number}", wave.state, happening)
    started_at = now if happening is WaveHappening.STARTED else wave.started_at
    evidence = None if happening is WaveHappening.RETRIED else wave.evidence
    return replace(wave, state=state, since=now, started_at=started_at, evidence=evidence)


def _after(
    table: Mapping[StateT, Mapping[HappeningT, StateT]],
    subject: str,
    state: StateT,
    happening: HappeningT,
) -> StateT:
    try:
        return table[state][happening]
    except KeyError:
        raise IllegalEventError(subject, state, happening) from None
