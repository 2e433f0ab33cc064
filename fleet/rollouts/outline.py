"""A rollout without its targets: how far it is, in numbers. Pure.

Whoever lists rollouts, draws the fleet or looks for alerts needs no more than this, and
it is as small for a hundred thousand targets as for three.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.wire.v1 import BundleRef
from fleet.rollouts.policy import Budget, OnFailure, Retry
from fleet.rollouts.progress import Cause, Progress, Rollout, RolloutWave
from fleet.rollouts.states import UNDER_WAY, RolloutState, TargetState
from fleet.rollouts.trace import Trace

_WAITED_FOR = frozenset({*UNDER_WAY, TargetState.PLANNED, TargetState.RETURNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a rollout is without its targets; its waves don't name theirs either.

    `counts` are targets by state, those that are there; `set_aside` can't be asked now
    and have not settled. Something is waited for from `awaited`; `awaited_here` of them
    can be reached. `moved` is when a wave's or a target's state last began. `replaces`
    are what targets had before, as name, version and how many. `ends` says of each wave
    how many of it have committed and how many have failed.
    """

    id: str
    plan_digest: str
    deployment: str
    waves: tuple[RolloutWave, ...]
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
    counts: Mapping[TargetState, int] = field(default_factory=dict)
    set_aside: int = 0
    awaited: int = 0
    awaited_here: int = 0
    moved: datetime | None = None
    replaces: tuple[tuple[str, str, int], ...] = ()
    ends: tuple[tuple[int, int], ...] = ()

    @property
    def size(self) -> int:
        """How many targets it has."""
        return sum(self.counts.values())

    def filled(
        self, members: Mapping[int, tuple[str, ...]], targets: tuple[Progress, ...]
    ) -> Rollout:
        """Return the rollout itself: with its targets, and with those of each wave by number."""
        return Rollout(
            id=self.id,
            plan_digest=self.plan_digest,
            deployment=self.deployment,
            waves=tuple(replace(each, targets=members.get(each.number, ())) for each in self.waves),
            targets=targets,
            bundle=self.bundle,
            canaries=self.canaries,
            budgets=self.budgets,
            retry=self.retry,
            on_failure=self.on_failure,
            state=self.state,
            cause=self.cause,
            trace=self.trace,
            started_at=self.started_at,
            since=self.since,
        )


def outline(rollout: Rollout) -> Outline:
    """Return a rollout without its targets."""
    counts = Counter(progress.state for progress in rollout.targets)
    awaited = [each.reachable for each in rollout.targets if each.state in _WAITED_FOR]
    before = Counter(
        (had.bundle.name, had.bundle.version)
        for had in (progress.replaces for progress in rollout.targets)
        if had is not None
    )
    times = {wave.since for wave in rollout.waves} | {each.since for each in rollout.targets}
    return Outline(
        id=rollout.id,
        plan_digest=rollout.plan_digest,
        deployment=rollout.deployment,
        waves=tuple(replace(wave, targets=()) for wave in rollout.waves),
        bundle=rollout.bundle,
        canaries=rollout.canaries,
        budgets=rollout.budgets,
        retry=rollout.retry,
        on_failure=rollout.on_failure,
        state=rollout.state,
        cause=rollout.cause,
        trace=rollout.trace,
        started_at=rollout.started_at,
        since=rollout.since,
        counts={state: counts[state] for state in TargetState if counts[state]},
        set_aside=sum(progress.set_aside for progress in rollout.targets),
        awaited=len(awaited),
        awaited_here=sum(awaited),
        moved=max((each for each in times if each is not None), default=None),
        replaces=tuple((*had, number) for had, number in before.most_common()),
        ends=tuple(_ends(members) for _, members in rollout.members()),
    )


def _ends(members: Iterable[Progress]) -> tuple[int, int]:
    good = bad = 0
    for progress in members:
        good += progress.state is TargetState.COMMITTED
        bad += progress.failed
    return good, bad
