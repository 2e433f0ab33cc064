"""Who answers for which deployment. One reference per deployment is the switch.

Promises: a request that was not begun is never lost to a switch or a crash: it
goes to whoever answers next. Only the request over which a worker died fails.
A worker that dies is replaced with the same launch, a bounded number of times;
then the deployment stays silent and says so, and what to do is decided by
whoever listens to the events (quarantine is not decided here).

    async with Switchboard(on_event=note) as board:
        board.expect("digits")                 # not loaded yet: 503 instead of 404, and not ready
        await board.install(worker, "digits")  # switches, drains the incumbent, closes it
        await board.install(None, "digits")    # removes
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from agent.serving.shadow import Shadow
from agent.serving.values import Counts, Happening, WorkerEvent
from agent.sketch import Sketch
from agent.wire.reasons import Reason
from agent.workers.pool import (
    START_LIMIT_S,
    Worker,
    WorkerError,
    WorkerGoneError,
    refusal,
    start_worker,
)
from agent.workers.values import Answer, Asked, Encoding, Launch

RESTARTS_LIMIT = 5
RESTARTS_WINDOW_S = 60.0
"""Five deaths in a minute are a model that can't live here; Frigate's watchdog counts alike."""

_PATIENCE_S = 10.0  # for a deployment whose worker is being replaced, when no launch says how long
_FIRST_PAUSE_S = 0.1  # after a failed restart; doubles
_LAST_PAUSE_S = 5.0


@dataclass(slots=True)
class _Tally:
    """Running counts of one revision."""

    launch: Launch
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    latency: Sketch = field(default_factory=Sketch)


@dataclass(slots=True, eq=False)
class _Seat:
    """One deployment's place. `answering` is set while its worker lives, or it has given up."""

    name: str
    worker: Worker | None = None
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    deaths: deque[float] = field(default_factory=deque)
    given_up: str | None = None
    shadow: Shadow | None = None


