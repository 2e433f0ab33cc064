"""The fleet in one document: counts that add up, what needs a person, and how old it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.rollouts.progress import Cause
from fleet.rollouts.states import RolloutState
from fleet.store import arrivals
from fleet.store.engine import Store
from tests.fleet.centre.served import NOW, OPERATOR, serving
from tests.fleet.screens.village import (
    BEFORE,
    FLEET,
    LATE,
    VILLAGE,
    Villager,
    keep,
    pause,
    settle,
    waiting,
)


@asynccontextmanager
async def asking(
    home: Home, authority: Authority, store: Store, *, connected: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(home, authority, store, connected=lambda: connected) as centre,
        httpx.AsyncClient(base_url=centre.plain, headers=OPERATOR, trust_env=False) as client,
    ):
        yield client


async def read(home: Home, authority: Authority, store: Store, path: str = "fleet") -> Any:  # noqa: ANN401  # JSON
    async with asking(home, authority, store) as client:
        answer = await client.get(f"/api/v1/{path}")
    assert 200 == answer.status_code
    return answer.json()


async def test_it_is_for_operators(home: Home, authority: Authority, store: Store) -> None:
    """A stranger learns nothing of the fleet."""
    async with asking(home, authority, store) as client:
        answer = await client.get("/api/v1/fleet", headers={"Authorization": "Bearer wrong"})

    assert 401 == answer.status_code
    assert {"error", "reason", "next"} == answer.json().keys()


async def test_a_centre_that_does_not_hear_its_broker_says_so(
    home: Home, authority: Authority, store: Store
) -> None:
    """What it shows is old, and nobody is told otherwise."""
    async with asking(home, authority, store, connected=False) as client:
        found = (await client.get("/api/v1/fleet")).json()

    assert {"connected": False} == found["broker"]


async def test_an_empty_fleet_has_all_its_counts(
    home: Home, authority: Authority, store: Store
) -> None:
    """Nobody divides by nobody."""
    found = await read(home, authority, store)

    assert {0} == set(found["states"].values())
    assert 7 == len(found["states"])
    assert ([], [], [], []) == tuple(
        found[name] for name in ("serving", "numbers", "rollouts", "needs_you")
    )


async def test_counts_add_up(home: Home, authority: Authority, store: Store) -> None:
    """Every device is in one state, and the list says the same as the document."""
    settle(store)
    found = await read(home, authority, store)
    listed = await read(home, authority, store, "devices")
    words = [device["state"]["word"] for device in listed["devices"]]

    assert len(VILLAGE) == found["devices"] == sum(found["states"].values())
    assert found["states"] == {word: words.count(word) for word in found["states"]}
    assert found["as_of"] == listed["as_of"] == "2026-03-01T12:00:00Z"
    assert "2026-02-26T07:30:00Z" == found["offline_since"]


async def test_the_same_trouble_is_one_line_and_the_worst_comes_first(
    home: Home, authority: Authority, store: Store
) -> None:
    """At most seven, rollouts that wait before devices, failing before degraded."""
    many = [
        Villager(name=f"cam-{number}", health={"throttled": True, "temperature_c": 80.0 + number})
        for number in range(3)
    ]
    different = [
        replace(
            VILLAGE[3],
            name=f"bad-{number}",
            error=v1.Problem(reason=reason),
        )
        for number, reason in enumerate(list(Reason)[:8])
    ]
    settle(store, (*many, VILLAGE[3]))
    pause(store)
    few = await read(home, authority, store)
    settle(store, tuple(different), first=100)
    found = await read(home, authority, store)

    assert ["r-41", "porto-cam-07", "3 devices"] == [each["subject"] for each in few["needs_you"]]
    assert [
        "skerry rollout why r-41",
        "skerry device show porto-cam-07",
        "skerry device ls --state degraded",
    ] == [each["command"] for each in few["needs_you"]]
    assert 7 == len(found["needs_you"])
    assert ["paused", *["failing"] * 6] == [each["state"] for each in found["needs_you"]]


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (RolloutState.RUNNING, True),
        (RolloutState.PAUSED, True),
        (RolloutState.ROLLING_BACK, True),
        (RolloutState.DONE, False),
        (RolloutState.ROLLED_BACK, True),
        (RolloutState.SUPERSEDED, False),
    ],
)
async def test_what_moves_or_ended_badly_is_shown(
    home: Home, authority: Authority, store: Store, state: RolloutState, *, shown: bool
) -> None:
    """With where it is and why; one that ended well is history."""
    rollout = replace(waiting(), state=state, cause=Cause(code=Reason.GOLDEN_MISMATCH))
    keep(store, rollout, BEFORE)
    found = (await read(home, authority, store))["rollouts"]

    assert shown == bool(found)
    for each in found:
        assert (state, ["1.4.0"], "digits 1.5.0") == (
            each["state"],
            each["from_versions"],
            each["to"],
        )
        assert (1, 2, {"refused": 1, "updating": 1}) == (
            each["wave"],
            each["waves"],
            each["counts"],
        )
        assert "GOLDEN_MISMATCH" == each["reason"]
        assert each["sentence"]


async def test_what_ended_badly_is_shown_until_something_followed(
    home: Home, authority: Authority, store: Store
) -> None:
    """A later rollout of the same deployment is the news."""
    keep(store, replace(waiting(), state=RolloutState.ROLLED_BACK), BEFORE)
    keep(store, replace(waiting(), id="r-42", state=RolloutState.DONE), LATE)

    assert [] == (await read(home, authority, store))["rollouts"]


async def test_a_device_that_comes_back_is_no_longer_offline(
    home: Home, authority: Authority, store: Store
) -> None:
    """Its state follows what was last heard, with no memory of its own."""
    settle(store, (replace(VILLAGE[0], leaves=True),))
    away = await read(home, authority, store, "devices/porto-cam-01")
    born = v1.Birth(fleet=FLEET, device="d-1", session=2, agent_version="0.1.3", at=LATE, facts={})
    with store.write() as connection:
        arrivals.commit(connection, [born], now=LATE)
    back = await read(home, authority, store, "devices/porto-cam-01")

    assert ("offline", "ok", "DISCONNECTED") == (
        away["state"]["word"],
        away["state"]["was"],
        away["state"]["reason"],
    )
    assert ("ok", None, LATE) == (back["state"]["word"], back["state"]["was"], back["heard_at"])
    assert NOW.isoformat().startswith(back["as_of"][:-1])
    assert away["numbers"] == back["numbers"]  # its last ones, whoever is asked


async def test_numbers_of_several_devices_are_one_device_s(
    home: Home, authority: Authority, store: Store
) -> None:
    """Which is named; where all say the same, nobody is."""

    def slow(name: str, measured: str) -> Villager:
        numbers = {"measured": measured, "budget": "10"}
        return replace(
            VILLAGE[3], name=name, error=v1.Problem(reason=Reason.TOO_SLOW, parameters=numbers)
        )

    settle(store, (slow("cam-1", "12"), slow("cam-2", "13")))
    (need,) = (await read(home, authority, store))["needs_you"]
    assert "cam-1, for one: It takes" in need["sentence"]
    assert "12 ms, and 10 ms are allowed" in need["sentence"]


async def test_who_is_connected_and_mute_needs_a_person(
    home: Home, authority: Authority, store: Store
) -> None:
    """It hangs, and nothing mends it; one that was switched off is only away."""
    settle(store, (Villager(name="mute", hangs=True), Villager(name="away", leaves=True)))
    found = await read(home, authority, store)

    (need,) = found["needs_you"]
    assert ("offline", "mute", "skerry device show mute") == (
        need["state"],
        need["subject"],
        need["command"],
    )
    assert 2 == found["states"]["offline"]
