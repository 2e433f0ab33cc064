"""A rollout from start to end: events fold it into a new frozen value. Pure.

Theory. Three machines (the tables are in `fleet.rollouts.states`): the rollout,
its waves, its targets. A target is
`planned`, is `asked` when the store holds its new document, is `updating` from
its first report about that very (deployment, revision, digest), and settles as
`committed`, `rolled-back` or `refused`, or `superseded` when something newer is
wanted of it. Reports about any other revision or digest are not events at all.

A wave has settled when each of its targets has settled or is away. It then
passes if none of them failed, and at least one committed: a wave that heard
from nobody waits, because no data decides nothing. Being away is not a state
but a fact beside it: an offline target is *set aside*, is no failure, and
carries on where it was when it returns, also after the rollout has ended; how
the rollout ended does not change by that, the outcome of that target does.

The rim looks and acts; this decides. One pass: `seen` tells what the inventory
implies, `fold` applies it, `due` says whose documents are to be written now.
A pass that is cut off anywhere is repaired by the next: whether a target was
asked is read from the store, not remembered.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from agent.wire.phases import Phase
from agent.wire.v1 import Deployment
from fleet.inventory import Inventory, Target
from fleet.rollouts.plan import Plan
from fleet.rollouts.states import (
    BAD,
    COUPLED,
    ROLLOUT,
    SETTLED,
    TARGET,
    WAVE,
    RolloutHappening,
    RolloutState,
    TargetHappening,
    TargetState,
    WaveHappening,
    WaveState,
)

__all__ = [
    "Event",
    "IllegalEventError",
    "PresenceEvent",
    "Progress",
    "Rollout",
    "RolloutEvent",
    "RolloutHappening",
    "RolloutState",
    "RolloutWave",
    "TargetEvent",
    "TargetHappening",
    "TargetState",
    "WaveState",
    "begin",
    "due",
    "fold",
    "seen",
]

StateT = TypeVar("StateT", bound=StrEnum)
HappeningT = TypeVar("HappeningT", bound=StrEnum)


_PHASES = {
    Phase.COMMITTED: TargetHappening.COMMITTED,
    Phase.ROLLED_BACK: TargetHappening.ROLLED_BACK,
    Phase.REFUSED: TargetHappening.REFUSED,
    Phase.RETIRED: None,  # told from the store instead: what replaced it is there
}


class IllegalEventError(Exception):
    """An event that the tables have no row for: a bug of ours, named by state and event."""

    def __init__(self, subject: str, state: StrEnum, happening: StrEnum) -> None:
        super().__init__(f"{subject} is {state}; it can't be {happening}")
        self.state = state
        self.happening = happening


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One target in a rollout. `phase` and `reason` are its last word about this revision."""

    target: str
    deployment: Deployment
    online: bool
    state: TargetState = TargetState.PLANNED
    phase: Phase | None = None
    reason: str | None = None

    @property
    def set_aside(self) -> bool:
        """It can't be asked now, and has not settled."""
        return not self.online and self.state not in SETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutWave:
    """One wave and how far it is."""

    number: int
    targets: tuple[str, ...]
    state: WaveState = WaveState.WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout at one moment. `targets` are in the order of the plan's steps."""

    id: str
    plan_digest: str
    deployment: str
    waves: tuple[RolloutWave, ...]
    targets: tuple[Progress, ...]
    state: RolloutState = RolloutState.PLANNED

    def count(self) -> Mapping[TargetState, int]:
        """Return how many targets are in each state; set aside is counted by `set_aside`."""
        counted = Counter(progress.state for progress in self.targets)
        return {state: counted[state] for state in TargetState}

    def set_aside(self) -> tuple[str, ...]:
        """Return the targets that are away and have not settled."""
        return tuple(progress.target for progress in self.targets if progress.set_aside)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent:
    """A person's word: `started` or `aborted`."""

    rollout: RolloutHappening


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEvent:
    """Something happened to one target; `phase` and `reason` are what it said."""

    target: str
    happening: TargetHappening
    phase: Phase | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceEvent:
    """A target went away or came back."""

    target: str
    online: bool


Event = RolloutEvent | TargetEvent | PresenceEvent


def begin(plan: Plan, rollout_id: str) -> Rollout:
    """Return the rollout that carries out `plan`, before anything has happened.

    Raises:
        ValueError: the plan has no step, so there is nothing to roll out.
    """
    if not plan.steps:
        raise ValueError("the plan has no step: nothing to roll out")
    return Rollout(
        id=rollout_id,
        plan_digest=plan.digest,
        deployment=plan.request.deployment,
        waves=tuple(RolloutWave(number=wave.number, targets=wave.targets) for wave in plan.waves),
        targets=tuple(
            Progress(target=step.target, deployment=step.deployment, online=step.online)
            for step in plan.steps
        ),
    )


