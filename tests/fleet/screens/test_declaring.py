"""`skerry diff` and `apply`: documents become what is wanted, once; a mistake changes nothing."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from agent.wire.phases import Phase
from fleet.cli.screen import ExitCode
from fleet.identity.places import Home
from fleet.store import audit, policies
from fleet.store.engine import Store
from fleet.store.errors import TooManyError
from tests.fleet.centre.served import OPERATOR
from tests.fleet.screens.quay import Quay, quay_of

POLICY = """\
kind: policy
name: nightly
waves:
  - each_class: 1
    gate: {soak_s: 0}
  - percent: 100
"""
ROLLOUT = """\
kind: rollout
bundle: digits:1.0.0
deployment: digits
selector: all
policy: nightly
"""
DEVICE = """\
kind: device
name: d-1
health_period_s: 30
download_windows: [{days: [mon], start: "22:00", end: "24:00"}]
"""


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


def written(folder: Path, *documents: str) -> str:
    """Write documents into a file of a folder, and return the folder."""
    there = folder / "fleet"
    there.mkdir(exist_ok=True)
    (there / "all.yaml").write_text("---\n".join(documents))
    return str(there)


async def does(quay: Quay, word: str, folder: str, code: int = 0) -> list[tuple[str, str, str]]:
    """Return what a word does about each document: what, kind, in which words."""
    yes = ("--yes",) if word == "apply" else ()
    ended = await quay.people.skerry(word, "-f", folder, "-o", "json", *yes)
    assert ended.code == code, ended.err
    return [(each["does"], each["kind"], each["what"]) for each in json.loads(ended.out)["changes"]]


def state(quay: Quay) -> Any:  # noqa: ANN401  # whatever it is, it is the same afterwards
    """Return what documents can change: policies, and all that was ever changed."""
    with quay.served.store.read() as connection:
        return policies.every(connection), audit.latest(connection, limit=100)


async def test_documents_become_what_is_wanted_and_again_they_change_nothing(
    quay: Quay, tmp_path: Path
) -> None:
    """A diff changes nothing and says so by its exit; apply does it; then nothing is left to do."""
    folder = written(tmp_path, ROLLOUT, POLICY, DEVICE)
    before = state(quay)
    found = await does(quay, "diff", folder, ExitCode.DIFFERENCES)
    assert [(each[0], each[1]) for each in found] == [
        ("create", "policy"),
        ("change", "device"),
        ("start", "rollout"),
    ]
    assert found[1][2] == "health_period_s, download_windows"
    assert state(quay) == before
    table = await quay.people.skerry("diff", "-f", folder)
    assert table.code == ExitCode.DIFFERENCES
    assert "as digits, nightly" in table.out

    applied = await quay.people.skerry("apply", "-f", folder, "--yes", "--reason", "night")
    assert applied.code == 0, applied.err
    assert "started  rollout  digits" in applied.out
    await quay.look()
    after = state(quay)
    reasons = {each.action: each.reason for each in after[1]}
    assert (reasons["policy.put"], reasons["rollout.start"]) == ("night", "night")
    again = await does(quay, "diff", folder)
    assert {each[0] for each in again} == {"nothing"}
    assert "running" in again[2][2]
    assert {each[0] for each in await does(quay, "apply", folder)} == {"nothing"}
    assert state(quay) == after

    await quay.say("d-1", "d-4")
    await quay.say("d-2", "d-3")
    assert {each[0] for each in await does(quay, "diff", folder)} == {"nothing"}
    assert len((await quay.ask())["rollouts"]) == 1


async def test_what_the_gates_brought_back_is_not_started_by_a_pipeline(
    quay: Quay, tmp_path: Path
) -> None:
    """It is held with its rollout named; another version is started, and so is a person's own."""
    folder = written(tmp_path, POLICY, ROLLOUT)
    await does(quay, "apply", folder)
    await quay.look()
    await quay.say("d-1", "d-4", phase=Phase.ROLLED_BACK, reason="GOLDEN_MISMATCH")
    (rollout,) = (await quay.ask())["rollouts"]
    assert rollout["state"] in ("rolling-back", "rolled-back")

    held = await does(quay, "diff", folder, ExitCode.CONFLICT)
    assert held[1][0] == "held"
    assert rollout["id"] in held[1][2]
    ended = await quay.people.skerry("apply", "-f", folder, "--yes")
    assert ended.code == ExitCode.CONFLICT
    assert "skerry rollout why" in ended.err
    assert len((await quay.ask())["rollouts"]) == 1

    written(tmp_path, POLICY, ROLLOUT.replace("1.0.0", "1.1.0"))
    assert (await does(quay, "apply", folder))[1][0] == "start"
    assert len((await quay.ask())["rollouts"]) == 2


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("kind: fleet\n", "line 14, kind: it is one of policy, device, rollout"),
        (ROLLOUT.replace("bundle:", "bundel:"), "line 15, bundel: there is no such field"),
        (ROLLOUT.replace("all", "a in"), "line 17, selector: selector 'a in'"),
        (ROLLOUT.replace("selector: all", "targets: []"), "line 14, rollout: it names nobody"),
        (POLICY, "line 14: policy nightly is said twice"),
        (DEVICE.replace("30", "0"), "line 16, health_period_s"),
        (ROLLOUT.replace("1.0.0", "9.9.9"), "line 14: no bundle"),
        (ROLLOUT.replace("nightly", "weekly"), "line 14: no policy 'weekly'"),
        (DEVICE.replace("d-1", "d-9"), "line 14: no device"),
        (ROLLOUT.replace("selector: all", "targets: [d-1]"), "too"),
    ],
)
async def test_a_mistake_in_the_last_document_leaves_everything_as_it_is(
    quay: Quay, tmp_path: Path, last: str, why: str
) -> None:
    """It is said with file and line, whoever found it; the documents before it are not applied."""
    folder = written(tmp_path, POLICY, ROLLOUT, last)
    before = state(quay)
    for word in ("diff", "apply"):
        ended = await quay.people.skerry(word, "-f", folder)
        assert ended.code not in (ExitCode.DONE, ExitCode.BAD, ExitCode.DIFFERENCES)
        assert "all.yaml" in ended.err
        assert why in ended.err
    assert state(quay) == before


