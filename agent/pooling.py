"""How many workers answer for a deployment: by what was measured here, not by the cores. Pure.

One worker is what a deployment has. More of them are a copy of the runtime and of
the model each, and take cores from others; what they are worth can't be read off: a
model whose weights come from memory all the time gains nothing by a second core, and
a quick one waits for the supervisor, which moves the bytes of all. So as many as a
deployment may have are asked at once, and each doubling must earn its cores clearly.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from agent.state import Installed, Throughput

WORKERS_MOST = 4
"""More are started only where a deployment's settings say so."""

PER_DOUBLING = 1.5
"""By how much twice the workers must answer more; twice the cores could give 2."""

QUICK_S = 0.001
"""Below this a call is mostly the way to the worker and back, and one answers a thousand a second:
two workers were measured at 0.5 to 1.7 times one, which is noise."""

SLOW_S = 1.0
"""Above this measuring would take longer than a self-test should."""

MARGIN_BYTES = 128 * 1024 * 1024
"""Memory that further workers leave to all else."""


def counts(way: Installed, *, cores: int, deployments: int) -> tuple[tuple[int, ...], str]:
    """Return the numbers of workers to measure, from one on; or the only one, and why.

    Args:
        way: how it serves, with its latency.
        cores: of the device; each deployment may have its share of them.
        deployments: on the device, this one included.
    """
    wanted = way.deployment.settings.workers
    if wanted is not None and not way.stateful:
        return (wanted,), f"{_many(wanted)}: its settings say so"
    most = min(cores // (way.threads * max(1, deployments)), WORKERS_MOST)
    why = _alone(way, most)
    if why:
        return (1,), f"{_many(1)}: {why}"
    return (*(count for count in (1, 2) if count < most), most), ""


def _alone(way: Installed, most: int) -> str:
    """Return why nobody is put beside one worker; empty where that is worth a try."""
    took_s, wanted = way.latency_p50_s, way.deployment.settings.workers
    if way.stateful:
        refused = f"; {wanted} were asked for" if wanted is not None and wanted > 1 else ""
        return f"it keeps state from one request to the next{refused}"
    if way.accelerator != "cpu":
        return f"{way.accelerator} is not shared"
    if took_s is None or took_s < QUICK_S:
        return "it is quick enough"
    if took_s > SLOW_S:
        return "it is too slow to measure more"
    return "" if most > 1 else "its share of the cores is no more"


def sized(way: Installed, found: Sequence[Throughput]) -> Installed:
    """Return the way with as many workers as have earned their cores, and say so.

    `found` is what was measured of each number, from one on.
    """
    chosen = found[0]
    for each in found[1:]:
        if _earns(each, chosen):
            chosen = each
    others = ", ".join(each.named for each in found if each is not chosen)
    return replace(
        way,
        workers=chosen.workers,
        throughput=tuple(found),
        why=f"{way.why}; {chosen.named}, before {others}" if others else way.why,
    )


def affordable(wanted: int, *, each_bytes: int, available_bytes: int) -> int:
    """Return how many further workers there is memory for, and some left to all else."""
    room = max(0, available_bytes - MARGIN_BYTES)
    return min(wanted, room // max(1, each_bytes))


def _earns(more: Throughput, fewer: Throughput) -> bool:
    if not more.per_s or not fewer.per_s:
        return False
    doublings = math.log2(more.workers / fewer.workers)
    least: float = PER_DOUBLING**doublings * fewer.per_s
    return more.per_s >= least


def _many(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"
