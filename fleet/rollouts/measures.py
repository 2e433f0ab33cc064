"""What devices tell of a bundle while it serves, added up, and what a check may read of it. Pure.

Counts add up, sketches merge; nothing is averaged over devices. What was told too little of has
no value: never zero, and never what the last one was.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from agent.wire.sketch import merged, quantile
from agent.wire.v1 import LatencySketch


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What some devices told of one bundle, in all their health documents since some moment.

    `documents` of them, over `period_s` seconds together. `memory` is the highest share of a
    device's memory in use. `drift` is the largest distance from the card's reference, over
    `drifted` requests: that is as it was last, and adds up to nothing.
    """

    documents: int = 0
    period_s: float = 0.0
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    latency: LatencySketch = field(default_factory=LatencySketch)
    memory: float | None = None
    drift: float | None = None
    drifted: int = 0


NOTHING = Told()


def together(parts: Iterable[Told]) -> Told:
    """Return the sum; of drift, the last that was told."""
    every = tuple(parts)
    last = next((each for each in reversed(every) if each.drift is not None), NOTHING)
    return Told(
        documents=sum(each.documents for each in every),
        period_s=math.fsum(each.period_s for each in every),
        requests=sum(each.requests for each in every),
        errors=sum(each.errors for each in every),
        restarts=sum(each.restarts for each in every),
        latency=merged(each.latency for each in every),
        memory=max((each.memory for each in every if each.memory is not None), default=None),
        drift=last.drift,
        drifted=last.drifted,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Something that a check may name.

    `read` is None where nothing was told; `alone`: it is a comparison already, and has no
    control. `sample` is how much it rests on, of `counts`; a check
    wants at least `least`, where it does not say how much itself.
    """

    what: str
    counts: str
    least: int
    read: Callable[[Told], float | None]
    sample: Callable[[Told], int]
    alone: bool = False


def _requests(told: Told) -> int:
    return told.requests


def _documents(told: Told) -> int:
    return told.documents


def _latencies(told: Told) -> int:
    return told.latency.count


def _errors(told: Told) -> float | None:
    return told.errors / told.requests if told.requests else None


def _crashes(told: Told) -> float | None:
    return float(told.restarts) if told.documents else None


def _crash_rate(told: Told) -> float | None:
    return told.restarts * 3600 / told.period_s if told.period_s else None


MEASURES: Mapping[str, Measure] = {
    "error_rate": Measure(
        what="The share of requests that ended in an error, 0 to 1.",
        counts="requests",
        least=100,
        read=_errors,
        sample=_requests,
    ),
    "latency_p50": Measure(
        what="The seconds that half of the answers took at most, within 5 %.",
        counts="answers",
        least=20,
        read=lambda told: quantile(told.latency, 0.5),
        sample=_latencies,
    ),
    "latency_p95": Measure(
        what="The seconds that 95 of 100 answers took at most, within 5 %.",
        counts="answers",
        least=100,
        read=lambda told: quantile(told.latency, 0.95),
        sample=_latencies,
    ),
    "requests": Measure(
        what="How many requests there were.",
        counts="health documents",
        least=1,
        read=lambda told: float(told.requests) if told.documents else None,
        sample=_documents,
    ),
    "crashes": Measure(
        what="How many workers had to be started again.",
        counts="health documents",
        least=1,
        read=_crashes,
        sample=_documents,
    ),
    "crashes_per_hour": Measure(
        what="How many workers had to be started again in an hour of one device.",
        counts="health documents",
        least=1,
        read=_crash_rate,
        sample=_documents,
    ),
    "memory": Measure(
        what="The highest share of its memory that a device had in use, 0 to 1.",
        counts="health documents",
        least=1,
        read=lambda told: told.memory,
        sample=_documents,
    ),
    "drift": Measure(
        what="The distance (PSI) of what it sees and says from its card's reference, of the "
        "subject that is furthest.",
        counts="requests",
        least=1,
        read=lambda told: told.drift,
        sample=lambda told: told.drifted,
        alone=True,
    ),
}
"""By the name that a check calls it."""
