"""The API over real sockets: who may ask, what is refused and how; its reference is true."""

import asyncio
import contextlib
import datetime as dt
import json
import shlex
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from openapi_spec_validator import validate

from agent.wire import codec, v1
from agent.wire.limits import JOIN_LIMIT_BYTES
from fleet.api import bounds, listener
from fleet.api.listener import AddressInUseError, bind
from fleet.api.reference import render
from fleet.cli import main
from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store import devices, engine
from fleet.store.engine import Store
from tests.fleet.centre.parties import (
    add_bundles,
    add_devices,
    add_token,
    ask,
    certify,
    come,
)
from tests.fleet.centre.served import OPERATOR, TOKEN, Served, serving
from tests.fleet.deciding.paper import Paper


@pytest.fixture
async def served(home: Home, authority: Authority, store: Store) -> AsyncIterator[Served]:
    async with serving(home, authority, store) as centre:
        yield centre


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority whose certificates are valid today."""
    today = dt.datetime.now(dt.UTC)  # noqa: TID251  # TLS reads the clock
    identity.init(tmp_path / "home", fleet="harbour", hosts=[], now=today)
    return Authority.load(tmp_path / "home")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def store(authority: Authority, home: Home) -> Iterator[Store]:
    assert authority.fleet
    opened = Store.open(home.store)
    yield opened
    opened.close()


async def test_a_device_is_known_by_its_certificate(served: Served, tmp_path: Path) -> None:
    """With one it may pull; without one it may not, and is asked for credentials."""
    mine = certify(served.authority, tmp_path, "d-mine")
    async with served.client(mine) as device, served.client() as stranger:
        allowed = await device.get("/v2/")
        refused = await stranger.get("/v2/")

    assert (200, 401) == (allowed.status_code, refused.status_code)
    assert "www-authenticate" in refused.headers


async def test_a_certificate_of_another_authority_gets_no_connection(
    served: Served, tmp_path: Path
) -> None:
    """TLS itself refuses it: no request is read."""
    today = dt.datetime.now(dt.UTC)  # noqa: TID251  # TLS reads the clock
    identity.init(tmp_path / "foreign", fleet="harbour", hosts=[], now=today)
    forged = certify(Authority.load(tmp_path / "foreign"), tmp_path, "d-forged")

    async with served.client(forged) as device:
        with pytest.raises(httpx.TransportError):
            await device.get("/v2/")


async def test_no_header_makes_a_peer(served: Served) -> None:
    """What a request says of itself is never taken for a certificate."""
    claims = {"peer": "d-mine", "x-client-cn": "d-mine", "x-ssl-client-s-dn": "CN=d-mine"}
    async with httpx.AsyncClient(base_url=served.plain, trust_env=False) as client:
        answer = await client.get("/v2/", headers=claims)

    assert 401 == answer.status_code


async def test_the_centre_s_own_certificate_is_no_device_s(served: Served, tmp_path: Path) -> None:
    """Only names that the centre gives to devices may pull."""
    own = certify(served.authority, tmp_path, "centre")
    async with served.client(own) as client:
        answer = await client.get("/v2/")

    assert 401 == answer.status_code


async def test_operators_show_a_token(served: Served, tmp_path: Path) -> None:
    """No token, a wrong one, a device's certificate: none of them is an operator."""
    mine = certify(served.authority, tmp_path, "d-mine")
    wrong = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {TOKEN}x"}]
    async with served.client(mine) as client:
        statuses = [
            (await client.get("/api/v1/devices", headers=headers)).status_code
            for headers in [*wrong, OPERATOR]
        ]
        pulls = await client.get("/v2/", auth=("anyone", TOKEN))
        foreign = await client.get("/v2/", auth=("anyone", "wrong"))

    assert [401, 401, 401, 200] == statuses
    assert 200 == pulls.status_code == foreign.status_code  # the certificate let both in
    async with served.client() as client:
        assert 200 == (await client.get("/v2/", auth=("anyone", TOKEN))).status_code
        assert 401 == (await client.get("/v2/", auth=("anyone", "wrong"))).status_code


