"""Health that can't be: of no time, of nothing, of numbers beyond all: it breaks nothing."""

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.wire import codec, v1
from agent.wire.reasons import Reason
from agent.wire.topics import Kind, Topic
from fleet.clock import written
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.link.intake import Refusal, admit
from fleet.store.engine import Store
from tests.fleet.centre.outlook import Outlook
from tests.fleet.centre.served import OPERATOR, TOKEN, Served, serving
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET

MOST = 2**53 - 1
PAGES = ("/", "/devices", "/devices/lerwick-1", "/alerts")
GHOST = "sha256:" + "9" * 64


@pytest.fixture
def outlook(store: Store) -> Outlook:
    made = Outlook(store)
    made.settle(lerwick=4, porto=4)
    made.feel(*made.sessions)
    made.look()
    return made


@asynccontextmanager
async def asking(
    home: Home, authority: Authority, outlook: Outlook
) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    async with (
        serving(home, authority, outlook.store, clock=lambda: outlook.now, pages=True) as served,
        httpx.AsyncClient(base_url=served.plain, headers=OPERATOR, trust_env=False) as client,
    ):
        await client.post("/sign-in", data={"token": TOKEN}, headers={"Origin": served.plain})
        yield served, client


async def shown(client: httpx.AsyncClient) -> dict[str, Any]:
    """Return what a centre says of its fleet, everywhere: each as JSON that any reader reads."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found = {}
    for path in ("fleet", "fleet/health", "devices", "devices/d-1", "devices/d-1/health/history"):
        answer = await client.get(f"/api/v1/{path}")
        assert 200 == answer.status_code, (path, answer.text)
        found[path] = json.loads(answer.text, parse_constant=refuse)
    for path in PAGES:
        answer = await client.get(path)
        assert 200 == answer.status_code, (path, answer.text)
    return found


def lied(outlook: Outlook, **changes: object) -> v1.Health:
    """Return health of `d-1` with some fields of its deployment changed."""
    told = outlook.health("d-1")
    (each,) = told.deployments
    return replace(told, deployments=(replace(each, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["requests", "errors", "restarts", "revision"])
@pytest.mark.parametrize(
    "value",
    ["-1", "9007199254740992", "1e400", "-1e400", "NaN", "1.5", '"7"', "null", "[]", "9" * 400],
)
def test_a_count_that_is_none_is_refused_with_its_reason(
    outlook: Outlook, name: str, value: str
) -> None:
    """Negative, beyond what JSON keeps, broken, of another kind: none reaches the store."""
    good = json.loads(codec.encode(outlook.health("d-1")))
    good["deployments"][0][name] = "HERE"
    raw = json.dumps(good).replace('"HERE"', value).encode()

    refused = admit(FLEET, str(Topic(FLEET, "d-1", Kind.HEALTH)), raw)

    assert isinstance(refused, Refusal)
    assert Reason.MALFORMED == refused.reason


async def test_the_largest_counts_there_are_break_no_sum(
    home: Home, authority: Authority, outlook: Outlook
) -> None:
    """Of several devices, with more errors than requests: shares stay shares, and all is shown."""
    slow = v1.LatencySketch(count=MOST, buckets={0: MOST})
    told = lied(outlook, requests=MOST, errors=MOST, restarts=MOST, latency=slow)
    odd = lied(outlook, requests=1, errors=MOST)
    full = {
        "cpu_ratio": 1e308,
        "memory_used_bytes": MOST,
        "temperature_c": -1e308,
        "disk_free_bytes": MOST,
        "disk_total_bytes": 0,
        "outbox": MOST,
    }
    documents = [
        told,
        replace(told, device="d-2"),
        replace(odd, device="d-3"),
        replace(told, device="d-4", **full),  # type: ignore[arg-type]
    ]
    async with asking(home, authority, outlook) as (served, client):
        outlook.commit(*documents)
        served.tally.commits(documents, 0.01)
        outlook.look()
        found = await shown(client)
        scraped = (await client.get("/metrics")).text

    total = found["fleet/health"]["total"]
    assert total["requests"] >= 3 * MOST
    for row in [total, *found["fleet/health"]["groups"], *found["fleet"]["numbers"]]:
        assert all(
            0 <= value <= 1
            for key, value in row.items()
            if key.endswith(("ratio", "share")) and value is not None
        ), row
    samples = [
        each for family in text_string_to_metric_families(scraped) for each in family.samples
    ]
    assert all(
        math.isfinite(each.value) and each.value >= 0 for each in samples if "skerry" in each.name
    )
    rules = {rule for rule, _, _ in outlook.told_of()}
    assert "SkerryCrashLoop" in rules


async def test_health_of_a_deployment_that_does_not_exist_is_no_other_s(
    home: Home, authority: Authority, outlook: Outlook
) -> None:
    """It is named as the device names it, adds to nothing that there is, and goes with the next."""
    ghosts = tuple(
        v1.DeploymentHealth(
            name=f"ghost-{number}", revision=9, digest=GHOST, requests=1000, errors=1000, restarts=9
        )
        for number in range(15)
    )
    good = outlook.health("d-1")
    told = replace(good, deployments=(*good.deployments, *ghosts))
    async with asking(home, authority, outlook) as (served, client):
        before = await shown(client)
        outlook.commit(told)
        served.tally.commits([told], 0.01)
        outlook.look()
        outlook.look(121)
        found = await shown(client)
        scraped = (await client.get("/metrics")).text
        alerts = outlook.told_of()

    def of_digits(seen: dict[str, Any]) -> list[int]:
        rows = seen["fleet/health"]["groups"]
        return [each["requests"] for each in rows if each["deployment"] == "digits"]

    assert of_digits(before) == of_digits(found)
    assert 'bundle="ghost-0",version="unknown"' in scraped
    assert {"SkerryCrashLoop", "SkerryModelErrors"} >= {rule for rule, _, _ in alerts}
    assert len(alerts) <= 2, alerts
    assert not [each for each in alerts if each[1].startswith("digits")]
    outlook.all_speak(10)
    outlook.look()
    outlook.all_speak(601)
    outlook.look()
    assert {"cleared"} == {news for _, _, news in outlook.told_of()}


@pytest.mark.parametrize(
    "at",
    [
        "1970-01-01T00:00:00Z",
        "2036-03-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
async def test_a_clock_that_is_wrong_makes_nobody_silent_and_no_alert_old(
    home: Home, authority: Authority, outlook: Outlook, at: str
) -> None:
    """1970, ten years ahead, both ends of the calendar: who speaks is heard now, and dated so."""
    async with asking(home, authority, outlook) as (_, client):
        for _ in range(12):
            outlook.wait(60)
            outlook.feel(*outlook.sessions, at=at)
            outlook.look()
        assert [] == outlook.told_of()
        found = await shown(client)
        assert {"ok": 8} == {word: n for word, n in found["fleet"]["states"].items() if n}
        outlook.feel("d-1", at=at, restarts=9)
        outlook.look()
        await shown(client)

    (alert,) = outlook.kept()
    assert written(NOW) <= alert.cause.since <= written(outlook.now)
    assert outlook.now == alert.opened_at


def test_what_is_told_twice_or_late_is_one_alert(outlook: Outlook) -> None:
    """A hundred times the same, and one of before that it was mended: neither opens it again."""
    bad = outlook.health("d-1", restarts=9)
    outlook.commit(*[bad] * 100)
    for _ in range(3):
        outlook.look(5)
        outlook.commit(bad)
    assert [("SkerryCrashLoop", "digits 1.4.0", "opened")] == outlook.told_of()
    outlook.wait(10)
    outlook.commit(replace(outlook.health("d-1"), told=2))
    outlook.look()
    outlook.all_speak(601)
    outlook.look()
    assert [("SkerryCrashLoop", "digits 1.4.0", "cleared")] == outlook.told_of()
    waited = v1.Event(
        fleet=FLEET,
        device="d-1",
        ledger="l",
        number=1,
        kind=v1.EventKind.HEALTH,
        at=bad.at,
        health=bad,
    )
    outlook.commit(waited)  # type: ignore[arg-type]
    outlook.look(5)
    assert [("SkerryCrashLoop", "digits 1.4.0", "cleared")] == outlook.told_of()
