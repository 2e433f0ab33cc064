"""Every body has a size and a time: an ASGI layer that counts what comes in.

A body that is announced too large is refused before a byte is read; one that
grows too large, or comes too slowly, is refused when it does, and the
connection is closed, because the rest of it would follow.
"""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.wire.limits import ANSWER_LIMIT_BYTES, JOIN_LIMIT_BYTES
from fleet.api.refusals import refusal
from models.limits import BLOB_LIMIT_BYTES

REQUEST_LIMIT_BYTES = 256 * 1024
"""Any other body: the largest is a rollout that names some thousand targets."""

PAUSE_LIMIT_S = 20.0
"""Between two pieces of a body: a tunnel may pause it, but nobody may hold a connection open."""

_CLOSE = {"connection": "close"}
_BLOBS = "/api/v1/blobs/"
_ANSWERS = "/answers/"


class BodyTooLargeError(HTTPException):
    """A body has more bytes than its route takes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(413, f"the body has more than {limit_bytes} bytes", _CLOSE)


class BodyTooSlowError(HTTPException):
    """A body stopped coming."""

    def __init__(self) -> None:
        super().__init__(408, f"the body stopped coming for {PAUSE_LIMIT_S:.0f} s", _CLOSE)


class Bounds:
    """Wrap an application so that no body is larger or slower than its route takes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit_of(scope["path"])
        if _announced(scope) > limit:
            error = BodyTooLargeError(limit)
            answer = refusal(413, error.detail, "TOO_LARGE", "send less", _CLOSE)
            await answer(scope, receive, send)
            return
        came = 0
        done = scope["path"].startswith(_BLOBS)  # read by hand, with limits of its own

        async def bounded() -> Message:
            nonlocal came, done
            if done:
                return (
                    await receive()
                )  # waits for the other end to go: that may take as long as it likes
            try:
                async with asyncio.timeout(PAUSE_LIMIT_S):
                    message = await receive()
            except TimeoutError as error:
                raise BodyTooSlowError from error
            came += len(message.get("body", b""))
            done = not message.get("more_body", False)
            if came > limit:
                raise BodyTooLargeError(limit)
            return message

        await self._app(scope, bounded, send)


def _limit_of(path: str) -> int:
    if path == "/join":
        return JOIN_LIMIT_BYTES
    if path.startswith(_ANSWERS):
        return ANSWER_LIMIT_BYTES
    return BLOB_LIMIT_BYTES if path.startswith(_BLOBS) else REQUEST_LIMIT_BYTES


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
