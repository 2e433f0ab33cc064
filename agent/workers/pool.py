"""Workers as the agent uses them: started until ready, asked one request at a time, closed.

A `Worker` exists only after its golden vectors agreed inside it. Requests wait
in one bounded line, first come, first served; a call that does not end at its
deadline is ended by killing the process, because nothing gentler reaches a
hung runtime. What happens to the deployment then is not decided here.
"""

import asyncio
import json
import mmap
from collections.abc import Callable

from agent.wire.reasons import Reason
from agent.workers import frames
from agent.workers.frames import AnswerFrame, RequestFrame
from agent.workers.process import Process, ProcessGoneError, no_memory
from agent.workers.values import Answer, Asked, Encoding, Launch, ReadyReport

QUEUE_LIMIT = 32
"""Requests that may wait for one worker: more would only answer later than anyone waits for."""

START_LIMIT_S = 60.0
"""From spawn to ready. A cold start takes 0.3 s; a large model on a slow device the rest."""

_LEAVE_S = 1.0  # in which an idle worker ends by itself once its socket is closed


class WorkerError(Exception):
    """A worker did not become ready. `reason` says which kind of not; `message` is for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class WorkerGoneError(Exception):
    """The worker can't take this request and has not begun it: another may."""


class Worker:
    """One process with one judged model, ready to answer."""

    def __init__(
        self, launch: Launch, report: ReadyReport, process: Process, region: mmap.mmap
    ) -> None:
        self.launch = launch
        self.report = report
        self._process = process
        self._region = region
        self.line = 0
        """Requests that it has: the one it is at, and those that wait."""
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sequence = 0
        self._owed: asyncio.Future[bytes] | None = None
        self._stuck = False
        self._closing = False

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def room_bytes(self) -> int:
        """What fits into the region that it shares: of a shadow, a request and an answer to it."""
        return len(self._region)

    @property
    def gone(self) -> bool:
        """Whether the process has died; it never comes back."""
        return self._process.gone

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Have `tell` called once when the process dies, unless `close` was asked for before."""
        if self.gone:
            tell()
        else:
            self._process.on_gone = tell

    async def cause_of_death(self) -> WorkerError:
        """Say how the dead process died."""
        how = await self._process.ended()
        if self._stuck:
            return WorkerError(
                Reason.WORKER_STUCK,
                f"the worker of {self.launch.deployment} did not answer "
                f"within {self.launch.timeout_s:g} s and was killed",
            )
        return _crash(self.launch, how)

    async def infer(
        self,
        body: bytes,
        json_length: int | None,
        *,
        encoding: Encoding = Encoding.IDENTITY,
        deadline_s: float | None = None,
        beside: Answer | None = None,
    ) -> Answer:
        """Answer one request. Whatever happens once it has begun becomes an answer with its status.

        Args:
            body: at most `report.body_limit_bytes`.
            json_length: of the JSON before binary tensors; None when all is JSON; 0 in raw mode.
            encoding: how the body is compressed.
            deadline_s: for the wait in line, and again for the answer; None is the launch's own.
            beside: another worker's answer to it, to compare instead of answering; see `agrees`.

        Raises:
            WorkerGoneError: the worker is dead or closing, and the request was not begun.
        """
        if self.gone or self._closing:
            raise WorkerGoneError
        if self.line >= QUEUE_LIMIT:
            return refusal(
                503, f"{self.line} requests are already waiting for {self.launch.deployment}"
            )
        limit_s = self.launch.timeout_s if deadline_s is None else deadline_s
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        self.line += 1
        self._idle.clear()
        try:
            try:
                async with asyncio.timeout(limit_s):
                    await self._turn.acquire()
            except TimeoutError:
                return refusal(
                    503, f"{self.launch.deployment} is busy: no turn came within {limit_s:g} s"
                )
            try:
                await self._settle(limit_s)
                queue_ns = int((loop.time() - arrived) * 1e9)
                frame = RequestFrame(
                    sequence=self._sequence + 1,
                    length=len(body),
                    json_length=json_length,
                    encoding=encoding,
                    beside_length=0 if beside is None else len(beside.body),
                    beside_json_length=None if beside is None else beside.json_length,
                )
                content = body if beside is None else body + beside.body
                return await self._ask(frame, content, limit_s, queue_ns)
            finally:
                self._turn.release()
        finally:
            self.line -= 1
            if not self.line:
                self._idle.set()

    async def agrees(self, asked: Asked, answer: Answer) -> bool | None:
        """Tell whether this worker answers as another one did; None: they can't be compared.

        Raises:
            WorkerError: it died or hung over it.
        """
        if len(asked.body) + len(answer.body) > len(self._region):
            return None
        try:
            found = await self.infer(
                asked.body, asked.json_length, encoding=asked.encoding, beside=answer
            )
        except WorkerGoneError as error:
            raise await self.cause_of_death() from error
        if self.gone or self._stuck:
            raise await self.cause_of_death()
        if found.status == 200:  # noqa: PLR2004  # compared
            try:
                return frames.parse_agreement(found.body)
            except ValueError as error:
                self._process.kill()
                raise _nonsense(self.launch, error) from error
        if found.status < 500:  # noqa: PLR2004  # the request, or the other's answer, is not for it
            return None
        return False  # it failed where the other did not

    def step_back(self) -> None:
        """Let every other process go first, from now on."""
        self._process.step_back()

    async def close(self, drain_s: float = 10.0) -> None:
        """Take no more requests, answer those in line for at most `drain_s`, end. Idempotent."""
        self._closing = True
        self._process.on_gone = None
        if not self.gone:
            try:
                async with asyncio.timeout(drain_s):
                    await self._idle.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.release(grace_s=0.0 if self.gone else _LEAVE_S)
        await self._idle.wait()  # the last one in line has been told by now
        self._region.close()

    async def _settle(self, limit_s: float) -> None:
        """Let the answer to an abandoned request come in: it lands in the next one's region."""
        if self._owed is None or self._owed.done():
            return
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.shield(self._owed)
        except ProcessGoneError as error:
            raise WorkerGoneError from error
        except TimeoutError as error:
            self._kill_stuck()
            raise WorkerGoneError from error

    async def _ask(
        self, frame: RequestFrame, content: bytes, limit_s: float, queue_ns: int
    ) -> Answer:
        if self.gone:
            raise WorkerGoneError
        self._region[: len(content)] = content
        self._sequence = frame.sequence
        try:
            self._owed = self._process.ask(frames.render_request(frame))
        except ProcessGoneError as error:
            raise WorkerGoneError from error
        try:
            async with asyncio.timeout(limit_s):
                raw = await asyncio.shield(self._owed)
            answer = frames.parse_answer(
                raw,
                sequence=self._sequence,
                region_bytes=len(self._region),
                drift=self.report.drift,
            )
        except TimeoutError:
            self._kill_stuck()
            return refusal(
                504,
                f"{self.launch.deployment} did not answer within {limit_s:g} s; "
                "its worker was killed and is being replaced",
            )
        except (ProcessGoneError, ValueError) as error:
            self._process.kill()
            how = str(error) or await self._process.ended()
            return refusal(
                500,
                f"the worker of {self.launch.deployment} died over this request ({how}) "
                "and is being replaced",
            )
        return _answer(answer, self._region, queue_ns)

    def _kill_stuck(self) -> None:
        self._stuck = True
        self._process.kill()


