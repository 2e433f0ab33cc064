"""What a person may say of a rollout, over the API and by command: who agreed, what it needs."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import pytest

from agent.wire.phases import Phase
from fleet.cli.screen import ExitCode
from fleet.identity.places import Home
from fleet.store import audit
from fleet.store.engine import Store
from tests.fleet.centre.served import OPERATOR
from tests.fleet.screens.conftest import SKERRY, Ended
from tests.fleet.screens.quay import AWAY, HERE, Quay, quay_of


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


async def typed(quay: Quay, answer: str, *words: str) -> Ended:
    """Run a command on a terminal on which a person types an answer."""
    parent, child = os.openpty()
    os.write(parent, answer.encode())
    process = await asyncio.create_subprocess_exec(
        SKERRY,
        *("rollout", *words),
        env={
            "PATH": os.environ["PATH"],
            "SKERRY_CENTRE": quay.people.url,
            "SKERRY_TOKEN_FILE": str(quay.people.token),
            "SKERRY_HOME": str(quay.people.home.path),
            "LANG": "C.UTF-8",
        },
        stdin=child,
        stdout=asyncio.subprocess.PIPE,
        stderr=child,
    )
    os.close(child)  # the command has it: once that has ended, what is left can be read to its end
    said = b""
    try:
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
            while part := os.read(parent, 1 << 16):
                said += part
    finally:
        os.close(parent)
    return Ended(code=process.returncode or 0, out=out.decode(), err=said.decode())


def said_of(quay: Quay, rollout: str) -> list[tuple[str, str, str]]:
    """Return who said what of a rollout and why, the first first."""
    with quay.served.store.read() as connection:
        entries = audit.latest(connection, limit=50, about=rollout)
    return [(entry.actor, entry.action, entry.reason) for entry in reversed(entries)]


async def test_each_word_is_carried_out_and_audited(quay: Quay) -> None:
    """By whom, what, why; and the answer is the rollout as it is then."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0")
    states = []
    for word, reason in (("pause", "odd"), ("resume", "fine"), ("abort", "x"), ("rollback", "y")):
        answer = await quay.tell(word, {"reason": reason}, of=rollout)
        assert 200 == answer.status_code, answer.text
        states.append(answer.json()["state"])

    assert ["paused", "running", "aborted", "rolling-back"] == states
    assert [
        ("operator", "rollout.start", "night"),
        ("operator", "rollout.pause", "odd"),
        ("operator", "rollout.resume", "fine"),
        ("operator", "rollout.abort", "x"),
        ("operator", "rollout.rollback", "y"),
    ] == said_of(quay, rollout)
    found = await quay.ask(of=rollout)
    cause = found["cause"]
    assert ("ROLLED_BACK_BY_PERSON", "operator") == (cause["code"], cause["by"])
    assert "y" in cause["sentence"]


@pytest.mark.parametrize("word", ["abort", "rollback"])
@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}])
async def test_what_can_not_be_undone_needs_a_reason(
    quay: Quay, word: str, body: dict[str, object]
) -> None:
    """Without one nothing is done, over the API and by the command."""
    rollout = await quay.start()
    answer = await quay.tell(word, body, of=rollout)
    ended = await quay.people.skerry("rollout", word, rollout, "--yes")

    assert 422 == answer.status_code
    assert (ExitCode.USAGE, "") == (ended.code, ended.out)
    assert "say it: --reason TEXT" == ended.err.splitlines()[2]
    assert "running" == (await quay.ask(of=rollout))["state"]
    assert 1 == len(said_of(quay, rollout))


