"""Several devices are asked at once: bounded, audited, listed, and drawn for who asked."""

import asyncio
import datetime as dt
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.wire import v1
from fleet import commands as asking
from fleet.cli import answer_screen, main
from fleet.cli.marks import Screen
from fleet.clock import written
from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store import arrivals, audit, commands
from fleet.store.engine import Store
from models.values import digest_of
from tests.fleet.centre.parties import add_devices
from tests.fleet.centre.served import NOW, OPERATOR, TOKEN, Served, serving

NAMES = [f"d-{number}" for number in range(7)]
DOCTOR = {
    "schema": "skerry.agent-doctor/1",
    "ok": False,
    "checks": [
        {"check": "disk", "verdict": "ok", "what": "9 MB are free", "why": "", "hint": ""},
        {"check": "clock", "verdict": "not tried", "what": "no certificate", "why": "", "hint": ""},
        {
            "check": "registry",
            "verdict": "wrong",
            "what": "c:8443 can't be reached",
            "why": "nobody listens \x1b[2J there",
            "hint": "start the centre",
        },
    ],
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    today = dt.datetime.now(dt.UTC)  # noqa: TID251  # TLS reads the clock
    identity.init(tmp_path / "home", fleet="harbour", hosts=[], now=today)
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.store)
    add_devices(opened, NAMES)
    yield opened
    opened.close()


@pytest.fixture
async def served(home: Home, store: Store) -> AsyncIterator[Served]:
    async with serving(home, Authority.load(home.path), store) as centre:
        yield centre


async def http(served: Served, method: str, path: str, **more: object) -> tuple[int, Any]:
    async with served.client() as client:
        answer = await client.request(method, f"/api/v1/{path}", headers=OPERATOR, **more)  # type: ignore[arg-type]  # json or params
    return answer.status_code, answer.json()


async def ask(served: Served, **wish: object) -> tuple[int, Any]:
    return await http(served, "POST", "commands", json={"verb": "doctor", **wish})


def tell(store: Store, asked: dict[str, Any], document: object = None, **more: object) -> None:
    """Let a device answer, with a document or without."""
    packed = None if document is None else gzip.compress(json.dumps(document).encode())
    fields: dict[str, Any] = {"status": v1.ResultStatus.DONE, **more}
    result = v1.Result(
        fleet="harbour",
        device=asked["device"],
        id=asked["id"],
        at=written(NOW),
        blob=None if packed is None else digest_of(packed),
        **fields,
    )
    with store.write() as connection:
        if packed is not None:
            commands.keep_answer(connection, asked["device"], asked["id"], packed, now=written(NOW))
        arrivals.commit(connection, [result], now=written(NOW))


async def skerry(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, list[str]]:
    (tmp_path / "token").write_text(TOKEN)
    where = ["--centre", served.plain, "--token-file", str(tmp_path / "token")]
    code = await asyncio.to_thread(main, ["device", *words, *where])
    said = capsys.readouterr()
    return code, said.out, said.err.splitlines()


async def test_all_that_match_are_asked_and_audited(served: Served, store: Store) -> None:
    """One command each, by whom and why; nobody else is asked."""
    code, found = await ask(served, selector="all", reason="a hot night")
    with store.read() as connection:
        entries = audit.latest(connection, limit=99)

    assert 202 == code
    assert NAMES == [each["device"] for each in found["commands"]]
    assert set(NAMES) == {each.subject for each in entries}
    assert {("operator", "command.ask", "a hot night")} == {
        (each.actor, each.action, each.reason) for each in entries
    }
    code, one = await http(served, "GET", f"devices/{NAMES[3]}/changes")
    assert (200, None) == (code, one["before"])
    [change] = one["changes"]
    assert ("command.ask", found["commands"][3]["id"]) == (change["action"], change["after"]["id"])


@pytest.mark.parametrize(
    ("wish", "status", "reason"),
    [
        ({}, 422, "SELECTOR_MALFORMED"),
        ({"selector": " "}, 422, "SELECTOR_MALFORMED"),
        ({"selector": "room in"}, 422, "SELECTOR_MALFORMED"),
        ({"field": "colour=red"}, 422, "SELECTOR_MALFORMED"),
        ({"selector": "room=none"}, 404, "NOT_FOUND"),
        ({"selector": "all", "verb": "shell"}, 422, "MALFORMED"),
        ({"selector": "all", "valid_s": 1}, 422, "MALFORMED"),
    ],
)
async def test_a_wish_for_nobody_asks_nobody(
    served: Served, store: Store, wish: dict[str, object], status: int, reason: str
) -> None:
    """Nor does an empty variable mean everybody."""
    assert (status, reason) == ((found := await ask(served, **wish))[0], found[1]["reason"])
    with store.read() as connection:
        assert [] == list(commands.latest(connection, limit=9))


