"""Killed without a word, at any moment: what comes back is the old or the new, and then the new."""

import os
import random
import signal
from collections.abc import Callable

import pytest

from tests.e2e.scene import Centre, Device, Load, pause, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

KILLS = 12
SEED = 20260
LONGEST_S = 1.5
"""A rollout of these bundles takes about so long: kills fall into every step of it."""


@pytest.mark.timeout(300)
def test_an_agent_killed_a_dozen_times_ends_where_it_should(
    town: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """Whatever answers is one bundle's bytes; the last rollout is reached; no event is lost."""
    drawn = random.Random(SEED)  # noqa: S311  # test data
    device = make_device(town)
    device.start()
    town.deliver("1.0.0", device)
    held = device.held()["generation"]

    with Load(device, old, new) as load:
        for kill in range(KILLS):
            town.roll(("2.0.0", "1.0.0")[kill % 2], device)
            pause(drawn.uniform(0, LONGEST_S))
            device.end(signal.SIGKILL)
            device.start()
            assert held <= device.held()["generation"]
            held = device.held()["generation"]
            until(
                lambda: device.infer(old.probes[0])[0] == 200, what=f"an answer after kill {kill}"
            )
        town.deliver("2.0.0", device)
    assert [] == [each for each in load.failed if not each.startswith("503")]
    assert min(load.counts) > 0
    assert device.answers(new)
    assert 1 == len(device.workers())

    ledger, last = device.numbering()
    until(lambda: device.ledger("SELECT count(*) AS n FROM event") == [{"n": 0}])
    told = [each for each in town.events(device) if each["ledger"] == ledger]
    assert list(range(1, last + 1)) == sorted(each["number"] for each in told)
    assert [] == list((device.home / "store" / "ingest").glob("*"))


def test_centre_and_broker_killed_in_a_rollout_converge(
    island: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """The broker alone comes back by itself, the centre on its home; clients never notice."""
    device = make_device(island)
    device.start()
    island.deliver("1.0.0", device)
    workers = device.workers()
    store = island.store("devices", "tokens", "bundles")

    with Load(device, old, new) as load:
        broker = island.broker_pid
        os.kill(broker, signal.SIGKILL)
        island.roll("2.0.0", device)
        until(lambda: island.broker_pid != broker, what="another broker")
        island.settled(device, "2.0.0")
        assert not workers & device.workers()

        rollout = island.roll("1.0.0", device)
        island.end(signal.SIGKILL)
        assert device.alive()
        island.start()
        island.settled(device, "1.0.0")
        path = f"/api/v1/rollouts/{rollout}"
        until(lambda: island.ask("GET", path)["state"] == "done", what="the rollout's end")
        load.more(20)
    assert [] == load.failed == load.unanswered
    assert device.answers(old)
    assert store == island.store("devices", "tokens", "bundles")
    assert device.held()["generation"] == island.device(device)["desired"]["order"]["generation"]
