"""The pages that only show: fleet, devices, bundles, rollouts. Each is a function of a request."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.api import alerts, bundles, devices, lifeline, rollouts
from fleet.api.cursor import cursor, place
from fleet.api.device_why import Whys
from fleet.api.devices import DeviceSummary
from fleet.api.glance import Glance
from fleet.api.look import NEEDS_SHOWN, Look
from fleet.api.parts import Parts
from fleet.api.rollout_shown import detail
from fleet.api.rollout_targets import outcomes, placed
from fleet.api.search import Search, parse, place_of
from fleet.api.shown import shown_at
from fleet.clock import written
from fleet.health.lifeline import Kind
from fleet.health.quarters import QUARTERS
from fleet.marks import Mark
from fleet.page import strips, worst
from fleet.page.glance import drawn, groups
from fleet.page.rendering import Renderer
from fleet.page.troubles import besides
from fleet.rollouts.errors import PlanError
from fleet.rollouts.states import (
    ENDED,
    WORDS,
    RolloutState,
    TargetState,
    WaveState,
    possible,
)
from fleet.store import audit
from fleet.whys import lines
from fleet.wording import consequence, has_a_line

PAGE_LIMIT = 200
"""Rows of a page at the most."""

_PAGE = 100
_CHANGES_SHOWN = 10
_WORDS_READ = 200
_ALERTS_SHOWN = 7
_ROLLOUTS_SHOWN = 100
_MOMENTS_SHOWN = 500
_WORDS_SHOWN = 500  # of a day; more are not kept
_LISTED = 30


class Reading:
    """What the pages that show are made of."""

    def __init__(self, parts: Parts, renderer: Renderer, glance: Glance, whys: Whys) -> None:
        self._parts = parts
        self._render = renderer
        self._glance = glance
        self._whys = whys

    def routes(self) -> list[Route]:
        """Return where the pages are."""
        return [
            Route("/", self.overview),
            Route("/devices", self.devices),
            Route("/devices/{device}", self.device),
            Route("/bundles", self.bundles),
            Route("/bundles/{bundle}", self.bundle),
            Route("/rollouts", self.rollouts),
            Route("/rollouts/{rollout}", self.rollout),
        ]

    def overview(self, request: Request) -> Response:
        """Is anything wrong now? Where? Is something moving? Is what I see current?"""
        seen = self._glance.look()
        opened = alerts.listed(self._parts, limit=alerts.PAGE_LIMIT).alerts
        needs = besides(seen.needs, opened)[:NEEDS_SHOWN]
        shown, rest = drawn(groups(seen))
        with self._parts.store.read() as connection:
            changes = audit.latest(connection, limit=_CHANGES_SHOWN)
        return self._render.page(
            request,
            "overview.html",
            found=seen.shown.model_dump(mode="json"),
            alerts=[
                each.model_dump(mode="json") for each in alerts.ordered(opened)[:_ALERTS_SHOWN]
            ],
            needs=[each.model_dump(mode="json") for each in needs],
            as_of=seen.shown.as_of,
            groups=shown,
            rest=rest,
            changes=changes,
            address=self._parts.reachable.registry_url,
        )

    def devices(self, request: Request) -> Response:
        """Which ones match? What do they run? Who has been silent longest?"""
        asked = {name: request.query_params.get(name, "") for name in ("selector", "field", "q")}
        given = request.query_params.get("limit", "")
        limit = (
            min(max(int(given), 1), PAGE_LIMIT) if given.isascii() and given.isdigit() else _PAGE
        )
        seen = self._glance.look()
        rows = list[DeviceSummary]()
        after, wrong = "", None
        try:
            wanted = parse(asked["selector"], asked["field"])
        except PlanError as error:
            wanted, wrong = None, error
        if wanted is not None:
            start = _place(request.query_params.get("after", ""))
            found = wanted.among(
                seen.every, seen.at, limit=limit + 1, after=start, prefix=asked["q"]
            )
            rows = [devices.summary(*each, seen.at) for each in found[:limit]]
            if len(found) > limit:
                after = cursor(place_of(found[limit - 1]))
        return self._render.page(
            request,
            "devices.html",
            status=200 if wrong is None else 422,
            rows=[each.model_dump(mode="json") for each in rows],
            as_of=shown_at(seen.at),
            states=seen.shown.states,
            devices=seen.shown.devices,
            asked=asked,
            limit="" if limit == _PAGE else limit,
            after=after,
            began=bool(request.query_params.get("after")),
            wrong=wrong,
            without=[] if rows or wanted is None else list(_without(seen, wanted, asked)),
        )

    def device(self, request: Request) -> Response:
        """Is it serving? Why this state? What should it run, what does it run?"""
        found = devices.detail(self._parts, request.path_params["device"])
        why = self._whys.of(found.id).model_dump(mode="json")
        with self._parts.store.read() as connection:
            changes = audit.latest(connection, limit=_CHANGES_SHOWN, about=found.id)
        felt = lifeline.history(self._parts, found.id, limit=QUARTERS + 1)
        lived = lifeline.lived(self._parts, found.id, limit=_MOMENTS_SHOWN).model_dump(mode="json")
        words = lifeline.lived(
            self._parts,
            found.id,
            kind=Kind.WAS,
            since=datetime.fromisoformat(felt.since),
            limit=_WORDS_SHOWN,
        ).model_dump(mode="json")
        return self._render.page(
            request,
            "device.html",
            found=found.model_dump(mode="json"),
            why=list(lines(why)),
            alerts=why["alerts"],
            as_of=found.as_of,
            changes=changes,
            strips=list(strips.strips(felt.model_dump(mode="json"))),
            was=strips.words(words["moments"], found.as_of),
            line=strips.line(lived["moments"], found.as_of),
            moments=list(filter(has_a_line, lived["moments"]))[: -_LISTED - 1 : -1],
        )

    def bundles(self, request: Request) -> Response:
        """What exists, and what is in use?"""
        seen = self._glance.look()
        return self._render.page(
            request,
            "bundles.html",
            found=bundles.listed(self._parts).model_dump(mode="json")["bundles"],
            serving={each.digest: each for each in seen.shown.serving},
            devices=seen.shown.devices,
            as_of=seen.shown.as_of,
        )

    def bundle(self, request: Request) -> Response:
        """May I trust it? What goes in and out? How good, on which hardware? Who runs it?"""
        found = bundles.shown(self._parts, request.path_params["bundle"])
        seen = self._glance.look()
        used = [
            each
            for each in rollouts.listed(self._parts).rollouts
            if each.bundle is not None and each.bundle.digest == found.digest
        ]
        return self._render.page(
            request,
            "bundle.html",
            found=found.model_dump(mode="json"),
            as_of=seen.shown.as_of,
            serves=next((e for e in seen.shown.serving if e.digest == found.digest), None),
            numbers=[e for e in seen.shown.numbers if e.digest == found.digest and e.requests],
            used=[each.model_dump(mode="json") for each in used[:_CHANGES_SHOWN]],
        )

    def rollouts(self, request: Request) -> Response:
        """What moves, what waits for me, how did the last ones end?"""
        listed = rollouts.listed(self._parts, limit=_ROLLOUTS_SHOWN)
        every = [each.model_dump(mode="json") for each in listed.rollouts]
        return self._render.page(
            request,
            "rollouts.html",
            waiting=[each for each in every if _waits(each)],
            moving=[each for each in every if each["state"] not in ENDED and not _waits(each)],
            ended=[each for each in every if each["state"] in ENDED],
            older=listed.after is not None,
            as_of=listed.as_of,
        )

    def rollout(self, request: Request) -> Response:
        """Where is it? Is it good? What happens next? Can I stop it safely?"""
        return self.rollout_page(request, request.path_params["rollout"])

    def rollout_page(
        self, request: Request, rollout: str, wrong: Mapping[str, str] | None = None
    ) -> Response:
        """Return a rollout's page; `wrong` says what of a form could not be done."""
        wave, outcome = (request.query_params.get(name, "") for name in ("wave", "outcome"))
        given = request.query_params.get("from", "")
        start = int(given[:9]) if given.isascii() and given.isdigit() else 0
        with self._parts.store.read() as connection:
            seen = rollouts.view(self._parts, connection, rollout)
            words = audit.latest(connection, limit=_WORDS_READ, about=rollout)
            every = placed(seen.now)
            bad = worst.worst(every)
            told = worst.logs(connection, bad, written(seen.at))
            failed = rollouts.target_page(connection, seen, bad, limit=worst.SHOWN)
            chosen = placed(seen.now, word=outcome) if outcome else every
            if wave:
                chosen = [each for each in chosen if wave == str(each.wave)]
            rows = rollouts.target_page(connection, seen, chosen, start=start, limit=_PAGE)
        counted = outcomes(seen.now)
        found = detail(seen.kept, seen.now, words, seen.later, seen.at, first=rows).model_dump(
            mode="json"
        )
        state = RolloutState(found["state"])
        sayable = possible(
            state,
            [WaveState(each["state"]) for each in found["waves"]],
            [TargetState(each) for each in found["counts"]],
        )
        words_now = [word for word, (happening, _) in WORDS.items() if happening in sayable]
        return self._render.page(
            request,
            "rollout.html",
            status=200 if wrong is None else int(wrong["status"]),
            found=found,
            as_of=found["as_of"],
            words=words[:_CHANGES_SHOWN],
            bars={number: _bar(each) for number, each in counted.items()},
            bar=_bar(counted[0]),
            backwards=state in (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK),
            worst=failed.model_dump(mode="json")["targets"],
            logs=told,
            unasked=worst.to_ask(told),
            rows=found["targets"],
            matching=rows.matching,
            start=start,
            page=_PAGE,
            wave=wave,
            outcome=outcome,
            possible=[(word, WORDS[word][1], *consequence(word, found)) for word in words_now],
            wrong=wrong,
        )


