"""A fleet's numbers and drift, added up over what somebody asks about. Pure.

All devices make *cells* (`fleet.health.headcount`), the smallest groups there can be; whatever else
is asked is added up from those. Of drift a device counts where it told of it lately, and told of
what serves.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.wire import v1
from agent.wire.vitals import ERROR_SHARE, ERRORS_LEAST
from fleet.health.drift import Counts, Distance, Level, added, furthest
from fleet.health.states import HealthReason, State, drift_parameters
from fleet.health.sums import Numbers, Served, total


class By(StrEnum):
    """What groups may be told apart by."""

    DEPLOYMENT = "deployment"
    BUNDLE = "bundle"
    REVISION = "revision"
    CLASS = "class"
    SITE = "site"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What numbers are of; what is not told apart is empty."""

    deployment: str = ""
    bundle: str = ""
    version: str = ""
    digest: str = ""
    revision: int = 0
    class_name: str = ""
    site: str = ""

    def only(self, by: frozenset[By]) -> "Cell":
        """Return it without what is not told apart."""
        named = By.BUNDLE in by
        return Cell(
            deployment=self.deployment if By.DEPLOYMENT in by else "",
            bundle=self.bundle if named else "",
            version=self.version if named else "",
            digest=self.digest if named else "",
            revision=self.revision if By.REVISION in by else 0,
            class_name=self.class_name if By.CLASS in by else "",
            site=self.site if By.SITE in by else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """The sum over some devices.

    `drifting`: how many told of drift lately, by level. `counts`: what they told, by bundle,
    because bins are a card's.
    """

    numbers: Numbers = field(default_factory=Numbers)
    drifting: Mapping[Level, int] = field(default_factory=dict)
    counts: Mapping[v1.BundleRef, Counts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupVerdict:
    """How a group is: `unknown` where there was no request, and nothing to judge drift by."""

    state: State
    reason: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


Cells = Mapping[Cell, Summed]


def grouped(found: Cells, by: Iterable[By] = ()) -> Cells:
    """Return the sums of the groups that differ in these respects; of none, all in one."""
    wanted = frozenset(by)
    parts: dict[Cell, list[Summed]] = {}
    for cell, summed in found.items():
        parts.setdefault(cell.only(wanted), []).append(summed)
    return {cell: _sum(parts[cell]) for cell in sorted(parts)}


def by_served(found: Cells) -> Mapping[Served, Numbers]:
    """Return the numbers of each bundle under each name on each class of devices."""
    groups = grouped(found, (By.DEPLOYMENT, By.BUNDLE, By.CLASS))
    return {
        Served(cell.deployment, cell.bundle, cell.version, cell.digest, cell.class_name): (
            summed.numbers
        )
        for cell, summed in groups.items()
        if summed.numbers.devices
    }


def group_verdict(numbers: Numbers, judged: Iterable[Distance]) -> GroupVerdict:
    """Return how a group is, by the rules that a device is judged by."""
    if numbers.errors >= ERRORS_LEAST and numbers.errors > ERROR_SHARE * numbers.requests:
        told = {"errors": str(numbers.errors), "requests": str(numbers.requests)}
        return GroupVerdict(state=State.DEGRADED, reason=HealthReason.ERRORS_HIGH, parameters=told)
    worst = furthest(judged)
    if worst is not None and worst.level is Level.ALARM:
        return GroupVerdict(
            state=State.DEGRADED,
            reason=HealthReason.DRIFTING,
            parameters=drift_parameters(worst),
        )
    known = numbers.requests > 0 or worst is not None
    return GroupVerdict(state=State.OK if known else State.UNKNOWN)


def cell_of(served: Served, revision: int, site: str) -> Cell:
    """Return the smallest group that numbers or drift belong to."""
    return Cell(
        served.deployment,
        served.bundle,
        served.version,
        served.digest,
        revision,
        served.class_name,
        site,
    )


def bundle_of(cell: Cell) -> v1.BundleRef:
    """Return the bundle that a group is about."""
    return v1.BundleRef(digest=cell.digest, name=cell.bundle, version=cell.version)


def _sum(parts: list[Summed]) -> Summed:
    if len(parts) == 1:
        return parts[0]
    drifting: Counter[Level] = Counter()
    counts: dict[v1.BundleRef, list[Counts]] = {}
    for part in parts:
        drifting.update(part.drifting)
        for bundle, told in part.counts.items():
            counts.setdefault(bundle, []).append(told)
    return Summed(
        numbers=total(part.numbers for part in parts),
        drifting=drifting,
        counts={bundle: added(told) for bundle, told in counts.items()},
    )
