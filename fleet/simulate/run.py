"""One simulated rollout: the planner looks and asks, devices walk, time leaps. Pure.

The planner is the one that decides for real (`fleet.rollouts`): `seen`, `fold`, `due`,
`look_again_at`, on an inventory that the simulated devices fill. It looks when
something was heard, at most once in `look_s`, and when time alone may change something: as
the executor does. What a look costs is bounded by reading only what may have changed
since the last one: a rollout cut down to those devices implies the same events.
"""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.wire.phases import Phase
from agent.wire.v1 import Desired, Hold, Order, Problem, Reported, ReportedDeployment
from fleet.inventory import Inventory, Target
from fleet.rollouts.asking import due, look_again_at
from fleet.rollouts.documents import renewed, without
from fleet.rollouts.errors import PlanError
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.progress import MeasuredEvent, Progress, Rollout, RolloutEvent
from fleet.rollouts.states import ENDED, RolloutState, TargetState, WaveState
from fleet.simulate.outcome import Decided, Ending, Run
from fleet.simulate.twin import Draw, Twin
from fleet.simulate.walk import Told, Walker

LOOK_S = 5.0
"""How often the executor looks at the least."""

_RARELY_S = 60.0
_DEVICES_A_SECOND = 10_000
_DEVICES_A_SHARE = 2_000_000
"""A simulation of 100,000 devices looks every ten seconds, then every twentieth of the time that
has gone by, and always once a minute: a long one costs less, and who breaks a soak is still seen.
One of fewer devices looks sooner."""

_ON_THE_WAY_S = 0.5
"""How long a document, or a report, is on its way."""

_ISSUED_AT = "2026-01-01T00:00:00Z"
_FLEET = "simulated"
_FLIP = -1
_WAITS = frozenset({WaveState.TO_APPROVE, WaveState.INCONCLUSIVE})
_ENDINGS = {
    RolloutState.DONE: Ending.DONE,
    RolloutState.ROLLED_BACK: Ending.ROLLED_BACK,
    RolloutState.FAILED: Ending.FAILED,
    RolloutState.PAUSED: Ending.PAUSED,
}


def look_after(now_s: float, devices: int) -> float:
    """Return in how many seconds the planner of a simulation looks again, where it must not."""
    rarely_s = min(_RARELY_S, now_s * devices / _DEVICES_A_SHARE)
    return max(LOOK_S, devices / _DEVICES_A_SECOND, rarely_s)


@dataclass(slots=True)
class _Place:
    """A device, what it was asked, and what is known of it."""

    walker: Walker
    desired: Desired | None
    told: Told
    target: Target
    hold: Hold | None = None
    ticket: int = 0  # of what it waits for; what has another is no longer to happen


