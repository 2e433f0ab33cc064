"""Counts of requests for three readers: a period's health, a probation, and a site's metrics."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from operator import add

from agent.drift import added
from agent.ports import Counter, Tally
from agent.state import Compared, Trial
from agent.wire import v1
from agent.wire.sketch import binned, merged, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """All of one deployment since the agent began; `bins` are those of `agent.wire.sketch`."""

    requests: int = 0
    errors: int = 0
    restarts: int = 0
    bins: tuple[int, ...] = binned(v1.LatencySketch())
    seconds: float = 0.0

    def and_(self, new: Tally) -> "Total":
        """Return it with what came since."""
        return Total(
            requests=self.requests + new.requests,
            errors=self.errors + new.errors,
            restarts=self.restarts + new.restarts,
            bins=tuple(map(add, self.bins, binned(new.latency))),
            seconds=self.seconds + seconds(new.latency),
        )


class Meter:
    """Takes the counts from where they are made, and keeps them until each reader has them."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._period: dict[tuple[str, int], Tally] = {}
        self._trials: dict[str, Trial] = {}
        self._totals: dict[str, Total] = {}

    def begin_trial(self, name: str, revision: int, now_s: float) -> None:
        """Watch a revision from now on."""
        self._look()
        self._trials[name] = Trial(revision=revision, since_s=now_s)

    def end_trial(self, name: str) -> None:
        """Watch it no longer."""
        self._trials.pop(name, None)

    def died(self, name: str, revision: int, *, of_itself: bool) -> None:
        """Count a worker's death, of its content or (a deadline, no memory) perhaps not."""
        trial = self._trials.get(name)
        if trial is None or trial.revision != revision:
            return
        if of_itself:
            self._trials[name] = replace(trial, crashes=trial.crashes + 1)
        else:
            self._trials[name] = replace(trial, mishaps=trial.mishaps + 1)

    @property
    def trials(self) -> Mapping[str, Trial]:
        """Every probation under way, up to now."""
        if self._trials:
            self._look()
        return dict(self._trials)

    def totals(self, names: Collection[str]) -> Mapping[str, Total]:
        """Return all since the agent began, of these deployments; others are forgotten."""
        self._look()
        self._totals = {name: self._totals.get(name, Total()) for name in names}
        return dict(self._totals)

    def take_period(self) -> tuple[Tally, ...]:
        """Return the counts since the last call."""
        self._look()
        taken, self._period = self._period, {}
        return tuple(taken.values())

    def compared(self) -> Mapping[str, Compared]:
        """Return how each candidate that is in the shadow now compares so far."""
        return self._counter.compared()

    def _look(self) -> None:
        for new in self._counter.take():
            self._totals[new.deployment] = self._totals.get(new.deployment, Total()).and_(new)
            key = new.deployment, new.revision
            old = self._period.get(key)
            self._period[key] = new if old is None else _sum(old, new)
            trial = self._trials.get(new.deployment)
            if trial is not None and trial.revision == new.revision:
                self._trials[new.deployment] = replace(
                    trial,
                    requests=trial.requests + new.requests,
                    errors=trial.errors + new.errors,
                    latency=merged([trial.latency, new.latency]),
                )


def _sum(old: Tally, new: Tally) -> Tally:
    return replace(
        new,
        requests=old.requests + new.requests,
        errors=old.errors + new.errors,
        restarts=old.restarts + new.restarts,
        latency=merged([old.latency, new.latency]),
        drift=added(old.drift, new.drift),
    )
