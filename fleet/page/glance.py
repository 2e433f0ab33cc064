"""The map of the fleet: its devices by site, each drawn where they are few."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fleet.api.look import Look
from fleet.health.states import State

CELLS_LIMIT = 200
"""Up to so many devices each has a cell; above, groups have bars."""


GROUPS_LIMIT = 40
"""So many sites are drawn, the worst ones; what the others are is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One device in the map of the fleet."""

    id: str
    name: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The devices of one site; `cells` is empty where there are too many to draw each."""

    site: str | None
    counts: Mapping[State, int]
    cells: Sequence[Cell] = field(default=())

    @property
    def devices(self) -> int:
        """How many there are."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The sites that are not drawn: how many, and how their devices are."""

    sites: int
    counts: Mapping[State, int]


def drawn(found: Sequence[Group]) -> tuple[Sequence[Group], Rest | None]:
    """Return the sites that are drawn, and what is said of the others; None: there are none."""
    left = found[GROUPS_LIMIT:]
    if not left:
        return found, None
    counts = Counter[State]()
    for group in left:
        counts.update(group.counts)
    return found[:GROUPS_LIMIT], Rest(sites=len(left), counts=counts)


def groups(seen: Look) -> list[Group]:
    """Return the devices by site, the worst first: most failing, then most degraded, then away."""
    cells: dict[str | None, list[Cell]] = {}
    for known, verdict in seen.every if len(seen.every) <= CELLS_LIMIT else ():
        target = known.heard.target
        cell = Cell(id=target.device, name=target.name, state=verdict.state)
        cells.setdefault(target.site, []).append(cell)
    found = [
        Group(site=site, counts=counts, cells=cells.get(site, ()))
        for site, counts in seen.sites.items()
    ]
    return sorted(found, key=_trouble)


def _trouble(group: Group) -> tuple[object, ...]:
    worst = (State.FAILING, State.DEGRADED, State.OFFLINE, State.UNKNOWN)
    return (*(-group.counts.get(state, 0) for state in worst), group.site or "")