async def test_a_device_joins_over_the_wire(served: Served) -> None:
    """The CA is read first, then the token buys an identity, once."""
    async with served.client() as client:
        ca = await client.get("/ca")
        made = await client.post(
            "/api/v1/tokens", json={"site": "porto", "labels": {"room": "oven"}}, headers=OPERATOR
        )
        token = made.json()["token"]
        request = codec.encode(ask(token))
        first = await client.post("/join", content=request)
        second = await client.post("/join", content=request)
        answer = codec.decode(first.content, v1.JoinAnswer)
        shown = await client.get(f"/api/v1/devices/{answer.device}", headers=OPERATOR)
        listed = await client.get("/api/v1/tokens", headers=OPERATOR)

    assert served.authority.pem == ca.text
    assert "mqtts://c:8883" == answer.broker_url
    assert (403, "TOKEN_USED") == (second.status_code, second.json()["reason"])
    assert {"error", "reason", "next"} == second.json().keys()
    assert ("porto", {"room": "oven"}) == (shown.json()["site"], shown.json()["labels"])
    assert ["used"] == [each["state"] for each in listed.json()["tokens"]]
    assert token not in listed.text


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "MALFORMED"),
        (b"not json", 400, "MALFORMED"),
        (b"[" * 5000, 400, "MALFORMED"),
        (b'{"schema":"skerry.birth/v1-draft"}', 400, "UNKNOWN_SCHEMA"),
        (b'{"schema":"skerry.join-request/v1-draft"}', 400, "MALFORMED"),
        (b" " * (JOIN_LIMIT_BYTES + 1), 413, "TOO_LARGE"),
    ],
)
async def test_a_bad_join_is_refused_with_its_reason(
    served: Served, body: bytes, status: int, reason: str
) -> None:
    """Whatever is sent, nobody is added, and the answer has its three parts."""
    async with served.client() as client:
        answer = await client.post("/join", content=body)

    assert (status, reason) == (answer.status_code, answer.json()["reason"])
    assert answer.json()["next"]
    with served.store.read() as connection:
        assert [] == list(devices.every(connection))


