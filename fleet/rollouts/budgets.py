"""How many of a group are under way or down at once, and how many may be. Pure.

A group are those of a rollout's targets with one value of a budget's label. A share is
of those that can be reached: who is away is no part of it. Whoever is asked counts until
it has come to an end, or until its deadline, also where it went away on the way: a
bundle that takes devices off the network frees no room by that, and one that is switched
off, or never says anything, doesn't hold up its site for ever. Who waits for a window of its
own counts until that opens: else all of a site would begin in the same night.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleet.rollouts.gate import aside_at
from fleet.rollouts.progress import Progress, Rollout, RolloutWave
from fleet.rollouts.states import UNDER_WAY


class Group(NamedTuple):
    """Those of a rollout's targets that have one value of a budget's label.

    A tuple, because each of 100,000 targets is looked up by it.
    """

    label: str
    value: str

    def __str__(self) -> str:
        return f"{self.label}={self.value}" if self.value else f"!{self.label}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How many of a group are under way or down (`taken`), and how many may be."""

    taken: int
    limit: int


def groups_of(rollout: Rollout, progress: Progress) -> tuple[Group, ...]:
    """Return the groups of a target that budgets are about."""
    return tuple(
        Group(budget.label, progress.groups.get(budget.label, "")) for budget in rollout.budgets
    )


def used(rollout: Rollout, now: datetime) -> dict[Group, Use]:
    """Return, for each group that a budget is about, how much of it is used."""
    if not rollout.budgets:
        return {}
    reachable: Counter[Group] = Counter()
    taken: Counter[Group] = Counter()
    for wave, members in rollout.members():
        for progress in members:
            for group in groups_of(rollout, progress):
                reachable[group] += progress.reachable
                if progress.state in UNDER_WAY:
                    taken[group] += is_down(progress, wave, now)
    limits = {budget.label: budget for budget in rollout.budgets}
    return {
        group: Use(taken=taken[group], limit=limits[group.label].room(count))
        for group, count in reachable.items()
    }


def spare_of(rollout: Rollout, now: datetime) -> Counter[Group]:
    """Return, for each group that a budget is about, how many more of it may be asked."""
    return Counter({group: use.limit - use.taken for group, use in used(rollout, now).items()})


def is_down(progress: Progress, wave: RolloutWave, now: datetime) -> bool:
    """Tell whether a target is on its way, here or not, and may still be in time."""
    until = aside_at(progress, wave)
    return until is not None and (now < until or progress.keeps_window)