class Switchboard:
    """Routes requests to the worker that answers for each deployment, and keeps one there."""

    def __init__(
        self,
        *,
        on_event: Callable[[WorkerEvent], None] = lambda _event: None,
        start_limit_s: float = START_LIMIT_S,
    ) -> None:
        self._on_event = on_event
        self._start_limit_s = start_limit_s
        self._seats: dict[str, _Seat] = {}
        self._tallies: dict[tuple[str, int], _Tally] = {}
        self._revivals: set[asyncio.Task[None]] = set()
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        removed = [(name, self._remove(name)) for name in self.names()]
        for revival in self._revivals:
            revival.cancel()
        try:
            async with asyncio.TaskGroup() as closing:
                for name, worker in removed:
                    if worker is not None:
                        closing.create_task(worker.close(), name=f"close {name}")
        finally:
            # An error of the body is the body's: the group would only wrap it.
            cancelled = isinstance(error, asyncio.CancelledError)
            await self._group.__aexit__(*((kind, error, trace) if cancelled else (None,) * 3))

    def expect(self, name: str) -> None:
        """Say that a deployment will be installed: it is known but not ready. Idempotent."""
        self._seats.setdefault(name, _Seat(name))

    async def install(self, worker: Worker | None, name: str, *, drain_s: float = 10.0) -> None:
        """Let `worker` answer for `name` from now on (None: nobody); drain, close the incumbent.

        The switch is made before the first await. No request fails by it.
        """
        if worker is None:
            incumbent = self._remove(name)
        else:
            seat = self._seats.setdefault(name, _Seat(name))
            incumbent = seat.worker
            seat.deaths.clear()
            self._seat(seat, worker)
        if incumbent is not None and incumbent is not worker:
            await incumbent.close(drain_s)

    def renumber(self, name: str, revision: int) -> None:
        """Let the worker of `name`, and whoever replaces it, go on under another revision."""
        worker = self.launched(name)
        if worker is not None:
            worker.launch = replace(worker.launch, revision=revision)

    def current(self, name: str) -> Worker | None:
        """Return the live worker that answers for `name`; None when there is none now."""
        seat = self._seats.get(name)
        worker = None if seat is None else seat.worker
        return None if worker is None or worker.gone else worker

    def launched(self, name: str) -> Worker | None:
        """Return the worker of `name` even when it is dead and being replaced."""
        seat = self._seats.get(name)
        return None if seat is None else seat.worker

    def names(self) -> tuple[str, ...]:
        """Return the deployments that are installed or expected."""
        return tuple(self._seats)

    @property
    def ready(self) -> bool:
        """Whether every deployment has a live worker; true when there is no deployment."""
        return all(self.current(name) is not None for name in self._seats)

    async def infer(
        self,
        name: str,
        body: bytes,
        json_length: int | None,
        *,
        encoding: Encoding = Encoding.IDENTITY,
        version: str | None = None,
    ) -> Answer:
        """Answer one request by whoever answers for `name`, through a switch or a restart."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        seat = self._seats.get(name)
        while seat is not None:
            worker = seat.worker
            if worker is not None and version not in (None, worker.launch.bundle.version):
                return refusal(
                    404, f"{name} serves version {worker.launch.bundle.version}, not {version}"
                )
            if seat.given_up is not None:
                return self._count(worker, refusal(503, seat.given_up))
            if worker is None or worker.gone:
                seat.answering.clear()
                patience_s = _PATIENCE_S if worker is None else worker.launch.timeout_s
                try:
                    async with asyncio.timeout_at(arrived + patience_s):
                        await seat.answering.wait()
                except TimeoutError:
                    return self._count(worker, refusal(503, f"{name} has no worker yet; try again"))
            else:
                try:
                    answer = await worker.infer(body, json_length, encoding=encoding)
                except WorkerGoneError:
                    # It died or was switched off before it began: whoever is next will do it.
                    pass
                else:
                    if seat.shadow is not None and answer.status == 200:  # noqa: PLR2004  # good
                        asked = Asked(body=body, json_length=json_length, encoding=encoding)
                        seat.shadow.offer(asked, answer)
                    return self._count(worker, answer, seconds=loop.time() - arrived)
            seat = self._seats.get(name)
        return refusal(404, f"no deployment is called {name!r} here")

    @contextmanager
    def shadowed(self, name: str, shadow: Shadow) -> Iterator[None]:
        """Offer a shadow what is answered under `name`, for as long as the block lasts."""
        seat = self._seats.setdefault(name, _Seat(name))
        seat.shadow = shadow
        try:
            yield
        finally:
            seat.shadow = None

    def take_counts(self) -> tuple[Counts, ...]:
        """Return what was counted since the last call, a row per revision, and begin anew."""
        taken, self._tallies = self._tallies, {}
        return tuple(
            Counts(
                deployment=name,
                revision=revision,
                bundle_digest=tally.launch.bundle.digest,
                requests=tally.requests,
                errors=tally.errors,
                restarts=tally.restarts,
                latency=tally.latency.to_wire(),
            )
            for (name, revision), tally in taken.items()
        )

    def _remove(self, name: str) -> Worker | None:
        seat = self._seats.pop(name, None)
        if seat is None:
            return None
        worker, seat.worker = seat.worker, None
        seat.answering.set()  # whoever waits there is told that it is no more
        return worker

    def _seat(self, seat: _Seat, worker: Worker) -> None:
        seat.worker = worker
        seat.given_up = None
        seat.answering.set()
        worker.when_gone(lambda: self._on_gone(seat, worker))

    def _on_gone(self, seat: _Seat, worker: Worker) -> None:
        if seat.worker is not worker:
            return
        seat.answering.clear()
        revival = self._group.create_task(self._revive(seat, worker), name=f"revive {seat.name}")
        self._revivals.add(revival)
        revival.add_done_callback(self._revivals.discard)

    async def _revive(self, seat: _Seat, dead: Worker) -> None:
        """Put a new worker where one died, unless that is no longer wanted or happens too often."""
        cause = await dead.cause_of_death()
        pause_s = _FIRST_PAUSE_S
        try:
            while seat.worker is dead:
                kind = Happening.STUCK if cause.reason is Reason.WORKER_STUCK else Happening.CRASHED
                self._tell(kind, dead.launch, cause.reason, cause.message)
                if self._too_often(seat):
                    seat.given_up = (
                        f"{cause.message}; {RESTARTS_LIMIT} deaths in {RESTARTS_WINDOW_S:g} s: "
                        "it is not started again"
                    )
                    self._tell(Happening.GAVE_UP, dead.launch, cause.reason, seat.given_up)
                    seat.answering.set()
                    return
                try:
                    fresh = await start_worker(dead.launch, deadline_s=self._start_limit_s)
                except WorkerError as error:
                    cause = error
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LAST_PAUSE_S)
                    continue
                if seat.worker is not dead:
                    await fresh.close(0)
                    return
                fresh.launch = dead.launch  # it may have been renumbered meanwhile
                self._tally(dead.launch).restarts += 1
                self._tell(Happening.RESTARTED, dead.launch, None, "a new worker answers")
                self._seat(seat, fresh)
        finally:
            await dead.close(0)

    def _too_often(self, seat: _Seat) -> bool:
        now = asyncio.get_running_loop().time()
        seat.deaths.append(now)
        while seat.deaths[0] < now - RESTARTS_WINDOW_S:
            seat.deaths.popleft()
        return len(seat.deaths) >= RESTARTS_LIMIT

    def _tell(self, kind: Happening, launch: Launch, reason: Reason | None, message: str) -> None:
        self._on_event(
            WorkerEvent(
                kind=kind,
                deployment=launch.deployment,
                revision=launch.revision,
                bundle_digest=launch.bundle.digest,
                reason=reason,
                message=message,
            )
        )

    def _tally(self, launch: Launch) -> _Tally:
        return self._tallies.setdefault((launch.deployment, launch.revision), _Tally(launch))

    def _count(self, worker: Worker | None, answer: Answer, *, seconds: float = 0.0) -> Answer:
        if worker is not None:
            tally = self._tally(worker.launch)
            tally.requests += 1
            tally.errors += answer.status >= 500  # noqa: PLR2004  # below it is the client's fault
            if answer.status == 200:  # noqa: PLR2004  # only good answers say how fast it is
                tally.latency.add(seconds)
        return answer
