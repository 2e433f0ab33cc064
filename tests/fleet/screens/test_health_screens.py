"""`skerry fleet health`, and the drift of a device: a verdict first, then where and why."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.wire import v1
from fleet.health.grouped import By
from fleet.store import arrivals, bundles, health
from fleet.store.engine import Store
from models import card_codec
from models.card import DriftReference
from tests.fleet.screens.conftest import Village
from tests.fleet.screens.test_screens import golden, rows
from tests.fleet.screens.village import BEFORE, LATE, OLD, PAPER

REFERENCES = tuple(
    DriftReference(subject=subject, edges=(1.0, 2.0, 3.0), shares=(0.25,) * 4, samples=500)
    for subject in ("input-0-mean", "input-0-deviation")
)
AS_EVER, DARKER = (2100, 2090, 2110, 2112, 0), (6012, 1400, 700, 300, 0)
SCREENS = {
    "fleet-health": ("fleet", "health", "--by", "deployment,site"),
    "device-drift": ("device", "show", "porto-cam-02"),
}


def tell(
    store: Store, device: str, mean: Sequence[int], *, at: str = LATE, subject: str = "input-0-mean"
) -> None:
    """Let a device tell its drift with its next document."""
    with store.write() as connection:
        last = health.held(connection, device)
        assert last is not None
        (part,) = last.document.deployments
        told = (
            v1.DriftSketch(subject=subject, counts=tuple(mean)),
            v1.DriftSketch(subject="input-0-deviation", counts=AS_EVER),
        )
        document = replace(last.document, deployments=(replace(part, drift=told),))
        arrivals.commit(connection, [document], now=at)


@pytest.fixture
def drifting(village: Village) -> Village:
    """In Porto one lens is dirty; Lerwick is well, as far as it told."""
    card = replace(PAPER.card(OLD), drift=REFERENCES)
    with village.store.write() as connection:
        bundles.add(
            connection,
            bundles.PublishedBundle(
                digest=OLD.digest,
                name=OLD.name,
                version=OLD.version,
                card=card_codec.render(card),
                published_at=BEFORE,
            ),
        )
    tell(village.store, "d-1", AS_EVER)
    tell(village.store, "d-2", DARKER)
    tell(village.store, "d-6", AS_EVER)
    tell(village.store, "d-7", (3, 0, 0, 0, 0))
    return village


@pytest.mark.parametrize("columns", [60, 80, 92])
@pytest.mark.parametrize("name", SCREENS)
async def test_no_row_wraps(drifting: Village, name: str, columns: int) -> None:
    """At 60 columns and above; what was written is what is seen."""
    shown = rows(await drifting.screen(*SCREENS[name], columns=columns))

    assert all(len(row) <= columns for row in shown)
    text = "\n".join(shown) + "\n"
    if columns == 92:
        assert golden(f"{name}.txt", text) == text


async def test_json_is_what_it_was(drifting: Village) -> None:
    """A script that reads it today reads it tomorrow."""
    ended = await drifting.skerry("fleet", "health", "-o", "json")
    document = json.loads(ended.out)

    assert (0, "") == (ended.code, ended.err)
    assert "skerry.fleet-health/1" == document["schema"]
    assert golden("skerry.fleet-health.json", ended.out) == ended.out


async def test_the_verdict_comes_first_and_says_why(drifting: Village) -> None:
    """What is wrong anywhere; and each group that is has its reason and its next step."""
    ended = await drifting.skerry("fleet", "health", "--by", "site")
    lines = ended.out.splitlines()

    assert lines[0].startswith("! degraded   7 devices   ")
    assert any(line.startswith("✓ ok") and " lerwick " in line for line in lines)
    assert any(line.startswith("! degraded") and " porto " in line for line in lines)
    assert 1 == sum(line.startswith("WHY      porto: ") for line in lines)
    assert any(line.startswith("Next     ") for line in lines)


async def test_a_device_that_drifts_needs_a_person(drifting: Village) -> None:
    """Its state says what drifts, how far and over how many requests."""
    status = await drifting.skerry("fleet", "status")
    shown = await drifting.skerry("device", "show", "porto-cam-02")
    few = await drifting.skerry("device", "show", "lerwick-3")
    strange = drifting.store
    tell(strange, "d-3", AS_EVER, subject="input-7-mean")
    other = await drifting.skerry("device", "show", "d-3")

    assert "porto-cam-02" in status.out
    assert shown.out.startswith("! degraded 10 s")
    assert "(DRIFTING)" in shown.out
    assert "input-0-mean 3 of 80 requests" in few.out
    assert "not in the card: input-7-mean" in other.out


async def test_nobody_is_asked_for_what_is_not_there(drifting: Village) -> None:
    """An unknown word is refused with what there is; an empty fleet has no rows."""
    wrong = await drifting.skerry("fleet", "health", "--by", "colour")

    assert 0 != wrong.code
    assert all(each in wrong.err for each in By)
    with drifting.store.write() as connection:
        past = ("health_days", "health_open", "away", "events_kept", "events_summed")
        known = ("drift", "health", "reported", "presence", "events", "acked", "devices")
        for table in (*past, *known):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608  # names of ours
    empty = await drifting.skerry("fleet", "health")
    assert 0 == empty.code
    assert empty.out.startswith("? unknown   0 devices")


def test_the_page_shows_the_screens_as_they_are() -> None:
    """`docs/health.md` quotes what a terminal shows."""
    page = (Path(__file__).parents[3] / "docs" / "health.md").read_text()
    quoted = f"$ skerry {' '.join(SCREENS['fleet-health'])}\n{golden('fleet-health.txt')}```"
    (line,) = [line for line in golden("device-drift.txt").splitlines() if line.startswith("DRIFT")]

    assert quoted in page
    assert line in page
