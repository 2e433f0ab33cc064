"""The Open Inference Protocol v2 over HTTP: a plain ASGI application.

It routes, limits and moves bytes; tensors are read in the worker. It serves the
union of what the specification and its clients expect: every answer but a good
inference is JSON, every error is `{"error": …}`, no health answer is ever
empty, `/v2` and `/v2/` are the same. The inference path is the hot one, so
there is no framework: twelve routes are a page of code.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from agent.serving.switchboard import Switchboard
from agent.workers.pool import Worker, refusal
from agent.workers.values import Answer, Encoding

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

READ_LIMIT_S = 30.0
"""In which a whole body must have come: 2 MB over a poor link, and no slow-loris for longer."""

HELD_LIMIT_BYTES = 64 * 1024 * 1024
"""Bodies held at one time over all connections; above it new ones are refused (503)."""

_DIGITS_LIMIT = 15  # of a length in a header
_SURPLUS_BYTES = (
    1024 * 1024
)  # of a too large body that is read and dropped, so that the client hears why
_EXTENSIONS = ["binary_tensor_data"]
_ENCODINGS = {
    b"": Encoding.IDENTITY,
    b"identity": Encoding.IDENTITY,
    b"gzip": Encoding.GZIP,
    b"deflate": Encoding.DEFLATE,
}


class ClientLeftError(Exception):
    """The client closed the connection before its request was complete."""


class TurnedAwayError(Exception):
    """The request is not for a worker; `answer` says why. `close` when its body was not read."""

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.answer = refusal(status, message)
        self.close = close


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path asks for. `what` is live, ready, server, metadata, model-ready or infer."""

    what: str
    model: str = ""
    version: str | None = None

    @property
    def method(self) -> str:
        """The one HTTP method it takes."""
        return "POST" if self.what == "infer" else "GET"


def route(raw_path: bytes) -> Route | None:
    """Return what a path asks for, names decoded after splitting; None when nothing is there."""
    parts = [unquote(part) for part in raw_path.decode("latin-1").split("/")[1:]]
    match parts:
        case ["v2"] | ["v2", ""]:
            return Route(what="server")
        case ["v2", "health", "live" | "ready" as what]:
            return Route(what=what)
        case ["v2", "models", name, *rest] if name:
            version = None
            if rest[:1] == ["versions"] and len(rest) > 1 and rest[1]:
                version, rest = rest[1], rest[2:]
            whats = {(): "metadata", ("ready",): "model-ready", ("infer",): "infer"}
            what_of_model = whats.get(tuple(rest))
            if what_of_model:
                return Route(what=what_of_model, model=name, version=version)
    return None


