"""A served device for tests: real server, real workers, and the ways to talk to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import tritonclient.http as triton

from agent.serving.oip import OipApplication
from agent.serving.server import serve
from agent.serving.switchboard import Switchboard
from agent.serving.values import Happening, WorkerEvent
from agent.workers.pool import Worker, start_worker
from tests.agent.packages import Array, Package

Result = TypeVar("Result")


class Device:
    """A served switchboard, and the ways to talk to it."""

    def __init__(self, board: Switchboard, events: list[WorkerEvent]) -> None:
        self.board = board
        self.events = events
        self.port = 0
        self.addresses: tuple[str, ...] = ()

    def heard(self, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self.port = int(addresses[0].rpartition(":")[2])

    def happened(self) -> list[Happening]:
        return [event.kind for event in self.events]

    async def triton(self, ask: Callable[[triton.InferenceServerClient], Result]) -> Result:
        """Have the real client ask, in a thread of its own."""

        def run() -> Result:
            with triton.InferenceServerClient(f"127.0.0.1:{self.port}") as client:
                return ask(client)

        return await asyncio.to_thread(run)

    async def http(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask once over a fresh connection."""
        lines = {"Host": "device", "Content-Length": str(len(body)), "Connection": "close"}
        lines |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        return await self.speak(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def speak(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes as they are, and read the one answer until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            async with asyncio.timeout(10):
                answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        names = dict(line.lower().split(": ", 1) for line in rest)
        return int(first.split()[1]), names, body

    async def infer(self, array: Array, name: str = "digits") -> tuple[int, bytes]:
        """Ask with a raw body; return the status, and the tensor or the error."""
        status, headers, body = await self.http(
            "POST",
            f"/v2/models/{name}/infer",
            array.tobytes(),
            {"Inference-Header-Content-Length": "0"},
        )
        return status, body[int(headers.get("inference-header-content-length", 0)) :]


@asynccontextmanager
async def device(
    *, read_limit_s: float = 30, head_limit_s: float = 10, unix_path: Path | None = None
) -> AsyncIterator[Device]:
    """Serve an empty switchboard on a free port."""
    events: list[WorkerEvent] = []
    async with Switchboard(on_event=events.append) as board, asyncio.TaskGroup() as group:
        made = Device(board, events)
        listening = asyncio.Event()

        def heard(addresses: tuple[str, ...]) -> None:
            made.heard(addresses)
            listening.set()

        serving = group.create_task(
            serve(
                OipApplication(board, version="0.0.1", read_limit_s=read_limit_s),
                host="127.0.0.1",
                port=0,
                unix_path=unix_path,
                on_listening=heard,
                head_limit_s=head_limit_s,
            ),
            name="serve",
        )
        await listening.wait()
        try:
            yield made
        finally:
            serving.cancel()


@asynccontextmanager
async def digits(package: Package, **changes: float) -> AsyncIterator[Device]:
    """Serve a model as the deployment `digits`."""
    async with device() as made:
        await made.board.install(await start_worker(package.launch(**changes)), "digits")
        yield made


def current(made: Device, name: str = "digits") -> Worker:
    worker = made.board.current(name)
    assert worker is not None
    return worker


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def until(holds: Callable[[], bool], *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.01)


async def happens(made: Device, kind: Happening, *, times: int = 1) -> None:
    """Wait until something has happened that often."""
    await until(lambda: made.happened().count(kind) >= times)