async def test_a_device_by_its_name_and_by_its_id_is_one(quay: Quay, tmp_path: Path) -> None:
    """Two documents about it would undo each other at every run."""
    folder = written(tmp_path, DEVICE, DEVICE.replace("d-1", "name-d-1").replace("30", "40"))
    before = state(quay)
    ended = await quay.people.skerry("apply", "-f", folder)

    assert ExitCode.USAGE == ended.code
    assert "name-d-1 is said twice" in ended.err
    assert state(quay) == before


async def test_a_policy_with_a_field_of_a_newer_centre_is_written_anew(
    quay: Quay, tmp_path: Path
) -> None:
    """Kept as it is it could not be used, and nothing would say why."""
    folder = written(tmp_path, POLICY)
    await does(quay, "apply", folder)
    with quay.served.store.write() as connection:
        kept = policies.named(connection, "nightly")
        policies.put(connection, replace(kept, document={**kept.document, "novel": 1}))

    assert [("change", "policy", "novel")] == await does(quay, "apply", folder)
    assert "nothing" == (await does(quay, "apply", folder))[0][0]


async def test_two_rollouts_that_want_one_device_are_a_conflict(quay: Quay, tmp_path: Path) -> None:
    """It ends as the page about pipelines says."""
    rival = ROLLOUT.replace("selector: all", "targets: [d-1]")
    ended = await quay.people.skerry("diff", "-f", written(tmp_path, POLICY, ROLLOUT, rival))

    assert ExitCode.CONFLICT == ended.code


