"""Numbers of many devices in one: counted, or merged; never averaged. Pure.

What is counted is each device's last period, of those that are heard of now: an offline
device's last numbers say nothing about today.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from agent.wire import facts, v1
from agent.wire.sketch import merged, quantile
from fleet.health.heard import Heard
from fleet.health.states import State, Verdict

PERIOD_LEAST_S = 1.0
"""No device is asked to tell more often. One that names a shorter period has no higher rate, and
none that would be no number."""

_NOT_HERE = frozenset({State.UNKNOWN, State.OFFLINE})
_UNTOLD = "not told"

Judged = Sequence[tuple[Heard, Verdict]]
"""Devices with their verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Requests and their latency in the last period of some devices. `per_s`: of requests."""

    devices: int = 0
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    per_s: float = 0.0
    latency: v1.LatencySketch = field(default_factory=v1.LatencySketch)

    def quantile(self, share: float) -> float | None:
        """Return the seconds below which this share of requests took; None: there were none."""
        return quantile(self.latency, share)


@dataclass(frozen=True, slots=True, order=True)
class Served:
    """What numbers are of: a bundle under a deployment's name, on one class of devices."""

    deployment: str
    bundle: str
    version: str
    digest: str
    class_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """On how many devices a bundle serves, of all `devices`; `offline` ones only may serve it."""

    bundle: v1.BundleRef
    serving: int
    offline: int
    devices: int


def total(parts: Iterable[Numbers]) -> Numbers:
    """Return the sum: counts added up, sketches merged."""
    every = tuple(parts)
    return Numbers(
        devices=sum(part.devices for part in every),
        requests=sum(part.requests for part in every),
        errors=sum(part.errors for part in every),
        restarts=sum(part.restarts for part in every),
        per_s=math.fsum(part.per_s for part in every),
        latency=merged(part.latency for part in every),
    )


def of_deployment(told: v1.DeploymentHealth, period_s: float) -> Numbers:
    """Return the numbers of one deployment on one device."""
    return Numbers(
        devices=1,
        requests=told.requests,
        errors=told.errors,
        restarts=told.restarts,
        per_s=told.requests / max(period_s, PERIOD_LEAST_S),
        latency=told.latency,
    )


def of_device(heard: Heard) -> Numbers | None:
    """Return the numbers of all that serves on one device; None: it has sent no health yet."""
    if heard.health is None:
        return None
    return replace(total(numbers for _, numbers in of_served(heard)), devices=1)


def of_served(heard: Heard) -> Iterator[tuple[Served, Numbers]]:
    """Return the numbers of each bundle on one device, as it last told them."""
    if heard.health is not None:
        for told in heard.health.deployments:
            served = served_as(heard, told.name, told.digest)
            yield served, of_deployment(told, heard.health.period_s)


def is_here(verdict: Verdict) -> bool:
    """Say whether what a device told last is of now."""
    return verdict.state not in _NOT_HERE


def served_as(heard: Heard, name: str, digest: str) -> Served:
    """Say what a device's numbers are of; its class where its report is about the same bundle."""
    bundle = heard.named(name, digest)
    report = heard.target.told(name)
    active = None if report is None else report.active
    class_name = _UNTOLD
    if active is not None and active.bundle.digest == digest:
        architecture = heard.target.facts.get(facts.ARCHITECTURE, _UNTOLD)
        class_name = f"{active.runtime}, {architecture}, {active.accelerator}"
    return Served(name, bundle.name, bundle.version, bundle.digest, class_name)
