"""What a device says of itself: `reported` whenever it changed, `health` once a period.

The documents are made by two pure functions from what the ledger and the meter
know; the reporter only decides when.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil
import structlog

from agent.ledger import Ledger
from agent.meter import Meter
from agent.ports import Link, LinkDownError, LinkRefusedError, Tally
from agent.state import Installed, Quarantined, Record
from agent.wire import codec, v1
from agent.wire.codec import WireError
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.shed import shed
from agent.wire.topics import Kind

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Self:
    """What every document of this device begins with."""

    fleet: str
    device: str
    agent_version: str
    accelerator: str = "cpu"


def reported(
    who: Self,
    session: int,
    observed: v1.Order | None,
    records: Mapping[str, Record],
    last_error: v1.Problem | None,
    *,
    hold: v1.Hold | None = None,
    quarantined: Mapping[str, Quarantined] = MappingProxyType({}),
) -> v1.Reported:
    """Return what this device is."""
    return v1.Reported(
        fleet=who.fleet,
        device=who.device,
        session=session,
        observed=observed,
        deployments=tuple(_deployment(records[name], quarantined) for name in sorted(records)),
        hold=hold,
        last_error=last_error,
        agent_version=who.agent_version,
    )


def _deployment(record: Record, quarantined: Mapping[str, Quarantined]) -> v1.ReportedDeployment:
    return v1.ReportedDeployment(
        name=record.name,
        revision=record.wanted.revision,
        digest=record.wanted.bundle.digest,
        phase=record.phase,
        active=_active(record.current) if record.current else None,
        conditions=tuple(_conditions(record, quarantined)),
        last_error=record.problem,
    )


def _active(installed: Installed) -> v1.Active:
    return v1.Active(
        revision=installed.revision,
        bundle=installed.deployment.bundle,
        variant=installed.variant,
        runtime=installed.runtime,
        accelerator=installed.accelerator,
    )


def _conditions(record: Record, quarantined: Mapping[str, Quarantined]) -> Iterable[v1.Condition]:
    if record.problem is not None and record.phase is Phase.ACCEPTED:
        yield v1.Condition(type="deferred", reason=record.problem.reason, since=record.since)
    if record.phase in {Phase.REFUSED, Phase.ROLLED_BACK} and record.current is not None:
        yield v1.Condition(type="serving", reason=Reason.INCUMBENT_KEPT, since=record.since)
    verdict = quarantined.get(record.current.digest) if record.current else None
    if verdict is not None:  # there is nothing else that could serve
        yield v1.Condition(type="ailing", reason=verdict.reason, since=verdict.since)
    elif record.problem is not None and record.phase is Phase.COMMITTED:
        yield v1.Condition(type="ailing", reason=record.problem.reason, since=record.since)


def phase_s(device: str, period_s: float) -> float:
    """Return when in its period this device speaks: spread over a fleet, the same for one."""
    share = int.from_bytes(hashlib.sha256(device.encode()).digest()[:4]) / 2**32
    return share * period_s


class Reporter:
    """Publishes `reported` and `health` while connected; neither is kept when not."""

    def __init__(
        self,
        who: Self,
        ledger: Ledger,
        link: Link,
        meter: Meter,
        *,
        home: Path,
        clock: Callable[[], str],
        look: Callable[[], tuple[v1.Desired | None, v1.Problem | None]],
    ) -> None:
        self._who, self._ledger, self._link, self._meter = who, ledger, link, meter
        self._home, self._clock, self._look = home, clock, look
        self._changed = asyncio.Event()
        self._published = b""

    def wake(self) -> None:
        """Something may have changed."""
        self._changed.set()

    def start_over(self) -> None:
        """Say it again: the connection is new."""
        self._published = b""
        self._changed.set()

    async def report(self) -> None:
        """Publish `reported` whenever it changed, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            desired, last_error = self._look()
            document = reported(
                self._who,
                self._ledger.session,
                desired.order if desired else None,
                self._ledger.records,
                last_error,
                hold=self._ledger.owner_hold,
                quarantined=self._ledger.quarantined,
            )
            try:
                raw = codec.encode(shed(document))
                if raw != self._published:
                    await self._link.publish(Kind.REPORTED, raw)
                    self._published = raw
            except LinkDownError:
                continue  # the next connection starts over
            except (LinkRefusedError, WireError) as error:
                await _log.awarning("report not taken", message=str(error))

    async def health(self) -> None:
        """Publish `health` once a period, at this device's own moment in it, until cancelled."""
        loop = asyncio.get_running_loop()
        psutil.cpu_percent()  # the first call only sets the mark
        await asyncio.sleep(phase_s(self._who.device, self._period_s()))
        since = loop.time()
        due = since
        while True:
            period_s = self._period_s()
            due = max(due + period_s, loop.time())
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            document = await asyncio.to_thread(self._health, now - since)
            since = now
            try:
                await self._link.publish(Kind.HEALTH, codec.encode(document))
            except (LinkDownError, LinkRefusedError, WireError) as error:
                await _log.adebug("health not taken", message=str(error))

    def _period_s(self) -> float:
        desired, _ = self._look()
        return (desired.settings if desired else v1.DeviceSettings()).health_period_s

    def _health(self, period_s: float) -> v1.Health:
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._home))
        return v1.Health(
            fleet=self._who.fleet,
            device=self._who.device,
            session=self._ledger.session,
            at=self._clock(),
            period_s=round(period_s, 3),
            cpu_ratio=round(psutil.cpu_percent() / 100, 3),
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            temperature_c=_temperature(),
            disk_free_bytes=disk.free,
            disk_total_bytes=disk.total,
            accelerator=self._who.accelerator,
            outbox=self._ledger.depth,
            deployments=_deployments(self._ledger.records, self._meter.take_period()),
        )


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


def _temperature() -> float | None:
    """Return the hottest sensor; None where the kernel shows none."""
    found = [each.current for group in psutil.sensors_temperatures().values() for each in group]
    return round(max(found), 1) if found else None