def seen(rollout: Rollout, inventory: Inventory) -> tuple[Event, ...]:
    """Return the events that the inventory implies and the rollout has not folded yet.

    A target that the inventory lacks is away: the inventory is incomplete.
    """
    known = inventory.by_device()
    events: list[Event] = []
    for progress in rollout.targets:
        target = known.get(progress.target)
        online = target is not None and target.online
        if online != progress.online:
            events.append(PresenceEvent(target=progress.target, online=online))
        if target is not None and progress.state not in SETTLED:
            events += _of_target(progress, target)
    return tuple(events)


def due(rollout: Rollout) -> tuple[Progress, ...]:
    """Return the targets whose new document is to be written to the store now."""
    running = {
        target
        for wave in rollout.waves
        if wave.state is WaveState.RUNNING
        for target in wave.targets
    }
    return tuple(
        progress
        for progress in rollout.targets
        if progress.target in running and progress.state is TargetState.PLANNED
    )


def fold(rollout: Rollout, events: Iterable[Event]) -> Rollout:
    """Return the rollout after these events, and all that follows from them.

    Raises:
        IllegalEventError: the tables have no row for one of them; nothing is folded.
        KeyError: an event is about a target that is not in the rollout.
    """
    targets = {progress.target: progress for progress in rollout.targets}
    state = rollout.state
    for event in events:
        if isinstance(event, RolloutEvent):
            state = _after(ROLLOUT, f"rollout {rollout.id}", state, event.rollout)
            continue
        progress = targets[event.target]
        if isinstance(event, PresenceEvent):
            targets[event.target] = replace(progress, online=event.online)
        else:
            moved = _after(TARGET, f"target {event.target}", progress.state, event.happening)
            targets[event.target] = replace(
                progress, state=moved, phase=event.phase, reason=event.reason
            )
    return _coupled(replace(rollout, state=state, targets=tuple(targets.values())))


def _of_target(progress: Progress, target: Target) -> list[Event]:
    """Read one target that has not settled: was it asked, was it overtaken, what did it say."""
    mine = progress.deployment
    wanted = target.wanted(mine.name)
    if wanted != mine:
        gone = wanted is None and progress.state is not TargetState.PLANNED
        if gone or (wanted is not None and wanted.revision >= mine.revision):
            return [TargetEvent(target=target.device, happening=TargetHappening.OVERTAKEN)]
        return []
    events: list[Event] = []
    if progress.state is TargetState.PLANNED:
        events.append(TargetEvent(target=target.device, happening=TargetHappening.ASKED))
    told = target.told(mine.name)
    if told is None or (told.revision, told.digest) != (mine.revision, mine.bundle.digest):
        return events
    reason = None if told.last_error is None else told.last_error.reason
    happening = _PHASES.get(told.phase, TargetHappening.PROGRESSED)
    if happening is not None and (told.phase, reason) != (progress.phase, progress.reason):
        events.append(
            TargetEvent(target=target.device, happening=happening, phase=told.phase, reason=reason)
        )
    return events


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


def _coupled(rollout: Rollout) -> Rollout:
    """Apply what follows from the targets and from pairs of states, until nothing changes."""
    targets = {progress.target: progress for progress in rollout.targets}
    while True:
        state, waves = rollout.state, list(rollout.waves)
        for index, wave in enumerate(waves):
            happening = _verdict(wave, targets) or COUPLED.get((state, wave.state))
            if happening is None and state is RolloutState.RUNNING and _is_next(waves, index):
                happening = WaveHappening.STARTED
            if isinstance(happening, WaveHappening):
                moved = _after(WAVE, f"wave {wave.number}", wave.state, happening)
                waves[index] = replace(wave, state=moved)
            elif happening is not None:
                state = _after(ROLLOUT, f"rollout {rollout.id}", state, happening)
        if state is RolloutState.RUNNING and all(wave.state is WaveState.PASSED for wave in waves):
            state = _after(ROLLOUT, f"rollout {rollout.id}", state, RolloutHappening.PASSED)
        after = replace(rollout, state=state, waves=tuple(waves))
        if after == rollout:
            return rollout
        rollout = after


def _is_next(waves: list[RolloutWave], index: int) -> bool:
    """Say whether this wave waits for nothing any more but its start."""
    before = all(wave.state is WaveState.PASSED for wave in waves[:index])
    return before and waves[index].state is WaveState.WAITING


def _verdict(wave: RolloutWave, targets: Mapping[str, Progress]) -> WaveHappening | None:
    """Judge a running wave; None: it has not settled, or nobody was heard from."""
    if wave.state is not WaveState.RUNNING:
        return None
    members = [targets[target] for target in wave.targets]
    states = {member.state for member in members}
    if any(member.online and member.state not in SETTLED for member in members):
        return None
    if states & BAD:
        return WaveHappening.SETTLED_BADLY
    if TargetState.COMMITTED in states:
        return WaveHappening.SETTLED_WELL
    return WaveHappening.OVERTAKEN if states == {TargetState.SUPERSEDED} else None
