"""What a device told, and how it runs: over the API and by command, with every refusal."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from agent.wire import codec, v1
from agent.wire.facts import LEDGER
from agent.wire.phases import Phase
from fleet.cli import device_history, main
from fleet.cli.marks import Screen
from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.settings import parse_windows
from fleet.store import arrivals, audit, desired
from fleet.store.engine import Store
from models import dsse
from models.keys import load_public, verify
from tests.fleet.centre.parties import add_devices
from tests.fleet.centre.served import OPERATOR, Served, serving

ONE = "d-one"
AT = "2026-03-01T12:00:00Z"
DIGEST = "sha256:" + "a" * 64


NIGHT = {"days": ["mon"], "start": "22:00", "end": "05:00"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    today = datetime.now(UTC)  # noqa: TID251  # TLS reads the clock
    identity.init(tmp_path / "home", fleet="harbour", hosts=[], now=today)
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.store)
    add_devices(opened, [ONE])
    yield opened
    opened.close()


@pytest.fixture
async def served(home: Home, store: Store) -> AsyncIterator[Served]:
    async with serving(home, Authority.load(home.path), store) as centre:
        yield centre


def event(number: int, kind: v1.EventKind = v1.EventKind.BOOT, **more: object) -> v1.Event:
    bare = v1.Event(
        fleet="harbour", device=ONE, ledger="l-1", number=number, kind=v1.EventKind.BOOT, at=AT
    )
    return replace(bare, kind=kind, **more)  # type: ignore[arg-type]  # fields of an event


def waited(number: int) -> v1.Event:
    health = v1.Health(fleet="harbour", device=ONE, session=1, at=AT, period_s=1.0, told=number - 1)
    return event(number, v1.EventKind.HEALTH, session=1, health=health)


def story(store: Store) -> None:
    """Let a device start, lose its connection, and tell afterwards what happened."""
    birth = v1.Birth(
        fleet="harbour",
        device=ONE,
        session=9,
        agent_version="1",
        at=AT,
        facts={LEDGER: "l-1"},
    )
    told = [
        event(1, session=0, parameters={"agent_version": "0.2.0"}),
        *(waited(number) for number in range(2, 8)),
        event(
            8,
            v1.EventKind.WORKER,
            session=3,
            deployment="digits",
            revision=2,
            reason="WORKER_CRASHED",
            message="signal 9",
            parameters={"what": "crashed"},
        ),
        event(
            9,
            v1.EventKind.PHASE,
            session=9,
            deployment="digits",
            revision=3,
            digest=DIGEST,
            phase=Phase.COMMITTED,
        ),
    ]
    with store.write() as connection:
        arrivals.commit(connection, [birth, *told], now=AT)


async def ask(served: Served, path: str, **query: object) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=served.plain, headers=OPERATOR, trust_env=False) as api:
        params = {name: str(value) for name, value in query.items()}
        answer = await api.get(f"/api/v1/devices/{path}", params=params)
    return answer.status_code, answer.json()


async def change(served: Served, **wish: object) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=served.plain, headers=OPERATOR, trust_env=False) as api:
        answer = await api.post(f"/api/v1/devices/{ONE}/settings", json=wish)
    return answer.status_code, answer.json()


async def skerry(served: Served, *words: str, token: Path) -> int:
    return await asyncio.to_thread(
        main, [*words, "--centre", served.plain, "--token-file", str(token)]
    )


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(OPERATOR["Authorization"].removeprefix("Bearer "))
    return path


def written(store: Store) -> list[audit.Entry]:
    with store.read() as connection:
        return [each for each in audit.latest(connection, limit=99) if each.subject == ONE]


def held(store: Store) -> desired.HeldDesired | None:
    with store.read() as connection:
        return desired.held(connection, ONE)


# What it told


async def test_events_come_by_pages_in_order(served: Served, store: Store) -> None:
    """From after a number, or the last ones; the answer says what is acknowledged."""
    story(store)

    _, first = await ask(served, f"{ONE}/events", limit=4)
    _, second = await ask(served, f"{ONE}/events", after=4, limit=100)
    _, last = await ask(served, f"{ONE}/events", newest=True, limit=2)
    _, changes = await ask(served, f"name-{ONE}/events", ledger="l-1", transitions=True)

    assert ([1, 2, 3, 4], True) == ([each["number"] for each in first["events"]], first["more"])
    assert ([5, 6, 7, 8, 9], False) == (
        [each["number"] for each in second["events"]],
        second["more"],
    )
    assert ([8, 9], True) == ([each["number"] for each in last["events"]], last["more"])
    assert [1, 8, 9] == [each["number"] for each in changes["events"]]
    assert ({"l-1": 9}, "l-1", ONE) == (first["acked"], first["ledger"], first["device"])
    assert waited(2).health is not None
    assert 1 == first["events"][1]["health"]["told"]
    assert {1: True, 8: True, 9: False} == {
        each["number"]: each["late"] for each in changes["events"]
    }


async def test_a_device_that_told_nothing_has_an_empty_page(served: Served) -> None:
    """That is an answer, not an error; a device nobody knows is one."""
    status, page = await ask(served, f"{ONE}/events")
    missing, refusal = await ask(served, "d-nobody/events")

    assert (200, [], None, {}, False) == (
        status,
        page["events"],
        page["ledger"],
        page["acked"],
        page["more"],
    )
    assert (404, "NOT_FOUND") == (missing, refusal["reason"])


@pytest.mark.parametrize("query", [{"limit": 501}, {"limit": 0}, {"after": -1}], ids=str)
async def test_a_page_has_its_bounds(served: Served, query: dict[str, object]) -> None:
    """Nobody asks for everything at once."""
    status, refusal = await ask(served, f"{ONE}/events", **query)
    assert (422, "MALFORMED") == (status, refusal["reason"])


async def test_history_tells_what_happened_in_sentences(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest last, without health; what waited for a connection is marked."""
    story(store)

    assert 0 == await skerry(served, "device", "history", ONE, "--limit", "2", token=token)
    shown = capsys.readouterr()
    assert 0 == await skerry(served, "device", "history", ONE, "-o", "json", token=token)
    kept = json.loads(capsys.readouterr().out)

    first, second = shown.out.splitlines()
    assert first.startswith("2026-03-01 12:00:00")
    assert "late" in first
    assert "digits revision 2: its worker died." in first
    assert first.endswith("[WORKER_CRASHED] (signal 9)")
    assert second.endswith("digits revision 3: serving.")
    assert "late" not in second
    assert "there are older ones" in shown.err
    assert "skerry.device.history/3" == kept["schema"]
    assert ["joined", "restarted", "told", "told"] == [each["kind"] for each in kept["moments"]]
    assert [1, 8, 9] == [each["event"]["number"] for each in kept["moments"][1:]]


