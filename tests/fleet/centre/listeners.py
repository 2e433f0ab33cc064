"""Who is told of alerts, for tests: a web server and a mail server on real sockets."""

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

SECRET = b"only the two of us know"


@dataclass
class Hook:
    """A web server. `always` is what it answers; None: 204; 0: it hangs."""

    port: int = 0
    secured: bool = False
    always: int | None = None
    location: str = ""
    took: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    asked: int = 0

    @property
    def url(self) -> str:
        return f"http{'s' * self.secured}://127.0.0.1:{self.port}/alerts?from=skerry"

    @property
    def news(self) -> list[str]:
        return [told["news"] for told in self.took]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            self.asked += 1
            status = self.always
            if status == 0:
                await reader.read()  # until the other side has had enough
                return
            if status is None:
                self._take(headers, body)
            where = f"Location: {self.location}\r\n" if self.location else ""
            writer.write(f"HTTP/1.1 {status or 204} X\r\n{where}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _take(self, headers: dict[str, str], body: bytes) -> None:
        """Take a message as the documentation says a webhook should."""
        stamp, delivery = headers["skerry-timestamp"], headers["skerry-delivery"]
        signed = f"{stamp}.{delivery}.".encode() + body
        wanted = "v1=" + hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(wanted, headers["skerry-signature"])
        told = json.loads(body)
        assert delivery == told["id"]
        self.ids.append(delivery)
        self.took.append(told)


@asynccontextmanager
async def hook(
    *, always: int | None = None, location: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Hook]:
    """Let a web server listen until the block ends."""
    made = Hook(always=always, location=location, secured=tls is not None)
    async with _listening(made.serve, tls) as made.port:
        yield made


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Serve who connects, on a port of ours, until the block ends."""
    served: set[asyncio.Task[None]] = set()

    async def each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        task.add_done_callback(served.discard)
        await serve(reader, writer)

    server = await asyncio.start_server(each, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await _ended(served)
        await server.wait_closed()


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """End those who are still being served: a server that hangs never does."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


@dataclass
class Post:
    """A mail server. It refuses `unknown` recipients.

    Where it `hangs`, it never greets; where it `greets`, it says that for ever. With `starttls` it
    takes a letter only over TLS, from who says `passwords`.
    """

    port: int = 0
    unknown: set[str] = field(default_factory=set)
    hangs: bool = False
    greets: bytes = b""
    starttls: ssl.SSLContext | None = None
    passwords: list[str] = field(default_factory=list)
    letters: list[tuple[str, list[str], str]] = field(default_factory=list)
    _envelope: tuple[str, list[str]] = ("", [])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.greets:
            await self._greet(writer)
            return
        if self.hangs:
            await reader.read()
            writer.close()
            return
        writer.write(b"220 post.example\r\n")
        try:
            while line := (await reader.readline()).decode().strip():
                if line.upper() == "STARTTLS" and self.starttls is not None:
                    writer.write(b"220 go on\r\n")
                    await writer.start_tls(self.starttls)
                    continue
                if line.upper() == "DATA":
                    writer.write(b"354 go on\r\n")
                    text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                    self.letters.append((*self._envelope, text))
                writer.write(f"{self._answer(line)}\r\n".encode())
                await writer.drain()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, line: str) -> str:
        sender, to = self._envelope
        verb, address = line[:4].upper(), line.partition(":")[2].partition(" ")[0].strip("<>")
        match verb:
            case "EHLO" if self.starttls is not None:
                return "250-post.example\r\n250-AUTH PLAIN\r\n250 STARTTLS"
            case "AUTH":
                self.passwords.append(line.rsplit(maxsplit=1)[-1])
                return "235 welcome"
            case "MAIL" if self.starttls is not None and not self.passwords:
                return "530 who are you"
            case "MAIL":
                self._envelope = address, []
            case "RCPT" if address in self.unknown:
                return "550 nobody here"
            case "RCPT":
                self._envelope = sender, [*to, address]
            case _:
                pass
        return "221 bye" if verb == "QUIT" else "250 ok"

    async def _greet(self, writer: asyncio.StreamWriter) -> None:
        """Say the same for ever, until nobody listens."""
        try:
            while True:
                writer.write(self.greets)
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def post(
    *,
    unknown: Iterable[str] = (),
    hangs: bool = False,
    greets: bytes = b"",
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
) -> AsyncIterator[Post]:
    """Let a mail server listen until the block ends."""
    made = Post(unknown=set(unknown), hangs=hangs, greets=greets, starttls=starttls)
    async with _listening(made.serve, tls) as made.port:
        yield made
