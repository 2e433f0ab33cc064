"""Requests to the centre, counted: an ASGI layer around everything that answers.

A route is counted by its pattern, never by what was asked for in it; what no route takes is
`other`. How long something took is until its head was sent: a body may be a live stream.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.metrics.bins import Bins
from fleet.metrics.families import Sheet
from fleet.metrics.slots import OTHER, Slots

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_FAILED = 500


class Traffic:
    """Counts what was answered."""

    def __init__(self) -> None:
        self._routes = Slots(40)
        self._answers = Slots(240)
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._took = Bins(BOUNDS_S)

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return an application, counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            loop = asyncio.get_running_loop()
            began, head = loop.time(), 0
            ended = began

            async def sent(message: Message) -> None:
                nonlocal head, ended
                if message["type"] == "http.response.start":
                    head, ended = message["status"], loop.time()
                await send(message)

            try:
                await app(scope, receive, sent)
            finally:
                took_s = (ended if head else loop.time()) - began
                self._count(scope, head or _FAILED, took_s)

        return counted

    def sheet(self) -> Sheet:
        """Return what was counted so far."""
        with self._lock:
            return {
                "skerry_http_requests_total": dict(self._requests),
                "skerry_http_request_duration_seconds": self._took.numbers(),
            }

    @property
    def overflow(self) -> Mapping[str, int]:
        """How often something found no slot."""
        return {"route": self._routes.overflow + self._answers.overflow}

    def _count(self, scope: Scope, status: int, took_s: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        with self._lock:
            (route,) = self._routes.label((_route(scope),))
            self._requests[self._answers.label((route, method, str(status)))] += 1
            self._took.add((route,), took_s)


def _route(scope: Scope) -> str:
    """Return the pattern of the route that took a request."""
    pattern = getattr(scope.get("route"), "path", None)
    return pattern if isinstance(pattern, str) and pattern else OTHER
