"""The page in front of what serves: `/` is answered here, everything else behind.

Rules:
- It only shows: GET and HEAD; nothing that is sent is read.
- It needs nothing of a model's process, so it answers while one loads, hangs or dies; and of the
  disk only what comes in time (`agent.page.look`).
- However many look, the device is looked at, and drawn, once a second at most.
- Under a name that anybody in the world could have pointed here, it is not shown: see `is_ours`.
"""

import asyncio
import base64
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.page.drawing import AGAIN, AGAIN_S, draw
from agent.page.seen import Seen
from agent.serving.oip import Application, Receive, Scope, Send
from agent.workers.pool import refusal

_KEPT_S = 1.0
_NAMES_OF_OURS = ("localhost", "local", "internal", "home.arpa", "lan")


class Front:
    """The ASGI application that shows the page, before the one that serves."""

    def __init__(self, see: Callable[[], Awaitable[Seen]], behind: Application) -> None:
        self._see, self._behind = see, behind
        self._style = Path(__file__).with_name("page.css").read_text()
        self._headers = _headers(self._style)
        self._looking = asyncio.Lock()
        self._pages: dict[bool, bytes] = {}
        self._until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["raw_path"] != b"/":
            await self._behind(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            refused = refusal(405, "the page only shows: it takes GET and HEAD")
            await _send(send, 405, refused.body, [_JSON, (b"allow", b"GET, HEAD"), _CLOSE])
        elif not is_ours(_host(scope)):
            refused = refusal(
                421,
                "the page is not shown under this name, which anybody may have pointed here:"
                " open it by the device's address",
            )
            await _send(send, 421, refused.body, [_JSON])
        else:
            again = scope["query_string"] == AGAIN.encode()
            page = await self._page(again=again)
            headers = [*self._headers, *([(b"refresh", b"%d" % AGAIN_S)] if again else [])]
            await _send(send, 200, page, headers, scope["method"])

    async def _page(self, *, again: bool) -> bytes:
        loop = asyncio.get_running_loop()
        async with self._looking:
            if not self._pages or loop.time() >= self._until:
                seen = await self._see()
                for each in (False, True):
                    self._pages[each] = draw(seen, self._style, again=each).encode(errors="replace")
                self._until = loop.time() + _KEPT_S
            return self._pages[again]


def is_ours(host: str) -> bool:
    """Say whether a request's Host is one that no stranger can have pointed at this device.

    An address, a name without a dot, or one of the domains that exist on a site only. A page of
    somebody's, open in a technician's browser, has a name of the wide world: had it been pointed
    here (DNS rebinding), the browser would let it read ours. No Host at all is no browser.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.rstrip(".").lower()
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." not in name or name.endswith(tuple(f".{each}" for each in _NAMES_OF_OURS))
    return True


def _host(scope: Scope) -> str:
    return next(
        (value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), ""
    )


_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")  # a body may follow that nobody reads


def _headers(style: str) -> list[tuple[bytes, bytes]]:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    return [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]


async def _send(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], method: str = "GET"
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
