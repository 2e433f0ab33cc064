"""A device's life and how it was, over the API: in order, in parts, with every refusal."""

import base64
import datetime as dt
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.wire import v1
from fleet.cli.device_history import lived
from fleet.cli.marks import Screen
from fleet.clock import written
from fleet.health.quarters import QUARTERS
from fleet.health.states import Finding, State, Verdict
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.page import strips
from fleet.store import words
from fleet.store.engine import Store
from fleet.words import Words
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.centre.served import OPERATOR, Served, serving
from tests.fleet.centre.test_store_history import ONE, born, feels, hear, told, waited

DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)
WELL = Verdict(state=State.OK, finding=Finding(reason="AS_WANTED", since=written(NOW)))
FULL = Verdict(state=State.DEGRADED, finding=Finding(reason="DISK_NEARLY_FULL", since=written(NOW)))


@pytest.fixture
async def served(home: Home, store: Store, authority: Authority) -> AsyncIterator[Served]:
    add_devices(store, [ONE], joined=NOW - 9 * DAY)
    async with serving(home, authority, store, lambda: NOW) as centre:
        yield centre


async def ask(served: Served, path: str, **query: object) -> tuple[int, Any]:
    params = {name: str(value) for name, value in query.items()}
    async with served.client() as client:
        answer = await client.get(f"/api/v1/devices/{ONE}/{path}", params=params, headers=OPERATOR)
    return answer.status_code, answer.json()


def live(store: Store) -> None:
    """It starts, is away for five hours, and tells afterwards what happened meanwhile."""
    hear(store, born(1), told(1), now=NOW - 20 * HOUR)
    hear(store, feels(NOW - 20 * HOUR, requests=40), now=NOW - 20 * HOUR)
    hear(store, v1.Death(fleet="harbour", device=ONE, session=1), now=NOW - 10 * HOUR)
    hear(store, born(5), now=NOW - 5 * HOUR)
    hear(store, told(2), waited(3, feels(NOW - 7 * HOUR, requests=70)), now=NOW - 5 * HOUR)


async def test_a_life_is_shown_in_order_and_in_parts(served: Served, store: Store) -> None:
    """Page after page backwards gives each moment once."""
    live(store)
    _, whole = await ask(served, "lifeline")
    pages: list[Any] = []
    before = ""
    for _ in range(5):
        _, page = await ask(served, "lifeline", limit=1, **({"before": before} if before else {}))
        pages = page["moments"] + pages
        before = page["before"]
        if before is None:
            break

    assert ["joined", "restarted", "away", "told"] == [each["kind"] for each in whole["moments"]]
    assert whole["moments"] == pages
    assert whole["before"] is None
    away, last = whole["moments"][2:]
    assert (written(NOW - 5 * HOUR), 5 * 3600) == (away["until"], away["lasted_s"])
    assert last["late"]
    _, part = await ask(
        served, "lifeline", since=written(NOW - 6 * HOUR), until=written(NOW - 5 * HOUR)
    )
    assert ["away"] == [each["kind"] for each in part["moments"]], "it lasted into that hour"


async def test_a_life_is_paged_to_both_its_ends(served: Served, store: Store) -> None:
    """Back to what is only counted and forth to the last: a page says where it has others."""
    live(store)
    for number in range(words.KEPT + 5):
        state = (WELL, FULL)[number % 2]
        with store.write() as connection:
            words.note(connection, {ONE: state}, NOW - 4 * HOUR + number * MINUTE)
    _, last = await ask(served, "lifeline", limit=30)
    assert last["after"] is None
    pages = [last]
    while pages[-1]["before"]:
        _, page = await ask(served, "lifeline", limit=30, before=pages[-1]["before"])
        pages.append(page)
    moments = [each for page in reversed(pages) for each in page["moments"]]
    back = [pages[-1]]
    while back[-1]["after"]:
        _, page = await ask(served, "lifeline", limit=30, after=back[-1]["after"])
        back.append(page)

    sums = {each["state"]: each["count"] for each in moments if each["kind"] == "summed"}
    assert {"ok": 2, "degraded": 2} == sums
    assert 4 + words.KEPT + 1 + 2 == len(moments)
    assert moments == [each for page in back for each in page["moments"]]


