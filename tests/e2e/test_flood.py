"""A hundred megabytes on every topic, from both sides: who sends it is cut off, nobody else."""

from collections.abc import Callable

import psutil
import pytest

from agent.wire.topics import Kind, Topic, marker
from tests.conformance.peer import Peer
from tests.e2e.scene import Centre, Device, Load, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

FLOOD_BYTES = 100 * 1024 * 1024
GROWTH_LIMIT_BYTES = 64 * 1024 * 1024


def test_a_hundred_megabytes_on_every_topic(
    town: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """Every topic, by the device's own certificate and by the centre's; then work goes on."""
    device, flooder = make_device(town), make_device(town)
    device.start()
    town.deliver("1.0.0", device)
    held, workers = device.held(), device.workers()
    store = town.store("devices", "desired", "bundles", "rollouts", "tokens")
    processes = [psutil.Process(pid) for pid in (town.pid, town.broker_pid, device.pid)]
    before = [each.memory_info().rss for each in processes]
    flood = bytes(FLOOD_BYTES)

    with Load(device, old) as load:
        theirs = flooder.peer()
        for kind in Kind:
            _cut_off(theirs, str(Topic("fleet", flooder.id, kind)), flood)
        _cut_off(theirs, str(Topic("fleet", device.id, Kind.REPORTED)), flood)
        with town.paused():
            ours = town.peer()
            for kind in Kind:
                _cut_off(ours, str(Topic("fleet", device.id, kind)), flood)
            _cut_off(ours, marker("fleet"), flood)
        load.more(20)
    assert [] == load.failed == load.unanswered
    grown = [each.memory_info().rss - was for each, was in zip(processes, before, strict=True)]
    assert max(grown) < GROWTH_LIMIT_BYTES, grown

    assert held == device.held()
    assert workers == device.workers()
    assert [] == device.refusals()
    assert store == town.store("devices", "desired", "bundles", "rollouts", "tokens")
    town.deliver("2.0.0", device)
    assert device.answers(new)
    assert processes[1].is_running()


def _cut_off(peer: Peer, topic: str, flood: bytes) -> None:
    """Send it all, until the broker closes the connection; nobody is told of any of it."""
    peer.connect(ack=False)
    assert peer.connected, peer.why_not
    peer.send(topic, flood, retain=True)

    def closed() -> bool:
        peer.pump_once()
        return not peer.connected

    until(closed, what=f"the end of who floods {topic}")
    peer.vanish()
