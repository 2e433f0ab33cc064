"""A device's loop with a real ledger, and a supply and a floor that do what the test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.errors import StepError
from agent.ledger import Ledger, open_ledger
from agent.meter import Meter
from agent.ports import Greeting, Tally, Terms
from agent.reconcile import Reconciler
from agent.state import Compared, GivenUp, Installed, Measured, Serving, Throughput
from agent.wire import codec, v1
from agent.wire.phases import Happening, Phase

AT = "2026-01-02T03:04:05Z"


def deployment(name: str = "digits", revision: int = 1, probation_s: float = 0.0) -> v1.Deployment:
    digest = "sha256:" + f"{revision:x}".rjust(64, "0")
    return v1.Deployment(
        name=name,
        revision=revision,
        bundle=v1.BundleRef(digest=digest, name=name, version=f"1.0.{revision}"),
        settings=v1.DeploymentSettings(probation_s=probation_s),
    )


def desired(generation: int, *deployments: v1.Deployment) -> v1.Desired:
    order = v1.Order(epoch=0, generation=generation)
    return v1.Desired(fleet="f", target="d-1", order=order, issued_at=AT, deployments=deployments)


@dataclass
class World:
    """Supply, floor and counter. `wrong` says what fails, by step and revision: why, or a wait.

    `stored` are the revisions that need no download.
    """

    wrong: dict[tuple[str, int], str | asyncio.Event] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    stored: set[int] = field(default_factory=set)
    terms: list[Terms] = field(default_factory=list)
    seats: dict[str, Serving] = field(default_factory=dict)
    counts: list[Tally] = field(default_factory=list)
    kept: frozenset[str] = frozenset()
    dead: dict[str, GivenUp] = field(default_factory=dict)
    runtime: str = "litert 2.3.0"
    hardware: str = ""
    cores: int = 1
    per_s: dict[int, float] = field(default_factory=dict)
    stateful: bool = False
    took_s: dict[str, float | str] = field(default_factory=lambda: {"cpu": 0.002})
    ways: list[tuple[str, str]] = field(default_factory=list)

    async def _do(self, what: str, one: v1.Deployment | v1.BundleRef, revision: int) -> None:
        self.did.append(f"{what} {one.name} {revision}")
        await asyncio.sleep(0)
        wrong = self.wrong.get((what, revision))
        if isinstance(wrong, asyncio.Event):
            await wrong.wait()
        elif wrong is not None:
            raise StepError(wrong, f"{what} went wrong")

    async def fetch(
        self,
        bundle: v1.BundleRef,
        terms: Terms,
        progress: Callable[[Happening], Awaitable[None]],
    ) -> None:
        self.terms.append(terms)
        revision = int(bundle.digest.removeprefix("sha256:"), 16)
        if terms.shut is not None and revision not in self.stored:
            self.did.append(f"look {bundle.name} {revision}")
            raise StepError(terms.shut.reason, terms.shut.message, terms.shut.parameters)
        await self._do("fetch", bundle, revision)
        await progress(Happening.FETCHED)

    async def stage(self, wanted: v1.Deployment) -> tuple[Installed, ...]:
        await self._do("stage", wanted, wanted.revision)
        return tuple(
            Installed(
                deployment=wanted,
                variant=wanted.bundle.digest,
                runtime="litert 2.3.0",
                accelerator=accelerator,
                format="int8",
                stateful=self.stateful,
                hardware=self.hardware,
            )
            for accelerator in self.took_s
        )

    async def collect(self, keep: Collection[str]) -> None:
        self.kept = frozenset(keep)

    def serving(self) -> Mapping[str, Serving]:
        return dict(self.seats)

    def given_up(self) -> Mapping[str, GivenUp]:
        return dict(self.dead)

    async def test(self, candidate: Installed) -> Measured:
        await self._do("test", candidate.deployment, candidate.revision)
        took_s = self.took_s[candidate.accelerator]
        if isinstance(took_s, str):
            raise StepError(took_s, f"{candidate.accelerator} went wrong")
        return Measured(
            variant=candidate.variant,
            format=candidate.format,
            accelerator=candidate.accelerator,
            threads=candidate.threads,
            latency_p50_s=took_s,
            memory_bytes=5_000_000,
        )

    async def shadow(self, candidate: Installed, wanted: v1.ShadowSettings) -> Compared:
        await self._do("shadow", candidate.deployment, candidate.revision)
        return Compared(requests=wanted.requests, agreed=wanted.requests)

    async def pace(self, way: Installed, counts: Sequence[int]) -> Sequence[Throughput]:
        await self._do("pace", way.deployment, way.revision)
        return [Throughput(workers=count, per_s=self.per_s.get(count)) for count in counts]

    async def activate(self, installed: Installed) -> None:
        await self._do("activate", installed.deployment, installed.revision)
        took_s = self.took_s.get(installed.accelerator, "ACCELERATOR_MISSING")
        if isinstance(took_s, str):
            raise StepError(took_s, f"{installed.accelerator} went wrong")
        self.ways.append((installed.deployment.name, installed.accelerator))
        self.dead.pop(installed.deployment.name, None)
        self.seats[installed.deployment.name] = Serving(
            revision=installed.revision, digest=installed.digest, workers=installed.workers
        )

    def renumber(self, deployment: v1.Deployment) -> None:
        if deployment.name in self.seats:
            seat = self.seats[deployment.name]
            self.seats[deployment.name] = replace(seat, revision=deployment.revision)

    async def close(self, name: str) -> None:
        self.seats.pop(name, None)

    def compared(self) -> Mapping[str, Compared]:
        return {}

    def take(self) -> Sequence[Tally]:
        taken, self.counts = self.counts, []
        return taken


class Device:
    """A reconciler on a ledger that outlives it."""

    def __init__(self, path: Path, world: World) -> None:
        self.path, self.world = path, world
        self.desired: v1.Desired | None = None
        self.clock: Callable[[], str] = lambda: AT
        self.ledger: Ledger = open_ledger(path, fleet="f", device="d-1")
        self.meter = Meter(world)
        self.news = asyncio.Event()

    def want(self, generation: int, *deployments: v1.Deployment) -> None:
        self.desired = desired(generation, *deployments)
        self.reconciler.wake()

    def _now(self) -> str:
        return self.clock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.reconciler = Reconciler(
            self.ledger,
            self.world,
            self.world,
            self.meter,
            desired=lambda: self.desired,
            clock=self._now,
            changed=self.news.set,
        )
        await self.reconciler.boot()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.reconciler.run(), name="reconcile")
            yield
            task.cancel()

    async def reaches(self, name: str, phase: Phase, revision: int = 1) -> None:
        async with asyncio.timeout(3600):
            while True:
                record = self.ledger.records.get(name)
                if record and record.phase is phase and record.wanted.revision == revision:
                    return
                self.news.clear()
                await self.news.wait()

    def told(self) -> list[tuple[str | None, int | None, str | None]]:
        """Phase, revision and reason of what the centre will hear."""
        events = [codec.decode(each.body, v1.Event) for each in self.ledger.pending()]
        return [(each.phase, each.revision, each.reason) for each in events]


async def greet() -> Greeting:
    """Say what a connection of a test's own begins and ends with."""
    return Greeting(birth=b"birth", death=b"death")
