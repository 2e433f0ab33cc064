"""Many runs of one plan, each with a seed of its own, on the cores there are.

A run has a process to itself: what it decides is pure, and this is where it gets its numbers.
The plan is not sent to them: each is a copy of this process, made when all is ready.
"""

import gc
import multiprocessing
import random
from collections.abc import Sequence
from datetime import datetime

from fleet.rollouts.fold import fold
from fleet.rollouts.plan import Plan
from fleet.rollouts.policy import Policy
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.states import RolloutHappening
from fleet.simulate.invented import invented
from fleet.simulate.outcome import Run
from fleet.simulate.run import Simulation
from fleet.simulate.twin import Twin

PROCESSES = 2

_DEVICES_AT_ONCE = 20_000
"""For fewer devices in all runs together another process costs more than it saves."""


def invent(devices: int, classes: int, policy: Policy, twin: Twin, now: datetime) -> Plan:
    """Return the plan for a fleet that there is not; the same for the same numbers."""
    draw = random.Random(0).random  # noqa: S311  # no secret
    return invented(devices, classes, policy, away_share=twin.away_share, draw=draw, now=now)


def simulate(
    plan: Plan, twin: Twin, *, seeds: Sequence[int], limit_s: float, now: datetime
) -> list[Run]:
    """Return what comes of a plan, once for each seed.

    Raises:
        ValueError: the plan has no step.
    """
    word = RolloutEvent(rollout=RolloutHappening.STARTED)
    begun = fold(begin(plan, "simulated"), [word], now)
    jobs = [(begun, twin, seed, limit_s, now) for seed in seeds]
    gc.freeze()  # the plan stays: looking through it for garbage is an eighth of a run
    try:
        if len(jobs) == 1 or len(jobs) * len(begun.targets) < _DEVICES_AT_ONCE:
            return [_run(*job) for job in jobs]
        _JOBS[:] = jobs
        with multiprocessing.get_context("fork").Pool(min(PROCESSES, len(jobs))) as pool:
            return pool.map(_run_job, range(len(jobs)), chunksize=1)
    finally:
        _JOBS.clear()
        gc.unfreeze()


_Job = tuple[Rollout, Twin, int, float, datetime]
_JOBS: list[_Job] = []
"""What the copies of this process are to run."""


def _run_job(number: int) -> Run:
    return _run(*_JOBS[number])


def _run(begun: Rollout, twin: Twin, seed: int, limit_s: float, now: datetime) -> Run:
    draw = random.Random(seed).random  # noqa: S311  # no secret
    return Simulation(begun, twin, draw, start=now, seed=seed).run(limit_s)
