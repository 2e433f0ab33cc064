"""What was seen of a rollout's targets, as events. Pure.

Reports about any other revision or digest than the rollout's own are not events
at all: a stale, doubled or reordered report has no effect.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.wire.phases import Phase
from agent.wire.v1 import Deployment
from agent.wire.windows import waits_for_window
from fleet.inventory import Inventory, Target
from fleet.rollouts.gate import late_at
from fleet.rollouts.plan import replaced
from fleet.rollouts.progress import (
    AmendedEvent,
    Event,
    PresenceEvent,
    Progress,
    Rollout,
    TargetEvent,
)
from fleet.rollouts.states import (
    BAD,
    ENDED,
    SETTLED,
    TO_RETURN,
    RolloutState,
    TargetHappening,
    TargetState,
)

_PHASES = {
    Phase.COMMITTED: TargetHappening.COMMITTED,
    Phase.ROLLED_BACK: TargetHappening.ROLLED_BACK,
    Phase.REFUSED: TargetHappening.REFUSED,
    Phase.RETIRED: None,  # told from the store instead: what replaced it is there
}

_LOOKED_AT = frozenset(
    {
        TargetState.PLANNED,
        *TO_RETURN,
        TargetState.RETURNING,
        TargetState.NOT_RETURNED,
    }
)


def seen(rollout: Rollout, inventory: Inventory, now: datetime) -> tuple[Event, ...]:
    """Return the events that the inventory implies and the rollout has not folded yet.

    A target that the inventory lacks is away: the inventory is incomplete.
    """
    known = inventory.by_device()
    events: list[Event] = []
    for wave, members in rollout.members():
        for progress in members:
            target = known.get(progress.target)
            moved = _presence(progress, target)
            events += moved
            if target is None or progress.state not in _LOOKED_AT:
                continue
            told = _of_target(rollout, progress, target)
            late = late_at(progress, wave)
            # Who just went or just came has no deadline that could have passed.
            if not told and not moved and progress.reachable and late is not None and now >= late:
                told = [_event(progress, TargetHappening.TIMED_OUT)]
            events += told
    return tuple(events)


def outlived(
    rollout: Rollout, wanted: Mapping[str, Deployment], taken: Container[str] = ()
) -> Rollout:
    """Return a rollout as it is to be read after its end: other content may be wanted since.

    Args:
        rollout: the rollout; nobody looks after it once it has ended.
        wanted: what each target wants now under the rollout's name; a target that wants
            nothing there is missing.
        taken: the targets that want what a later rollout brought, whatever it is.
    """
    if rollout.state not in ENDED:
        return rollout
    targets = tuple(
        replace(progress, state=TargetState.SUPERSEDED)
        if progress.state is TargetState.COMMITTED
        and (progress.target in taken or _is_other(progress, wanted))
        else progress
        for progress in rollout.targets
    )
    return replace(rollout, targets=targets)


def _is_other(progress: Progress, wanted: Mapping[str, Deployment]) -> bool:
    now = wanted.get(progress.target)
    return now is None or now.bundle.digest != progress.deployment.bundle.digest


def _presence(progress: Progress, target: Target | None) -> list[Event]:
    online = target is not None and target.online
    held = target is not None and target.reported is not None and target.reported.hold is not None
    held = held or (target is not None and _keeps_its_window(progress, target))
    if (online, held) == (progress.online, progress.held):
        return []
    return [PresenceEvent(target=progress.target, online=online, held=held)]


def _keeps_its_window(progress: Progress, target: Target) -> bool:
    """Tell whether it will do what it was asked to when it may: it is not late for that."""
    told = target.told(progress.deployment.name)
    if told is None or told.last_error is None:
        return False
    if not waits_for_window(told.phase, told.last_error.reason):
        return False
    back = progress.returning if progress.state is TargetState.RETURNING else None
    return _said_of(target, back or progress.deployment) is not None


def _of_target(rollout: Rollout, progress: Progress, target: Target) -> list[Event]:
    """Read one target: was it asked, was it overtaken, what did it say."""
    if progress.state in (TargetState.RETURNING, TargetState.NOT_RETURNED):
        return _of_return(progress, target)
    wanted = target.wanted(progress.deployment.name)
    amended = _amended(progress, target, wanted)
    if amended and wanted != progress.returning:
        return amended
    if progress.again_at is not None and wanted == progress.again:
        return [_event(progress, TargetHappening.RETRIED)]
    if wanted != progress.deployment:
        return _of_another(rollout, progress, wanted)
    events: list[Event] = []
    if progress.state is TargetState.PLANNED:
        events.append(_event(progress, TargetHappening.ASKED))
    return events + _told(progress, target)


def _of_another(rollout: Rollout, progress: Progress, wanted: Deployment | None) -> list[Event]:
    """Read a target of which the store wants something else under this name, or nothing."""
    if progress.state in TO_RETURN and rollout.state is RolloutState.ROLLING_BACK:
        mine = wanted == progress.returning
        return [
            _event(progress, TargetHappening.RETURN_ASKED if mine else TargetHappening.OVERTAKEN)
        ]
    gone = wanted is None and progress.state is not TargetState.PLANNED
    newer = wanted is not None and wanted.revision >= progress.deployment.revision
    if (gone or newer) and not progress.settled:
        return [_event(progress, TargetHappening.OVERTAKEN)]
    return []


def _amended(progress: Progress, target: Target, wanted: Deployment | None) -> list[Event]:
    """Read whether another rollout that was rolled back since changes what this one is about."""
    mine, before = progress.deployment, progress.replaces
    if progress.state is TargetState.PLANNED:
        if wanted is None or wanted.revision < mine.revision:
            before = replaced(target, mine.name)
    elif progress.state is TargetState.COMMITTED and wanted is not None:
        # The same content under a newer revision: what came after this was rolled back.
        newer = wanted.revision > mine.revision
        mine = wanted if newer and replace(mine, revision=wanted.revision) == wanted else mine
    if (mine, before) == (progress.deployment, progress.replaces):
        return []
    return [AmendedEvent(target=progress.target, deployment=mine, replaces=before)]


def _told(progress: Progress, target: Target) -> list[Event]:
    """Read what a target that was asked says of the rollout's own revision."""
    said = _said_of(target, progress.deployment)
    if said is None:
        return []
    happening = _PHASES.get(said.phase, TargetHappening.PROGRESSED)
    ended = progress.state in SETTLED
    if happening is None or (said.phase, said.reason) == (progress.phase, progress.reason):
        return []
    if ended and not (
        progress.state is TargetState.COMMITTED and happening is TargetHappening.ROLLED_BACK
    ):
        return []
    if progress.state in BAD and happening is TargetHappening.PROGRESSED:
        return []  # it had its time; only an end counts now
    return [_event(progress, happening, said)]


