"""Where models serve: workers started from the store, seated on the switchboard."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import structlog

from agent import pooling, shadow
from agent.errors import StepError
from agent.perform import load
from agent.perform.supply import read_card
from agent.ports import Tally
from agent.serving.shadow import Shadow
from agent.serving.switchboard import Switchboard
from agent.serving.values import Happening, WorkerEvent
from agent.state import (
    Compared,
    Examined,
    GivenUp,
    Installed,
    Machine,
    Measured,
    Serving,
    Throughput,
    text,
)
from agent.vitals import available_bytes
from agent.wire import v1
from agent.wire.reasons import Reason
from agent.workers.pool import Worker, WorkerError, start_worker
from agent.workers.values import Launch
from models.card import Card
from models.delegate import Delegate
from models.errors import ModelError
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES
from models.values import Digest

START_LIMIT_S = 120.0
"""From spawn to judged: an agent that boots starts all its models at once, on few cores."""

_ADDRESS_SPACE_BYTES = 2 * 1024**3
"""What a runtime and numpy reserve before any model, with room; a model's own need comes on top."""

_log = structlog.get_logger()


class WorkerFloor:
    """Models in worker processes behind one switchboard.

    `on_event` hears of every death and restart, for the outbox and for probation.
    """

    def __init__(
        self,
        store: Path,
        machine: Machine,
        on_event: Callable[[WorkerEvent], None],
        *,
        available: Callable[[], int] = available_bytes,
    ) -> None:
        self._store, self._machine, self._tell = store, machine, on_event
        self._available = available
        self._given_up: dict[str, GivenUp] = {}
        self._short: dict[str, v1.Problem] = {}
        self.board = Switchboard(
            on_event=self._on_event, start_limit_s=START_LIMIT_S, has_room=self._has_room
        )

    @property
    def runtime(self) -> str:
        """What models run on here."""
        return self._machine.runtime

    def serving(self) -> Mapping[str, Serving]:
        """What answers now; a worker being replaced counts, one that was given up does not."""
        found = {name: self.board.launched(name) for name in self.board.names()}
        return {
            name: Serving(
                revision=worker.launch.revision,
                digest=worker.launch.bundle.digest,
                workers=self.board.strength(name),
                short=self._why_short(name),
            )
            for name, worker in found.items()
            if worker is not None and name not in self._given_up
        }

    def _why_short(self, name: str) -> v1.Problem | None:
        missing = self.board.missing(name)
        if missing is None:
            return self._short.get(name)
        message = text(f"one that died is not replaced: {missing.message}")
        return v1.Problem(reason=missing.reason, message=message)

    def given_up(self) -> Mapping[str, GivenUp]:
        """What died too often; see the port."""
        return dict(self._given_up)

    def expect(self, names: Sequence[str]) -> None:
        """Say what will serve once it is started."""
        for name in names:
            self.board.expect(name)

    @property
    def hardware(self) -> str:
        """What a choice depends on."""
        return self._machine.hardware

    @property
    def cores(self) -> int:
        """Processors that models may use."""
        return self._machine.cores

    async def test(self, candidate: Installed) -> Measured:
        """Start the candidate apart, measure and close it; see the port."""
        worker = await self._start(candidate, examines=True)
        await worker.close(0)
        return _measured(candidate, worker)

    async def examine(self, way: Installed, *, measures: bool) -> Examined:
        """Start what serves once more apart, behind everybody else, and close it.

        Its golden vectors are run in any case. Nothing else changes.

        Raises:
            StepError: with the reason; OUT_OF_MEMORY where there is none to spare for it.
        """
        begun = asyncio.get_running_loop().time()
        serves = self.board.launched(way.deployment.name)
        if serves is not None and not pooling.affordable(
            1, each_bytes=_takes(serves), available_bytes=self._available()
        ):
            raise StepError(Reason.OUT_OF_MEMORY, "there is none for another worker beside it")
        worker = await self._start(way, examines=measures, steps_back=True)
        try:
            cpu_s = _computed_s(worker)
        finally:
            await worker.close(0)
        verdict = worker.report.verdict
        return Examined(
            vectors=verdict.vectors,
            agreed=verdict.agreed,
            largest=verdict.largest,
            took_s=asyncio.get_running_loop().time() - begun,
            cpu_s=cpu_s,
            measured=_measured(way, worker) if measures else None,
        )

    async def shadow(self, candidate: Installed, wanted: v1.ShadowSettings) -> Compared:
        """Compare the candidate with what serves, on live requests; see the port."""
        card = await asyncio.to_thread(self._card, candidate.digest)
        worker = await self._start(candidate, shadow_tolerance=wanted.tolerance)
        beside = Shadow(worker, wanted)
        try:
            if why := shadow.too_large(card, worker.room_bytes):
                numbers = {"compared": "0", "wanted": str(wanted.requests)}
                raise StepError(Reason.SHADOW_INCONCLUSIVE, why, numbers)
            with self.board.shadowed(candidate.deployment.name, beside):
                await beside.compare()
        except WorkerError as error:
            raise StepError(error.reason, f"in the shadow: {error.message}"[:250]) from error
        finally:
            await worker.close(0)
        if not shadow.verdict(wanted, beside.seen):
            raise StepError(*shadow.refusal(wanted, beside.seen))
        return beside.seen

    async def pace(self, way: Installed, counts: Sequence[int]) -> Sequence[Throughput]:
        """Start some workers apart, measure how much they answer and close them; see the port."""
        requests = await asyncio.to_thread(self._requests, way)
        async with AsyncExitStack() as closing:
            first = await self._start(way)
            closing.push_async_callback(first.close, 0)
            others, _ = await self._beside(first, max(counts) - 1)
            for each in others:
                closing.push_async_callback(each.close, 0)
            took_s = way.latency_p50_s or 0.0
            return await load.throughput((first, *others), counts, requests, took_s)

    async def activate(self, installed: Installed) -> None:
        """Start it beside what serves, then switch; see the port.

        Where something serves, all workers that memory allows beside it are ready before the
        switch, and the rest are started when the incumbents are gone. Where nothing does, the
        first answers at once.
        """
        name, wanted = installed.deployment.name, installed.workers - 1
        first = await self._start(installed)
        others: tuple[Worker, ...] = ()
        short: v1.Problem | None = None
        if self.board.launched(name) is not None:
            try:
                others, short = await self._beside(first, wanted)
            except BaseException:
                await first.close(0)
                raise
        self._given_up.pop(name, None)
        self._short.pop(name, None)
        await self.board.install(first, name, *others)
        if len(others) < wanted:
            more, short = await self._beside(first, wanted - len(others))
            await self.board.reinforce(name, *more)
        if short is not None:
            self._short[name] = short
            await _log.awarning(
                "fewer workers than chosen",
                deployment=name,
                workers=self.board.strength(name),
                chosen=installed.workers,
                why=short.message,
            )

    def renumber(self, deployment: v1.Deployment) -> None:
        """Let what serves go on under another number; see the port."""
        self.board.renumber(deployment.name, deployment.revision)

    async def close(self, name: str) -> None:
        """Let nothing serve under a name."""
        await self.board.install(None, name)
        self._given_up.pop(name, None)
        self._short.pop(name, None)

    def take(self) -> Sequence[Tally]:
        """Return the counts since the last call."""
        return [
            Tally(
                deployment=each.deployment,
                revision=each.revision,
                digest=each.bundle_digest,
                requests=each.requests,
                errors=each.errors,
                restarts=each.restarts,
                latency=each.latency,
                drift=each.drift,
            )
            for each in self.board.take_counts()
        ]

    def compared(self) -> Mapping[str, Compared]:
        """Return how each candidate that is in the shadow now compares so far."""
        return self.board.compared()

    def _on_event(self, event: WorkerEvent) -> None:
        if event.kind is Happening.GAVE_UP:
            self._given_up[event.deployment] = GivenUp(
                revision=event.revision,
                digest=event.bundle_digest,
                reason=event.reason or Reason.WORKER_CRASHED,
                message=event.message,
            )
        self._tell(event)

    async def _start(
        self,
        installed: Installed,
        *,
        examines: bool = False,
        shadow_tolerance: float | None = None,
        steps_back: bool = False,
    ) -> Worker:
        launch = await asyncio.to_thread(self._launch, installed)
        launch = replace(launch, examines=examines, shadow_tolerance=shadow_tolerance)
        try:
            return await start_worker(launch, deadline_s=START_LIMIT_S, steps_back=steps_back)
        except WorkerError as error:
            raise StepError(error.reason, error.message[:250]) from error

    async def _beside(
        self, first: Worker, wanted: int
    ) -> tuple[tuple[Worker, ...], v1.Problem | None]:
        """Start further workers like `first`, as many as memory allows; say why not all.

        One after the other, for each takes memory that the next might have wanted.
        """
        started: list[Worker] = []
        try:
            while len(started) < wanted:
                if not self._has_room(first):
                    message = f"{wanted - len(started)} more workers have no memory"
                    return tuple(started), v1.Problem(reason=Reason.OUT_OF_MEMORY, message=message)
                launch = replace(first.launch, examines=False)
                started.append(await start_worker(launch, deadline_s=START_LIMIT_S))
        except WorkerError as error:
            return tuple(started), v1.Problem(reason=error.reason, message=text(error.message))
        except BaseException:
            for each in started:
                await each.close(0)
            raise
        return tuple(started), None

    def _has_room(self, beside: Worker) -> bool:
        """Tell whether there is memory for one more worker like this one."""
        room = pooling.affordable(1, each_bytes=_takes(beside), available_bytes=self._available())
        return room > 0

    def _card(self, digest: str) -> Card:
        try:
            _, card = read_card(Layout(self._store), digest)
        except ModelError as error:
            raise StepError(error.reason, str(error)) from error
        return card

    def _requests(self, way: Installed) -> tuple[tuple[bytes, int], ...]:
        try:
            layout = Layout(self._store)
            _, card = read_card(layout, way.digest)
            return load.requests(card, layout.read(card.golden.digest, BLOB_LIMIT_BYTES))
        except ModelError as error:
            raise StepError(error.reason, str(error)) from error

    def _launch(self, installed: Installed) -> Launch:
        deployment = installed.deployment
        try:
            layout = Layout(self._store)
        except ModelError as error:
            raise StepError(error.reason, str(error)) from error
        manifest, card = read_card(layout, installed.digest)
        needs = next(
            (each.requirements for each in card.variants if each.digest == installed.variant), None
        )
        if needs is None:
            raise StepError(Reason.BUNDLE_INCOMPLETE, "the chosen variant is not in the card")
        return Launch(
            deployment=deployment.name,
            revision=installed.revision,
            bundle=deployment.bundle,
            model=layout.blob_path(Digest(installed.variant)),
            variant=Digest(installed.variant),
            card=layout.blob_path(manifest.config.digest),
            golden=layout.blob_path(card.golden.digest),
            library=self._machine.library,
            threads=installed.threads,
            timeout_s=deployment.settings.timeout_s,
            memory_bytes=_ADDRESS_SPACE_BYTES + 8 * needs.memory_bytes,
            delegate=self._delegate(installed.accelerator),
        )

    def _delegate(self, accelerator: str) -> Delegate | None:
        """Return an accelerator's driver: never another one, and never the CPU in its stead."""
        if accelerator == "cpu":
            return None
        for each in self._machine.delegates:
            if each.accelerator == accelerator:
                return each
        raise StepError(Reason.ACCELERATOR_MISSING, f"{accelerator} is not here any more")


def _measured(way: Installed, worker: Worker) -> Measured:
    """Return what a worker measured of itself."""
    found = worker.report.examination
    if found is None:
        raise StepError(Reason.WORKER_CRASHED, "the worker did not measure itself")
    return Measured(
        variant=way.variant,
        format=way.format,
        accelerator=way.accelerator,
        threads=way.threads,
        latency_p50_s=found.latency_p50_s,
        memory_bytes=found.memory_bytes,
        reference=found.reference,
    )


def _computed_s(worker: Worker) -> float | None:
    """Return the processor's time that a worker took; None: it is gone."""
    with suppress(psutil.NoSuchProcess):
        taken = psutil.Process(worker.pid).cpu_times()
        return float(taken.user + taken.system)
    return None


def _takes(worker: Worker) -> int:
    """Return the memory that a worker has, libraries that it shares included."""
    try:
        return int(psutil.Process(worker.pid).memory_info().rss)
    except psutil.NoSuchProcess:  # it died; one is started in its place
        return 0
