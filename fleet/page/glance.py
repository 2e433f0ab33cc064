"""The map of the fleet: its devices by site, each drawn where they are few."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fleet.api.look import Look
from fleet.health.states import State

CELLS_LIMIT = 200
"""Up to so many devices each has a cell; above, groups have bars."""


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


def groups(seen: Look) -> list[Group]:
    """Return the devices by site, the worst first: most failing, then most degraded, then away."""
    cells: dict[str | None, list[Cell]] = {}
    for heard, verdict in seen.judged if len(seen.judged) <= CELLS_LIMIT else ():
        target = heard.target
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
