"""What happened while nobody listened arrives afterwards: all of it, in order, once."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.e2e.scene import Centre, Device, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]


def test_events_made_in_silence_arrive_in_order_and_once(
    island: Centre, make_device: Callable[..., Device], old: Model
) -> None:
    """Boots and crashes without broker or centre; the store has the ledger's own numbering."""
    device = make_device(island)
    device.start()
    island.deliver("1.0.0", device)
    until(lambda: _waiting(device) == {}, what="an empty outbox")
    held, heard = device.held(), island.events(device)
    assert 0 == island.end()

    for _ in range(2):
        _crash_worker(device, old.probes[0])
    assert 0 == device.end(signal.SIGTERM)
    device.start()
    until(lambda: device.infer(old.probes[0])[0] == 200)
    _crash_worker(device, old.probes[0])
    device.end(signal.SIGKILL)
    device.start()
    until(lambda: device.infer(old.probes[0])[0] == 200)
    # Two boots, three crashes, and what came of each before it was ended.
    silent = until(lambda: found if len(found := _waiting(device)) >= 7 else {})
    ledger, last = device.numbering()
    assert sorted(silent) == list(range(min(silent), last + 1))
    assert min(silent) == len(heard) + 1

    island.start()
    until(lambda: _waiting(device) == {}, limit_s=90, what="the outbox emptied")
    _, last = device.numbering()
    events = [each for each in island.events(device) if each["ledger"] == ledger]
    assert list(range(1, last + 1)) == [each["number"] for each in events]
    assert [(each["number"], each["first"]) for each in events] == [
        (number, number) for number in range(1, last + 1)
    ]
    documents = {each["number"]: bytes(each["document"]) for each in events}
    assert silent == {number: documents[number] for number in silent}
    assert heard == events[: len(heard)]
    [acked] = [row for row in island.store("acked")["acked"] if row["device"] == device.id]
    assert (ledger, last) == (acked["ledger"], acked["number"])
    assert 2 == [each["kind"] for each in events[len(heard) :]].count("boot")
    assert held == device.held()
    assert device.answers(old)


def test_events_survive_the_death_of_those_who_carry_them(
    island: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """Broker and centre are killed while events flow: none is lost, none comes twice."""
    device = make_device(island)
    device.start()
    island.deliver("1.0.0", device)
    island.roll("2.0.0", device)
    os.kill(island.broker_pid, signal.SIGKILL)
    _crash_worker(device, old.probes[0])
    island.end(signal.SIGKILL)
    _crash_worker(device, old.probes[0])
    island.start()
    island.settled(device, "2.0.0")
    _crash_worker(device, old.probes[0])
    os.kill(island.broker_pid, signal.SIGKILL)
    _crash_worker(device, old.probes[0])
    until(lambda: _waiting(device) == {}, limit_s=90, what="the outbox emptied")
    ledger, last = device.numbering()
    events = [each for each in island.events(device) if each["ledger"] == ledger]
    # A broker that has forgotten the centre says that nobody hears: nothing overtakes.
    assert list(range(1, last + 1)) == [each["number"] for each in events]
    [acked] = [row for row in island.store("acked")["acked"] if row["device"] == device.id]
    assert (ledger, last) == (acked["ledger"], acked["number"])
    assert device.answers(new)


def _waiting(device: Device) -> dict[int, bytes]:
    found = device.ledger("SELECT number, body FROM event ORDER BY number")
    return {row["number"]: bytes(row["body"]) for row in found}


def _crash_worker(device: Device, probe: bytes) -> None:
    """Kill a worker, and wait until another one answers in its place."""
    [worker] = until(lambda: found if len(found := device.workers()) == 1 else set())
    os.kill(worker, signal.SIGKILL)
    until(lambda: device.workers() - {worker}, what="another worker")
    until(lambda: device.infer(probe)[0] == 200, what="an answer of another worker")
