"""What is asked of a device: signed, published while it is open, answered by that device alone."""

import asyncio
import datetime as dt
import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from agent.wire import codec, v1
from agent.wire.limits import ANSWER_LIMIT_BYTES
from agent.wire.topics import Kind
from fleet.cli import main
from fleet.clock import written
from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.ports import Publication
from fleet.store import arrivals, audit, commands, desired
from fleet.store.doors import StoreOutgoing
from fleet.store.engine import Store
from models import dsse
from models.keys import admit, load_public
from models.values import digest_of
from tests.fleet.centre.parties import add_devices, certify, come, go
from tests.fleet.centre.served import NOW, OPERATOR, TOKEN, Served, serving

ONE, TWO = "d-one", "d-two"
LOG = '{"event": "connected"}\n{"event": "step"}\n'
PACKED = gzip.compress(LOG.encode(), mtime=0)
BOMB = gzip.compress(bytes(80 * 1024 * 1024), 1)


class Clock:
    """The centre's clock, which a test turns."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    today = dt.datetime.now(dt.UTC)  # noqa: TID251  # TLS reads the clock
    identity.init(tmp_path / "home", fleet="harbour", hosts=[], now=today)
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.store)
    add_devices(opened, [ONE, TWO])
    yield opened
    opened.close()


@pytest.fixture
async def served(home: Home, store: Store, clock: Clock) -> AsyncIterator[Served]:
    async with serving(home, Authority.load(home.path), store, clock) as centre:
        yield centre


async def ask(served: Served, device: str = ONE, **wish: object) -> dict[str, Any]:
    async with served.client() as client:
        answer = await client.post(
            f"/api/v1/devices/{device}/commands", json={"verb": "logs", **wish}, headers=OPERATOR
        )
    assert 202 == answer.status_code, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def shown(served: Served, command: str, device: str = ONE) -> dict[str, Any]:
    async with served.client() as client:
        answer = await client.get(f"/api/v1/devices/{device}/commands/{command}", headers=OPERATOR)
    found: dict[str, Any] = answer.json()
    return found


async def put(
    served: Served, folder: Path, command: str, body: bytes = PACKED, device: str = ONE
) -> httpx.Response:
    paths = folder / f"{device}.pem", folder / f"{device}.key"
    files = paths if paths[0].exists() else certify(served.authority, folder, device)
    async with served.client(files) as client:
        return await client.put(f"/answers/{command}", content=body)


def tell(
    store: Store,
    command: str,
    status: v1.ResultStatus = v1.ResultStatus.DONE,
    *,
    device: str = ONE,
    blob: bytes | None = PACKED,
    reason: str | None = None,
    at: dt.datetime = NOW,
) -> None:
    """Let a device say how a command ended."""
    result = v1.Result(
        fleet="harbour",
        device=device,
        id=command,
        status=status,
        at=written(at),
        blob=None if blob is None else digest_of(blob),
        problem=None if reason is None else v1.Problem(reason=reason, message="so it is"),
    )
    with store.write() as connection:
        arrivals.commit(connection, [result], now=written(at))


def outgoing(store: Store, clock: Clock, after: int = 0) -> list[Publication]:
    return list(asyncio.run(StoreOutgoing(store, "harbour", clock).after(after, 100)))


async def test_what_is_asked_is_signed_published_and_audited(
    served: Served, store: Store, home: Home, clock: Clock
) -> None:
    """As a command, for one device, until it expires; who asked and why is kept."""
    asked = await ask(served, lines=50, valid_s=600, reason="it flickers")
    [sent] = await StoreOutgoing(store, "harbour", clock).after(0, 100)
    key = load_public(home.desired_public)
    payload, _ = admit(sent.payload, dsse.COMMAND_PAYLOAD_TYPE, [key], limit_bytes=8192)
    command = codec.decode(payload, v1.Command)
    with store.read() as connection:
        [entry] = audit.latest(connection, limit=9)

    assert (ONE, Kind.COMMAND, 600) == (sent.topic.device, sent.topic.kind, sent.expiry_s)
    assert ("harbour", ONE, asked["id"]) == (command.fleet, command.target, command.id)
    assert {"lines": "50", "answer_to": f"https://c:8443/answers/{asked['id']}"} == dict(
        command.parameters
    )
    assert ("2026-03-01T12:00:00Z", "2026-03-01T12:10:00Z", "waiting") == (
        asked["issued_at"],
        asked["expires_at"],
        asked["status"],
    )
    assert ("operator", "command.ask", ONE, "it flickers") == (
        entry.actor,
        entry.action,
        entry.subject,
        entry.reason,
    )


async def test_it_is_published_as_long_as_it_is_open(
    served: Served, store: Store, clock: Clock
) -> None:
    """In the order of all changes; not after it was answered, nor when its time is over."""
    door = StoreOutgoing(store, "harbour", clock)
    first = await ask(served, valid_s=600)
    with store.write() as connection:
        document = desired.HeldDesired(
            target=TWO,
            order=v1.Order(epoch=0, generation=1),
            payload=b"p",
            envelope=b"e",
            issued_at=written(NOW),
        )
        desired.put(connection, document)
    second = await ask(served, TWO, valid_s=60)
    everything = await door.after(0, 100)
    assert [1, 2, 3] == [each.position for each in everything]
    assert [Kind.COMMAND, Kind.DESIRED, Kind.COMMAND] == [each.topic.kind for each in everything]
    assert [1, 2] == [each.position for each in await door.after(0, 2)]
    assert [3] == [each.position for each in await door.after(2, 100)]

    tell(store, first["id"], blob=None)
    clock.now += dt.timedelta(seconds=59)
    assert [2, 3] == [each.position for each in await door.after(0, 100)]
    assert 1 == (await door.after(2, 100))[0].expiry_s
    clock.now += dt.timedelta(seconds=1)
    assert [2] == [each.position for each in await door.after(0, 100)]
    assert "expired" == (await shown(served, second["id"], TWO))["status"]


async def test_a_device_answers_what_it_was_asked(
    served: Served, store: Store, tmp_path: Path
) -> None:
    """Its log is there once it has said so, byte for byte."""
    asked = await ask(served)
    path = f"/api/v1/devices/{ONE}/commands/{asked['id']}/answer"
    async with served.client() as client:
        nothing = await client.get(path, headers=OPERATOR)
        came = await put(served, tmp_path, asked["id"])
        not_told = await client.get(path, headers=OPERATOR)
        tell(store, asked["id"])
        told = await client.get(path, headers=OPERATOR)
        stranger = await client.get(path)
    found = await shown(served, asked["id"])

    assert (404, 204, 404, 200) == tuple(
        each.status_code for each in (nothing, came, not_told, told)
    )
    assert "skerry device logs" in nothing.json()["next"]
    assert (LOG, "application/x-ndjson") == (told.text, told.headers["content-type"])
    assert ("done", len(PACKED), None) == (
        found["status"],
        found["answer_bytes"],
        found["problem"],
    )
    assert 401 == stranger.status_code


async def test_nobody_answers_for_another(served: Served, store: Store, tmp_path: Path) -> None:
    """Not another device, not one without a certificate, not over MQTT either."""
    asked = await ask(served)
    tell(store, asked["id"], device=TWO)
    other = await put(served, tmp_path, asked["id"], device=TWO)
    centre = await put(served, tmp_path, asked["id"], device="centre")
    async with served.client() as client:
        nobody = await client.put(f"/answers/{asked['id']}", content=PACKED, headers=OPERATOR)
        foreign = await client.get(
            f"/api/v1/devices/{TWO}/commands/{asked['id']}", headers=OPERATOR
        )

    assert (404, 404, 403, 404) == tuple(
        each.status_code for each in (other, centre, nobody, foreign)
    )
    found = await shown(served, asked["id"])
    assert ("waiting", None) == (found["status"], found["answer_bytes"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no gzip", 400),
        (b"", 400),
        (PACKED[:-4], 400),
        (PACKED + PACKED, 400),
        (BOMB, 400),
        (bytes(ANSWER_LIMIT_BYTES + 1), 413),
    ],
    ids=["text", "nothing", "torn", "twice", "bomb", "large"],
)
async def test_what_is_no_answer_is_not_kept(
    served: Served, store: Store, tmp_path: Path, body: bytes, status: int
) -> None:
    """Whatever a device sends: it is refused with a reason, and the command stays open."""
    asked = await ask(served)
    answer = await put(served, tmp_path, asked["id"], body)
    with store.read() as connection:
        held = commands.held(connection, ONE, asked["id"])

    assert status == answer.status_code
    assert {"error", "reason", "next"} == answer.json().keys()
    assert (None, None) == (held.result, held.answer_bytes)


async def test_what_is_over_is_not_answered_again(
    served: Served, store: Store, clock: Clock, tmp_path: Path
) -> None:
    """The first result stands; an answer that comes too late is refused."""
    first, second = await ask(served), await ask(served, valid_s=60)
    await put(served, tmp_path, first["id"])
    tell(store, first["id"])
    tell(store, first["id"], v1.ResultStatus.FAILED, blob=None, reason="INTERNAL")
    again = await put(served, tmp_path, first["id"], gzip.compress(b"other"))
    clock.now += dt.timedelta(seconds=60)
    late = await put(served, tmp_path, second["id"])

    assert (409, 409) == (again.status_code, late.status_code)
    assert "done" == (await shown(served, first["id"]))["status"]
    async with served.client() as client:
        path = f"/api/v1/devices/{ONE}/commands/{first['id']}/answer"
        assert LOG == (await client.get(path, headers=OPERATOR)).text


async def test_an_answer_that_is_not_the_one_that_was_told_is_a_failure(
    served: Served, store: Store, tmp_path: Path
) -> None:
    """None came, or other bytes did: the digests differ, and it isn't shown as the device's log."""
    absent, other = await ask(served), await ask(served)
    tell(store, absent["id"])
    await put(served, tmp_path, other["id"], gzip.compress(b"something else"))
    tell(store, other["id"])

    for asked in (absent, other):
        found = await shown(served, asked["id"])
        assert ("failed", None) == (found["status"], found["answer_bytes"])
        assert "DIGEST_MISMATCH" == found["problem"]["reason"]


async def test_old_answers_are_forgotten_and_open_commands_are_not(
    served: Served, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is asked, the store keeps so many that ended."""
    monkeypatch.setattr(commands, "KEPT", 2)
    asked = [(await ask(served))["id"] for _ in range(4)]
    for each in asked[1:]:
        tell(store, each, blob=None)
    asked += [(await ask(served))["id"] for _ in range(2)]

    statuses = [(await shown(served, each)).get("status") for each in asked]
    assert ["waiting", None, "done", "done", "waiting", "waiting"] == statuses


