"""A rollout at one moment, and what may happen to it, as values. Pure.

A rollout is three machines (`fleet.rollouts.states` has their tables): the
rollout, its waves, its targets. Whether a target can be reached is not a state
but a fact beside it: one that can't be is *set aside*, is no failure, has no
timer, and carries on where it was when it is back, also after the rollout has
ended. All times are dates, so that a centre that was away goes on from where it
was.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from agent.wire.phases import Phase
from agent.wire.v1 import BundleRef, Deployment
from agent.wire.windows import waits_for_window
from fleet.rollouts.findings import Evidence
from fleet.rollouts.plan import REVISION_GAP, Plan
from fleet.rollouts.policy import Budget, Gate, OnFailure, Retry
from fleet.rollouts.states import (
    BAD,
    SETTLED,
    TIMED,
    RolloutHappening,
    RolloutState,
    TargetHappening,
    TargetState,
    WaveState,
)
from fleet.rollouts.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One target in a rollout.

    `deployment` is what it gets, `replaces` what it goes back to if it has to
    (None: to nothing under that name). `phase`, `reason` and what came with it
    are its last word about this revision, `since` is when its state began, or when it could be
    reached again in that state; `began_at` is when it began, however often it came and went, or
    when a centre that was away itself was back. `groups` are its values of the labels that
    budgets are about. `again_at`: it failed, and from then on it is to be asked again; until it
    has been, its failure counts neither way. `tries`: so often that was so by itself.
    `left`: a newer rollout has decided about it, so that it is not asked again by itself.
    """

    target: str
    deployment: Deployment
    name: str = ""
    class_name: str = ""
    replaces: Deployment | None = None
    online: bool = True
    held: bool = False
    state: TargetState = TargetState.PLANNED
    phase: Phase | None = None
    reason: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    began_at: datetime | None = None
    asked_at: datetime | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    tries: int = 0
    again_at: datetime | None = None
    left: bool = False

    @property
    def reachable(self) -> bool:
        """It can do what it is asked now: it is online, and neither held nor before its window."""
        return self.online and not self.held

    @property
    def before_window(self) -> bool:
        """It is held by its own window alone, as it last said."""
        return self.held and waits_for_window(self.phase, self.reason)

    @property
    def keeps_window(self) -> bool:
        """It is here, and goes on by itself when its window opens: what it takes up, it keeps."""
        return self.online and self.before_window

    @property
    def set_aside(self) -> bool:
        """It can't be asked now, and has not settled."""
        return not self.reachable and not self.settled

    @property
    def settled(self) -> bool:
        """Nothing more is expected of it by itself, and nothing more is asked of it."""
        return self.state in SETTLED and self.again_at is None

    @property
    def failed(self) -> bool:
        """It did not take it, and is not to be asked again."""
        return self.state in BAD and self.again_at is None

    @property
    def again(self) -> Deployment:
        """What it is to get if it is asked again: the same under a revision that it never saw.

        As in a plan, the number below the next is left for a return.
        """
        return replace(self.deployment, revision=self.deployment.revision + REVISION_GAP)

    @property
    def returning(self) -> Deployment | None:
        """What it is to serve if this rollout is rolled back: the old content, a new revision.

        The planner leaves this number free (`fleet.rollouts.plan`).
        """
        if self.replaces is None:
            return None
        return replace(self.replaces, revision=self.deployment.revision + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutWave:
    """One wave and how far it is. `since` is when its state began.

    `evidence` is what its gate's checks read; None: it has none, or nothing was told yet.
    """

    number: int
    targets: tuple[str, ...]
    title: str = ""
    gate: Gate | None = None
    state: WaveState = WaveState.WAITING
    since: datetime | None = None
    started_at: datetime | None = None
    evidence: Evidence | None = None


class PersonReason(StrEnum):
    """Why a rollout is as it is, where a person said so."""

    PAUSED_BY_PERSON = "PAUSED_BY_PERSON"
    ABORTED_BY_PERSON = "ABORTED_BY_PERSON"
    ROLLED_BACK_BY_PERSON = "ROLLED_BACK_BY_PERSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a rollout is paused, goes back or was ended: a code, its parameters, and who said it.

    `by` is empty where nobody did: then a gate decided.
    """

    code: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout at one moment. `targets` are in the order of the plan's steps.

    `canaries`: so many of a class must have committed before more are asked;
    None: no such rule. `since` is when its state began. `trace` is None where a centre
    began it that knew of none.
    """

    id: str
    plan_digest: str
    deployment: str
    waves: tuple[RolloutWave, ...]
    targets: tuple[Progress, ...]
    bundle: BundleRef | None = None
    canaries: int | None = None
    budgets: tuple[Budget, ...] = ()
    retry: Retry | None = None
    on_failure: OnFailure = OnFailure.ROLL_BACK
    state: RolloutState = RolloutState.PLANNED
    cause: Cause | None = None
    trace: Trace | None = None
    started_at: datetime | None = None
    since: datetime | None = None
    _members: list[tuple[RolloutWave, tuple[Progress, ...]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def count(self) -> Mapping[TargetState, int]:
        """Return how many targets are in each state; set aside is counted by `set_aside`."""
        counted = Counter(progress.state for progress in self.targets)
        return {state: counted[state] for state in TargetState}

    def set_aside(self) -> tuple[str, ...]:
        """Return the targets that can't be asked now and have not settled."""
        return tuple(progress.target for progress in self.targets if progress.set_aside)

    def by_target(self) -> dict[str, Progress]:
        """Return the targets by their id."""
        return {progress.target: progress for progress in self.targets}

    def members(self) -> Sequence[tuple[RolloutWave, tuple[Progress, ...]]]:
        """Return each wave with its targets; remembered, because a look asks several times."""
        if not self._members:
            targets = self.by_target()
            found = [(wave, tuple(map(targets.__getitem__, wave.targets))) for wave in self.waves]
            self._members[:] = found  # at once: other threads read it
        return self._members


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent:
    """A person's word about a rollout: started, paused, … retried. By whom, and why.

    It is not about those `left_out`: a later rollout has decided about them. `wave` is the one
    that was seen, where it is about a wave; None: whichever is present.
    """

    rollout: RolloutHappening
    by: str = ""
    reason: str = ""
    wave: int | None = None
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEvent:
    """Something happened to one target; `phase`, `reason` and `parameters` are what it said."""

    target: str
    happening: TargetHappening
    phase: Phase | None = None
    reason: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceEvent:
    """A target went away or came back, was held or released."""

    target: str
    online: bool
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendedEvent:
    """What a target gets, or goes back to, is no longer what it was when the rollout was planned.

    Another rollout was rolled back since: before this one asked, and then
    `replaces` is otherwise; or afterwards, and then the target serves this
    one's content again, under a newer revision.
    """

    target: str
    deployment: Deployment
    replaces: Deployment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftEvent:
    """A newer rollout has decided about a target: this one asks it nothing more by itself."""

    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEvent:
    """More was told about a wave: this is all of it."""

    wave: int
    evidence: Evidence


Event = RolloutEvent | TargetEvent | PresenceEvent | AmendedEvent | LeftEvent | MeasuredEvent


def cut_off(rollout: Rollout, now: datetime) -> Rollout:
    """Return the rollout as a centre finds it that was away itself: nobody was in reach of it.

    Who is here comes back by the next look, with a deadline that starts anew; who stays away is
    down for as long as one that went away now. Of who has no deadline it makes no difference.
    What was proven stays, and so does a soak: devices serve without a centre.
    """
    return replace(
        rollout,
        waves=tuple(
            replace(wave, since=now) if wave.state is WaveState.RUNNING else wave
            for wave in rollout.waves
        ),
        targets=tuple(
            replace(progress, online=False, began_at=now) if progress.state in TIMED else progress
            for progress in rollout.targets
        ),
    )


def begin(plan: Plan, rollout_id: str, trace: Trace | None = None) -> Rollout:
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
        bundle=plan.request.bundle,
        canaries=plan.policy.canaries,
        budgets=plan.policy.budgets,
        retry=plan.policy.retry,
        on_failure=plan.policy.on_failure,
        trace=trace,
        waves=tuple(
            RolloutWave(number=wave.number, title=wave.title, targets=wave.targets, gate=wave.gate)
            for wave in plan.waves
        ),
        targets=tuple(
            Progress(
                target=step.target,
                name=step.name,
                class_name=step.class_name,
                deployment=step.deployment,
                replaces=step.replaces,
                online=step.online,
                held=step.hold is not None,
                groups=step.groups,
            )
            for step in plan.steps
        ),
    )