class OipApplication:
    """The ASGI application over one switchboard."""

    def __init__(
        self, board: Switchboard, *, version: str, read_limit_s: float = READ_LIMIT_S
    ) -> None:
        self._board = board
        self._version = version
        self._read_limit_s = read_limit_s
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            asked = _route(scope)
            if asked.what == "infer":
                await _send(send, await self._infer(asked, scope, receive))
            else:
                await _send(send, self._tell(asked))
        except ClientLeftError:
            return
        except TurnedAwayError as error:
            await _send(send, error.answer, close=error.close)
        except Exception:
            # A defect of ours: the client gets JSON all the same, and the server logs the chain.
            await _send(send, refusal(500, "a defect of the agent; its log says more"), close=True)
            raise

    def _tell(self, asked: Route) -> Answer:
        if asked.what == "live":
            return _json(200, {"live": True})
        if asked.what == "ready":
            return _readiness({"live": True}, ready=self._board.ready)
        if asked.what == "server":
            about = {"name": "skerry", "version": self._version, "extensions": _EXTENSIONS}
            return _json(200, about)
        worker = self._find(asked)
        if asked.what == "model-ready":
            return _readiness({"name": asked.model}, ready=not worker.gone)
        return Answer(status=200, body=worker.report.metadata)

    def _find(self, asked: Route) -> Worker:
        """Return the worker that a path is about, alive or just being replaced."""
        if asked.model not in self._board.names():
            serves = ", ".join(self._board.names()) or "nothing yet"
            raise TurnedAwayError(
                404,
                f"no deployment is called {asked.model[:80]!r} here; this device serves {serves}",
            )
        worker = self._board.launched(asked.model)
        if worker is None:
            raise TurnedAwayError(503, f"{asked.model} is still being loaded")
        serves = worker.launch.bundle.version
        if asked.version not in (None, serves):
            raise TurnedAwayError(
                404, f"{asked.model} serves version {serves}, not {asked.version}"
            )
        return worker

    async def _infer(self, asked: Route, scope: Scope, receive: Receive) -> Answer:
        limit_bytes = self._find(asked).report.body_limit_bytes
        headers: dict[bytes, bytes] = {name: value.strip() for name, value in scope["headers"]}
        encoding = _ENCODINGS.get(headers.get(b"content-encoding", b"").lower())
        if encoding is None:
            raise TurnedAwayError(
                415, "Content-Encoding must be gzip, deflate or identity", close=True
            )
        json_length = _whole(headers, b"inference-header-content-length")
        declared = _whole(headers, b"content-length")
        if declared is not None and declared > limit_bytes + _SURPLUS_BYTES:
            raise _too_large(asked.model, limit_bytes)
        held_bytes = limit_bytes if declared is None else declared
        if self._held_bytes and self._held_bytes + held_bytes > HELD_LIMIT_BYTES:
            raise TurnedAwayError(503, "too many large requests at one time", close=True)
        self._held_bytes += held_bytes
        try:
            body = await self._read(asked, receive, limit_bytes)
            return await self._board.infer(
                asked.model, body, json_length, encoding=encoding, version=asked.version
            )
        finally:
            self._held_bytes -= held_bytes

    async def _read(self, asked: Route, receive: Receive, limit_bytes: int) -> bytes:
        """Return the body; what is above the limit is never held."""
        parts: list[bytes] = []
        length = 0
        try:
            async with asyncio.timeout(self._read_limit_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeftError
                    part, more = message.get("body", b""), message.get("more_body", False)
                    length += len(part)
                    if length <= limit_bytes:
                        parts.append(part)
                    elif length > limit_bytes + _SURPLUS_BYTES:
                        raise _too_large(asked.model, limit_bytes)
        except TimeoutError as error:
            raise TurnedAwayError(
                408, f"the body did not come within {self._read_limit_s:g} s", close=True
            ) from error
        if length > limit_bytes:
            raise _too_large(asked.model, limit_bytes, close=False)
        return b"".join(parts)


def _route(scope: Scope) -> Route:
    asked = route(scope["raw_path"])
    if asked is None:
        raise TurnedAwayError(404, f"nothing is at {scope['path'][:200]}", close=True)
    if scope["method"] != asked.method:
        raise TurnedAwayError(405, f"{scope['path'][:200]} takes {asked.method} only", close=True)
    return asked


def _whole(headers: dict[bytes, bytes], name: bytes) -> int | None:
    value = headers.get(name)
    if value is None:
        return None
    if not value.isdigit() or len(value) > _DIGITS_LIMIT:
        raise TurnedAwayError(400, f"{name.decode()} is not a number of bytes", close=True)
    return int(value)


def _too_large(model: str, limit_bytes: int, *, close: bool = True) -> TurnedAwayError:
    return TurnedAwayError(
        413,
        f"the body is larger than {limit_bytes} bytes; no request to {model} needs more",
        close=close,
    )


def _readiness(about: dict[str, Any], *, ready: bool) -> Answer:
    content = about | {"ready": ready}
    if not ready:
        content["error"] = (
            "not every model is ready" if "live" in about else "the model is not ready"
        )
    return _json(200 if ready else 503, content)


def _json(status: int, content: dict[str, Any]) -> Answer:
    return Answer(status=status, body=json.dumps(content).encode())


async def _send(send: Send, answer: Answer, *, close: bool = False) -> None:
    binary = answer.json_length is not None
    headers = [
        (b"content-type", b"application/octet-stream" if binary else b"application/json"),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    if binary:
        headers.append((b"inference-header-content-length", b"%d" % (answer.json_length or 0)))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
