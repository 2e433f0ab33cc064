"""One simulated rollout of a large fleet against a minute: `python -m tests.bench.bench_simulate`.

A number after it is another number of devices. CPU seconds, because machines have company;
each run has a core to itself, so this is what a run takes of each of two.
"""

import sys
import time
from datetime import UTC, datetime

from fleet.rollouts.policy import CAREFUL
from fleet.simulate.many import invent, simulate
from fleet.simulate.twin import Twin

DEVICES = 100_000
BUDGET_S = 60.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TWINS = {
    "bad for 2 %": Twin(bad_share=0.02),
    "bad for 8 %": Twin(bad_share=0.08),
    "bad for 2 %, 5 % away": Twin(bad_share=0.02, away_share=0.05),
}


def main(devices: int = DEVICES) -> None:
    """Print what planning takes once, and each run: seconds, events, how it ended."""
    for name, twin in TWINS.items():
        before = time.process_time()
        made = invent(devices, 4, CAREFUL, twin, NOW)
        planned_s = time.process_time() - before
        (run,) = simulate(made, twin, seeds=[1], limit_s=86400.0, now=NOW)
        took_s = time.process_time() - before
        print(  # noqa: T201  # what it is for
            f"{devices:,} devices, {name}: {took_s:.1f} s of CPU, x{took_s / BUDGET_S:.2f} of "
            f"{BUDGET_S:g} s ({planned_s:.1f} s to plan it); {run.events:,} events "
            f"({run.events / devices:.1f} a device), {run.looks} looks, "
            f"{run.took_s:.0f} s of its time: {run.decided.ending}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