async def start_worker(
    launch: Launch, *, deadline_s: float = START_LIMIT_S, steps_back: bool = False
) -> Worker:
    """Start a worker and return it once its golden vectors have agreed inside it.

    Args:
        launch: what it is.
        deadline_s: for it to become ready.
        steps_back: every other process goes first, from its first moment on.

    Raises:
        WorkerError: it did not become ready; nothing of it is left.
    """
    begun = asyncio.get_running_loop().time()
    try:
        process = Process.spawn()
    except OSError as error:
        reason = Reason.OUT_OF_MEMORY if no_memory(error) else Reason.INTERNAL
        raise WorkerError(reason, f"no worker process can be started: {error.strerror}") from error
    if steps_back:
        process.step_back()
    try:
        async with asyncio.timeout(deadline_s):
            region, report = await _await_ready(launch, process, begun)
    except BaseException as error:
        process.kill()
        how = await process.ended()
        await process.release()
        if isinstance(error, TimeoutError | ProcessGoneError | ValueError):
            raise _not_ready(launch, error, how, deadline_s) from error
        raise
    process.lift_start_limit()
    process.forget_words()
    return Worker(launch, report, process, region)


async def _await_ready(
    launch: Launch, process: Process, begun: float
) -> tuple[mmap.mmap, ReadyReport]:
    content = frames.render_launch(launch)
    process.put(content)
    raw = await process.ask(frames.render_request(RequestFrame(sequence=0, length=len(content))))
    region = process.map_region()
    try:
        start_s = asyncio.get_running_loop().time() - begun
        return region, _read_report(raw, region, start_s)
    except BaseException:
        region.close()
        raise


def _read_report(raw: bytes, region: mmap.mmap, start_s: float) -> ReadyReport:
    frame = frames.parse_answer(raw, sequence=0, region_bytes=len(region))
    told = region[: frame.length]
    if frame.status != 200:  # noqa: PLR2004  # ready
        failure = frames.parse_failure(told)
        raise WorkerError(failure.reason, failure.message)
    report = frames.parse_report(told, start_s=start_s)
    if report.body_limit_bytes > len(region):
        raise ValueError("a body limit above the region's size")
    return report


def _not_ready(launch: Launch, error: Exception, how: str, deadline_s: float) -> WorkerError:
    worker = f"the worker of {launch.deployment}"
    if isinstance(error, TimeoutError):
        message = f"{worker} was not ready after {deadline_s:g} s and was killed"
        return WorkerError(Reason.WORKER_STUCK, message)
    if isinstance(error, ValueError):
        return _nonsense(launch, error)
    return _crash(launch, how)


def _nonsense(launch: Launch, error: ValueError) -> WorkerError:
    message = f"the worker of {launch.deployment} answered nonsense: {error}"
    return WorkerError(Reason.WORKER_CRASHED, message)


def refusal(status: int, message: str) -> Answer:
    """Return an answer that says why there is no other."""
    return Answer(status=status, body=json.dumps({"error": message}).encode())


def _answer(frame: AnswerFrame, region: mmap.mmap, queue_ns: int) -> Answer:
    return Answer(
        status=frame.status,
        body=region[: frame.length],
        json_length=frame.json_length,
        queue_ns=queue_ns,
        input_ns=frame.input_ns,
        compute_ns=frame.compute_ns,
        output_ns=frame.output_ns,
        bins=frame.bins,
    )


def _crash(launch: Launch, how: str) -> WorkerError:
    memory = "bad_alloc" in how or "MemoryError" in how
    return WorkerError(
        Reason.OUT_OF_MEMORY if memory else Reason.WORKER_CRASHED,
        f"the worker of {launch.deployment} died: {how}",
    )