async def test_a_body_of_no_known_length_is_cut_at_its_limit(served: Served) -> None:
    """A hundred megabytes in pieces end at the first piece too many."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1600):
            sent += 1 << 16
            yield b"x" * (1 << 16)

    async with served.client() as client:
        try:
            answer = await client.post("/join", content=endless())
        except httpx.TransportError:
            pass  # closed on us while we were still sending: as good
        else:
            assert 413 == answer.status_code
        assert 200 == (await client.get("/healthz")).status_code
    assert sent < 50 << 20


async def test_an_announced_length_too_large_is_refused_unread(served: Served) -> None:
    """The refusal comes before a byte of the body, and the connection is closed."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(served.plain.rpartition(":")[2])
    )
    writer.write(b"POST /join HTTP/1.1\r\nhost: c\r\ncontent-length: 99999999999\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"TOO_LARGE" in answer


async def test_a_body_that_stops_coming_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody holds a connection open with half a body."""
    monkeypatch.setattr(bounds, "PAUSE_LIMIT_S", 0.2)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", int(served.plain.rpartition(":")[2])
    )
    writer.write(b"POST /join HTTP/1.1\r\nhost: c\r\ncontent-length: 100\r\n\r\nhalf")
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_who_says_nothing_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a request, and one with half a request, are both closed."""
    monkeypatch.setattr(listener, "HEADERS_LIMIT_S", 0.2)
    port = int(served.plain.rpartition(":")[2])
    for said in (b"", b"GET /healthz HTTP/1.1\r\nhost:"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(5):
            assert b"" == await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_headers_without_end_are_cut_off(served: Served) -> None:
    """Headers are not kept beyond their limit, however they come; a usual request still works."""
    port = int(served.plain.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    sent = 0
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                writer.write(b"x: " + b"y" * 4096 + b"\r\n")
                sent += 4096
                await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()

    assert sent < 32 << 20
    async with httpx.AsyncClient(base_url=served.plain, trust_env=False) as client:
        for _ in range(40):  # kept alive: each request has a limit of its own
            answer = await client.get("/healthz", headers={"x": "y" * 4096})
            assert 200 == answer.status_code


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/api/v1/devices/nobody", 404, "NOT_FOUND"),
        ("GET", "/api/v1/bundles/nothing:1.0.0", 404, "NOT_FOUND"),
        ("GET", "/api/v1/rollouts/r-none", 404, "NOT_FOUND"),
        ("DELETE", "/api/v1/devices", 405, "MALFORMED"),
        ("POST", "/api/v1/tokens", 422, "MALFORMED"),
    ],
)
async def test_every_refusal_has_the_same_shape(
    served: Served, method: str, path: str, status: int, reason: str
) -> None:
    """What happened, a code, what to do next: a tool needs to know no other."""
    async with served.client() as client:
        answer = await client.request(method, path, headers=OPERATOR, content=b"{")

    assert (status, reason) == (answer.status_code, answer.json()["reason"])
    assert {"error", "reason", "next"} == answer.json().keys()


@pytest.mark.parametrize(
    "wish",
    [
        {"uses": 0},
        {"valid_s": 1},
        {"site": "No Site"},
        {"labels": {"skerry/runtime": "mine"}},
        {"labels": {str(number): "x" for number in range(99)}},
    ],
)
async def test_a_wrong_token_is_not_made(served: Served, wish: dict[str, object]) -> None:
    """Facts are not labels, a site has a name, a token has uses and a time."""
    async with served.client() as client:
        answer = await client.post("/api/v1/tokens", json=wish, headers=OPERATOR)
        listed = await client.get("/api/v1/tokens", headers=OPERATOR)

    assert 422 == answer.status_code
    assert [] == listed.json()["tokens"]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("tokens", {"use": 3}, "body.use: there is no such field, only uses, valid_s,"),
        ("rollouts", {"selectr": "room=oven"}, "body.selectr: there is no such field, only bundle"),
        ("rollouts/plan", {"reason": "night"}, "body.reason: there is no such field, only bundle,"),
        ("rollouts", {"settings": {"shadw": {}}}, "body.settings.shadw: there is no such field"),
        (
            "rollouts",
            {"settings": {"threads": 0, "shadow": {"agrement": 2}}},
            "body.settings.shadow.agrement: there is no such field, only share, requests,",
        ),
        (
            "rollouts",
            {"settings": {"values": {"key": {"secret": "s", "value": "x"}}}},
            "value: there is no such field, only secret",
        ),
        ("rollouts/r-1/pause", {"why": "rain"}, "body.why: there is no such field, only reason"),
        ("rollouts/r-1/abort", {"why": "rain"}, "body.why: there is no such field, only reason"),
        ("devices/d-1/commands", {"verb": "logs", "line": 5}, "body.line: there is no such field"),
        (
            "devices/d-1/settings",
            {"download_windows": [{"days": ["mon"], "from": "00:00", "end": "01:00"}]},
            "body.download_windows.0.from: there is no such field, only days, start, end",
        ),
        ("devices/d-1/settings", {"x" * 500: 1}, ": there is no such field, only health_period_s,"),
    ],
)
async def test_a_field_that_is_not_known_is_refused(
    served: Served, path: str, body: dict[str, object], said: str
) -> None:
    """At any depth, before anything else that is wrong, with those that are: nothing is done."""
    async with served.client() as client:
        answer = await client.post(f"/api/v1/{path}", json=body, headers=OPERATOR)
        made = [
            (await client.get(f"/api/v1/{of}", headers=OPERATOR)).json()[of]
            for of in ("tokens", "rollouts")
        ]

    assert (422, "MALFORMED") == (answer.status_code, answer.json()["reason"])
    assert said in answer.json()["error"]
    assert [[], []] == made


async def test_a_port_in_use_is_said(served: Served) -> None:
    """A second listener is refused with where it would have been."""
    port = int(served.url.rpartition(":")[2])

    with pytest.raises(AddressInUseError, match=str(port)):
        bind("127.0.0.1", port)


