"""A simulated fleet that is used, and tells of it: each device one health document a minute."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.wire.sketch import GAMMA
from agent.wire.v1 import DeploymentHealth, Health, LatencySketch
from fleet.clock import written
from fleet.health.drift import Counts, Distance, Drift, Level
from fleet.health.heard import Heard
from fleet.measured import measured
from fleet.rollouts.policy import Check, Gate, Inconclusive, Percent, Policy, WaveRule
from fleet.rollouts.progress import MeasuredEvent, Rollout
from tests.fleet.deciding.paper import FLEET
from tests.fleet.deciding.world import ISSUED, LITERT, Device, World

PERIOD_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a version does on one device in a minute."""

    requests: int = 100
    latency_s: float = 0.01
    errors: int = 0
    restarts: int = 0
    memory_bytes: int = 100


def sketch(seconds: float, count: int) -> LatencySketch:
    """Return so many answers that took so long."""
    if not count:
        return LatencySketch()
    return LatencySketch(count=count, buckets={math.ceil(math.log(seconds, GAMMA)): count})


class Used(World):
    """The fleet, with somebody who uses it. `paces` are by version, of a runtime or a device."""

    def __init__(self, classes: Iterable[str] = (LITERT,), *, away: Iterable[int] = ()) -> None:
        super().__init__(classes, away=away)
        self.paces: dict[tuple[str, str], Pace] = {}
        self.health: dict[str, tuple[Health, str]] = {}
        self.judged: tuple[Distance, ...] = ()  # how far it is from its card's reference
        self.counted: list[Counts] = []

    def runs(self, seconds: float = 3600.0, every: float = 20.0) -> None:
        """Let everybody work, tell how it went, and the centre look."""
        for number in range(int(seconds / every)):
            self.advance()
            self.works(1)
            if number % int(PERIOD_S / every) == 0:
                self.feels()
            self.waits(every)

    def feels(self) -> None:
        """Let everybody in reach tell how the last minute was."""
        for device in self.devices.values():
            if device.online:
                self.health[device.id] = (self.health_of(device), written(self.now))

    def health_of(self, device: Device) -> Health:
        """Return what a device tells of its last minute."""
        told = [
            (record.active, self._pace(device, record.active.bundle.version))
            for record in device.records.values()
            if record.active is not None
        ]
        return Health(
            fleet=FLEET,
            device=device.id,
            session=1,
            at=ISSUED,
            period_s=PERIOD_S,
            memory_used_bytes=max((pace.memory_bytes for _, pace in told), default=100),
            memory_total_bytes=1000,
            deployments=tuple(
                DeploymentHealth(
                    name=active.name,
                    revision=active.revision,
                    digest=active.bundle.digest,
                    requests=pace.requests,
                    errors=pace.errors,
                    restarts=pace.restarts,
                    latency=sketch(pace.latency_s, pace.requests - pace.errors),
                )
                for active, pace in told
            ),
        )

    def _pace(self, device: Device, version: str) -> Pace:
        paces = self.paces
        own = paces.get((version, device.id)) or paces.get((version, device.runtime))
        return own or Pace(requests=100 if self.traffic else 0)

    def heard(self) -> Mapping[str, Heard]:
        """Return what the centre holds of each."""
        return {
            target.device: Heard(
                target=target,
                joined_at=ISSUED,
                health=self.health.get(target.device, (None, None))[0],
                health_at=self.health.get(target.device, (None, None))[1],
                drift=self._drift(self.devices[target.device]),
            )
            for target in self.inventory().targets
        }

    def measures(self, rollout: Rollout) -> tuple[MeasuredEvent, ...]:
        """Return what was told since the last look."""
        return measured(rollout, self.heard(), self.now, self._distance)

    def _distance(self, _digest: str, counts: Counts) -> tuple[Distance, ...]:
        self.counted.append(counts)
        return self.judged

    def _drift(self, device: Device) -> tuple[Drift, ...]:
        """Return four requests in a bin, of what it serves."""
        return tuple(
            Drift(
                deployment=name,
                revision=record.active.revision,
                digest=record.active.bundle.digest,
                told_at=written(self.now),
                since=ISSUED,
                counts={"c": [0, 4]},
            )
            for name, record in device.records.items()
            if record.active is not None and self.judged
        )


def far(psi: float) -> Distance:
    """Return a subject so far from its reference."""
    return Distance(subject="input-0-mean", level=Level.ALARM, requests=500, least=200, psi=psi)


def checked(
    *checks: str, inconclusive: Inconclusive = Inconclusive.PAUSE, sizes: Iterable[int] = (50, 100)
) -> Policy:
    """Return a policy with these checks behind each of its waves."""
    gate = Gate(
        success_percent=95,
        error_percent=5,
        soak_s=120.0,
        deadline_s=1200.0,
        inconclusive=inconclusive,
        checks=tuple(Check(check=each) for each in checks),
    )
    waves = tuple(WaveRule(size=Percent(percent=size), gate=gate) for size in sizes)
    return Policy(name="checked", waves=waves, per_class=1)