def _of_return(progress: Progress, target: Target) -> list[Event]:
    """Read one target that was told to go back."""
    back, name = progress.returning, progress.deployment.name
    wanted = target.wanted(name)
    if wanted != back:
        return [_event(progress, TargetHappening.OVERTAKEN)]
    if back is None:
        return [_event(progress, TargetHappening.RETURNED)] if _is_without(target, name) else []
    said = _said_of(target, back)
    if said is not None and said.phase is Phase.COMMITTED:
        # Its last word about the rollout's own revision stays: that is why it went back.
        return [_event(progress, TargetHappening.RETURNED)]
    failed = said is not None and said.phase in (Phase.REFUSED, Phase.ROLLED_BACK)
    if failed and progress.state is TargetState.RETURNING:
        return [_event(progress, TargetHappening.RETURN_FAILED, said)]
    return []


def _is_without(target: Target, name: str) -> bool:
    """Tell whether the target acts on a document that lacks this name, and serves it no more."""
    if target.desired is None or target.reported is None or target.reported.observed is None:
        return False
    return target.reported.observed >= target.desired.order and target.told(name) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """A target's word about a revision: how far it is, and why."""

    phase: Phase
    reason: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def _said_of(target: Target, deployment: Deployment) -> _Said | None:
    """Return what a target says of exactly this revision and digest; None: nothing."""
    told = target.told(deployment.name)
    if told is None or told.revision != deployment.revision:
        return None
    if told.digest != deployment.bundle.digest:
        return None
    problem = told.last_error
    if problem is None:
        return _Said(phase=told.phase)
    return _Said(phase=told.phase, reason=problem.reason, parameters=problem.parameters)


def _event(
    progress: Progress, happening: TargetHappening, said: _Said | None = None
) -> TargetEvent:
    if said is None:
        return TargetEvent(target=progress.target, happening=happening)
    return TargetEvent(
        target=progress.target,
        happening=happening,
        phase=said.phase,
        reason=said.reason,
        parameters=said.parameters,
    )
