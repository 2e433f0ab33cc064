"""The pages that change something: plan and start a rollout, say a word about one.

A start needs the digest of a plan that was shown; where the world has moved since, the new plan is
shown with what is different, and nothing is started.
"""

from collections.abc import Mapping

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agent.wire import v1
from fleet.api import bundles, named_policies, rollouts
from fleet.api.access import OPERATOR
from fleet.api.parts import Parts
from fleet.api.rollout_targets import placed
from fleet.clock import written
from fleet.page import forms, worst
from fleet.page.reading import Reading
from fleet.page.rendering import Renderer, shell
from fleet.rollouts.errors import PlanError
from fleet.rollouts.fold import IllegalEventError
from fleet.rollouts.policy import CAREFUL
from fleet.rollouts.states import WORDS
from fleet.store.errors import AmbiguousError, NotFoundError
from fleet.wording import short

MANY = 100
"""Above so many devices a click is too easily made: the number itself is asked for."""

_REASON_LIMIT = 1000
_NOT_PLANNED = (PlanError, NotFoundError, AmbiguousError, ValidationError)
_ASKED = ("bundle", "deployment", "selector", "devices", "policy", "soak_s")


class Acting:
    """What the pages that change something are made of."""

    def __init__(self, parts: Parts, renderer: Renderer, reading: Reading) -> None:
        self._parts = parts
        self._render = renderer
        self._reading = reading

    def routes(self) -> list[Route]:
        """Return where the pages are: before those that only show, whose paths would match."""
        return [
            Route("/rollouts/new", self.plan, methods=["GET"]),
            Route("/rollouts/new", self.start, methods=["POST"]),
            Route("/rollouts/{rollout}/logs", self.ask, methods=["POST"]),
            Route("/rollouts/{rollout}/{word}", self.say, methods=["POST"]),
        ]

    def plan(self, request: Request) -> Response:
        """Who gets it, who does not and why, what does it cost, how bad can it get?"""
        asked = {name: request.query_params.get(name, "").strip() for name in _ASKED}
        return self._plan(request, asked)

    def _plan(
        self,
        request: Request,
        asked: Mapping[str, str],
        wrong: tuple[int, Mapping[str, str]] | None = None,
    ) -> Response:
        made = None
        if asked["bundle"] and (asked["selector"] or asked["devices"]):
            try:
                shown = rollouts.planned(
                    self._parts, rollouts.RolloutWish.model_validate(_wish(asked))
                )
                made = shown.model_dump(mode="json")
            except _NOT_PLANNED as error:
                wrong = wrong or forms.refused(error)
        return self._render.page(
            request,
            "plan.html",
            status=200 if wrong is None else wrong[0],
            asked=asked,
            made=made,
            bundles=bundles.listed(self._parts).model_dump(mode="json")["bundles"],
            policies=[each.name for each in named_policies.listed(self._parts).policies],
            usual=CAREFUL.name,
            many=MANY,
            command="" if made is None else _command(asked, short(made["digest"])),
            wrong=None if wrong is None else wrong[1],
        )

    async def start(self, request: Request) -> Response:
        """Start what was planned, and go on to its page."""
        form = forms.read(await request.body())
        answer = await run_in_threadpool(self._start, request, form)
        self._parts.executor.wake()
        return answer

    def _start(self, request: Request, form: Mapping[str, str]) -> Response:
        asked = {name: form.get(name, "").strip() for name in _ASKED}
        if not form.get("if_plan"):
            raise HTTPException(400, "a rollout starts only from a plan that was seen")
        steps = form.get("steps", "")
        if len(steps) >= len(str(MANY)) and steps not in (str(MANY), form.get("number", "")):
            told = {
                "error": "the number of devices was not typed as it is",
                "reason": "NOT_AGREED",
                "next": f"type {steps[:9]} to start it",
            }
            return self._plan(request, asked, (422, told))
        try:
            wish = rollouts.StartWish.model_validate(
                {
                    **_wish(asked),
                    "if_plan": form["if_plan"],
                    "reason": form.get("reason", "").strip(),
                }
            )
            started = rollouts.begun(self._parts, wish, OPERATOR)
        except _NOT_PLANNED as error:
            return self._plan(request, asked, forms.refused(error))
        return RedirectResponse(f"/rollouts/{started.id}", 303)

    async def ask(self, request: Request) -> Response:
        """Ask those for their logs that went wrong, and go back to see them come."""
        rollout = request.path_params["rollout"]
        await run_in_threadpool(self._ask, rollout)
        return RedirectResponse(f"/rollouts/{rollout}#worst", 303)

    def _ask(self, rollout: str) -> None:
        with self._parts.store.read() as connection:
            seen = rollouts.view(self._parts, connection, rollout)
            found = worst.worst(placed(seen.now))
            devices = worst.to_ask(worst.logs(connection, found, written(seen.at)))
        if devices:
            self._parts.commands.ask(
                devices,
                v1.Verb.LOGS,
                {"lines": str(worst.ASKED_LINES)},
                valid_s=worst.VALID_S,
                actor=OPERATOR,
                reason=f"went wrong in {rollout}",
            )

    async def say(self, request: Request) -> Response:
        """Pause, resume, abort or roll back, with the reason that was given."""
        word = request.path_params["word"]
        if word not in WORDS:
            raise HTTPException(404)
        form = forms.read(await request.body())
        rollout, reason = request.path_params["rollout"], form.get("reason", "").strip()
        happening, reasoned = WORDS[word]
        wrong = None
        if reasoned and not reason:
            wrong = {
                "error": f"a {word} needs a reason, for the audit",
                "reason": "USAGE",
                "next": "say why",
                "status": "422",
                "word": word,
            }
        elif len(reason) > _REASON_LIMIT:
            raise HTTPException(413, f"a reason has {_REASON_LIMIT} characters at the most")
        else:
            try:
                await run_in_threadpool(
                    self._parts.executor.say,
                    rollout,
                    happening,
                    actor=OPERATOR,
                    reason=reason,
                    wave=_number(form.get("wave", "")),
                )
            except IllegalEventError as error:
                status, told = forms.refused(error)
                wrong = {**told, "status": str(status), "word": word}
        if wrong is not None:
            return await run_in_threadpool(self._reading.rollout_page, request, rollout, wrong)
        self._parts.executor.wake()
        return RedirectResponse(f"/rollouts/{rollout}", 303)


def _number(given: str) -> int | None:
    return int(given[:9]) if given.isascii() and given.isdigit() else None


def _wish(asked: Mapping[str, str]) -> dict[str, object]:
    """Return what a form asks for, as the API takes it."""
    return {
        "bundle": asked["bundle"],
        "deployment": asked["deployment"] or asked["bundle"].partition(":")[0],
        "selector": asked["selector"] or None,
        "targets": asked["devices"].replace(",", " ").split(),
        "policy": asked["policy"] or CAREFUL.name,
        "soak_s": asked["soak_s"] or None,
    }


def _command(asked: Mapping[str, str], digest: str) -> str:
    """Return what starts the same plan on the command line."""
    named = asked["devices"].replace(",", " ").split()
    words = ["skerry", "rollout", "start", asked["bundle"]]
    words += ["--to", asked["selector"]] if asked["selector"] else []
    words += [word for name in named for word in ("--device", name)]
    words += ["--as", asked["deployment"]] if asked["deployment"] else []
    words += ["--policy", asked["policy"] or CAREFUL.name]
    words += ["--soak", asked["soak_s"]] if asked["soak_s"] else []
    return shell(*words, "--if-plan", digest)