async def test_what_is_no_set_of_documents_is_refused(quay: Quay, tmp_path: Path) -> None:
    """An empty folder, no file, too many; and nobody who agrees."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (await quay.people.skerry("diff", "-f", str(empty))).code == ExitCode.USAGE
    assert (await quay.people.skerry("diff", "-f", str(tmp_path / "no.yaml"))).code == 2
    folder = written(tmp_path, *[DEVICE.replace("d-1", f"n-{n}") for n in range(201)])
    many = await quay.people.skerry("diff", "-f", folder)
    assert (many.code, "at most 200" in many.err) == (ExitCode.USAGE, True)
    folder = written(tmp_path, POLICY, ROLLOUT)
    unasked = await quay.people.skerry("apply", "-f", folder)
    assert (unasked.code, "NOT_AGREED" in unasked.err) == (ExitCode.USAGE, True)
    assert (await quay.ask())["rollouts"] == []


async def test_a_kept_policy_is_found_by_its_name_and_leaves_no_rollout_changed(
    quay: Quay, tmp_path: Path
) -> None:
    """Plan and start take it beside those built in; a rollout has a copy of its own."""
    folder = written(tmp_path, POLICY)
    await does(quay, "apply", folder)
    planned = await quay.people.skerry(
        "rollout", "plan", "digits:1.0.0", "--to", "all", "--policy", "nightly"
    )
    assert "as digits, nightly" in " ".join(planned.out.split())
    rollout = await quay.start("1.0.0", "--policy", "nightly")
    async with httpx.AsyncClient(base_url=quay.served.plain, trust_env=False) as client:
        client.headers.update(OPERATOR)
        wrong = await client.put("/api/v1/policies/other", json=_document(quay))
        built_in = await client.put(
            "/api/v1/policies/careful", json={**_document(quay), "name": "careful"}
        )
    assert (wrong.status_code, built_in.status_code) == (422, 422)

    listed = await quay.people.skerry("policy", "ls")
    assert [line.split()[0] for line in listed.out.splitlines()] == [
        "NAME",
        "all-at-once",
        "careful",
        "nightly",
    ]
    shown = await quay.people.skerry("policy", "show", "nightly")
    path = tmp_path / "again.yaml"
    path.write_text(shown.out)
    assert await does(quay, "diff", str(path)) == [("nothing", "policy", "as it is kept")]

    gone = await quay.people.skerry("policy", "rm", "nightly", "--reason", "tidy")
    assert gone.code == 0, gone.err
    with quay.served.store.read() as connection:
        said = [each.action for each in audit.latest(connection, limit=10, about="nightly")]
    assert said == ["policy.remove", "policy.put"]
    assert (await quay.ask(of=rollout))["state"] == "running"
    unknown = await quay.people.skerry("policy", "rm", "nightly")
    assert (unknown.code, "skerry policy ls" in unknown.err) == (ExitCode.NOT_FOUND, True)


def _document(quay: Quay) -> dict[str, Any]:
    with quay.served.store.read() as connection:
        return dict(policies.named(connection, "nightly").document)


async def test_rollouts_are_listed_page_by_page(quay: Quay) -> None:
    """Each once, the newest first; the command shows them all; another cursor is refused."""
    started = [await quay.start(f"1.{n % 2}.0", "--policy", "all-at-once") for n in range(3)]
    page = await quay.ask("?limit=1")
    listed = [each["id"] for each in page["rollouts"]]
    while page["after"] is not None:
        page = await quay.ask(f"?limit=1&after={page['after']}")
        listed += [each["id"] for each in page["rollouts"]]
    assert listed == started[::-1]
    assert (await quay.ask("?after=x"))["reason"] == "MALFORMED"
    found = await quay.people.skerry("rollout", "ls", "-o", "json")
    assert [each["id"] for each in json.loads(found.out)["rollouts"]] == listed


async def test_of_two_pipelines_at_once_one_starts_it(quay: Quay) -> None:
    """Both have seen that it is new; the centre lets one of them, and says by which it was."""
    wish = {
        "bundle": "digits:1.0.0",
        "deployment": "digits",
        "selector": "all",
        "once": True,
    }
    async with httpx.AsyncClient(base_url=quay.served.plain, trust_env=False) as client:
        client.headers.update(OPERATOR)
        first = await client.post("/api/v1/rollouts", json=wish)
        second = await client.post("/api/v1/rollouts", json=wish)
        bare = await client.post("/api/v1/rollouts", json={**wish, "once": False})
    assert (first.status_code, second.status_code) == (201, 409)
    assert second.json()["reason"] == "NO_CHANGE"
    assert first.json()["id"] in second.json()["error"]
    assert bare.status_code == 201  # a person's own start is theirs


def test_policies_are_bounded_and_one_that_is_kept_may_still_be_changed(store: Store) -> None:
    """One more is refused, and what there was is all there."""
    one = policies.KeptPolicy(name="p-0", document={"waves": []}, written_at="")
    with store.write() as connection:
        for number in range(policies.LIMIT):
            policies.put(connection, replace(one, name=f"p-{number}"))
    with store.write() as connection:
        policies.put(connection, replace(one, written_at="later"))
    with pytest.raises(TooManyError, match="200 policies"), store.write() as connection:
        policies.put(connection, replace(one, name="more"))
    with store.read() as connection:
        kept = policies.every(connection)
    assert (len(kept), kept[0].written_at) == (policies.LIMIT, "later")