async def test_a_word_at_the_wrong_time_is_a_conflict(quay: Quay) -> None:
    """It names the state and the word, and what is possible instead; nothing is written."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0", "--policy", "all-at-once")
    await quay.say(*HERE)
    done = await quay.tell("pause", {}, of=rollout)
    ended = await quay.people.skerry("rollout", "resume", rollout)
    await quay.tell("rollback", {"reason": "changed our mind"}, of=rollout)
    await quay.say(*HERE)
    over = await quay.tell("rollback", {"reason": "again"}, of=rollout)

    assert (409, "ILLEGAL_STATE") == (done.status_code, done.json()["reason"])
    assert f"rollout {rollout} is done: it can't be paused" == done.json()["error"]
    assert "possible now: skerry rollout rollback" == done.json()["next"]
    assert ExitCode.CONFLICT == ended.code
    assert f"rollout {rollout} is rolled-back: it can't be rolled back" == over.json()["error"]
    assert "start another one" in over.json()["next"]
    assert ["rollout.start", "rollout.rollback"] == [each[1] for each in said_of(quay, rollout)]


async def test_words_about_nothing_are_404(quay: Quay) -> None:
    """And strangers may say nothing at all."""
    for word in ("pause", "resume", "abort", "rollback"):
        assert 404 == (await quay.tell(word, {"reason": "x"}, of="r-none")).status_code
        async with httpx.AsyncClient(base_url=quay.served.plain, trust_env=False) as client:
            stranger = await client.post(f"/api/v1/rollouts/r-none/{word}", json={"reason": "x"})
        assert 401 == stranger.status_code


async def test_without_a_terminal_only_what_is_safe_goes_unasked(quay: Quay) -> None:
    """Start, pause and resume do; abort and rollback need --yes, and else do nothing."""
    rollout = await quay.start()
    paused = await quay.people.skerry("rollout", "pause", rollout)
    resumed = await quay.people.skerry("rollout", "resume", rollout)
    refused = [
        await quay.people.skerry("rollout", word, rollout, "--reason", "x")
        for word in ("abort", "rollback")
    ]
    before = (await quay.ask(of=rollout))["state"]
    aborted = await quay.people.skerry("rollout", "abort", rollout, "--reason", "x", "--yes")

    assert (0, f"{rollout} is ◫ paused\n") == (paused.code, paused.out)
    assert 0 == resumed.code
    assert f"skerry rollout watch {rollout}" in resumed.out
    for ended in refused:
        assert (ExitCode.USAGE, "") == (ended.code, ended.out)
        assert "say it beforehand: --yes" == ended.err.splitlines()[2]
    assert "running" == before
    assert (0, f"{rollout} is ◫ aborted\n") == (aborted.code, aborted.out)


async def test_on_a_terminal_the_number_is_named_and_agreed_to(quay: Quay) -> None:
    """No answer, or another one than yes, leaves everything as it is."""
    await quay.serve_all()
    planned = ("start", "digits:1.1.0", "--to", "all")
    no = await typed(quay, "n\n", *planned)
    empty = await typed(quay, "\n", *planned)
    yes = await typed(quay, "y\n", *planned)
    rollouts = (await quay.ask())["rollouts"]
    (rollout,) = [each["id"] for each in rollouts if each["state"] == "running"]
    back = await typed(quay, "yes\n", "rollback", rollout, "--reason", "odd")
    asked = "digits:1.1.0 goes to 5 devices. Start it? [y/N]"

    for ended in (no, empty):
        assert ExitCode.USAGE == ended.code
        assert asked in ended.err
        assert "nothing has been done" in ended.err
        assert "started" not in ended.out
    assert 0 == yes.code
    assert "RISK" in yes.out.partition("started r-")[0]
    assert 2 == len(rollouts)
    assert "go back to digits:1.0.0. Roll it back? [y/N]" in back.err
    assert 0 == back.code


async def test_why_says_it_of_everybody(quay: Quay) -> None:
    """Asked, waiting, set aside, left out, never meant: each has its code and its next step."""
    await quay.serve_all()
    where = f"skerry/device in ({','.join((*HERE[:3], AWAY))})"
    rollout = await quay.start("1.1.0", to=where)
    await quay.say("d-1", phase=Phase.FETCHING)

    async def codes(device: str) -> list[str]:
        said = await quay.ask(f"/why?target={device}", of=rollout)
        assert all(each["sentence"] and each["next"] for each in said["because"])
        return [each["code"] for each in said["because"]]

    assert ["ON_ITS_WAY", "HAS_UNTIL"] == await codes("d-1")
    assert ["WAITS_FOR_WAVE"] == await codes("name-d-2")
    assert ["AWAY", "WAITS_FOR_WAVE"] == await codes(AWAY)
    assert ["NOT_MEANT"] == await codes("d-4")
    missing = await quay.people.skerry("rollout", "why", rollout, "nobody")
    assert ExitCode.NOT_FOUND == missing.code
    again = await quay.start("1.0.0", "--policy", "all-at-once", to="skerry/device in (d-1,d-2)")
    said = await quay.ask("/why?target=d-2", of=again)
    assert ["NO_CHANGE"] == [each["code"] for each in said["because"]]


async def test_the_policy_and_soak_of_a_person_hold(quay: Quay) -> None:
    """Careful unless they say so; --soak is every gate's; another policy is refused by name."""
    wish = {"bundle": "digits:1.0.0", "deployment": "digits", "selector": "all"}
    async with httpx.AsyncClient(base_url=quay.served.plain, trust_env=False) as client:
        client.headers.update(OPERATOR)
        careful = (await client.post("/api/v1/rollouts/plan", json=wish)).json()
        soaked = (await client.post("/api/v1/rollouts/plan", json={**wish, "soak_s": 7})).json()
        wrong = [
            await client.post("/api/v1/rollouts/plan", json={**wish, **each})
            for each in ({"policy": "hasty"}, {"soak_s": -1}, {"soak_s": 1e9})
        ]

    assert "careful" == careful["policy"]
    assert [60.0, 60.0, 60.0] == [wave["gate"]["soak_s"] for wave in careful["waves"]]
    assert [7.0, 7.0, 7.0] == [wave["gate"]["soak_s"] for wave in soaked["waves"]]
    assert [(422, "POLICY_UNKNOWN"), (422, "MALFORMED"), (422, "MALFORMED")] == [
        (answer.status_code, answer.json()["reason"]) for answer in wrong
    ]


async def test_targets_are_listed_page_by_page_the_worst_first(quay: Quay) -> None:
    """Each once, also where pages are of one; by wave and by outcome; another cursor is refused."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0", "--policy", "all-at-once")
    await quay.say("d-1")
    await quay.say("d-2", phase=Phase.REFUSED, reason="GOLDEN_MISMATCH")
    whole = await quay.ask("/targets", of=rollout)
    pages = [await quay.ask("/targets?limit=2", of=rollout)]
    while (place := pages[-1]["next"]) is not None:
        pages.append(await quay.ask(f"/targets?limit=2&cursor={place}", of=rollout))
    one = await quay.ask(of=rollout)

    listed = [each["target"] for each in whole["targets"]]
    assert ("d-2", 5, None) == (listed[0], whole["matching"], whole["next"])
    assert [2, 2, 1] == [len(page["targets"]) for page in pages]
    assert listed == [each["target"] for page in pages for each in page["targets"]]
    assert sorted(listed) == sorted(each["target"] for each in one["targets"])
    found = await quay.ask("/targets?outcome=offline&wave=1", of=rollout)
    assert ["d-5"] == [each["target"] for each in found["targets"]]
    assert 0 == (await quay.ask("/targets?wave=2", of=rollout))["matching"]
    assert "MALFORMED" == (await quay.ask("/targets?cursor=WzFd", of=rollout))["reason"]
