"""The pages about what is wrong: which alerts there are, one of them, and a person's word on it."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from fleet.alerts.rules import BY_NAME
from fleet.api import alerts
from fleet.api.access import OPERATOR
from fleet.api.parts import Parts
from fleet.page import forms
from fleet.page.rendering import Renderer, shell
from fleet.page.troubles import meant, places
from fleet.store import audit
from fleet.store.errors import ConflictError, NotFoundError

_WORDS_SHOWN = 10
_SILENCES_SHOWN = 50
_SPANS_S = (3600, 4 * 3600, 86400, 7 * 86400, 30 * 86400)
"""For how long a silence may be, as it is offered."""


class Alerts:
    """What the pages about alerts are made of."""

    def __init__(self, parts: Parts, renderer: Renderer) -> None:
        self._parts = parts
        self._render = renderer

    def routes(self) -> list[Route]:
        """Return where the pages are."""
        return [
            Route("/alerts", self.every),
            Route("/alerts/silences/{silence}/end", self.end_silence, methods=["POST"]),
            Route("/alerts/{alert}", self.one, methods=["GET"]),
            Route("/alerts/{alert}/ack", self.acknowledge, methods=["POST"]),
            Route("/alerts/{alert}/silence", self.silence, methods=["POST"]),
        ]

    def every(self, request: Request) -> Response:
        """What is wrong? Who is on it? What was? What is kept quiet?"""
        return self._every(request)

    def _every(
        self, request: Request, word: str = "", wrong: tuple[int, Mapping[str, str]] | None = None
    ) -> Response:
        asked = {
            name: request.query_params.get(name, "").strip() for name in ("state", "rule", "site")
        }
        state = asked["state"] or "open"
        if state not in get_args(alerts.Which):
            raise HTTPException(422, f"alerts are open, ended or all, and not {state[:40]!r}")
        given = request.query_params.get("below", "")
        found = alerts.listed(
            self._parts,
            state=state,  # type: ignore[arg-type]  # it is one of them
            rule=asked["rule"] or None,
            site=asked["site"] or None,
            below=int(given[:18]) if given.isascii() and given.isdigit() else None,
        )
        quiet = alerts.holding(self._parts).silences
        return self._render.page(
            request,
            "alerts.html",
            status=200 if wrong is None else wrong[0],
            found=found.model_dump(mode="json", exclude={"alerts"}),
            rows=[each.model_dump(mode="json") for each in alerts.ordered(found.alerts)],
            as_of=found.as_of,
            state=state,
            states=get_args(alerts.Which),
            rules=list(BY_NAME),
            asked=asked,
            began=bool(given),
            silences=[each.model_dump(mode="json") for each in quiet[:_SILENCES_SHOWN]],
            word=word,
            wrong=None if wrong is None else wrong[1],
        )

    def one(self, request: Request) -> Response:
        """Why? Who shows it? What happened? What to do?"""
        return self._one(request)

    def _one(
        self, request: Request, word: str = "", wrong: tuple[int, Mapping[str, str]] | None = None
    ) -> Response:
        found = alerts.shown(self._parts, request.path_params["alert"])
        with self._parts.store.read() as connection:
            said = audit.latest(connection, limit=_WORDS_SHOWN, about=found.id)
        wish = meant(found)
        return self._render.page(
            request,
            "alert.html",
            status=200 if wrong is None else wrong[0],
            found=found.model_dump(mode="json"),
            as_of=found.as_of,
            field=places(found),
            words=said,
            meant=wish,
            spans=_SPANS_S,
            silencing=_silencing(wish),
            word=word,
            wrong=None if wrong is None else wrong[1],
        )

    async def acknowledge(self, request: Request) -> Response:
        """Note that somebody is on it."""
        form = forms.read(await request.body())
        return await run_in_threadpool(self._acknowledge, request, form)

    def _acknowledge(self, request: Request, form: Mapping[str, str]) -> Response:
        alert = request.path_params["alert"]
        try:
            wish = alerts.Why(reason=form.get("reason", "").strip())
            self._parts.alerting.lookout.ack(alert, actor=OPERATOR, reason=wish.reason)
        except (ValidationError, ConflictError) as error:
            return self._one(request, "ack", forms.refused(error))
        return RedirectResponse(f"/alerts/{alert}", 303)

    async def silence(self, request: Request) -> Response:
        """Tell nobody of what is like it, for a time."""
        form = forms.read(await request.body())
        return await run_in_threadpool(self._silence, request, form)

    def _silence(self, request: Request, form: Mapping[str, str]) -> Response:
        found = alerts.shown(self._parts, request.path_params["alert"])
        asked: Mapping[str, Any] = {
            **meant(found),
            "for_s": form.get("for_s", ""),
            "reason": form.get("reason", "").strip(),
        }
        try:
            wish = alerts.SilenceWish.model_validate(asked)
            self._parts.alerting.lookout.silence(**dict(wish), actor=OPERATOR)
        except (ValidationError, ConflictError) as error:
            return self._one(request, "silence", forms.refused(error))
        return RedirectResponse(f"/alerts/{found.id}", 303)

    async def end_silence(self, request: Request) -> Response:
        """Let a silence end now: what it kept back is told."""
        form = forms.read(await request.body())
        return await run_in_threadpool(self._end_silence, request, form)

    def _end_silence(self, request: Request, form: Mapping[str, str]) -> Response:
        silence = request.path_params["silence"]
        try:
            wish = alerts.Why(reason=form.get("reason", "").strip())
            self._parts.alerting.lookout.end_silence(silence, actor=OPERATOR, reason=wish.reason)
        except (ValidationError, NotFoundError) as error:
            return self._every(request, silence, forms.refused(error))
        return RedirectResponse("/alerts#silences", 303)


def _silencing(wish: Mapping[str, str | None]) -> str:
    """Return what silences the same on the command line."""
    given = [word for name, text in wish.items() if text for word in (f"--{name}", text)]
    return shell("skerry", "alert", "silence", *given, "--for", "4h", "--reason", "WHY")
