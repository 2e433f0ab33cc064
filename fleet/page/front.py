"""The door of the pages: who may in, what goes out with every answer, and what is not found.

The pages stand behind the API's routes: what no route of the API takes is theirs, but for paths
that can only be meant for the API. They have error pages of their own.
"""

import importlib.metadata
from collections.abc import AsyncIterator
from urllib.parse import quote

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.api.device_why import Whys
from fleet.api.glance import Glance
from fleet.api.parts import Parts
from fleet.api.refusals import TOLD, said
from fleet.page import forms
from fleet.page.acting import Acting
from fleet.page.alerts import Alerts
from fleet.page.pulse import Pulse
from fleet.page.reading import Reading
from fleet.page.rendering import HEADERS, LIVE, STATIC, THEME_COOKIE, THEMES, Renderer
from fleet.page.session import Sessions, inside, is_from_here
from fleet.store import alerts

_OPEN = ("/sign-in", "/theme", "/static/")
_OF_API = ("/api/", "/v2/")
_YEAR_S = 365 * 86400


def with_page(api: FastAPI, parts: Parts, pulse: Pulse) -> FastAPI:
    """Return the API with the pages beside it."""
    pages = Door(parts, pulse, api.state.glance, api.state.whys)
    missing = api.router.default

    async def otherwise(scope: Scope, receive: Receive, send: Send) -> None:
        of_api = scope["type"] != "http" or scope["path"].startswith(_OF_API)
        await (missing if of_api else pages)(scope, receive, send)

    api.router.default = otherwise
    return api


class Door:
    """The pages as one application."""

    def __init__(self, parts: Parts, pulse: Pulse, glance: Glance, whys: Whys) -> None:
        fleet = parts.authority.fleet
        self._parts = parts
        self._pulse = pulse
        self._render = Renderer(fleet, importlib.metadata.version("skerry"), self._open_alerts)
        self._sessions = Sessions(parts.access, fleet)
        reading = Reading(parts, self._render, glance, whys)
        acting = Acting(parts, self._render, reading)
        about = Alerts(parts, self._render)
        self._app = Starlette(
            routes=[
                Route("/sign-in", self._ask, methods=["GET"]),
                Route("/sign-in", self._sign_in, methods=["POST"]),
                Route("/sign-out", self._sign_out, methods=["POST"]),
                Route("/theme", self._theme, methods=["POST"]),
                Route("/stream", self._stream),
                *acting.routes(),
                *reading.routes(),
                *about.routes(),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            exception_handlers=dict.fromkeys(TOLD, self._failed),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, if who asks may."""
        request = Request(scope)
        kept = scope["path"].startswith("/static/") and "v" in request.query_params

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if kept and message["status"] == 200:  # noqa: PLR2004  # as it was asked for
                    headers["cache-control"] = f"private, max-age={_YEAR_S}, immutable"
            await send(message)

        answer = await self._stopped(request)
        await (self._app if answer is None else answer)(scope, receive, sent)

    async def _stopped(self, request: Request) -> ASGIApp | None:
        """Return the answer to who may not in."""
        if request.method not in {"GET", "HEAD"} and not is_from_here(request):
            wrong = HTTPException(403, "the form was not sent by this page")
            return await run_in_threadpool(self._failed, request, wrong)
        if request.url.path.startswith(_OPEN):
            return None
        if self._sessions.is_open(request, self._parts.clock()):
            return None
        if LIVE in request.headers or request.url.path == "/stream":
            return PlainTextResponse("sign in", 401)
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        onward = where if request.method == "GET" else "/"
        return RedirectResponse(f"/sign-in?next={quote(onward, safe='')}", 303)

    def _failed(self, request: Request, error: Exception) -> Response:
        status, why = said(error)
        if status == 404 and why.reason == "NOT_FOUND" and isinstance(error, HTTPException):  # noqa: PLR2004  # a path
            why.error, why.next = f"there is no page {request.url.path[:120]}", "go to the overview"
        return self._render.page(
            request,
            "error.html",
            status=status,
            signed_in=self._sessions.is_open(request, self._parts.clock()),
            problem=why.model_dump(),
            code=status,
        )

    def _open_alerts(self) -> int:
        with self._parts.store.read() as connection:
            return sum(alerts.open_by_rule(connection).values())

    # Signing in and out

    def _ask(self, request: Request) -> Response:
        onward = inside(request.query_params.get("next", "/"))
        if self._sessions.is_open(request, self._parts.clock()):
            return RedirectResponse(onward, 303)
        return self._form(request, onward)

    def _form(self, request: Request, onward: str, *, wrong: bool = False) -> Response:
        return self._render.page(
            request,
            "sign-in.html",
            status=401 if wrong else 200,
            signed_in=False,
            onward=onward,
            wrong=wrong,
        )

    async def _sign_in(self, request: Request) -> Response:
        form = forms.read(await request.body())
        onward = inside(form.get("next", "/"))
        session = self._sessions.open(form.get("token", "").strip(), self._parts.clock())
        if session is None:
            return await run_in_threadpool(self._form, request, onward, wrong=True)
        answer = RedirectResponse(onward, 303)
        self._sessions.remember(answer, session, secure=request.url.scheme == "https")
        return answer

    async def _sign_out(self, request: Request) -> Response:
        self._sessions.close(request, self._parts.clock())
        answer = RedirectResponse("/sign-in", 303)
        self._sessions.forget(answer)
        return answer

    async def _theme(self, request: Request) -> Response:
        form = forms.read(await request.body())
        answer = RedirectResponse(inside(form.get("next", "/")), 303)
        theme = form.get("theme", "")
        if theme in THEMES:
            answer.set_cookie(
                THEME_COOKIE, theme, max_age=_YEAR_S, httponly=True, samesite="strict"
            )
        return answer

    # What moves

    async def _stream(self, request: Request) -> Response:
        if self._pulse.full:
            return PlainTextResponse("too many listen", 503)
        heard = request.headers.get("last-event-id")
        return StreamingResponse(self._events(heard), media_type="text/event-stream")

    async def _events(self, heard: str | None) -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        async for position in self._pulse.beats(heard):
            if position is None:
                yield "event: ping\ndata:\n\n"
            else:
                yield f"id: {position}\nevent: moved\ndata:\n\n"
