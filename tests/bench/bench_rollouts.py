"""How planning, looking and judging grow with the fleet: each size against the one before.

Run it as `python -m tests.bench.bench_rollouts` from the repository. Ratios may be
compared, figures may not: machines are noisy. Nothing is asserted. Ten times the
devices should take about ten times as long, and no more.
"""

import time
from collections.abc import Callable
from itertools import pairwise

from fleet.rollouts.asking import due
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import plan
from fleet.rollouts.policy import CAREFUL
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.states import RolloutHappening
from tests.fleet.deciding.paper import NOW, Paper

SIZES = (100, 1_000, 10_000)
ROUNDS = 3


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest round: the others had company."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def timed(paper: Paper, count: int) -> dict[str, float]:
    """Time each part of one pass over a fleet of this size."""
    inventory = paper.inventory(*paper.targets(count))
    request, cards = paper.request(policy="careful"), paper.cards(paper.bundle())
    planned = plan(request, CAREFUL, inventory, cards, NOW)
    started = [RolloutEvent(rollout=RolloutHappening.STARTED)]
    rollout: Rollout = fold(begin(planned, "r-1"), started, NOW)
    steps = {step.target: step.deployment for step in planned.steps}
    asked = paper.written(inventory, steps)
    return {
        "plan": best(lambda: plan(request, CAREFUL, inventory, cards, NOW)),
        "digest": best(lambda: planned.digest),
        "look and fold": best(lambda: fold(rollout, seen(rollout, asked, NOW), NOW)),
        "who is due": best(lambda: due(rollout, NOW)),
    }


def main() -> None:
    """Print one line a part: milliseconds by size, and how they grow."""
    paper = Paper()
    by_size = {size: timed(paper, size) for size in SIZES}
    print(f"{'':16}", *(f"{size:>9} devices" for size in SIZES))  # noqa: T201  # what it is for
    for part in by_size[SIZES[0]]:
        took = [by_size[size][part] for size in SIZES]
        grows = [f"x{after / before:.1f}" for before, after in pairwise(took)]
        figures = " ".join(f"{seconds * 1e3:>14.2f} ms" for seconds in took)
        print(f"{part:16}", figures, *grows)  # noqa: T201  # what it is for


if __name__ == "__main__":
    main()
