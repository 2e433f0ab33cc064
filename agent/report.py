"""What a device says of itself: `reported`, whenever it changed.

The document is made by a pure function from what the ledger knows; the reporter
only decides when: at once, but for a storm of changes, of which the latest is said
at most a second late.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from agent.bucket import Bucket
from agent.ledger import Ledger
from agent.ports import Link, LinkDownError, LinkRefusedError
from agent.state import Installed, Quarantined, Record, Serving, text
from agent.wire import codec, v1
from agent.wire.codec import WireError
from agent.wire.limits import QUARANTINED_LIMIT, REPORTS_BURST, REPORTS_PER_S
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.shed import shed
from agent.wire.topics import Kind
from agent.wire.windows import waits_for_window

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
    serving: Mapping[str, Serving] = MappingProxyType({}),
) -> v1.Reported:
    """Return what this device is."""
    return v1.Reported(
        fleet=who.fleet,
        device=who.device,
        session=session,
        observed=observed,
        deployments=tuple(
            _deployment(records[name], quarantined, serving.get(name)) for name in sorted(records)
        ),
        hold=hold,
        quarantined=tuple(_newest(quarantined)),
        last_error=last_error,
        agent_version=who.agent_version,
    )


def _deployment(
    record: Record, quarantined: Mapping[str, Quarantined], serving: Serving | None
) -> v1.ReportedDeployment:
    return v1.ReportedDeployment(
        name=record.name,
        revision=record.wanted.revision,
        digest=record.wanted.bundle.digest,
        phase=record.phase,
        active=_active(record.current, serving) if record.current else None,
        conditions=(*_conditions(record, quarantined), *_short(record, serving)),
        last_error=record.problem,
    )


def _newest(quarantined: Mapping[str, Quarantined]) -> Iterable[v1.Quarantined]:
    """Return the last that came into quarantine: the ledger keeps their order."""
    for each in list(quarantined.values())[-QUARANTINED_LIMIT:]:
        yield v1.Quarantined(digest=each.digest, reason=each.reason, since=each.since)


def _active(installed: Installed, serving: Serving | None) -> v1.Active:
    here = serving if serving and serving.revision == installed.revision else None
    return v1.Active(
        revision=installed.revision,
        bundle=installed.deployment.bundle,
        variant=installed.variant,
        runtime=installed.runtime,
        accelerator=installed.accelerator,
        threads=installed.threads,
        workers=here.workers if here else installed.workers,
        latency_p50_s=installed.latency_p50_s,
    )


def _conditions(record: Record, quarantined: Mapping[str, Quarantined]) -> Iterable[v1.Condition]:
    if record.problem is not None and (
        record.phase is Phase.ACCEPTED or waits_for_window(record.phase, record.problem.reason)
    ):
        yield v1.Condition(type="deferred", reason=record.problem.reason, since=record.since)
    if record.phase in {Phase.REFUSED, Phase.ROLLED_BACK} and record.current is not None:
        yield v1.Condition(type="serving", reason=Reason.INCUMBENT_KEPT, since=record.since)
    if record.current is not None and record.current.fallback:
        yield v1.Condition(
            type="fallback",
            reason=Reason.ACCELERATOR_FALLBACK,
            since=record.since,
            parameters={"why": text(record.current.fallback)},
        )
    verdict = quarantined.get(record.current.digest) if record.current else None
    if verdict is not None:  # there is nothing else that could serve
        yield v1.Condition(type="ailing", reason=verdict.reason, since=verdict.since)
    elif record.problem is not None and record.phase is Phase.COMMITTED:
        yield v1.Condition(type="ailing", reason=record.problem.reason, since=record.since)


def _short(record: Record, serving: Serving | None) -> Iterable[v1.Condition]:
    if serving is not None and serving.short is not None:
        yield v1.Condition(
            type="short",
            reason=serving.short.reason,
            since=record.since,
            parameters={"why": serving.short.message},
        )


class Reporter:
    """Publishes `reported` while connected; what is true at the next connection is said then."""

    def __init__(
        self,
        who: Self,
        ledger: Ledger,
        link: Link,
        *,
        look: Callable[[], tuple[v1.Desired | None, v1.Problem | None]],
        serving: Callable[[], Mapping[str, Serving]],
    ) -> None:
        self._who, self._ledger, self._link, self._look = who, ledger, link, look
        self._serving = serving
        self._changed = asyncio.Event()
        self._published = b""
        self._bucket = Bucket(per_s=REPORTS_PER_S, burst=REPORTS_BURST)

    def wake(self) -> None:
        """Something may have changed."""
        self._changed.set()

    def start_over(self) -> None:
        """Say it again: the connection is new."""
        self._published = b""
        self._changed.set()

    def document(self) -> v1.Reported:
        """Return what this device is now."""
        desired, last_error = self._look()
        return reported(
            self._who,
            self._ledger.session,
            desired.order if desired else None,
            self._ledger.records,
            last_error,
            hold=self._ledger.owner_hold,
            quarantined=self._ledger.quarantined,
            serving=self._serving(),
        )

    async def report(self) -> None:
        """Publish `reported` whenever it changed, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._bucket.wait_s(loop.time()))
            self._changed.clear()
            try:
                raw = codec.encode(shed(self.document()))
                if raw != self._published:
                    self._bucket.take(loop.time())
                    await self._link.publish(Kind.REPORTED, raw)
                    self._published = raw
            except LinkDownError:
                continue  # the next connection starts over
            except (LinkRefusedError, WireError) as error:
                await _log.awarning("report not taken", message=str(error))