async def test_too_many_at_once_are_not_asked_at_all(
    served: Served, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by one word, nor by many words one after another; and nothing is half done."""
    monkeypatch.setattr(asking, "TOGETHER", 6)
    status, refused = await ask(served, selector="all")
    assert (409, "TOO_MANY") == (status, refused["reason"])
    monkeypatch.setattr(asking, "TOGETHER", 100)
    monkeypatch.setattr(commands, "OPEN", 10)
    assert 202 == (await ask(served, selector="all"))[0]
    status, refused = await ask(served, selector="all")
    assert (409, "TOO_MANY") == (status, refused["reason"])
    with store.read() as connection:
        assert 7 == len(commands.latest(connection, limit=99))
        assert 7 == len(audit.latest(connection, limit=99))


async def test_what_was_asked_is_listed_a_page_at_a_time(served: Served, store: Store) -> None:
    """The newest first, all of it once; of one device, or of those that are named."""
    for _ in range(3):
        await ask(served, selector="all")
    seen: list[str] = []
    query: dict[str, object] = {"limit": 5}
    while True:
        _, page = await http(served, "GET", "commands", params=query)
        seen += [each["id"] for each in page["commands"]]
        if page["before"] is None:
            break
        query["before"] = page["before"]
    with store.read() as connection:
        everything = [each.id for each in commands.latest(connection, limit=99)]
    assert everything == seen
    assert 21 == len(set(seen))

    _, of_one = await http(served, "GET", "commands", params={"device": NAMES[2]})
    assert [NAMES[2]] * 3 == [each["device"] for each in of_one["commands"]]
    _, some = await http(served, "GET", "commands", params={"commands": ",".join(seen[3:6])})
    assert seen[3:6] == [each["id"] for each in some["commands"]]
    assert 404 == (await http(served, "GET", "commands", params={"device": "nobody"}))[0]
    _, changes = await http(served, "GET", f"devices/{NAMES[2]}/changes", params={"limit": 2})
    _, rest = await http(
        served, "GET", f"devices/{NAMES[2]}/changes", params={"before": changes["before"]}
    )
    assert (2, 1, None) == (len(changes["changes"]), len(rest["changes"]), rest["before"])


async def test_who_answered_and_who_did_not_is_a_table(
    served: Served, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each with its own end; the exit code is of the worst."""
    words = ("doctor", "--selector", "all")
    code, out, err = await skerry(served, tmp_path, capsys, *words, "--no-wait")
    assert (5, "asked 7 devices") == (code, err[0])
    assert 7 == out.count("waiting")

    _, page = await http(served, "GET", "commands")
    asked = page["commands"]
    tell(store, asked[0], answer={"verdict": "ok", "summary": "10 checks"})
    tell(store, asked[1], answer={"verdict": "wrong", "summary": "disk: \x1b[2Jfull"})
    why = v1.Problem(reason="CENTRE_UNREACHABLE", message="no route")
    tell(
        store, asked[2], status=v1.ResultStatus.FAILED, problem=why,
        answer={"verdict": "wrong", "summary": "registry: it can't be reached"},
    )  # fmt: skip
    tell(store, asked[3], {"any": "thing"}, answer={})
    ids = {"commands": ",".join(each["id"] for each in asked)}
    _, now = await http(served, "GET", "commands", params=ids)
    lines = answer_screen.listed(Screen(unicode=False), now["commands"])
    text = "\n".join(lines)

    assert "+ ok" in lines[1]
    assert "x wrong" in lines[2]
    assert "CENTRE_UNREACHABLE: no route - registry: it can't be reached" in lines[3]
    assert "? done" in lines[4]
    assert 3 == text.count(". waiting")


async def test_an_answer_is_drawn_verdict_first(
    served: Served, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people, and as it is for programs; what a device wrote moves no cursor."""
    _, found = await ask(served, selector="all")
    one = found["commands"][0]
    tell(store, one, DOCTOR, answer={"verdict": "wrong", "summary": "registry"})
    words = ("doctor", one["device"], "--command", one["id"])
    code, out, _ = await skerry(served, tmp_path, capsys, *words)
    assert 1 == code
    assert [
        "✓ ok         disk      9 MB are free",
        "? not tried  clock     no certificate",
        "✗ wrong      registry  c:8443 can't be reached",
        "                       nobody listens ?[2J there",
        "                       next: start the centre",
    ] == out.splitlines()
    code, out, _ = await skerry(served, tmp_path, capsys, *words, "-o", "json")
    assert (1, DOCTOR) == (code, json.loads(out)["answer"])


@pytest.mark.parametrize(
    "document",
    [[], {}, "text", {"checks": 5}, {"checks": [{}]}, {"checks": ["x"]}, {"deployments": [{}]}],
)
async def test_an_answer_that_is_none_is_said_in_three_lines(
    served: Served,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    document: object,
) -> None:
    """A device may send anything: no stack trace, and no verdict of ours."""
    for verb in ("doctor", "benchmark"):
        _, found = await ask(served, selector="all", verb=verb)
        one = found["commands"][0]
        tell(store, one, document, answer={"verdict": "ok"})
        words = (verb, one["device"], "--command", one["id"])
        code, out, err = await skerry(served, tmp_path, capsys, *words)

        assert (1, "", 3) == (code, out, len(err))
        assert err[1].startswith("MALFORMED")


async def test_it_must_be_clear_who_is_meant(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One device, or a selection; never both, never none."""
    for words in ((), (NAMES[0], "--selector", "all"), ("--field", "site=x", "--command", "c-1")):
        code, out, err = await skerry(served, tmp_path, capsys, "benchmark", *words)
        assert (2, "", 3) == (code, out, len(err))