async def test_a_token_s_site_is_made_once(served: Served) -> None:
    """Two tokens for one site name give devices one site."""
    sites = set()
    async with served.client() as client:
        for _ in range(2):
            made = await client.post("/api/v1/tokens", json={"site": "porto"}, headers=OPERATOR)
            token = made.json()["token"]
            joined = await client.post(
                "/join", content=codec.encode(ask(token, name=made.json()["id"]))
            )
            sites.add(codec.decode(joined.content, v1.JoinAnswer).site)

    assert 1 == len(sites)


async def test_a_token_from_the_store_and_its_expiry(served: Served) -> None:
    """An expired token is refused by its reason."""
    token = add_token(served.store, served.authority, valid=dt.timedelta())
    async with served.client() as client:
        answer = await client.post("/join", content=codec.encode(ask(token)))

    assert (403, "TOKEN_EXPIRED") == (answer.status_code, answer.json()["reason"])


def test_no_body_has_fields_that_are_passed_over() -> None:
    """All that operators send; devices' and registries' documents may be newer than the centre."""
    reference = json.loads(render())
    asked: dict[str, Any] = {}
    for path, methods in reference["paths"].items():
        for route in methods.values():
            if path == "/join" or "registry" in route["tags"]:
                continue
            for content in route.get("requestBody", {}).get("content", {}).values():
                asked |= _within(content["schema"], reference["components"]["schemas"])

    names = {"RolloutWish", "StartWish", "Word", "GivenWord", "TokenRequest", "CommandWish"}
    names |= {"SettingsWish", "DeploymentSettings", "ShadowSettings", "SecretRef", "Window"}
    assert names <= {name.removesuffix("-Input") for name in asked}
    lenient = [
        name
        for name, schema in asked.items()
        if schema["type"] == "object" and schema.get("additionalProperties") is not False
    ]
    assert [] == lenient


