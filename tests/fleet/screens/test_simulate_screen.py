"""The screen of `skerry rollout simulate`: of a fleet that there is not, and of a centre's own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.cli.screen import ExitCode
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.screens.quay import HERE, Quay, quay_of
from tests.fleet.screens.test_rollout_screens import PAGE, golden, seen

INVENTED = ("rollout", "simulate", "--devices", "200", "--away-share", "0.1", "--bad-share", "0.05")


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


async def test_an_invented_fleet_is_simulated_without_a_centre(quay: Quay) -> None:
    """The same screen each time, and the one in the documents."""
    shown = await seen(quay, *INVENTED)

    assert golden("rollout-simulate.txt", shown[92]) == shown[92]
    assert shown[92] in PAGE.read_text()
    assert f"skerry {' '.join(INVENTED)}" in PAGE.read_text()


async def test_a_centre_s_own_fleet_is_simulated_and_left_as_it_is(quay: Quay) -> None:
    """Its plan: who gets it, of which classes, who is away. Nobody is asked anything."""
    await quay.serve_all()
    before = await quay.people.skerry("rollout", "ls", "-o", "json")
    words = ("rollout", "simulate", "digits:1.1.0", "--to", "all", "--bad-class", "tflite")
    ended = await quay.people.skerry(*words, "-o", "json")
    after = await quay.people.skerry("rollout", "ls", "-o", "json")

    assert (0, "") == (ended.code, ended.err)
    told = json.loads(ended.out)
    assert told["devices"] == len(HERE) + 1
    assert told["twin"]["away_share"] == pytest.approx(1 / told["devices"])
    assert [each["decided"]["reason"] for each in told["outcome"]["endings"]] == ["CANARY_FAILED"]
    assert before.out == after.out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "either a bundle"),
        (("digits:1.1.0", "--devices", "5"), "either a bundle"),
        (("--devices", "5", "--bad-class", "nosuch"), "no class has 'nosuch'"),
        (("--devices", "5", "--fetch", "20s"), "not two time spans"),
        (("--devices", "5", "--fetch", "90s,20s"), "the second no less than the first"),
        (("--devices", "5", "--policy", "nosuch"), "no policy 'nosuch'"),
    ],
)
async def test_what_can_not_be_meant_is_told(quay: Quay, words: tuple[str, ...], what: str) -> None:
    """In three lines: what is wrong, that it is the command's use, and what to do."""
    ended = await quay.people.skerry("rollout", "simulate", *words)

    assert ended.code == ExitCode.USAGE
    assert what in ended.err
    assert len(ended.err.splitlines()) == 3
