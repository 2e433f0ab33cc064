"""The screens of `skerry rollout`, as a terminal shows them, and the documents for scripts."""

import json
import os
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from fleet.cli.screen import ExitCode
from fleet.clock import written
from fleet.identity.places import Home
from fleet.store import health
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW
from tests.fleet.screens.quay import AWAY, FLEET, HERE, Quay, quay_of

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).parents[3] / "docs" / "rollouts.md"
SOME_ID = "r-aaaaaaaaaaaaaaaa"
SOME_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


def golden(name: str, text: str) -> str:
    """Return what is kept under a name. `SKERRY_GOLDEN=write` keeps what is there now."""
    path = GOLDEN / name
    if os.environ.get("SKERRY_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return path.read_text()


async def seen(quay: Quay, *words: str, rollout: str = SOME_ID) -> dict[int, str]:
    """Return what terminals of several widths show; the fixture asserts that no row wraps."""
    shown = {}
    for columns in (60, 80, 92):
        terminal = await quay.people.screen(*words, columns=columns)
        rows = [row.rstrip() for row in terminal.display if row.strip()]
        assert all(len(row) <= columns for row in rows)
        shown[columns] = same("\n".join(rows) + "\n", rollout)
    return shown


def same(text: str, rollout: str) -> str:
    """Return a text with ids that are always the same: a rollout's, and each trace's."""
    return re.sub(r"\b[0-9a-f]{32}\b", SOME_TRACE, text.replace(rollout, SOME_ID))


async def test_a_plan_says_all_before_anything_is_done(quay: Quay) -> None:
    """Who, what, when, behind which gates, at what cost and risk; and it changes nothing."""
    await quay.serve_all()
    words = ("rollout", "plan", "digits:1.1.0", "--to", "all", "--soak", "90")
    shown = (await seen(quay, *words))[92]
    wide = await quay.people.skerry(*words, "-o", "wide")
    again = (await seen(quay, *words))[92]

    kept = golden("rollout-plan.txt", without_paths(shown))
    assert kept == without_paths(shown)
    assert shown == again
    assert "at most 2 devices serve it before a gate decides" in shown
    assert all(f"name-{device}" in wide.out for device in (*HERE, AWAY))


def without_paths(shown: str) -> str:
    """Leave out the last paragraph: the command to copy names this run's own places."""
    return shown.partition("nothing has been changed")[0]


async def test_a_rollout_is_shown_with_its_gate_and_who_is_away(quay: Quay) -> None:
    """In the middle of it: what has passed, what soaks, what waits, who is set aside."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0", "--soak", "90")
    await quay.say("d-1", "d-4")
    await quay.pass_time(30)
    soaking = await seen(quay, "rollout", "show", rollout, rollout=rollout)
    await quay.pass_time(61)
    await quay.say("d-2", phase=Phase.FETCHING)
    moving = await seen(quay, "rollout", "show", rollout, rollout=rollout)
    why = await seen(quay, "rollout", "why", rollout, f"name-{AWAY}", rollout=rollout)
    listed = await seen(quay, "rollout", "ls", rollout=rollout)

    assert golden("rollout-soaking.txt", soaking[92]) == soaking[92]
    assert golden("rollout-moving.txt", moving[92]) == moving[92]
    assert golden("rollout-why.txt", why[92]) == why[92]
    assert "Wave 1 of 3 is soaking: it decides in 1 min" in soaking[92]
    assert "digits 1.0.0 -> 1.1.0" in listed[92]


async def test_a_bad_model_is_shown_with_its_reason(quay: Quay) -> None:
    """The canary of a class refused it: who, why, and that everybody goes back by themselves."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0")
    await quay.say("d-4", phase=Phase.REFUSED, reason="GOLDEN_MISMATCH")
    back = await seen(quay, "rollout", "show", rollout, rollout=rollout)

    assert golden("rollout-back.txt", back[92]) == back[92]
    assert "rolling-back" in back[92]
    assert "name-d-4 did not take it" in " ".join(back[92].split())


async def test_what_is_above_its_budget_is_told_with_both_numbers(quay: Quay) -> None:
    """As the device measured them: whoever is asked why must not log in there."""
    rollout = await quay.start("1.1.0")
    numbers = {"measured": "12.4", "budget": "10"}
    await quay.say("d-4", phase=Phase.REFUSED, reason="TOO_SLOW", numbers=numbers)
    for words in (("rollout", "why", rollout, "d-4"), ("device", "show", "d-4")):
        ended = await quay.people.skerry(*words)
        assert ": 12.4 ms, and 10 ms are allowed." in " ".join(ended.out.split())