def test_who_asks_much_takes_no_answer_from_others(store: Store) -> None:
    """What is forgotten is what ended longest ago, however many were asked after it."""

    def put_in(number: int) -> str:
        command = v1.Command(
            fleet="harbour",
            target=ONE,
            id=f"c-{number}",
            verb=v1.Verb.LOGS,
            issued_at=written(NOW + dt.timedelta(seconds=number)),
            expires_at=written(NOW + dt.timedelta(hours=1)),
        )
        with store.write() as connection:
            commands.ask(connection, command, b"", actor="operator")
        return command.id

    def kept() -> set[str]:
        with store.read() as connection:
            return {each.id for each in commands.latest(connection, limit=999)}

    first = [put_in(number) for number in range(100)]
    for each in first:
        tell(store, each, blob=None)
    others = [put_in(number) for number in range(100, 400)]
    assert {*first, *others} == kept()

    after = dt.timedelta(minutes=10)
    for each in others[: commands.KEPT - 100]:
        tell(store, each, blob=None, at=NOW + after)
    others.append(put_in(601))
    assert {*first, *others} == kept()

    for each in others[commands.KEPT - 100 : commands.KEPT - 90]:
        tell(store, each, blob=None, at=NOW + after)
    others.append(put_in(602))
    assert {*first[10:], *others} == kept()


