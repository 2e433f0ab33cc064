"""The whole fleet in numbers, kept up to date one device at a time. Pure.

Adding up what 100,000 devices told takes seconds; what changed between two looks takes as long as
it is much. So a device that says something else is taken out of every sum and put back in. All
that is added is whole numbers: what is left is what adding everything anew would give (a test
compares them).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.wire import v1
from agent.wire.sketch import sketch_of
from fleet.health.drift import Counts, Level
from fleet.health.grouped import Cell, Cells, Summed, bundle_of, cell_of
from fleet.health.heard import Heard
from fleet.health.judging import Held, held
from fleet.health.states import State, Verdict
from fleet.health.sums import PERIOD_LEAST_S, Judged, Numbers, Spread, is_here, served_as

Trouble = tuple[State, str, str]
"""A state, its reason code, and the bundle or deployment that it is about."""


class Headcount:
    """Counts devices by all that is asked about whole fleets."""

    def __init__(self) -> None:
        self._entries: dict[str, Held] = {}
        self._sites: dict[str | None, Counter[State]] = {}
        self._here: Counter[v1.BundleRef] = Counter()
        self._away: Counter[v1.BundleRef] = Counter()
        self._alike: dict[Trouble, dict[str, tuple[Heard, Verdict]]] = {}
        self._sums: dict[Cell, _Sum] = {}
        self._summed: dict[Cell, Summed] = {}

    def take(self, every: Iterable[Heard], now: datetime) -> None:
        """Count these devices, and no others. Who was counted as the very same value is kept."""
        entries = dict[str, Held]()
        for heard in every:
            device = heard.target.device
            before = self._entries.get(device)
            entry = held(heard, now, before)
            if entry is not before:
                if before is not None:
                    self._count(before, -1)
                self._count(entry, 1)
            entries[device] = entry
        for device in self._entries.keys() - entries.keys():
            self._count(self._entries[device], -1)
        self._entries = entries

    def judged(self) -> Judged:
        """Return every device with its verdict, in the order in which they were given."""
        return [(entry.heard, entry.told) for entry in self._entries.values()]

    def by_state(self) -> Mapping[State, int]:
        """Return how many devices are in each state, the empty ones too."""
        counted = Counter[State]()
        for states in self._sites.values():
            counted.update(states)
        return {state: counted[state] for state in State}

    def offline_since(self) -> str | None:
        """Return since when the one that is offline for longest is so; None: none is."""
        every = (entry.told for entry in self._entries.values())
        away = (told.finding.since for told in every if told.state is State.OFFLINE)
        return min(away, default=None)

    def by_site(self) -> Mapping[str | None, Mapping[State, int]]:
        """Return how many devices of each site are in each state."""
        return {site: dict(+states) for site, states in self._sites.items() if +states}

    def alike(self) -> Mapping[Trouble, Sequence[tuple[Heard, Verdict]]]:
        """Return the devices whose verdicts are alike."""
        return {trouble: list(of.values()) for trouble, of in self._alike.items()}

    def spread(self) -> Sequence[Spread]:
        """Return what serves, the widest spread first."""
        here, away = +self._here, +self._away
        return [
            Spread(
                bundle=bundle,
                serving=here[bundle],
                offline=away[bundle],
                devices=len(self._entries),
            )
            for bundle in sorted(
                {*here, *away},
                key=lambda each: (-here[each], -away[each], each.name, each.version, each.digest),
            )
        ]

    def cells(self) -> Cells:
        """Return the sums of the smallest groups, of the devices that are heard."""
        for cell in [cell for cell in self._sums if cell not in self._summed]:
            sums = self._sums[cell]
            if sums.is_empty:
                del self._sums[cell]
            else:
                self._summed[cell] = sums.of(bundle_of(cell))
        return {cell: self._summed[cell] for cell in sorted(self._summed)}

    def _count(self, entry: Held, by: int) -> None:
        """Put a device in (1), or take it out (-1)."""
        heard, told = entry.heard, entry.told
        site, here = heard.target.site, is_here(told)
        self._sites.setdefault(site, Counter())[told.state] += by
        self._note(entry, by)
        serving = self._here if here else self._away
        for bundle in set(heard.serving()):
            serving[bundle] += by
        if not here:
            return
        if heard.feels is not None:
            for part in heard.feels.deployments:
                served = served_as(heard, part.name, part.digest)
                cell = cell_of(served, part.revision, site or "")
                self._sum(cell).add(part, heard.feels.period_s, by)
        for _, drift in heard.drifting():
            served = served_as(heard, drift.deployment, drift.digest)
            # Only what was judged has the bins of the card: a stranger's would spoil the sum.
            known = {each.subject: drift.counts[each.subject] for each in drift.judged}
            self._sum(cell_of(served, drift.revision, site or "")).drift(drift.level, known, by)

    def _note(self, entry: Held, by: int) -> None:
        found = entry.told.finding
        trouble, device = (
            (entry.told.state, found.reason, found.subject),
            entry.heard.target.device,
        )
        if by > 0:
            self._alike.setdefault(trouble, {})[device] = (entry.heard, entry.told)
            return
        of = self._alike[trouble]
        del of[device]
        if not of:
            del self._alike[trouble]

    def _sum(self, cell: Cell) -> "_Sum":
        self._summed.pop(cell, None)
        return self._sums.setdefault(cell, _Sum())


@dataclass(slots=True)
class _Sum:
    """What the devices of a cell add up to."""

    devices: int = 0
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    in_period: Counter[float] = field(default_factory=Counter)
    buckets: MutableMapping[int, int] = field(default_factory=Counter)
    told: int = 0
    drifting: Counter[Level] = field(default_factory=Counter)
    subjects: Counter[str] = field(default_factory=Counter)
    counts: dict[str, list[int]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in it."""
        return not self.devices and not self.told

    def add(self, told: v1.DeploymentHealth, period_s: float, by: int) -> None:
        """Add one device's numbers of a deployment, so many times."""
        self.devices += by
        self.requests += by * told.requests
        self.errors += by * told.errors
        self.restarts += by * told.restarts
        self.in_period[max(period_s, PERIOD_LEAST_S)] += by * told.requests
        for bucket, number in told.latency.buckets.items():
            self.buckets[bucket] += by * number

    def drift(self, level: Level, counts: Counts, by: int) -> None:
        """Add the drift of one device's deployment, so many times. All have the bins of a card."""
        self.told += by
        self.drifting[level] += by
        for subject, bins in counts.items():
            self.subjects[subject] += by
            before = self.counts.setdefault(subject, [0] * len(bins))
            self.counts[subject] = [old + by * new for old, new in zip(before, bins, strict=True)]

    def of(self, bundle: v1.BundleRef) -> Summed:
        """Return it as the value it is."""
        buckets = {bucket: number for bucket, number in self.buckets.items() if number}
        counts = {subject: self.counts[subject] for subject in +self.subjects}
        return Summed(
            numbers=Numbers(
                devices=self.devices,
                requests=self.requests,
                errors=self.errors,
                restarts=self.restarts,
                per_s=math.fsum(requests / s for s, requests in (+self.in_period).items()),
                latency=sketch_of(buckets),
            ),
            drifting=dict(+self.drifting),
            counts={bundle: counts} if self.told else {},
        )