def _bar(counted: Mapping[tuple[str, Mark, bool], int]) -> list[dict[str, Any]]:
    """Return counts of targets as a bar is drawn from them; who is set aside stands apart."""
    return [
        {"label": word, "mark": mark, "number": number, "aside": aside}
        for (word, mark, aside), number in counted.items()
    ]


def _without(
    seen: Look, wanted: Search, asked: Mapping[str, str]
) -> Iterator[tuple[str, int, dict[str, str]]]:
    """Say of each part of a filter how many would match without it."""

    def count(search: Search, prefix: str) -> int:
        return sum(
            known.device.name.startswith(prefix) and search.matches(known.heard, told, seen.at)
            for known, told in seen.every
        )

    requirements = wanted.selector.requirements
    for number, part in enumerate(requirements):
        kept = requirements[:number] + requirements[number + 1 :]
        selector = replace(wanted.selector, requirements=kept)
        query = {**asked, "selector": str(selector)}
        yield str(part), count(replace(wanted, selector=selector), asked["q"]), query
    for number, (name, value) in enumerate(wanted.fields):
        fields = wanted.fields[:number] + wanted.fields[number + 1 :]
        query = {**asked, "field": ",".join(f"{each}={text}" for each, text in fields)}
        yield f"{name}={value}", count(replace(wanted, fields=fields), asked["q"]), query
    if asked["q"]:
        yield f"the name {asked['q']}…", count(wanted, ""), {**asked, "q": ""}


def _waits(rollout: Mapping[str, Any]) -> bool:
    """Tell whether a rollout needs a person to go on."""
    return bool(rollout["state"] == RolloutState.PAUSED or rollout["waits_for_approval"])


def _place(given: str) -> tuple[str, str]:
    """Return where a page begins; a cursor that is none begins at the beginning."""
    try:
        name, device = place(given[:1000], (str, str), of="after")
    except PlanError:
        return "", ""
    return name, device
