"""From a published bundle to an answer; a switch under load; serving with nobody there."""

from collections.abc import Callable

import pytest

from tests.e2e.scene import Centre, Device, Load, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]


def test_a_bundle_comes_to_a_device_and_stays(
    island: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """Raw bytes over OIP; a second version without a failed request; alone from the ledger."""
    device = make_device(island)
    device.start()
    started = island.skerry("rollout", "start", "digits:1.0.0", "--device", device.name, "--yes")
    assert started.returncode == 0, started.stderr
    island.settled(device, "1.0.0")
    assert device.answers(old)

    with Load(device, old, new) as load:
        load.more(50)
        island.deliver("2.0.0", device)
        load.more(50)
    assert [] == load.failed == load.unanswered
    assert min(load.counts) >= 50
    for words in (["device", "show", device.name], ["rollout", "ls"], ["bundle", "ls"]):
        shown = island.skerry(*words)
        assert 0 == shown.returncode
        assert "2.0.0" in shown.stdout or words[0] == "rollout"

    before = device.held()
    assert 0 == island.end()
    assert device.answers(new)
    assert 0 == device.end()
    device.start()
    until(device.workers, what="a worker without a centre")
    until(lambda: device.infer(new.probes[0])[0] == 200, what="an answer without a centre")
    assert device.answers(new)
    assert before == device.held()


def test_two_deployments_change_independently(
    town: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """A rollout of one leaves the other's report, worker, events and clients alone."""
    device = make_device(town)
    device.start()
    for name in ("left", "right"):
        town.deliver("1.0.0", device, name=name)
    report = town.deployment(device, "right")
    told = [each for each in town.events(device) if each.get("deployment") == "right"]
    workers = device.workers()
    assert 2 == len(workers)

    with Load(device, old, name="right") as load:
        left = town.deliver("2.0.0", device, name="left")
        load.more(20)

    assert [] == load.failed == load.unanswered
    assert left["revision"] > 1
    assert device.answers(new, "left")
    until(lambda: device.workers() - workers and len(device.workers()) == 2)
    assert 1 == len(device.workers() & workers)
    assert report == town.deployment(device, "right")
    assert told == [each for each in town.events(device) if each.get("deployment") == "right"]
    assert device.answers(old, "right")