async def test_history_is_paged_by_what_each_page_says(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Back to when it joined, and forth again to the last."""
    story(store)

    async def page(*options: str) -> tuple[str, list[str]]:
        told = ("device", "history", ONE, "--limit", "1", *options)
        assert 0 == await skerry(served, *told, token=token)
        shown = capsys.readouterr()
        return shown.out, [line.partition(": ")[2] for line in shown.err.splitlines()]

    last, asked = await page()
    there = [last]
    while option := next((each for each in asked if each.startswith("--before")), None):
        said, asked = await page(*option.split())
        there.insert(0, said)
    again = [there[0]]
    while option := next((each for each in asked if each.startswith("--after")), None):
        said, asked = await page(*option.split())
        again.append(said)

    assert 4 == len(there)
    assert "it joined" in there[0]
    assert there == again


async def test_a_question_is_in_the_history_whatever_was_changed_since(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So many questions as there are moments, however many other changes came after them."""
    with store.write() as connection:
        for action in ["command.ask"] * 3 + ["device.settings"] * 5:
            wish = {"verb": "logs", "id": "c-1"}
            audit.add(
                connection,
                audit.Entry(at=AT, actor="ada", action=action, subject=ONE, after=wish),
            )
    _, whole = await ask(served, f"{ONE}/changes")
    _, page = await ask(served, f"{ONE}/changes", action="command.ask", limit=2)
    _, rest = await ask(served, f"{ONE}/changes", action="command.ask", before=page["before"])

    assert 0 == await skerry(served, "device", "history", ONE, "--limit", "2", token=token)
    assert 2 == capsys.readouterr().out.count("ada asked it for logs")
    asked = [each for each in whole["changes"] if each["action"] == "command.ask"]
    assert asked == page["changes"] + rest["changes"]
    assert (8, 2, None) == (len(whole["changes"]), len(page["changes"]), rest["before"])


@pytest.mark.parametrize("kind", sorted(set(v1.EventKind) - {v1.EventKind.HEALTH}))
def test_every_kind_of_event_is_a_sentence(kind: v1.EventKind) -> None:
    """No kind shows as a code alone, and a bare one breaks nothing."""
    bare = dict.fromkeys(("deployment", "phase", "digest", "revision", "trace_id"))
    said = device_history.sentence(
        json.loads(codec.encode(event(1, kind))) | bare | {"reason": None}
    )
    assert said.endswith(".")
    told = json.loads(codec.encode(event(1, kind, reason="OUTBOX_FULL")))
    moment = {"kind": "told", "at": AT, "late": True, "by_arrival": True, "event": told | bare}
    [line] = device_history.lived(Screen(), [moment], AT)
    assert "late" in line
    assert "at this time or before" in line
    assert "[OUTBOX_FULL]" in line


# How it runs


async def test_settings_change_in_a_document_of_their_own(
    served: Served, store: Store, home: Home
) -> None:
    """A new generation, signed and audited, in which the deployments stay as they were."""
    deployment = v1.Deployment(
        name="digits",
        bundle=v1.BundleRef(digest=DIGEST, name="digits", version="1.0.0"),
        revision=4,
    )
    before = v1.Desired(
        fleet="harbour",
        target=ONE,
        order=v1.Order(epoch=2, generation=7),
        issued_at=AT,
        deployments=(deployment,),
        settings=v1.DeviceSettings(reconnect_cap_s=300.0, values={"log-level": "info"}),
    )
    payload = codec.encode(before)
    with store.write() as connection:
        desired.put(
            connection,
            desired.HeldDesired(
                target=ONE, order=before.order, payload=payload, envelope=b"{}", issued_at=AT
            ),
        )

    status, answer = await change(served, health_period_s=1, reason="watch the new belt")

    assert 200 == status
    assert {"epoch": 2, "generation": 8} == answer["order"]
    now = held(store)
    assert now is not None
    document = codec.decode(now.payload, v1.Desired)
    assert (deployment,) == document.deployments
    assert (
        v1.DeviceSettings(health_period_s=1.0, reconnect_cap_s=300.0, values={"log-level": "info"})
        == document.settings
    )
    envelope = dsse.parse(now.envelope, limit_bytes=8192)
    assert now.payload == envelope.payload
    assert verify(envelope, [load_public(home.desired_public)])
    [entry] = written(store)
    assert ("operator", "desired.put", "watch the new belt") == (
        entry.actor,
        entry.action,
        entry.reason,
    )
    assert entry.before is not None
    assert entry.after is not None
    assert (60.0, 1.0) == (
        entry.before["settings"]["health_period_s"],  # type: ignore[index]  # JSON
        entry.after["settings"]["health_period_s"],  # type: ignore[index]  # as above
    )
    assert entry.before["deployments"] == entry.after["deployments"]


async def test_a_device_that_nothing_is_wanted_of_gets_its_first_document(
    served: Served, store: Store
) -> None:
    """It says how to run, and to serve nothing."""
    status, answer = await change(served, reconnect_cap_s=5)

    assert (200, {"epoch": 0, "generation": 1}) == (status, answer["order"])
    now = held(store)
    assert now is not None
    assert () == codec.decode(now.payload, v1.Desired).deployments


@pytest.mark.parametrize(
    ("wish", "status", "reason"),
    [
        ({}, 409, "NO_CHANGE"),
        ({"health_period_s": 60}, 409, "NO_CHANGE"),
        ({"health_period_s": 0.5}, 422, "MALFORMED"),
        ({"health_period_s": 86401}, 422, "MALFORMED"),
        ({"reconnect_cap_s": 0}, 422, "MALFORMED"),
        ({"reconnect_cap_s": 3601}, 422, "MALFORMED"),
        ({"health_period_s": "often"}, 422, "MALFORMED"),
        ({"download_rate_bytes_per_s": 0}, 409, "NO_CHANGE"),
        ({"download_rate_bytes_per_s": 1023}, 422, "MALFORMED"),
        ({"download_rate_bytes_per_s": -1}, 422, "MALFORMED"),
        ({"download_windows": []}, 409, "NO_CHANGE"),
        ({"download_windows": [{**NIGHT, "start": "5:00"}]}, 422, "MALFORMED"),
        ({"download_windows": [NIGHT] * 8}, 422, "MALFORMED"),
        ({"maintenance_windows": []}, 409, "NO_CHANGE"),
        (
            {"download_windows": [NIGHT] * 4, "maintenance_windows": [NIGHT] * 4},
            422,
            "MALFORMED",
        ),
        ({"time_zone": "../etc/passwd"}, 422, "MALFORMED"),
        ({"time_zone": "Europe/Atlantis"}, 422, "TIME_ZONE_UNKNOWN"),
    ],
    ids=str,
)
async def test_a_change_that_is_none_is_refused(
    served: Served, store: Store, wish: dict[str, object], status: int, reason: str
) -> None:
    """Nothing is written, and nothing audited."""
    answered, refusal = await change(served, **wish)

    assert (status, reason) == (answered, refusal["reason"])
    assert held(store) is None
    assert [] == written(store)


async def test_a_device_ahead_of_a_restored_store_is_not_driven_back(
    served: Served, store: Store
) -> None:
    """It acts on a newer document than any here: nothing is written for it."""
    told = v1.Reported(
        fleet="harbour", device=ONE, session=1, observed=v1.Order(epoch=0, generation=12)
    )
    with store.write() as connection:
        arrivals.commit(connection, [told], now=AT)

    status, refusal = await change(served, health_period_s=5)

    assert (422, "TARGET_AHEAD") == (status, refusal["reason"])
    assert "0.12" in refusal["error"]
    assert held(store) is None
    assert [] == written(store)


async def test_only_an_operator_changes_settings(served: Served, store: Store) -> None:
    """A device's own certificate, or nobody's word, is not enough."""
    async with httpx.AsyncClient(base_url=served.plain, trust_env=False) as api:
        answer = await api.post(f"/api/v1/devices/{ONE}/settings", json={"health_period_s": 5})

    assert (401, "TOKEN_MISSING") == (answer.status_code, answer.json()["reason"])
    assert held(store) is None


async def test_a_rate_of_downloads_is_set_and_taken_away(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the units that people write; what can't be read is said before anything is sent."""
    rates: list[int | None] = []
    for word in ("200k", "none"):
        assert 0 == await skerry(served, "device", "set", ONE, "--download-rate", word, token=token)
        now = held(store)
        assert now is not None
        settings = codec.decode(now.payload, v1.Desired).settings
        rates.append(settings.download_rate_bytes_per_s)
    assert [200_000, None] == rates
    assert "200.0 kB a second" in capsys.readouterr().out
    for word in ("0", "-1", "fast", "1.5k", "200kB", "9" * 13):
        assert 2 == await skerry(served, "device", "set", ONE, "--download-rate", word, token=token)
        assert "MALFORMED: --download-rate" in capsys.readouterr().err
    assert 2 == len(written(store))


async def test_windows_are_set_shown_and_taken_away(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As people write them; what can't be read, or is no zone, changes nothing."""
    words = ("device", "set", ONE, "--download-windows")
    nights = ("mon-fri 22:00-05:00; sat,sun 00:00-24:00", "--time-zone", "Europe/Berlin")
    assert 0 == await skerry(served, *words, *nights, "--download-rate", "200k", token=token)
    how = "200.0 kB a second, mon-fri 22:00-05:00; sat,sun 00:00-24:00 Europe/Berlin"
    assert f"FETCHES {how}" in " ".join(capsys.readouterr().out.split())
    assert 0 == await skerry(served, "device", "show", ONE, token=token)
    assert f"FETCHES {how}" in " ".join(capsys.readouterr().out.split())
    now = held(store)
    assert now is not None
    settings = codec.decode(now.payload, v1.Desired).settings
    assert parse_windows(nights[0]) == settings.download_windows
    assert "Europe/Berlin" == settings.time_zone
    assert 2 == await skerry(served, *words, "at night", token=token)
    zone = ("device", "set", ONE, "--time-zone", "Europe/Atlantis")
    assert 0 != await skerry(served, *zone, token=token)
    told = capsys.readouterr().err
    assert "MALFORMED: --download-windows: 'at night' is no window" in told
    assert "TIME_ZONE_UNKNOWN" in told
    assert 1 == len(written(store))
    assert 0 == await skerry(served, *words, "none", token=token)
    now = held(store)
    assert now is not None
    assert () == codec.decode(now.payload, v1.Desired).settings.download_windows


async def test_maintenance_windows_are_beside_those_for_downloads(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind is set and taken away alone, in one zone; the line about them says which."""
    words = ("device", "set", ONE, "--maintenance-windows")
    nights = ("sat 02:00-04:00", "--time-zone", "Europe/Berlin")
    both = (*words, *nights, "--download-windows", "daily 20:00-24:00")
    assert 0 == await skerry(served, *both, token=token)
    assert "CHANGES sat 02:00-04:00 Europe/Berlin" in " ".join(capsys.readouterr().out.split())
    assert 0 == await skerry(served, "device", "show", ONE, token=token)
    assert "CHANGES sat 02:00-04:00 Europe/Berlin" in " ".join(capsys.readouterr().out.split())
    assert 2 == await skerry(served, *words, "sat 2-4", token=token)
    assert "MALFORMED: --maintenance-windows: 'sat 2-4'" in capsys.readouterr().err
    assert 0 == await skerry(served, *words, "none", token=token)
    now = held(store)
    assert now is not None
    settings = codec.decode(now.payload, v1.Desired).settings
    assert ((), 1) == (settings.maintenance_windows, len(settings.download_windows))


async def test_the_windows_of_many_are_taken_away_at_once(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a selector; again changes nothing; who can't have them is named, and stops no other."""
    add_devices(store, ["d-three", "d-two"])
    nights = ("--maintenance-windows", "daily 22:00-05:00")
    every = ("device", "set", "--selector", "all")
    assert 0 == await skerry(served, *every, *nights, token=token)
    assert "written for 3; 0 had these settings; 0 can't" in capsys.readouterr().err
    told = v1.Reported(
        fleet="harbour", device="d-two", session=1, observed=v1.Order(epoch=0, generation=12)
    )
    with store.write() as connection:
        arrivals.commit(connection, [told], now=AT)
    assert 0 == await skerry(served, "device", "set", ONE, *nights[:1], "none", token=token)
    capsys.readouterr()
    assert 1 == await skerry(served, *every, *nights[:1], "none", token=token)
    said = capsys.readouterr().err
    assert "TARGET_AHEAD" in said
    assert "written for 1; 1 had these settings; 1 can't" in said
    assert 3 == await skerry(served, "device", "set", "-l", "a=b", *nights, token=token)
    for words in (
        ("device", "set"),
        ("device", "set", ONE, "-l", "a=b"),
        ("device", "set", "-l", ""),
    ):
        assert 2 == await skerry(served, *words, *nights, token=token)


async def test_what_nobody_bounds_is_not_said(
    served: Served, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that fetches freely has no line about it."""
    often = ("--health-period", "30")
    assert 0 == await skerry(served, "device", "set", ONE, *often, token=token)
    assert "FETCHES     as fast as it can, always" in capsys.readouterr().out
    assert 0 == await skerry(served, "device", "show", ONE, token=token)
    assert "FETCHES" not in capsys.readouterr().out


async def test_a_rate_that_no_device_can_keep_is_refused_with_a_step(
    served: Served, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what was asked for that is wrong, not the line to the device."""
    slow = ("--download-rate", "10")
    assert 0 != await skerry(served, "device", "set", ONE, *slow, token=token)
    told = capsys.readouterr().err
    assert "at least 1024" in told
    assert "proxy" not in told


async def test_set_says_what_was_written_and_what_is_missing(
    served: Served, store: Store, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the centre wrote, what was the same already, and that nothing was named."""
    words = ("device", "set", ONE, "--health-period", "1")
    codes = [
        await skerry(served, *words, "--reason", "demo", token=token),
        await skerry(served, *words, token=token),
        await skerry(served, "device", "set", ONE, token=token),
    ]

    said = capsys.readouterr()
    assert [0, 6, 2] == codes
    assert "every 1 s" in said.out
    assert "NO_CHANGE" in said.err
    assert "--reconnect-cap SECONDS" in said.err
    assert ["demo"] == [each.reason for each in written(store)]