async def skerry(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, list[str]]:
    (tmp_path / "token").write_text(TOKEN)
    where = ["--centre", served.plain, "--token-file", str(tmp_path / "token")]
    code = await asyncio.to_thread(main, ["device", "logs", *words, *where])
    said = capsys.readouterr()
    return code, said.out, said.err.splitlines()


async def test_a_device_that_is_away_is_asked_and_answers_later(
    served: Served, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is, until when it may answer, and how to read it then."""
    come(store, "harbour", ONE)
    go(store, "harbour", ONE)
    code, out, err = await skerry(served, tmp_path, capsys, ONE, "--wait", "0s")
    assert (5, "") == (code, out)
    assert [f"{ONE} has not answered yet", "OFFLINE: since 2026-03-01T12:00:00Z"] == err[:2]
    assert err[2].startswith("it may answer until 2026-03-01T13:00:00Z; then: skerry device logs")
    number = err[2].rpartition(" ")[2]

    await put(served, tmp_path, number)
    tell(store, number)
    again = await skerry(served, tmp_path, capsys, ONE, "--command", number)
    assert (0, LOG, []) == again


async def test_what_a_device_wrote_moves_no_cursor(
    served: Served, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log is only text, whoever wrote it."""
    asked = await ask(served)
    hostile = gzip.compress(
        b"\x1b[2Jgone\x07\n\xff\xfe\n" + "\N{RIGHT-TO-LEFT OVERRIDE}sdrawkcab\n".encode()
    )
    await put(served, tmp_path, asked["id"], hostile)
    tell(store, asked["id"], blob=hostile)
    code, out, _ = await skerry(served, tmp_path, capsys, ONE, "--command", asked["id"])

    assert (0, "?[2Jgone?\n��\n?sdrawkcab\n") == (code, out)


ENDS = [
    (v1.ResultStatus.REFUSED, "COMMAND_NOT_ALLOWED", 7),
    (v1.ResultStatus.EXPIRED, "COMMAND_EXPIRED", 5),
    (v1.ResultStatus.FAILED, "CENTRE_UNREACHABLE", 1),
    (v1.ResultStatus.FAILED, "SOMETHING_NEW", 1),
]


async def test_why_there_is_no_log_is_said_in_three_lines(
    served: Served,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the device's own words, and what to do."""
    for status, reason, code in ENDS:
        asked = await ask(served)
        tell(store, asked["id"], status, blob=None, reason=reason)
        ended, out, err = await skerry(served, tmp_path, capsys, ONE, "--command", asked["id"])

        assert (code, "", 3) == (ended, out, len(err))
        assert f"{reason}: so it is" == err[1]


async def test_a_command_that_nobody_answered_is_over(
    served: Served, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And one that was never asked is not found; nor is a span of no time taken."""
    asked = await ask(served)
    clock.now += dt.timedelta(seconds=600)
    over = await skerry(served, tmp_path, capsys, ONE, "--command", asked["id"])
    unknown = await skerry(served, tmp_path, capsys, ONE, "--command", "c-none")
    nonsense = await skerry(served, tmp_path, capsys, ONE, "--wait", "soon")
    nobody = await skerry(served, tmp_path, capsys, "d-nobody")

    assert (5, "COMMAND_EXPIRED") == (over[0], over[2][1])
    assert (3, "ask the device again, like: skerry device logs DEVICE") == (
        unknown[0],
        unknown[2][2],
    )
    assert (2, "write it like 30s, 5m, 1h or 7d") == (nonsense[0], nonsense[2][2])
    assert 3 == nobody[0]
