"""How the device feels: one health document a period, at this device's own moment in it.

Whether a document goes out now or waits in the outbox is not decided here. What
waits costs writing: a document is one transaction that survives a power cut, some
15 KB of pages and log and one fsync. At a document a minute that is 21 MB for a day
without a connection, which an SD card bears for years; at one a second it is 1.3 GB
a day, which it does not. The period (`health_period_s`) is the knob.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from agent import drift
from agent.ledger import Ledger
from agent.meter import Meter
from agent.ports import Tally
from agent.report import Self
from agent.state import Compared, Record
from agent.thermal import accelerator_c
from agent.throttling import Throttling
from agent.vitals import vitals
from agent.wire import v1

_SHORTEST_S = 1.0
_LEAST_S = 0.001
_LONGEST_S = 86400.0


def phase_s(device: str, period_s: float) -> float:
    """Return when in its period this device speaks: spread over a fleet, the same for one."""
    share = int.from_bytes(hashlib.sha256(device.encode()).digest()[:4]) / 2**32
    return share * period_s


class Pulse:
    """Measures once a period, and hands what it measured to `say`."""

    def __init__(
        self,
        who: Self,
        ledger: Ledger,
        meter: Meter,
        *,
        home: Path,
        clock: Callable[[], str],
        settings: Callable[[], v1.DeviceSettings],
        say: Callable[[v1.Health], Awaitable[None]],
    ) -> None:
        self._who, self._ledger, self._meter = who, ledger, meter
        self._home, self._clock = home, clock
        self._settings, self._say = settings, say
        self._throttling = Throttling()
        self._drift: drift.Waiting = {}
        self._woken = asyncio.Event()
        self.latest: v1.Health | None = None
        """What was measured at the end of the last period; None before the first one ends."""

    def wake(self) -> None:
        """Another period may be wanted."""
        self._woken.set()

    async def run(self) -> None:
        """Measure and say it, until cancelled."""
        loop = asyncio.get_running_loop()
        psutil.cpu_percent()  # the first call only sets the mark
        since = loop.time()
        period_s = self._settings().health_period_s
        due = self._moment(since, period_s)
        while True:
            self._woken.clear()
            wanted_s = self._settings().health_period_s
            if wanted_s != period_s:
                period_s, due = wanted_s, self._moment(since, wanted_s)
            try:
                async with asyncio.timeout_at(due):
                    await self._woken.wait()
            except TimeoutError:
                now = loop.time()
                self.latest = await self._look(now - since)
                await self._say(self.latest)
                since, due = now, max(due + period_s, now)

    def _moment(self, since: float, period_s: float) -> float:
        """Return when this device speaks next, when its period is a new one."""
        now = asyncio.get_running_loop().time()
        return max(since + _SHORTEST_S, now + phase_s(self._who.device, period_s))

    async def _look(self, period_s: float) -> v1.Health:
        # Here and not in the thread: this is where requests are counted meanwhile.
        tallies, compared = self._meter.take_period(), self._meter.compared()
        health = await asyncio.to_thread(self._measure, period_s, tallies)
        new = [(each.deployment, each.digest, each.drift) for each in tallies]
        now = asyncio.get_running_loop().time()
        # In a thread: to see what fits, a full document is written sixteen times.
        health, self._drift = await asyncio.to_thread(drift.told, health, self._drift, new, now)
        return await asyncio.to_thread(with_shadows, health, self._ledger.records, compared)

    def _measure(self, period_s: float, tallies: Sequence[Tally]) -> v1.Health:
        now = vitals(self._home)
        return v1.Health(
            fleet=self._who.fleet,
            device=self._who.device,
            session=self._ledger.session,
            at=self._clock(),
            # A machine that stood still may be very late, and the next one very early.
            period_s=min(max(round(period_s, 3), _LEAST_S), _LONGEST_S),
            cpu_ratio=round(psutil.cpu_percent() / 100, 3),
            memory_used_bytes=now.memory_used_bytes,
            memory_total_bytes=now.memory_total_bytes,
            temperature_c=now.temperature_c,
            throttled=self._throttling.look(),
            disk_free_bytes=now.disk_free_bytes,
            disk_total_bytes=now.disk_total_bytes,
            accelerator=self._who.accelerator,
            accelerator_c=None if self._who.accelerator == "cpu" else accelerator_c(),
            outbox=self._ledger.depth,
            told=self._ledger.told,
            deployments=_deployments(self._ledger.records, tallies),
        )


def with_shadows(
    health: v1.Health, records: Mapping[str, Record], compared: Mapping[str, Compared]
) -> v1.Health:
    """Say how far candidates are that are compared with what serves, where there is room for it."""
    for name, seen in sorted(compared.items()):
        asked = records[name].wanted.settings.shadow if name in records else None
        if asked is None:
            continue
        so_far = v1.Shadowed(compared=seen.requests, agreed=seen.agreed, wanted=asked.requests)
        told = (
            replace(each, shadow=so_far) if each.name == name else each
            for each in health.deployments
        )
        fuller = replace(health, deployments=tuple(told))
        if drift.fits(fuller):
            health = fuller
    return health


def _deployments(
    records: Mapping[str, Record], tallies: Sequence[Tally]
) -> tuple[v1.DeploymentHealth, ...]:
    """Return a row for each deployment that serves, about the revision that serves now."""
    found = {(each.deployment, each.revision): each for each in tallies}
    rows = []
    for name in sorted(records):
        current = records[name].current
        if current is None:
            continue
        tally = found.get((name, current.revision))
        rows.append(
            v1.DeploymentHealth(
                name=name,
                revision=current.revision,
                digest=current.digest,
                requests=tally.requests if tally else 0,
                errors=tally.errors if tally else 0,
                restarts=tally.restarts if tally else 0,
                latency=tally.latency if tally else v1.LatencySketch(),
            )
        )
    return tuple(rows)
