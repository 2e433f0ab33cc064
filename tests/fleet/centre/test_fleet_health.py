"""`/api/v1/fleet/health`: what is asked about, a page at a time; bad questions are told so."""

import asyncio
from pathlib import Path

import pytest

from agent.wire import v1
from fleet.cli import main
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store import arrivals
from fleet.store.engine import Store
from tests.fleet.centre.served import TOKEN
from tests.fleet.centre.test_fleet_document import asking, read
from tests.fleet.screens.village import FLEET, LATE, OLD, VILLAGE, Villager, settle

HEARD = 7
SCREENS = ("status", "health")


async def test_it_is_for_operators(home: Home, authority: Authority, store: Store) -> None:
    """A stranger learns nothing."""
    async with asking(home, authority, store) as client:
        answer = await client.get("/api/v1/fleet/health", headers={"Authorization": "Bearer wrong"})

    assert 401 == answer.status_code


async def test_an_empty_fleet_is_unknown(home: Home, authority: Authority, store: Store) -> None:
    """Nothing divided by nothing, and nothing good of it."""
    found = await read(home, authority, store, "fleet/health")

    assert ("unknown", 0, None, []) == (
        found["total"]["state"],
        found["total"]["requests"],
        found["total"]["p95_s"],
        found["groups"],
    )


async def test_pages_follow_each_other(home: Home, authority: Authority, store: Store) -> None:
    """Each group is on one page; the whole is on each."""
    settle(store, tuple(Villager(name=f"cam-{n}", site=f"site-{n}") for n in range(5)))
    sites: list[str] = []
    after: str | None = ""
    pages = 0
    while after is not None:
        path = f"fleet/health?by=site&limit=2&after={after}"
        found = await read(home, authority, store, path)
        sites += [each["site"] for each in found["groups"]]
        after, pages = found["after"], pages + 1
        assert 5 * 400 == found["total"]["requests"]

    assert ([f"site-{n}" for n in range(5)], 3) == (sites, pages)


async def test_groups_say_only_what_was_asked(
    home: Home, authority: Authority, store: Store
) -> None:
    """What is not told apart is null; what is, has the fleet's numbers among them."""
    settle(store)
    plain = await read(home, authority, store, "fleet/health")
    nothing = await read(home, authority, store, "fleet/health?by=")
    (row,) = plain["groups"]
    whole = await read(home, authority, store)

    assert ["deployment", "bundle", "class"] == plain["by"]
    assert (None, None) == (row["revision"], row["site"])
    assert HEARD == row["devices"] == plain["total"]["devices"]
    assert len(VILLAGE) > HEARD
    (numbers,) = whole["numbers"]
    assert {each: row[each] for each in numbers} == numbers
    (only,) = nothing["groups"]
    assert only == nothing["total"]


@pytest.mark.parametrize("period_s", [1e-306, 5e-324, 0.5])
async def test_a_period_of_no_time_makes_no_rate_beyond_all_numbers(
    home: Home, authority: Authority, store: Store, tmp_path: Path, period_s: float
) -> None:
    """What two devices say of themselves takes the fleet from nobody's eyes."""
    settle(store, tuple(Villager(name=f"cam-{n}") for n in range(2)))
    served = v1.DeploymentHealth(
        name="digits", revision=3, digest=OLD.digest, requests=100, errors=0
    )
    with store.write() as connection:
        for device in ("d-1", "d-2"):
            told = v1.Health(
                fleet=FLEET,
                device=device,
                session=1,
                at=LATE,
                period_s=period_s,
                deployments=(served,),
            )
            arrivals.commit(connection, [told], now=LATE)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with asking(home, authority, store) as client:
        paths = ("fleet", "fleet/health", "devices/d-1")
        answers = [await client.get(f"/api/v1/{path}") for path in paths]
        where = ["--centre", str(client.base_url), "--token-file", str(token)]
        ended = [await asyncio.to_thread(main, ["fleet", what, *where]) for what in SCREENS]

    assert [200] * 3 == [each.status_code for each in answers]
    assert [200.0] == [each["per_s"] for each in answers[0].json()["numbers"]]
    assert 200.0 == answers[1].json()["total"]["per_s"]
    assert [0, 0] == ended


@pytest.mark.parametrize(
    "query",
    [
        "by=colour",
        "by=site,colour",
        "after=nonsense",
        "after=W10",
        "after=WyJhIl0",
        "after=WzEsMiwzLDQsNSw2LDdd",
        "limit=0",
        "limit=1001",
        f"after={'A' * 3000}",
        f"by={'site,' * 500}",
    ],
)
async def test_a_bad_question_is_told_so(
    home: Home, authority: Authority, store: Store, query: str
) -> None:
    """What was wrong, a code, and what to do."""
    async with asking(home, authority, store) as client:
        answer = await client.get(f"/api/v1/fleet/health?{query}")

    assert 422 == answer.status_code
    assert "MALFORMED" == answer.json()["reason"]