async def test_the_page_about_rollouts_is_true(quay: Quay) -> None:
    """Its screens are the golden ones, and every command in it does what the page says it does."""
    page = PAGE.read_text()
    for name in (
        "rollout-plan",
        "rollout-simulate",
        "rollout-moving",
        "rollout-why",
        "rollout-back",
    ):
        assert (GOLDEN / f"{name}.txt").read_text() in page
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    commands = [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]
    await quay.serve_all()
    rollout = ""
    for command in commands:
        words = [rollout if word == "$ROLLOUT" else word for word in command]
        if words[1] == "start":
            words.append("--yes")  # a person at a terminal is asked
        if words[1] == "watch":
            words[-1] = "0"  # nobody has an hour here
        ended = await quay.people.skerry(*words)
        assert ended.code == (ExitCode.STILL_RUNNING if words[1] == "watch" else 0), ended.err
        if found := re.search(r"started (r-\w+)", ended.out):
            rollout = found[1]
            await quay.look()

    assert 16 == len(commands)
    assert "rolling-back" == (await quay.ask(of=rollout))["state"]


@pytest.mark.parametrize(("name", "value"), [("SKERRY_ASCII", "1"), ("LC_ALL", "C")])
async def test_ascii_says_the_same(quay: Quay, name: str, value: str) -> None:
    """Where a terminal shows no Unicode, marks and bars are ASCII."""
    rollout = await quay.start()
    for words in (("show", rollout), ("why", rollout), ("ls",)):
        terminal = await quay.people.screen("rollout", *words, environment={name: value})
        assert all(row.isascii() for row in terminal.display)


async def test_json_is_what_it_was(quay: Quay) -> None:
    """A script that reads it today reads it tomorrow: golden files hold every field."""
    await quay.serve_all()
    await quay.pass_time(5)  # so that the newest is listed first
    planned = await quay.people.skerry(
        "rollout", "plan", "digits:1.1.0", "--to", "all", "-o", "json"
    )
    rollout = await quay.start("1.1.0")
    await quay.say("d-1")
    words = {
        "skerry.rollout": ("show", rollout),
        "skerry.why": ("why", rollout, "d-2"),
        "skerry.rollouts": ("ls",),
    }
    said = {"skerry.plan": planned.out}
    for name, each in words.items():
        ended = await quay.people.skerry("rollout", *each, "-o", "json")
        assert (0, "") == (ended.code, ended.err)
        said[name] = ended.out
    ids = {each["id"] for each in json.loads(said["skerry.rollouts"])["rollouts"]} - {rollout}

    for name, out in said.items():
        text = same(out, rollout)
        for number, other in enumerate(ids):
            text = text.replace(other, f"r-{number:016}")
        assert f"{name}/1" == json.loads(text)["schema"]
        assert golden(f"{name}.json", text) == text


async def test_how_far_a_shadow_is_is_shown_where_one_looks(quay: Quay) -> None:
    """In the rollout, where one asks why, and of the device itself; of one without, nothing."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0", "--policy", "all-at-once")
    await quay.say(*HERE[:2], phase=Phase.SHADOWING)
    with quay.served.store.write() as connection:
        health.put(connection, [shadowed("d-1")], now=written(NOW))
    so_far = "37 of 100 compared, 36 agreed"

    shown = (await quay.people.skerry("rollout", "show", rollout)).out
    assert 1 == shown.count(so_far)
    assert so_far in (await quay.people.skerry("rollout", "why", rollout, "d-1")).out
    assert so_far not in (await quay.people.skerry("rollout", "why", rollout, "d-2")).out
    device = (await quay.people.skerry("device", "show", "d-1")).out
    assert f"shadowing, {so_far}" in device
    assert f"(so far {so_far})" in device
    assert so_far not in (await quay.people.skerry("device", "show", "d-2")).out


def shadowed(device: str) -> v1.Health:
    part = v1.DeploymentHealth(
        name="digits",
        revision=1,
        digest="sha256:" + "a" * 64,
        requests=40,
        errors=0,
        shadow=v1.Shadowed(compared=37, agreed=36, wanted=100),
    )
    return v1.Health(
        fleet=FLEET, device=device, session=1, at=written(NOW), period_s=60.0, deployments=(part,)
    )


async def test_who_keeps_its_window_is_not_called_held(quay: Quay) -> None:
    """Nobody holds it; and until when it waits is said beside it."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0", "--policy", "all-at-once")
    await quay.say("d-1", phase=Phase.ACCEPTED, reason="DOWNLOAD_WINDOW_CLOSED")
    shown = (await quay.people.skerry("rollout", "show", rollout)).out

    assert "updating, before its window" in shown
    assert "may not fetch now" in shown
    assert "held" not in shown
