"""Devices that speak a hundred times too often: the centre keeps up, and nobody else is lost."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from paho.mqtt.client import MQTTMessage

from agent.wire import v1
from agent.wire.codec import encode
from agent.wire.topics import Kind
from fleet.link.backlog import Backlog
from fleet.store import devices, drift, health
from fleet.store.doors import StoreInbox
from fleet.store.engine import Store
from tests.conformance.peer import Peer
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.test_link_live import (
    AT,
    FLEET,
    Memory,
    World,
    happened,
    running,
    topic,
    world,  # noqa: F401  # a fixture
)

LOUD, QUIET, EACH = 10, 5, 300
"""Ten devices, three hundred documents each, as fast as they can: a hundred devices that say a
hundred times too much say 167 a second."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store.db")
    yield opened
    opened.close()


class Both:
    """The real inbox, and an outgoing side that wants nothing."""

    def __init__(self, store: Store, committed: Callable[[], None]) -> None:
        self._inbox = StoreInbox(store, lambda: NOW, committed)
        self._memory = Memory()
        self.store_id = self._memory.store_id
        self.commit = self._inbox.commit
        self.head = self._memory.head
        self.after = self._memory.after


def feels(device: str, number: int) -> v1.Health:
    told = v1.DriftSketch(subject="input-0-mean", counts=(number, 1))
    part = v1.DeploymentHealth(
        name="digits", revision=1, digest="sha256:" + "a" * 64, requests=number, errors=0
    )
    part = replace(part, drift=(told,) if number % 100 == 0 else ())
    return v1.Health(
        fleet=FLEET, device=device, session=1, at=AT, period_s=0.6, deployments=(part,)
    )


async def test_who_says_far_too_much_crowds_out_nobody(
    world: World,  # noqa: F811  # the fixture
    store: Store,
) -> None:
    """Three thousand documents at once: those of the others all arrive, and the last ones."""
    loud = [f"d-loud-{number}" for number in range(LOUD)]
    quiet = [f"d-quiet-{number}" for number in range(QUIET)]
    add_devices(store, [*loud, *quiet])
    both = Both(store, lambda: None)
    async with running(world.link(both)) as link:  # type: ignore[arg-type]  # both ports in one
        peers = {name: await world.device(name) for name in (*loud, *quiet)}
        sent = 0
        for number in range(1, EACH + 1):
            for name in loud:
                say(peers[name], feels(name, number))
            if number % 100 == 0:
                for name in quiet:
                    say(peers[name], feels(name, number))
            sent += LOUD
            await asyncio.sleep(0)
        for name in quiet:
            say(peers[name], feels(name, EACH + 1))

        def settled() -> bool:
            for peer in peers.values():
                peer.pump_once()
            counts = link.counts()
            return counts.committed + counts.dropped >= sent + QUIET * (EACH // 100 + 1)

        await happened(settled, limit_s=60)
        counts = link.counts()
    with store.read() as connection:
        ids = [each.id for each in devices.every(connection)]
        last = {each.document.device: each.document for each in health.among(connection, ids)}
        told = drift.among(connection, ids)

    assert [feels(name, EACH + 1) for name in quiet] == [last[name] for name in quiet]
    assert set(loud) <= set(last)
    # Each telling of who was quiet counted, whoever shouted meanwhile.
    assert {sum(range(100, EACH + 1, 100))} == {
        told[name][0].counts["input-0-mean"][0] for name in quiet
    }
    assert {} == counts.refused


def say(peer: Peer, document: v1.Health) -> None:
    """Say it as a device does: once, confirmed by nobody."""
    peer.client.publish(topic(document.device, Kind.HEALTH), encode(document), qos=0)
    peer.pump_once()


async def test_of_one_topic_only_some_may_wait() -> None:
    """What may be lost is, of who is too loud; what was confirmed to nobody yet is kept."""
    backlog = Backlog(limit=50, topic_limit=5)

    def put(name: str, *, qos: int = 0, times: int = 1) -> None:
        for _ in range(times):
            message = MQTTMessage(topic=name.encode())
            message.qos = qos
            backlog.put(message, name)

    put("loud", times=40)
    put("quiet")
    put("loud", qos=1, times=10)

    assert 35 == backlog.dropped
    first = await backlog.take(8, 0.0)
    assert ["loud"] * 5 + ["quiet"] + ["loud"] * 2 == [each.topic for each in first]
    await backlog.take(50, 0.0)
    put("loud", times=9)
    assert 35 + 4 == backlog.dropped
