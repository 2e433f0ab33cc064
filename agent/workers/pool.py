"""draft of signatures"""

from agent.wire.reasons import Reason
from agent.workers.values import Answer, Encoding, Launch, ReadyReport


class WorkerError(Exception):
    """A worker did not become ready; `reason` says which kind of not."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class WorkerGoneError(Exception):
    """The worker died before it took this request: another may answer it."""


class Worker:
    """One worker process that is ready to answer."""

    launch: Launch
    report: ReadyReport
    pid: int
    gone: bool

    async def infer(
        self,
        body: bytes,
        json_length: int | None,
        *,
        encoding: Encoding = Encoding.IDENTITY,
        deadline_s: float | None = None,
    ) -> Answer:
        raise NotImplementedError

    async def close(self, drain_s: float = 10.0) -> None:
        raise NotImplementedError


async def start_worker(launch: Launch, *, deadline_s: float = 60.0) -> Worker:
    raise NotImplementedError