async def test_what_it_was_says_why_in_words(served: Served, store: Store) -> None:
    """From when to when, because of what; and nobody knows of a time in which nobody looked."""
    live(store)
    for hours, verdict in ((9, WELL), (7, FULL), (6, WELL)):
        Words(store).keep([(ONE, verdict)], NOW - hours * HOUR)
    _, life = await ask(served, "lifeline", kind="was", since=written(NOW - 24 * HOUR))

    told = [(e["state"], e["reason"], e["lasted_s"], e["sentence"]) for e in life["moments"]]
    unseen = "The centre did not look at its devices then: nobody knows how this one was."
    assert ("ok", "AS_WANTED", 0, "It serves all that is wanted of it.") == told[-1]
    assert ("unknown", "NOT_WATCHED", 2 * 3600, unseen) in told
    was = strips.words(life["moments"], life["as_of"])
    assert was is not None
    assert "In the last 24 hours it was unknown for 3 h, ok for 6 h." == was.said
    lines = list(lived(Screen(), life["moments"], life["as_of"]))
    assert any("◷" not in each and "? unknown for 2 h, until 05:00:00:" in each for each in lines)


async def test_health_of_a_time_is_in_slots(served: Served, store: Store) -> None:
    """What waited is in the slot in which it was measured; `next` goes on where a page ended."""
    live(store)
    _, whole = await ask(served, "health/history")
    _, first = await ask(served, "health/history", limit=1)
    _, rest = await ask(served, "health/history", since=first["next"])
    _, none = await ask(served, "health/history", since=written(NOW - HOUR))

    assert [40, 70] == [each["requests"] for each in whole["slots"]]
    assert [(900, 0), (900, 1)] == [(each["length_s"], each["late"]) for each in whole["slots"]]
    assert whole["slots"] == first["slots"] + rest["slots"]
    assert whole["next"] is None
    assert [] == none["slots"]
    slot = whole["slots"][0]
    assert slot["p95_s"] == pytest.approx(0.01, rel=slot["quantiles_within"])
    assert (None, None) == (slot["cpu_mean"], slot["temperature_most_c"])


def cursor(of: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(of).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("lifeline", {"before": "nonsense"}),
        ("lifeline", {"before": "bnVsbA"}),
        ("lifeline", {"before": cursor(["", "", math.inf])}),
        ("lifeline", {"before": cursor(["", "", math.nan])}),
        ("lifeline", {"before": cursor(["", "", 1.5])}),
        ("lifeline", {"before": cursor([1, "", 1])}),
        ("lifeline", {"before": cursor({"a": 1, "b": 2, "c": 3})}),
        ("lifeline", {"before": "x" * 2000}),
        ("lifeline", {"after": "nonsense"}),
        ("lifeline", {"kind": "nonsense"}),
        ("lifeline", {"since": "yesterday"}),
        ("lifeline", {"limit": 501}),
        ("health/history", {"since": "0001-01-01T00:00:00+23:00"}),
        ("health/history", {"limit": 0}),
    ],
)
async def test_what_nobody_could_mean_is_refused(
    served: Served, path: str, query: dict[str, object]
) -> None:
    """With a reason, and never by a failure of ours."""
    status, refusal = await ask(served, path, **query)
    assert (422, "MALFORMED") == (status, refusal["reason"])


async def test_a_day_is_drawn_as_it_was(served: Served, store: Store) -> None:
    """The page's drawings say in words what they show, and stay in their box."""
    live(store)
    _, felt = await ask(served, "health/history", limit=QUARTERS + 1)
    _, lived = await ask(served, "lifeline")
    drawn = {each.name: each for each in strips.strips(felt)}
    line = strips.line(lived["moments"], lived["as_of"])

    assert ["Requests", "Errors", "p95"] == list(drawn)
    assert "70 in 15 min at most. Nothing came for 23 h of it." in drawn["Requests"].said
    assert 2 == drawn["Requests"].path.count("M")
    assert "away once, 5 h in all; its agent started once; 1 event, 1 of them late" in line.said
    left, _, right = line.away.removeprefix("M").partition("h")
    assert (550, 200) == (int(left.split()[0]), int(right.split("v")[0]))