class Simulation:
    """A rollout and the devices that it is about, in virtual time from `start`."""

    def __init__(
        self, begun: Rollout, twin: Twin, draw: Draw, *, start: datetime, seed: int = 0
    ) -> None:
        if begun.bundle is None:
            raise ValueError("a rollout of no bundle can't be simulated")
        self._rollout, self._twin, self._draw = begun, twin, draw
        self._targets = begun.by_target()
        self._start, self._seed = start, seed
        self._digest = begun.bundle.digest
        self._waves = {target: wave.number for wave in begun.waves for target in wave.targets}
        self._due: list[tuple[float, int, str, int]] = []
        self._count = itertools.count()
        self._events = self._looks = 0
        self._again_s = 0.0  # when time alone may change something: never later than that
        self._timer_s = min(_timers(begun))
        self._places = {each.target: self._placed(each) for each in begun.targets}
        self._changed: set[str] = set()
        self._idle: set[str] = set()  # who came or went, and of whom nothing is expected now

    def run(self, limit_s: float) -> Run:
        """Return what comes of it within `limit_s` of virtual time."""
        now_s = 0.0
        self._look(now_s)
        while not self._is_over() and now_s < limit_s:
            now_s = self._until(now_s, min(limit_s, self._again_s))
            self._look(now_s)
        return self._outcome(now_s)

    # The devices.

    def _placed(self, progress: Progress) -> _Place:
        walker = Walker(
            lot=self._twin.lot(progress.class_name, self._draw),
            digest=self._digest,
            online=progress.online,
        )
        held: Desired | None = None
        if progress.replaces is not None:
            order = Order(epoch=0, generation=progress.replaces.revision)
            held = Desired(
                fleet=_FLEET,
                target=progress.target,
                order=order,
                issued_at=_ISSUED_AT,
                deployments=(progress.replaces,),
            )
            walker.observed, walker.wanted = order, progress.replaces
            walker.proven = walker.serving = progress.replaces
        if self._twin.away_share > 0 or not walker.online:
            self._flip_is_due(progress.target, walker, 0.0, found=True)
        place = _Place(
            walker=walker,
            desired=held,
            told=walker.told(),
            target=Target(device=progress.target, name=progress.name),
            hold=Hold(reason="held", since=_ISSUED_AT) if progress.held else None,
        )
        place.target = _as_known(place)
        return place

    def _flip_is_due(self, name: str, walker: Walker, now_s: float, *, found: bool = False) -> None:
        """Have a device come back or go away, some time from now."""
        if not walker.online:
            in_s = (self._twin.left_s if found else self._twin.away_s)(self._draw)
        elif self._twin.away_share > 0:
            in_s = self._twin.here_s(self._draw)
        else:
            return
        heapq.heappush(self._due, (now_s + in_s, next(self._count), name, _FLIP))

    def _waits(self, name: str, place: _Place, now_s: float) -> None:
        """Have happen what the device waits for now, and nothing that it waited for before."""
        place.ticket += 1
        upcoming = place.walker.next()
        if upcoming is not None:
            at = (now_s + upcoming.in_s, next(self._count), name, place.ticket)
            heapq.heappush(self._due, at)

    def _until(self, now_s: float, latest_s: float) -> float:
        """Let happen what does until the next look; return when that is."""
        look_s = look_after(now_s, len(self._places))
        until_s = min(latest_s, now_s + look_s)
        while True:
            while self._due and self._due[0][0] <= until_s:
                at_s, _, name, ticket = heapq.heappop(self._due)
                self._happens(name, ticket, at_s)
            if self._changed or until_s >= latest_s:
                return until_s
            first_s = self._due[0][0] if self._due else latest_s
            until_s = min(latest_s, look_s * (1 + first_s // look_s))

    def _happens(self, name: str, ticket: int, now_s: float) -> None:
        place = self._places[name]
        if ticket == _FLIP:
            self._flips(name, place, now_s)
        elif ticket == place.ticket and (upcoming := place.walker.next()) is not None:
            self._events += 1
            place.walker.happens(upcoming.happening, upcoming.reason)
            if place.walker.online:
                self._changed.add(name)
            self._waits(name, place, now_s)

    def _flips(self, name: str, place: _Place, now_s: float) -> None:
        """Have a device come back or go away: then it fetches, or can't."""
        walker = place.walker
        walker.online = not walker.online
        self._events += 1
        (self._idle if self._is_idle(name) else self._changed).add(name)
        self._flip_is_due(name, walker, now_s)
        taken = walker.online and place.desired is not None and self._takes(place, place.desired)
        if taken or walker.phase in (Phase.ACCEPTED, Phase.FETCHING):
            self._waits(name, place, now_s)

    def _is_idle(self, name: str) -> bool:
        """Tell whether it makes no difference yet if this device is here.

        It has settled, or its wave has not begun. To a budget in percent everybody matters.
        """
        progress = self._targets[name]
        begun = self._rollout.waves[self._waves[name] - 1].state is not WaveState.WAITING
        waiting = progress.state is TargetState.PLANNED and not begun
        return not self._rollout.budgets and (progress.settled or waiting)

    def _takes(self, place: _Place, document: Desired) -> bool:
        """Have a device take a document; say whether it is news to it."""
        walker = place.walker
        if walker.observed is not None and walker.observed >= document.order:
            return False
        wanted = next(
            (each for each in document.deployments if each.name == self._rollout.deployment), None
        )
        walker.takes(document.order, wanted)
        self._events += 1
        return True

    # The centre.

    def _look(self, now_s: float) -> None:
        """Look, decide and ask; what was asked is seen by the next look."""
        now = self._start + timedelta(seconds=now_s)
        self._looks += 1
        self._heard()
        before, timely = self._rollout, now_s < self._again_s
        part = self._part(before, self._changed | self._idle) if timely else before
        targets = tuple(self._places[each.target].target for each in part.targets)
        events = seen(part, Inventory(fleet=_FLEET, targets=targets), now)
        after = fold(before, events, now)
        # One look may tell the first of two things: who moved is looked at until nothing moves.
        of_others = (RolloutEvent, MeasuredEvent)
        self._changed = {each.target for each in events if not isinstance(each, of_others)}
        self._idle.clear()
        self._ask(after, due(after, now), now_s)
        self._rollout, self._targets = after, after.by_target()
        if timely and (after.state, after.waves) == (before.state, before.waves):
            self._again_s = min(self._again_s, now_s + self._timer_s)
            return
        again = look_again_at(after, now)
        self._again_s = math.inf if again is None else (again - self._start).total_seconds()

    def _heard(self) -> None:
        """Have the centre know what those say who changed and can be heard."""
        for name in self._changed | self._idle:
            place = self._places[name]
            walker = place.walker
            if walker.online:
                place.told = walker.told()
            place.target = _as_known(place)

    def _part(self, rollout: Rollout, names: Iterable[str]) -> Rollout:
        """Return the rollout with nobody in it but these."""
        chosen = [self._targets[name] for name in sorted(names)]
        members: dict[int, list[str]] = {}
        for progress in chosen:
            members.setdefault(self._waves[progress.target], []).append(progress.target)
        waves = tuple(
            replace(wave, targets=tuple(members.get(wave.number, ()))) for wave in rollout.waves
        )
        return replace(rollout, targets=tuple(chosen), waves=waves)

    def _ask(self, rollout: Rollout, asked: Sequence[Progress], now_s: float) -> None:
        for progress in asked:
            place = self._places[progress.target]
            try:
                document = _next(place.desired, rollout, progress)
            except PlanError:  # a return that began in this very look: the next one sees it
                continue
            place.desired = document
            self._changed.add(progress.target)
            if place.walker.online:
                self._takes(place, document)
                self._waits(progress.target, place, now_s + _ON_THE_WAY_S)

    # The end.

    def _is_over(self) -> bool:
        state = self._rollout.state
        if state in ENDED or state is RolloutState.PAUSED:
            return True
        waits = any(wave.state in _WAITS for wave in self._rollout.waves)
        return state is RolloutState.RUNNING and waits

    def _outcome(self, now_s: float) -> Run:
        rollout = self._rollout
        waits = any(wave.state in _WAITS for wave in rollout.waves)
        ending = _ENDINGS.get(rollout.state, Ending.STILL_RUNNING)
        if rollout.state is RolloutState.RUNNING and waits:
            ending = Ending.WAITS_FOR_APPROVAL
        walkers = [place.walker for place in self._places.values()]
        return Run(
            seed=self._seed,
            decided=_decided(rollout, ending),
            took_s=now_s,
            states={str(state): number for state, number in rollout.count().items() if number},
            served=sum(walker.served for walker in walkers),
            served_bad=sum(walker.served and walker.lot.fails_in is not None for walker in walkers),
            events=self._events,
            looks=self._looks,
        )


def _timers(rollout: Rollout) -> Iterator[float]:
    """Return what may run out for a target that was asked, in seconds: no wave need have moved."""
    yield 3600.0  # of a return behind no gate
    yield from (wave.gate.deadline_s for wave in rollout.waves if wave.gate is not None)
    if rollout.retry is not None:
        yield rollout.retry.wait_s


def _as_known(place: _Place) -> Target:
    """Return a device as the centre knows it: what it told last, and what is wanted of it."""
    told = place.told
    deployments: tuple[ReportedDeployment, ...] = ()
    if told.wanted is not None:
        problem = None if told.reason is None else Problem(reason=told.reason)
        deployments = (
            ReportedDeployment(
                name=told.wanted.name,
                revision=told.wanted.revision,
                digest=told.wanted.bundle.digest,
                phase=told.phase,
                last_error=problem,
            ),
        )
    name = place.target.device
    return Target(
        device=name,
        name=place.target.name,
        online=place.walker.online,
        desired=place.desired,
        reported=Reported(
            fleet=_FLEET,
            device=name,
            session=1,
            observed=told.observed,
            hold=place.hold,
            deployments=deployments,
        ),
    )


def _next(held: Desired | None, rollout: Rollout, progress: Progress) -> Desired:
    deployment = progress.deployment
    if rollout.state is RolloutState.ROLLING_BACK:
        if progress.returning is None:
            return without(
                held, deployment.name, revision=deployment.revision, issued_at=_ISSUED_AT
            )
        deployment = progress.returning
    return renewed(
        held, deployment, fleet=_FLEET, target=progress.target, epoch=0, issued_at=_ISSUED_AT
    )


def _decided(rollout: Rollout, ending: Ending) -> Decided:
    """Say which wave's gate it was, and why it decided so."""
    if rollout.cause is not None:
        wave = rollout.cause.parameters.get("wave")
        return Decided(
            ending=ending, wave=None if wave is None else int(wave), reason=rollout.cause.code
        )
    if ending in (Ending.WAITS_FOR_APPROVAL, Ending.STILL_RUNNING):
        here = (
            wave.number
            for wave in rollout.waves
            if wave.state in _WAITS or wave.state in (WaveState.RUNNING, WaveState.SOAKING)
        )
        return Decided(ending=ending, wave=next(here, None))
    return Decided(ending=ending)
