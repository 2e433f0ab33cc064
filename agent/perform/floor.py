"""Where models serve: workers started from the store, seated on the switchboard."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agent import shadow
from agent.errors import StepError
from agent.perform.supply import read_card
from agent.ports import Tally
from agent.serving.shadow import Shadow
from agent.serving.switchboard import Switchboard
from agent.serving.values import Happening, WorkerEvent
from agent.state import Compared, GivenUp, Installed, Machine, Measured, Serving
from agent.wire import v1
from agent.wire.reasons import Reason
from agent.workers.pool import Worker, WorkerError, start_worker
from agent.workers.values import Launch
from models.delegate import Delegate
from models.errors import ModelError
from models.layout import Layout
from models.values import Digest

START_LIMIT_S = 120.0
"""From spawn to judged: an agent that boots starts all its models at once, on few cores."""

_ADDRESS_SPACE_BYTES = 2 * 1024**3
"""What a runtime and numpy reserve before any model, with room; a model's own need comes on top."""


class WorkerFloor:
    """Models in worker processes behind one switchboard.

    `on_event` hears of every death and restart, for the outbox and for probation.
    """

    def __init__(
        self, store: Path, machine: Machine, on_event: Callable[[WorkerEvent], None]
    ) -> None:
        self._store, self._machine, self._tell = store, machine, on_event
        self._given_up: dict[str, GivenUp] = {}
        self.board = Switchboard(on_event=self._on_event, start_limit_s=START_LIMIT_S)

    @property
    def runtime(self) -> str:
        """What models run on here."""
        return self._machine.runtime

    def serving(self) -> Mapping[str, Serving]:
        """What answers now; a worker being replaced counts, one that was given up does not."""
        found = {name: self.board.launched(name) for name in self.board.names()}
        return {
            name: Serving(revision=worker.launch.revision, digest=worker.launch.bundle.digest)
            for name, worker in found.items()
            if worker is not None and name not in self._given_up
        }

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

    async def test(self, candidate: Installed) -> Measured:
        """Start the candidate apart, measure and close it; see the port."""
        worker = await self._start(candidate, examines=True)
        await worker.close(0)
        found = worker.report.examination
        if found is None:
            raise StepError(Reason.WORKER_CRASHED, "the worker did not measure itself")
        return Measured(
            variant=candidate.variant,
            format=candidate.format,
            accelerator=candidate.accelerator,
            threads=candidate.threads,
            latency_p50_s=found.latency_p50_s,
            memory_bytes=found.memory_bytes,
            reference=found.reference,
        )

    async def shadow(self, candidate: Installed, wanted: v1.ShadowSettings) -> Compared:
        """Compare the candidate with what serves, on live requests; see the port."""
        worker = await self._start(candidate, shadow_tolerance=wanted.tolerance)
        beside = Shadow(worker, wanted)
        try:
            with self.board.shadowed(candidate.deployment.name, beside):
                await beside.compare()
        except WorkerError as error:
            raise StepError(error.reason, f"in the shadow: {error.message}"[:250]) from error
        finally:
            await worker.close(0)
        if not shadow.verdict(wanted, beside.seen):
            raise StepError(*shadow.refusal(wanted, beside.seen))
        return beside.seen

    async def activate(self, installed: Installed) -> None:
        """Start it beside what serves, then switch; see the port."""
        worker = await self._start(installed)
        self._given_up.pop(installed.deployment.name, None)
        await self.board.install(worker, installed.deployment.name)

    def renumber(self, deployment: v1.Deployment) -> None:
        """Let what serves go on under another number; see the port."""
        self.board.renumber(deployment.name, deployment.revision)

    async def close(self, name: str) -> None:
        """Let nothing serve under a name."""
        await self.board.install(None, name)
        self._given_up.pop(name, None)

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
            )
            for each in self.board.take_counts()
        ]

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
    ) -> Worker:
        launch = await asyncio.to_thread(self._launch, installed)
        launch = replace(launch, examines=examines, shadow_tolerance=shadow_tolerance)
        try:
            return await start_worker(launch, deadline_s=START_LIMIT_S)
        except WorkerError as error:
            raise StepError(error.reason, error.message[:250]) from error

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
