"""`skerry alert` and its API: what is wrong, who is on it, what is kept quiet, who is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from fleet.checkup import receivers
from fleet.checkup.finding import Verdict
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store import audit
from fleet.store.engine import Store
from tests.fleet.centre.listeners import SECRET, hook
from tests.fleet.centre.outlook import Outlook
from tests.fleet.centre.served import OPERATOR, TOKEN, Served, serving
from tests.fleet.screens.conftest import Ended, Village


@dataclass(frozen=True)
class Watch:
    """A centre with alerts, and a person at a terminal."""

    people: Village
    outlook: Outlook
    served: Served

    async def skerry(self, *words: str) -> Ended:
        return await self.people.skerry("alert", *words)

    async def json(self, *words: str) -> Any:  # noqa: ANN401  # JSON
        ended = await self.skerry(*words, "-o", "json")
        assert 0 == ended.code, ended.err
        return json.loads(ended.out)

    async def api(self, method: str, path: str, **how: Any) -> httpx.Response:  # noqa: ANN401  # as httpx takes it
        async with httpx.AsyncClient(base_url=self.served.plain, trust_env=False) as client:
            return await client.request(
                method, f"/api/v1/alerts{path}", headers=OPERATOR, timeout=20, **how
            )


@pytest.fixture
async def watch(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Watch]:
    outlook = Outlook(store)
    await asyncio.to_thread(outlook.settle, lerwick=6, porto=3)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    authority = Authority.load(home.path)
    async with serving(home, authority, store, clock=lambda: outlook.now) as served:
        outlook.lookout = served.alerting.lookout
        outlook.feel(*outlook.sessions)
        outlook.look()
        outlook.refuse("d-7", "d-8")
        outlook.feel("d-9", disk_free_bytes=1 << 20, disk_total_bytes=1 << 35)
        outlook.go(*[f"d-{n}" for n in range(1, 7)])
        outlook.look()
        outlook.look(60)
        people = Village(url=served.plain, home=home, store=store, token=token)
        yield Watch(people, outlook, served)


async def test_what_is_wrong_is_seen_at_one_look(watch: Watch) -> None:
    """The most severe first, each with what to do; nine devices, three alerts."""
    ended = await watch.skerry("ls")
    lines = ended.out.splitlines()

    assert 0 == ended.code, ended.err
    assert "✗ critical  Cut off: site lerwick; 6 of 6 devices can't be heard." in lines
    assert "✗ critical  Golden vectors are missed: digits 1.4.0, on 2 devices." in lines
    assert "! warning   Site porto: the disk is nearly full on porto-3." == lines[-3]
    assert "            skerry device ls --field alert=SkerryDiskFilling,site=porto" == lines[-1]
    assert 9 == len(lines)


@pytest.mark.parametrize("columns", [60, 80, 92])
async def test_no_alert_wraps_in_any_terminal(watch: Watch, columns: int) -> None:
    """At 60 columns and above."""
    found = await watch.json("ls")
    for words in (("ls",), ("rules",), ("silence",), ("test",), ("show", found["alerts"][0]["id"])):
        screen = await watch.people.screen("alert", *words, columns=columns)
        assert all(len(row.rstrip()) <= columns for row in screen.display)


async def test_lists_are_filtered_and_come_in_pages(watch: Watch) -> None:
    """By state, rule, severity, site and bundle; a page says where the next one begins."""
    ids = {each["rule"]: each["id"] for each in (await watch.json("ls"))["alerts"]}
    for words, rule in (
        (("--site", "lerwick"), "SkerrySiteCut"),
        (("--bundle", "digits"), "SkerryGoldenFailing"),
        (("--bundle", "digits:1.4.0"), "SkerryGoldenFailing"),
        (("--rule", "SkerryDiskFilling"), "SkerryDiskFilling"),
        (("--severity", "warning"), "SkerryDiskFilling"),
    ):
        found = await watch.json("ls", *words)
        assert [rule] == [each["rule"] for each in found["alerts"]]
    assert [] == (await watch.json("ls", "--bundle", "digits:1.4"))["alerts"]
    assert [] == (await watch.json("ls", "--state", "ended"))["alerts"]
    seen: list[str] = []
    below: dict[str, Any] = {}
    for _ in range(3):
        page = (await watch.api("GET", "", params={"limit": 1, **below})).json()
        seen += [each["id"] for each in page["alerts"]]
        below = {"below": page["next"]}
    assert below == {"below": None}
    assert sorted(ids.values()) == sorted(seen)
    watch.outlook.refuse("d-7", "d-8", reason=None)
    watch.outlook.look()
    watch.outlook.all_speak(300)
    watch.outlook.look()
    over = await watch.skerry("ls", "--state", "ended", "--rule", "SkerryGoldenFailing")
    assert "✓ over" in over.out
    assert "ended 0 s ago" in over.out


async def test_one_alert_is_shown_whole_and_acknowledged(watch: Watch) -> None:
    """Why, who, what happened and what to do; then who is on it, which the audit knows, too."""
    (cut,) = (await watch.json("ls", "--site", "lerwick"))["alerts"]
    shown = (await watch.skerry("show", cut["id"])).out
    assert "DEVICES     lerwick-1   lerwick-2   lerwick-3   lerwick-4   lerwick-5   and 1 more" in (
        shown
    )
    assert "HISTORY     2026-03-01T12:01:00Z  opened, 6 devices" in shown
    done = await watch.skerry("ack", cut["id"], "--reason", "the mast is down")
    assert (0, "") == (done.code, done.out)
    again = await watch.json("show", cut["id"])
    assert ("operator", "the mast is down") == (
        again["acknowledged"]["by"],
        again["acknowledged"]["reason"],
    )
    assert "operator is on it" in (await watch.skerry("ls")).out
    with watch.outlook.store.read() as connection:
        (entry,) = audit.latest(connection, limit=1)
    assert ("alert.ack", cut["id"], "the mast is down") == (
        entry.action,
        entry.subject,
        entry.reason,
    )
    nobody = await watch.skerry("ack", "a-nothing")
    assert 3 == nobody.code
    assert "skerry alert ls" in nobody.err


async def test_a_silence_needs_an_end_and_a_reason(watch: Watch) -> None:
    """And names something; it is listed, and can be ended."""
    site = ("silence", "--site", "lerwick")
    assert 2 == (await watch.skerry(*site, "--for", "4h")).code
    assert 2 == (await watch.skerry(*site, "--reason", "x")).code
    assert "Nothing is silenced." in (await watch.skerry("silence")).out
    done = await watch.skerry(*site, "--for", "4h", "--reason", "the mast is moved")
    assert 0 == done.code
    (held,) = (await watch.json("silence"))["silences"]
    assert held["id"] in done.err
    (cut,) = (await watch.json("ls", "--site", "lerwick"))["alerts"]
    assert "2026-03-01T16:01:00Z" == cut["silenced_until"]
    assert "silenced until 2026-03-01T16:01Z" in (await watch.skerry("ls")).out
    assert 0 == (await watch.skerry("silence", "--end", held["id"])).code
    assert [] == (await watch.json("silence"))["silences"]
    assert 3 == (await watch.skerry("silence", "--end", held["id"])).code
    for wrong in (
        {"for_s": 3600, "reason": "x"},
        {"rule": "SkerryNothing", "for_s": 3600, "reason": "x"},
        {"site": "porto", "bundle": "digits", "for_s": 3600, "reason": "x"},
        {"site": "porto", "for_s": 3600},
        {"site": "porto", "for_s": 3600, "reason": ""},
        {"site": "porto", "for_s": 31 * 86400, "reason": "x"},
        {"site": "porto", "for_s": 1, "reason": "x"},
    ):
        assert 422 == (await watch.api("POST", "/silences", json=wrong)).status_code


async def test_the_rules_are_listed_with_what_is_open(watch: Watch) -> None:
    """Each with when it fires, and how many alerts it has."""
    found = await watch.json("rules")
    opened = {each["name"]: each["open"] for each in found["rules"] if each["open"]}

    assert {"SkerrySiteCut": 1, "SkerryGoldenFailing": 1, "SkerryDiskFilling": 1} == opened
    assert found["looked_at"]
    assert "SkerrySiteCut   1 open" in (await watch.skerry("rules")).out


async def test_who_is_told_is_listed_tried_and_never_shown_a_secret(watch: Watch) -> None:
    """A test arrives, or its failure is said in three lines; `ls` and the doctor say who fails."""
    assert "Nobody is told of alerts" in (await watch.skerry("test")).out
    home = watch.people.home
    async with hook() as ours, hook(always=500) as bad:
        _write(home, ours.url, bad.url)
        good = await watch.skerry("test", "ops")
        assert (0, ["test"]) == (
            good.code,
            [told["news"] for told in ours.took if "test" in told["news"]][:1],
        )
        failed = await watch.skerry("test", "bad")
        assert (1, 3) == (failed.code, len(failed.err.splitlines()))
        assert "it answered 500" in failed.err
        async with asyncio.timeout(20):
            while not (await watch.json("ls"))["failing"]:  # noqa: ASYNC110  # nothing says when
                await asyncio.sleep(0.1)
        assert "bad: alerts are not taken" in (await watch.skerry("ls")).out
        listed = await watch.json("test")
        doctor = await watch.people.skerry("doctor")
    assert {"ops", "bad"} == {each["name"] for each in listed["receivers"]}
    assert SECRET.decode() not in json.dumps(listed)
    assert "from=skerry" not in json.dumps(listed)  # a query may hold a secret
    assert "bad (webhook) does not take alerts" in doctor.out
    assert 3 == (await watch.skerry("test", "nobody")).code


def _write(home: Home, good: str, bad: str) -> None:
    key = home.path / "hook.secret"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    home.receivers.write_text(
        "".join(
            f'[receiver.{name}]\nkind = "webhook"\nurl = "{url}"\nsecret_file = "hook.secret"\n'
            for name, url in (("ops", good), ("bad", bad))
        )
    )


def test_a_doctor_says_who_does_not_take_alerts() -> None:
    """Nothing where nobody is told; wrong where one fails, or the file can't be read."""
    ops = {"name": "ops", "kind": "webhook", "waiting": 2, "error": "500", "failing_since": None}
    ill = {**ops, "failing_since": "2026-03-01T12:00:00Z"}

    def verdicts(*told: dict[str, Any], error: str = "") -> list[Verdict]:
        found = receivers.judge({"error": error, "receivers": list(told)})
        return [each.verdict for each in found]

    assert [] == verdicts()
    assert [Verdict.OK] == verdicts(ops)
    assert [Verdict.WRONG] == verdicts(ops, ill)
    assert [Verdict.WRONG] == verdicts(ops, error="no toml")
    with pytest.raises(ValueError, match="another shape"):
        list(receivers.judge({}))


async def test_strangers_learn_nothing(watch: Watch) -> None:
    """Every route needs the operator token."""
    async with httpx.AsyncClient(base_url=watch.served.plain, trust_env=False) as client:
        for path in ("", "/rules", "/receivers", "/silences", "/a-1"):
            assert 401 == (await client.get(f"/api/v1/alerts{path}")).status_code
        for path in ("/silences", "/silences/q/end", "/a-1/ack", "/receivers/ops/test"):
            assert 401 == (await client.post(f"/api/v1/alerts{path}", json={})).status_code
