"""A rollout's page shows each check of a gate: its limit, what was seen, of how much, and where."""

import re
from dataclasses import replace
from html import unescape

import httpx2 as httpx
import pytest

from fleet.cli.marks import Screen
from fleet.cli.rollout_screen import rollout_lines
from fleet.clock import written
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.kept import Memory, move
from fleet.rollouts.findings import Evidence
from fleet.rollouts.measures import Told
from fleet.rollouts.policy import Check, Gate
from fleet.store.engine import Store
from tests.fleet.centre.served import OPERATOR, TOKEN, serving
from tests.fleet.deciding.paper import NOW
from tests.page.scene import fill

CHECK = "error_rate / control.error_rate <= 1.5"
GATE = Gate(success_percent=95, error_percent=5, checks=(Check(check=CHECK),))


@pytest.fixture
def checked(store: Store) -> str:
    """Fill the store; of a rollout under way every gate has a check, and one has evidence."""
    fill(store)
    with store.write() as connection:
        kept = Memory().read(connection, "r-41")
        names = sorted({progress.class_name for progress in kept.targets})
        evidence = Evidence(
            until=written(NOW),
            serving=dict.fromkeys(names, Told(requests=400, errors=4)),
            control=dict.fromkeys(names, Told(requests=5000, errors=40)),
        )
        waves = [replace(wave, gate=GATE) for wave in kept.waves]
        waves[1] = replace(waves[1], evidence=evidence)
        move(connection, kept, replace(kept, waves=tuple(waves)))
    return names[0]


async def test_a_check_is_shown_with_what_it_rests_on(
    checked: str, home: Home, store: Store
) -> None:
    """What it wants and saw, of how much, on which class, against what; before that, itself."""
    authority = Authority.load(home.path)
    async with serving(home, authority, store, lambda: NOW, pages=True) as centre:
        here = {"Origin": centre.plain}
        async with httpx.AsyncClient(base_url=centre.plain, headers=here, trust_env=False) as one:
            await one.post("/sign-in", data={"token": TOKEN})
            text = (await one.get("/rollouts/r-41")).text
            found = (await one.get("/api/v1/rollouts/r-41", headers=OPERATOR)).json()

    def card(number: int) -> str:
        part = text.partition(f'id="wave-{number}"')[2].partition("</li>")[0]
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", part)).split())

    screen = " ".join(" ".join(rollout_lines(found, Screen())).split())
    where = f"on {checked}, against those not asked yet"
    assert f"{CHECK} 1.5 1.25 400 ✓ success {where} >= 100" in screen
    shown = f"success {CHECK} on {checked}, against those not asked yet 1.5 1.25 400 ≥ 100"
    assert shown in card(2)
    assert f"inconclusive {CHECK} on" in card(1)
    assert f"Check Limit Seen Of {CHECK}" in card(3)
