"""Who answers for which deployment. One reference per deployment is the switch.

Promises: a request that was not begun is never lost to a switch or a crash: it
goes to whoever answers next. Only the request over which a worker died fails.
Of several workers the least busy one takes a request, and those that live go on
when one dies. It is replaced with the same launch, a bounded number of times for
all of them together; then nobody is started again, the deployment says so once
the last is dead, and what to do is decided by whoever listens to the events
(quarantine is not decided here). That a new one can't start while others live (no
memory, a file that rotted) says nothing about those: it is tried again, ever less often,
and meanwhile it is missing. Where others live, there must be room for it beside them.

    async with Switchboard(on_event=note) as board:
        board.expect("digits")                 # not loaded yet: 503 instead of 404, and not ready
        await board.install(worker, "digits")  # switches, drains the incumbent, closes it
        await board.install(one, "digits", another)  # the same, with all of both sides
        await board.install(None, "digits")    # removes
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from agent.serving.seat import RESTARTS_WINDOW_S, Seat
from agent.serving.shadow import Shadow
from agent.serving.values import Counts, Happening, WorkerEvent
from agent.sketch import Sketch
from agent.state import Compared
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

_PATIENCE_S = 10.0  # for a deployment whose worker is being replaced, when no launch says how long
_FIRST_PAUSE_S = 0.1  # after a failed restart; doubles
_LAST_PAUSE_S = 5.0
_BESIDE_PAUSE_S = 300.0  # the same where others answer meanwhile


@dataclass(slots=True)
class _Tally:
    """Running counts of one revision."""

    launch: Launch
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    latency: Sketch = field(default_factory=Sketch)
    drift: dict[tuple[str, int], list[int]] = field(default_factory=dict)


class Switchboard:
    """Routes requests to the worker that answers for each deployment, and keeps one there."""

    def __init__(
        self,
        *,
        on_event: Callable[[WorkerEvent], None] = lambda _event: None,
        start_limit_s: float = START_LIMIT_S,
        has_room: Callable[[Worker], bool] = lambda _beside: True,
    ) -> None:
        self._on_event, self._has_room = on_event, has_room
        self._start_limit_s = start_limit_s
        self._seats: dict[str, Seat] = {}
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
        removed = [self._remove(name) for name in self.names()]
        for revival in self._revivals:
            revival.cancel()
        try:
            await _close(worker for pool in removed for worker in pool)
        finally:
            # An error of the body is the body's: the group would only wrap it.
            cancelled = isinstance(error, asyncio.CancelledError)
            await self._group.__aexit__(*((kind, error, trace) if cancelled else (None,) * 3))

    def expect(self, name: str) -> None:
        """Say that a deployment will be installed: it is known but not ready. Idempotent."""
        self._seats.setdefault(name, Seat(name))

    async def install(
        self, worker: Worker | None, name: str, *others: Worker, drain_s: float = 10.0
    ) -> None:
        """Let `worker` and `others` answer for `name` from now on (None: nobody).

        All incumbents are drained and closed. The switch is made before the first await.
        No request fails by it.
        """
        if worker is None:
            incumbents = self._remove(name)
        else:
            seat = self._seats.setdefault(name, Seat(name))
            incumbents = seat.refill((worker, *others))
            for each in seat.pool:
                self._watch(seat, each)
        await _close(incumbents, drain_s)

    async def reinforce(self, name: str, *more: Worker) -> None:
        """Let more of the same launch answer beside those that do; nobody there: close them."""
        seat = self._seats.get(name)
        if seat is None:
            await _close(more, 0)
            return
        seat.pool += more
        for each in more:
            self._watch(seat, each)

    def renumber(self, name: str, revision: int) -> None:
        """Let the workers of `name`, and whoever replaces them, go on under another revision."""
        if seat := self._seats.get(name):
            seat.renumber(revision)

    def current(self, name: str) -> Worker | None:
        """Return the worker that would take the next request for `name`; None: none lives now."""
        seat = self._seats.get(name)
        return None if seat is None else seat.least_busy

    def launched(self, name: str) -> Worker | None:
        """Return a worker of `name` even when all are dead and being replaced."""
        seat = self._seats.get(name)
        return None if seat is None else seat.launched

    def strength(self, name: str) -> int:
        """Return how many workers `name` has; one that is being replaced counts, if it can be."""
        seat = self._seats.get(name)
        if seat is None:
            return 0
        if seat.given_up is not None:  # nobody is replaced any more
            return sum(not each.gone for each in seat.pool)
        return len(seat.pool) - len(seat.missing)

    def missing(self, name: str) -> WorkerError | None:
        """Return why a worker of `name` that died could not be replaced so far; None: none is."""
        seat = self._seats.get(name)
        return None if seat is None else next(iter(seat.missing.values()), None)

    def queue(self, name: str) -> int:
        """Return how many requests are with the workers of `name`, or wait for them."""
        seat = self._seats.get(name)
        return 0 if seat is None else sum(each.line for each in seat.pool if not each.gone)

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
            known, worker = seat.launched, seat.least_busy
            if known is not None and version not in (None, known.launch.bundle.version):
                return refusal(
                    404, f"{name} serves version {known.launch.bundle.version}, not {version}"
                )
            if worker is None and seat.given_up is not None:
                return self._count(known, refusal(503, seat.given_up))
            if worker is None:
                seat.answering.clear()
                patience_s = _PATIENCE_S if known is None else known.launch.timeout_s
                try:
                    async with asyncio.timeout_at(arrived + patience_s):
                        await seat.answering.wait()
                except TimeoutError:
                    return self._count(known, refusal(503, f"{name} has no worker yet; try again"))
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
        seat = self._seats.setdefault(name, Seat(name))
        seat.shadow = shadow
        try:
            yield
        finally:
            seat.shadow = None

    def compared(self) -> dict[str, Compared]:
        """Return how each candidate that is in a shadow now compares so far."""
        return {
            name: seat.shadow.seen for name, seat in self._seats.items() if seat.shadow is not None
        }

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
                drift={subject: tuple(counts) for (subject, _), counts in tally.drift.items()},
            )
            for (name, revision), tally in taken.items()
        )

    def _remove(self, name: str) -> tuple[Worker, ...]:
        seat = self._seats.pop(name, None)
        # Whoever waits there is told that it is no more.
        return () if seat is None else seat.refill(())

    def _watch(self, seat: Seat, worker: Worker) -> None:
        worker.when_gone(lambda: self._on_gone(seat, worker))

    def _on_gone(self, seat: Seat, worker: Worker) -> None:
        if worker not in seat.pool:
            return
        if seat.least_busy is None:
            seat.answering.clear()
        revival = self._group.create_task(self._revive(seat, worker), name=f"revive {seat.name}")
        self._revivals.add(revival)
        revival.add_done_callback(self._revivals.discard)

    async def _revive(self, seat: Seat, dead: Worker) -> None:
        """Put a new worker where one died, unless that is no longer wanted or happens too often."""
        cause = await dead.cause_of_death()
        pause_s, alone = _FIRST_PAUSE_S, True
        try:
            while dead in seat.pool:
                if alone:
                    stuck = cause.reason is Reason.WORKER_STUCK
                    kind = Happening.STUCK if stuck else Happening.CRASHED
                    self._tell(kind, dead.launch, cause.reason, cause.message)
                    if self._given_up(seat, dead.launch, cause):
                        return
                try:
                    async with seat.turn:
                        if dead not in seat.pool:
                            return
                        fresh = await self._successor(seat, dead)
                except WorkerError as error:
                    cause = error
                    self._miss(seat, dead, cause)
                    await asyncio.sleep(pause_s)
                    alone = seat.least_busy is None
                    pause_s = min(2 * pause_s, _LAST_PAUSE_S if alone else _BESIDE_PAUSE_S)
                    continue
                if dead not in seat.pool or seat.given_up is not None:
                    await fresh.close(0)
                    return
                seat.replace(dead, fresh)
                self._tally(dead.launch).restarts += 1
                self._tell(Happening.RESTARTED, dead.launch, None, "a new worker answers")
                self._watch(seat, fresh)
        finally:
            await dead.close(0)

    async def _successor(self, seat: Seat, dead: Worker) -> Worker:
        """Start one like the dead one: always where nobody lives, else where there is room.

        In turns, for each takes memory that the next might have wanted.
        """
        beside = seat.least_busy
        if beside is not None and not self._has_room(beside):
            raise WorkerError(Reason.OUT_OF_MEMORY, "there is no memory for it beside the others")
        return await start_worker(dead.launch, deadline_s=self._start_limit_s)

    def _miss(self, seat: Seat, dead: Worker, cause: WorkerError) -> None:
        """Note that one is missing where others answer, and tell of it once."""
        if dead not in seat.pool or seat.least_busy is None:
            return
        if dead not in seat.missing:
            self._tell(Happening.MISSING, dead.launch, cause.reason, cause.message)
        seat.missing[dead] = cause

    def _given_up(self, seat: Seat, launch: Launch, cause: WorkerError) -> bool:
        """Count a death; give up where it is one too many, once for all workers of a seat."""
        too_often = seat.died_too_often(asyncio.get_running_loop().time())
        if seat.given_up is None and too_often:
            seat.given_up = (
                f"{cause.message}; {len(seat.deaths)} deaths in {RESTARTS_WINDOW_S:g} s: "
                "it is not started again"
            )
            self._tell(Happening.GAVE_UP, launch, cause.reason, seat.given_up)
            seat.answering.set()
        return seat.given_up is not None

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
                for watched, place in zip(worker.report.drift, answer.bins, strict=False):
                    tally.drift.setdefault(watched, [0] * watched[1])[place] += 1
        return answer


async def _close(workers: Iterable[Worker], drain_s: float = 10.0) -> None:
    async with asyncio.TaskGroup() as closing:
        for worker in workers:
            name = f"close {worker.launch.deployment}"
            closing.create_task(worker.close(drain_s), name=name)
