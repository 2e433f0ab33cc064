"""The page in front of what serves: `/` and `/metrics` are answered here, everything else behind.

Rules:
- They only show: GET and HEAD; nothing that is sent is read.
- They need nothing of a model's process, so they answer while one loads, hangs or dies; and of the
  disk only what comes in time (`agent.page.look`).
- However many look, the device is looked at, and drawn, once a second at most.
- Under a name that anybody in the world could have pointed here, it is not shown: see `is_ours`.
- `/metrics` has the same numbers for a Prometheus of the site, with every request up to now.
"""

import asyncio
import base64
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from agent.page import exposition
from agent.page.drawing import AGAIN, AGAIN_S, draw
from agent.page.seen import Seen, Work
from agent.serving.oip import Application, Receive, Scope, Send
from agent.workers.pool import refusal

_KEPT_S = 1.0
_NAMES_OF_OURS = ("localhost", "local", "internal", "home.arpa", "lan")


class Front:
    """The ASGI application that shows the page, before the one that serves."""

    def __init__(
        self,
        see: Callable[[], Awaitable[Seen]],
        behind: Application,
        work: Callable[[], Mapping[str, Work]] = dict,
    ) -> None:
        self._see, self._behind, self._work = see, behind, work
        self._style = Path(__file__).with_name("page.css").read_text()
        self._headers = _headers(self._style)
        self._looking = asyncio.Lock()
        self._seen: Seen | None = None
        self._pages: dict[bool, bytes] = {}
        self._until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["raw_path"]
        if path not in {b"/", b"/metrics"}:
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
        elif path == b"/metrics":
            headers = [(b"content-type", exposition.CONTENT_TYPE), _NO_STORE]
            await _send(send, 200, await self._metrics(), headers, scope["method"])
        else:
            again = scope["query_string"] == AGAIN.encode()
            page = await self._page(again=again)
            headers = [*self._headers, *([(b"refresh", b"%d" % AGAIN_S)] if again else [])]
            await _send(send, 200, page, headers, scope["method"])

    async def _page(self, *, again: bool) -> bytes:
        async with self._looking:
            seen = await self._look()
            if again not in self._pages:
                page = draw(seen, self._style, again=again)
                self._pages[again] = page.encode(errors="replace")
            return self._pages[again]

    async def _metrics(self) -> bytes:
        async with self._looking:
            return exposition.exposition(await self._look(), self._work())

    async def _look(self) -> Seen:
        """Return how the device is, as it was at most a second ago."""
        loop = asyncio.get_running_loop()
        if self._seen is None or loop.time() >= self._until:
            self._seen = await self._see()
            self._pages.clear()
            self._until = loop.time() + _KEPT_S
        return self._seen


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
_NO_STORE = (b"cache-control", b"no-store")
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
        _NO_STORE,
    ]


async def _send(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], method: str = "GET"
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
