"""`skerry bundle diff` and what a plan says a bundle changes: for those who ask the model."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.cli.screen import ExitCode
from fleet.clock import written
from fleet.identity.places import Home
from fleet.store import bundles
from fleet.store.engine import Store
from models import card_codec
from models.values import Datatype
from tests.fleet.centre.served import NOW
from tests.fleet.deciding.paper import Paper
from tests.fleet.screens.quay import Quay, quay_of


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


def publish_other(store: Store) -> None:
    """Publish a version whose input is another."""
    paper = Paper()
    ref = paper.bundle("2.0.0")
    card = paper.card(ref)
    image = replace(card.inputs[0], datatype=Datatype.FP32)
    published = bundles.PublishedBundle(
        digest=ref.digest,
        name=ref.name,
        version=ref.version,
        card=card_codec.render(replace(card, inputs=(image,))),
        published_at=written(NOW),
    )
    with store.write() as connection:
        bundles.add(connection, published)


async def test_a_bundle_that_clients_need_not_know_of_is_drop_in(quay: Quay) -> None:
    """A script sees it by the exit code."""
    same = await quay.people.skerry("bundle", "diff", "digits:1.0.0", "digits:1.1.0")

    assert (ExitCode.DONE, "drop-in for digits:1.0.0: clients ask and read as before\n") == (
        same.code,
        same.out,
    )


async def test_a_changed_contract_is_told_before_and_in_the_plan(quay: Quay, store: Store) -> None:
    """Each part with what it was and what it is."""
    publish_other(store)
    await quay.start("1.0.0", "--policy", "all-at-once")
    differ = await quay.people.skerry("bundle", "diff", "digits:1.0.0", "digits:2.0.0")
    as_json = await quay.people.skerry(
        "bundle", "diff", "digits:1.0.0", "digits:2.0.0", "-o", "json"
    )
    nothing = await quay.people.skerry("bundle", "diff", "digits:1.0.0", "digits:9.9.9")
    planned = await quay.people.skerry("rollout", "plan", "digits:2.0.0", "--to", "all")

    assert ExitCode.DIFFERENCES == differ.code
    assert [
        "contract changed from digits:1.0.0: 1 that clients must know anew",
        "input image: INT8 [1,64] -> FP32 [1,64]",
    ] == differ.out.splitlines()
    assert ExitCode.DIFFERENCES == as_json.code
    found = json.loads(as_json.out)
    assert ("skerry.bundle.diff/1", "contract-changed") == (found["schema"], found["verdict"])
    assert ExitCode.NOT_FOUND == nothing.code
    assert "input image: INT8 [1,64] -> FP32 [1,64]" in " ".join(planned.out.split())
