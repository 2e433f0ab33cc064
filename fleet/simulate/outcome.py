"""What came of simulated rollouts: each run, and how they are distributed. Values only. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """How a simulated rollout ended, unattended."""

    DONE = "done"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    PAUSED = "paused"
    WAITS_FOR_APPROVAL = "waits-for-approval"
    STILL_RUNNING = "still-running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """An ending, the wave that decided it, and the reason code of its gate. None: no gate did."""

    ending: Ending
    wave: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `served` devices ever served the bundle; for `served_bad` of them it was bad.

    `states` counts its targets at the end, by their state. `events` are the phases that
    devices went through, and their comings and goings; `looks` how often the planner looked.
    """

    seed: int
    decided: Decided
    took_s: float
    states: Mapping[str, int]
    served: int
    served_bad: int
    events: int
    looks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number over all runs that it is about: the middle, the 95th percentile, the most."""

    p50: float
    p95: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One way to end: how many runs ended so, and how long they took."""

    decided: Decided
    runs: int
    took_s: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What came of all runs, the most frequent ending first."""

    runs: int
    endings: tuple[Share, ...]
    served: Range
    served_bad: Range
    events: int


def distribution(runs: Sequence[Run]) -> Distribution:
    """Count how runs ended.

    Raises:
        ValueError: there is none.
    """
    if not runs:
        raise ValueError("no run has no distribution")
    counted = Counter(run.decided for run in runs)
    ranked = sorted(counted.items(), key=lambda each: (-each[1], _key(each[0])))
    return Distribution(
        runs=len(runs),
        endings=tuple(
            Share(
                decided=decided,
                runs=number,
                took_s=_range([run.took_s for run in runs if run.decided == decided]),
            )
            for decided, number in ranked
        ),
        served=_range([run.served for run in runs]),
        served_bad=_range([run.served_bad for run in runs]),
        events=sum(run.events for run in runs),
    )


def _key(decided: Decided) -> tuple[str, int, str]:
    return decided.ending, decided.wave or 0, decided.reason or ""


def _range(values: Sequence[float]) -> Range:
    ranked = sorted(values)
    return Range(p50=_at(ranked, 50), p95=_at(ranked, 95), most=ranked[-1])


def _at(ranked: Sequence[float], percent: int) -> float:
    """Return the smallest value that so many percent do not exceed."""
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]
