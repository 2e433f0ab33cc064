"""A long silence is told afterwards, record by record, whoever is killed while it is told."""

import json
import os
import signal
from collections.abc import Callable

import pytest

from agent.ledger import open_ledger
from agent.state import Note
from agent.wire import codec, v1
from tests.e2e.scene import Centre, Device, Row, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

_RECORDS = 240


@pytest.mark.parametrize("victim", ["device", "centre"])
def test_a_long_silence_is_told_once_whoever_dies_meanwhile(
    island: Centre, make_device: Callable[..., Device], old: Model, victim: str
) -> None:
    """Health and transitions, id by id and byte for byte; what is measured now covers it."""
    device = make_device(island)
    device.start()
    island.deliver("1.0.0", device)
    told = island.ask(
        "POST", f"/api/v1/devices/{device.id}/settings", {"health_period_s": 1, "reason": "e2e"}
    )
    assert 1 == told["settings"]["health_period_s"]
    until(lambda: _feels(island, device).get("period_s", 60) < 3, what="health once a second")
    until(lambda: not _waiting(device), what="an empty outbox")
    heard = [each["number"] for each in island.events(device)]
    assert 0 == island.end()

    silent = _silence(device, old)
    island.start()
    for share in (0.8, 0.5):
        # In the midst of it: some of it is acknowledged, more is not.
        until(lambda: len(_waiting(device)) < share * len(silent), limit_s=90, what="a replay")  # noqa: B023  # asked at once
        left = _waiting(device)
        assert left, "it was all over before anybody died"
        if victim == "device":
            device.end(signal.SIGKILL)
            assert _waiting(device).keys() <= silent.keys() | left.keys()
            device.start()
        else:
            island.end(signal.SIGKILL)
            island.start()
    until(lambda: not _waiting(device), limit_s=120, what="the outbox emptied")

    ledger, last = device.numbering()
    kept = [each for each in island.events(device) if each["ledger"] == ledger]
    assert list(range(1, last + 1)) == sorted(each["number"] for each in kept)
    assert [(each["first"], each["count"]) for each in kept] == [
        (each["number"], 1) for each in kept
    ]
    documents = {each["number"]: bytes(each["document"]) for each in kept}
    assert silent == {number: documents[number] for number in silent}
    late = [each["number"] for each in kept if each["kind"] == "health"]
    assert {each["number"] for each in kept if each["late"]} >= set(late)
    assert not [each for each in kept if each["number"] in heard and each["late"]]
    if victim == "device":  # a broker that forgets lets later ones pass
        assert [each["number"] for each in kept] == list(range(1, last + 1))
    [acked] = [row for row in island.store("acked")["acked"] if row["device"] == device.id]
    assert (ledger, last) == (acked["ledger"], acked["number"])

    until(lambda: not island.device(device)["health_late"], what="health of now")
    assert _feels(island, device)["told"] == last
    page = island.ask("GET", f"/api/v1/devices/{device.id}/events?after={last - 50}&limit=50")
    assert (list(range(last - 49, last + 1)), {ledger: last}) == (
        [each["number"] for each in page["events"]],
        page["acked"],
    )
    history = island.skerry("device", "history", device.id, "--limit", "500")
    assert 0 == history.returncode, history.stderr
    assert "late" in history.stdout
    assert device.answers(old)


def _silence(device: Device, old: Model) -> dict[int, bytes]:
    """Let a device be alone: it measures, its worker and then itself are killed; return the tale.

    So that it need not be alone for minutes, most of the health is put into its
    ledger while it is down, as it would have been.
    """
    until(lambda: _kinds(device).count("health") >= 3, what="health in the outbox")
    [worker] = device.workers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: _kinds(device).count("worker") >= 2, what="a worker in the outbox")
    device.end(signal.SIGKILL)
    before = _waiting(device)
    ledger = open_ledger(device.home / "ledger.db", fleet=_fleet(before), device=device.id)
    sample = next(
        event.health
        for event in (codec.decode(body, v1.Event) for body in before.values())
        if event.health is not None
    )
    for number in range(_RECORDS):
        kind = v1.EventKind.HEALTH if number % 8 else v1.EventKind.WORKER
        note = Note(kind=kind, health=sample if kind is v1.EventKind.HEALTH else None)
        ledger.tell(note, at=sample.at)
    ledger.close()
    made = _waiting(device)
    assert before == {number: made[number] for number in before}
    device.start()
    until(lambda: device.infer(old.probes[0])[0] == 200, what="an answer")
    until(lambda: _kinds(device).count("boot") >= 1, what="a boot in the outbox")
    device.end(signal.SIGKILL)
    silent = _waiting(device)
    assert len(silent) >= _RECORDS
    assert list(range(min(silent), max(silent) + 1)) == sorted(silent)
    device.start()
    return silent


def _waiting(device: Device) -> dict[int, bytes]:
    found = device.ledger("SELECT number, body FROM event ORDER BY number")
    return {row["number"]: bytes(row["body"]) for row in found}


def _kinds(device: Device) -> list[str]:
    return [json.loads(body)["kind"] for body in _waiting(device).values()]


def _fleet(waiting: dict[int, bytes]) -> str:
    return str(json.loads(next(iter(waiting.values())))["fleet"])


def _feels(island: Centre, device: Device) -> Row:
    return island.device(device)["health"] or {}