def _within(schema: Any, schemas: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # JSON
    """Return the named schemas that one leads to, at any depth."""
    found: dict[str, Any] = {}
    left = [schema]
    while left:
        match left.pop():
            case {"$ref": str(at)} if (name := at.rpartition("/")[2]) not in found:
                found[name] = schemas[name]
                left.append(schemas[name])
            case dict() as inner:
                left += inner.values()
            case list() as inner:
                left += inner
            case _:
                pass
    return found


def test_the_reference_is_openapi_and_says_who_may_ask() -> None:
    """Every route has its own id; every operator's route names the token and its refusal."""
    reference = json.loads(render())
    validate(reference)

    routes = [
        (path, method, route)
        for path, methods in reference["paths"].items()
        for method, route in methods.items()
    ]
    ids = [route["operationId"] for _, _, route in routes]
    assert len(ids) == len(set(ids))
    assert all(name.isalpha() for name in ids)
    for path, method, route in routes:
        if not path.startswith("/api/v1/"):
            continue
        answers = route["responses"]
        refused = answers.get("401", answers.get("default"))["content"]["application/json"]
        name = "RegistryRefusal" if "registry" in route["tags"] else "Refusal"
        assert [{"operatorToken": []}] == route["security"], (method, path)
        assert {"$ref": f"#/components/schemas/{name}"} == refused["schema"]


async def test_a_rollout_is_not_left_to_the_next_round(served: Served) -> None:
    """Started over the API, its documents are written at once, not when a period is over."""
    ref = Paper().bundle()
    add_devices(served.store, ["d-one"])
    come(served.store, "harbour", "d-one")
    add_bundles(served.store, "1.0.0")
    wish = {"bundle": "digits:1.0.0", "deployment": "digits", "selector": "all"}
    async with served.client() as client:
        client.headers.update(OPERATOR)
        await asyncio.sleep(0.3)  # the executor's first look is over
        plan = (await client.post("/api/v1/rollouts/plan", json=wish)).json()
        started = await client.post(
            "/api/v1/rollouts", json={**wish, "if_plan": plan["digest"], "reason": "try"}
        )
        async with asyncio.timeout(3):
            while True:
                shown = (await client.get("/api/v1/devices/d-one")).json()
                if shown["desired"] is not None:
                    break
                await asyncio.sleep(0.05)
        again = await client.post("/api/v1/rollouts", json=wish)
        rollout = (await client.get(f"/api/v1/rollouts/{started.json()['id']}")).json()
        bundle = (await client.get("/api/v1/bundles/digits")).json()
        listed = (await client.get("/api/v1/bundles")).json()
        wrong = [
            await client.post("/api/v1/rollouts/plan", json={**wish, "selector": text})
            for text in ("a in (", "", " ")
        ]

    assert 201 == started.status_code
    assert "digits:1.0.0" == ":".join(
        shown["desired"]["deployments"][0]["bundle"][part] for part in ("name", "version")
    )
    assert (409, "NO_CHANGE") == (again.status_code, again.json()["reason"])
    assert ("running", 0) == (rollout["state"], rollout["set_aside"])
    assert ref.digest == bundle["digest"] == listed["bundles"][0]["digest"]
    assert "int8" == bundle["card"]["variants"][0]["format"]
    refusals = {(answer.status_code, answer.json()["reason"]) for answer in wrong}
    assert {(422, "SELECTOR_MALFORMED")} == refusals
    assert "to reach everything, say: all" in wrong[1].json()["error"]


async def test_the_rollout_words_say_whom_they_reach(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody: 3, and how a device is named. A plan is started by the line it prints, once."""
    add_devices(served.store, ["d-one"])
    come(served.store, "harbour", "d-one")
    add_bundles(served.store, "1.0.0")
    (tmp_path / "token").write_text(TOKEN)
    where = ["--centre", served.plain, "--token-file", str(tmp_path / "token")]

    async def skerry(*words: str) -> tuple[int, str, str]:
        ended = await asyncio.to_thread(main, [*words, *where])
        return ended, *capsys.readouterr()

    for word in ("plan", "start"):
        code, _, said = await skerry("rollout", word, "digits:1.0.0", "--to", "d-one")
        assert 3 == code
        assert [
            "no device matches --to d-one",
            "TARGET_UNKNOWN",
            "did you mean: --device d-one",
        ] == said.splitlines()
    _, planned, _ = await skerry("rollout", "plan", "digits:1.0.0", "--to", "!spare")
    line = shlex.split(planned.splitlines()[-1].partition("Start")[2])
    started, _, said = await skerry(*line[1:])
    async with asyncio.timeout(10), served.client() as client:
        while True:
            shown = (await client.get("/api/v1/devices/d-one", headers=OPERATOR)).json()
            if shown["desired"] is not None:
                break
            await asyncio.sleep(0.05)
    again, unchanged, _ = await skerry("rollout", "start", "digits:1.0.0", "--to", "all")

    assert ["skerry", "rollout", "start", "digits:1.0.0", "--to", "!spare"] == line[:6]
    assert (0, "") == (started, said)
    assert (0, "the one device has digits:1.0.0 already\n") == (again, unchanged)


async def test_a_store_that_is_busy_is_said_and_nothing_is_lost(
    home: Home, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else holds the database: 503 in the usual shape, and it works again afterwards."""
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_S", 0.1)
    store = Store.open(home.store)
    other = sqlite3.connect(home.store, isolation_level=None)
    try:
        async with serving(home, authority, store) as served, served.client() as client:
            other.execute("BEGIN IMMEDIATE")
            busy = await client.post("/api/v1/tokens", json={}, headers=OPERATOR)
            read = await client.get("/api/v1/tokens", headers=OPERATOR)
            other.execute("ROLLBACK")
            after = await client.post("/api/v1/tokens", json={}, headers=OPERATOR)
    finally:
        other.close()
        store.close()

    assert (503, "STORE_BUSY") == (busy.status_code, busy.json()["reason"])
    assert [] == read.json()["tokens"]
    assert 201 == after.status_code
