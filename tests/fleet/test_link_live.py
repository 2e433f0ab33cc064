"""The centre's link on real brokers: nothing lost, nothing said twice, nothing ends it."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from agent.wire import v1
from agent.wire.codec import encode
from agent.wire.reasons import Reason
from agent.wire.topics import Kind, Topic, marker
from fleet.broker import mosquitto
from fleet.broker.address import Address
from fleet.broker.embedded import Embedded
from fleet.broker.mosquitto import Mosquitto
from fleet.broker.settings import BrokerSettings
from fleet.link.link import Link
from fleet.link.pace import Pace
from fleet.ports import Broker, BrokerError, InboxBusyError, Publication, Received
from tests.conformance.conftest import KINDS, free_port
from tests.conformance.peer import Peer
from tests.conformance.trust import TestAuthority

FLEET, AT = "f", "2026-01-02T03:04:05Z"
LIMIT_S = 15.0
PACE = Pace(
    batch_wait_s=0.05,
    marker_wait_s=0.5,
    quiet_s=0.3,
    look_again_s=0.5,
    reconnect_first_s=0.05,
    reconnect_cap_s=0.3,
    busy_first_s=0.02,
)


class Memory:
    """Both sides of a store, in memory: commits once, tells the latest by position."""

    store_id = "store-1"

    def __init__(self) -> None:
        self.batches: list[Sequence[Received]] = []
        self.publications: dict[str, Publication] = {}
        self.asked_after: list[int] = []
        self.before_commit: Callable[[], None] = lambda: None
        self._position = 0

    @property
    def received(self) -> list[Received]:
        return [received for batch in self.batches for received in batch]

    def numbers(self) -> list[int]:
        return [r.document.number for r in self.received if isinstance(r.document, v1.Event)]

    def want(self, device: str, payload: bytes) -> None:
        self._position += 1
        topic = Topic(FLEET, device, Kind.DESIRED)
        self.publications[str(topic)] = Publication(
            position=self._position, topic=topic, payload=payload
        )

    async def commit(self, batch: Sequence[Received]) -> Sequence[v1.Acked]:
        self.before_commit()
        self.batches.append(batch)
        return [
            v1.Acked(
                fleet=FLEET,
                device=received.document.device,
                ledger=received.document.ledger,
                number=received.document.number,
            )
            for received in batch
            if isinstance(received.document, v1.Event)
        ]

    async def head(self) -> int:
        return self._position

    async def after(self, position: int, limit: int) -> Sequence[Publication]:
        self.asked_after.append(position)
        newer = [each for each in self.publications.values() if each.position > position]
        return sorted(newer, key=lambda each: each.position)[:limit]


class World:
    """A broker, and devices on it."""

    def __init__(self, broker: Broker, authority: TestAuthority | None) -> None:
        self.broker = broker
        self.authority = authority
        self.peers: list[Peer] = []

    def link(self, memory: Memory, pace: Pace = PACE) -> Link:
        tls = self.authority.context("centre") if self.authority else None
        return Link(
            fleet=FLEET,
            url=self.broker.centre_url,
            tls=tls,
            inbox=memory,
            outgoing=memory,
            shared=self.broker.shares,
            pace=pace,
        )

    async def device(self, name: str) -> Peer:
        tls = self.authority.context(name) if self.authority else None
        peer = Peer(Address.parse(self.broker.centre_url), name, tls=tls)
        self.peers.append(peer)
        await asyncio.to_thread(peer.connect)
        assert peer.connected, peer.why_not
        return peer


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    settings = BrokerSettings(fleet=FLEET, home=tmp_path / "broker", port=free_port())
    broker: Broker
    if request.param == "embedded":
        world = World(Embedded(settings), None)
    else:
        authority, program = TestAuthority(tmp_path), mosquitto.find()
        assert program is not None
        broker = Mosquitto(settings, authority.server(), program)
        world = World(broker, authority)
    await world.broker.start()
    yield world
    for peer in world.peers:
        peer.vanish()
    await world.broker.stop()


@contextlib.asynccontextmanager
async def running(link: Link) -> AsyncIterator[Link]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(link.run(), name="link")
        await happened(lambda: link.connected)
        yield link
        task.cancel()


async def happened(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  # the condition is another program's doing
            await asyncio.sleep(0.01)


def topic(device: str, kind: Kind) -> str:
    return str(Topic(FLEET, device, kind))


def event(device: str, number: int) -> bytes:
    return encode(
        v1.Event(
            fleet=FLEET,
            device=device,
            ledger="l",
            number=number,
            kind=v1.EventKind.BOOT,
            at=AT,
        )
    )


def reported(device: str) -> bytes:
    return encode(v1.Reported(fleet=FLEET, device=device, session=1))


async def test_events_are_committed_then_acknowledged(world: World) -> None:
    """What a device says is committed once, in order, in batches; it is told how far."""
    memory = Memory()
    async with running(world.link(memory)) as link:
        device = await world.device("d-1")
        await asyncio.to_thread(device.subscribe, topic("d-1", Kind.ACKED))
        for number in range(1, 701):
            device.send(topic("d-1", Kind.EVENT), event("d-1", number))
            device.pump_once()
        await happened(lambda: pumped(device, len(memory.received) >= 700))
        assert memory.numbers() == list(range(1, 701))
        assert max(map(len, memory.batches)) <= PACE.batch_limit
        last = v1.Acked(fleet=FLEET, device="d-1", ledger="l", number=700)
        await happened(lambda: pumped(device, encode(last) in device.payloads()))
        assert link.counts().committed == 700
        assert link.counts().refused == {}


def pumped(peer: Peer, value: bool) -> bool:  # noqa: FBT001  # reads as a condition
    peer.pump_once()
    return value


async def test_what_the_centre_says_of_itself_is_on_the_broker(world: World) -> None:
    """An alert is published once; without a connection, or where nobody may, that is an error."""
    memory = Memory()
    link = world.link(memory)
    with pytest.raises(BrokerError):
        await link.tell("skerry/v1/f/centre/alert", b"{}")
    listener = await world.device("observer")
    await asyncio.to_thread(listener.subscribe, "skerry/v1/f/centre/alert")
    device = await world.device("d-1")
    await asyncio.to_thread(device.subscribe, "skerry/v1/f/centre/alert")
    async with running(link):
        await link.tell("skerry/v1/f/centre/alert", b"{}")
        await happened(lambda: pumped(listener, listener.payloads() == [b"{}"]))
    device.pump_once()
    if world.authority is not None:  # with identities, alerts are for who looks on, and no device
        assert [] == device.payloads()


async def test_a_busy_store_delays_and_loses_nothing(world: World) -> None:
    """While the store can't commit, nothing is confirmed; then the same batch is committed."""
    memory = Memory()
    refusals = 3

    def busy() -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise InboxBusyError("locked")

    memory.before_commit = busy
    async with running(world.link(memory)):
        device = await world.device("d-1")
        await asyncio.to_thread(device.publish, topic("d-1", Kind.EVENT), event("d-1", 1))
        await happened(lambda: memory.numbers() == [1])
    assert refusals == 0


async def test_how_long_the_oldest_message_waits_is_known(world: World) -> None:
    """It counts from its arrival through every vain commit, and is nothing once it is committed."""
    memory = Memory()
    lags: list[float] = []
    link = world.link(memory)

    def busy() -> None:
        lags.append(link.lag_s())
        if lags[-1] < 0.3:
            raise InboxBusyError("locked")

    memory.before_commit = busy
    async with running(link):
        device = await world.device("d-1")
        await asyncio.to_thread(device.publish, topic("d-1", Kind.EVENT), event("d-1", 1))
        await happened(lambda: memory.numbers() == [1])
        await happened(lambda: link.lag_s() == 0)
    assert sorted(lags) == lags
    assert len(lags) > 1


async def test_a_centre_that_dies_before_it_committed_gets_it_again(world: World) -> None:
    """Killed before committing: the next centre finds everything, also what came meanwhile."""
    memory = Memory()
    reached = asyncio.Event()

    def never() -> None:
        reached.set()
        raise InboxBusyError("dying")

    memory.before_commit = never
    device: Peer
    async with running(world.link(memory)):
        device = await world.device("d-1")
        await asyncio.to_thread(device.publish, topic("d-1", Kind.EVENT), event("d-1", 1))
        await reached.wait()
    assert memory.received == []
    await asyncio.to_thread(device.publish, topic("d-1", Kind.EVENT), event("d-1", 2))
    after = Memory()
    async with running(world.link(after)):
        await happened(lambda: sorted(after.numbers()) == [1, 2])


async def test_nothing_a_device_sends_ends_the_link(world: World) -> None:
    """Garbage is refused, counted and confirmed; good documents go on being committed."""
    memory = Memory()
    bad = [
        (topic("d-1", Kind.REPORTED), b"", Reason.MALFORMED),
        (topic("d-1", Kind.EVENT), b"\xff\x00not json", Reason.MALFORMED),
        (topic("d-1", Kind.EVENT), b"[" * 8000, Reason.MALFORMED),
        (topic("d-1", Kind.HEALTH), b'{"schema":"skerry.health/v7"}', Reason.UNKNOWN_SCHEMA),
        (topic("d-1", Kind.RESULT), bytes(9000), Reason.TOO_LARGE),
        (topic("d-1", Kind.REPORTED), reported("d-2"), Reason.WRONG_TARGET),
    ]
    async with running(world.link(memory)) as link:
        device = await world.device("d-1")
        for name, payload, _ in bad:
            if payload:
                await asyncio.to_thread(device.publish, name, payload)
        # 100 MB: the broker cuts it off; should one ever let it through, the intake refuses it.
        with contextlib.suppress(Exception):
            await asyncio.to_thread(
                device.publish, topic("d-1", Kind.EVENT), bytes(100 * 1024 * 1024)
            )
        await asyncio.to_thread(device.connect)
        await asyncio.to_thread(device.publish, topic("d-1", Kind.EVENT), event("d-1", 1))
        await happened(lambda: memory.numbers() == [1])
        # While it also reads what is retained, one document may come by both subscriptions.
        assert set(link.counts().refused) == {reason for _, payload, reason in bad if payload}
        assert link.counts().connections == 1
    assert [received.document for received in memory.received if not is_event(received)] == []


def is_event(received: Received) -> bool:
    return isinstance(received.document, v1.Event)


async def test_what_the_store_wants_is_published_once(world: World) -> None:
    """A change goes out at a wake-up, retained; a restart doesn't say again what is there."""
    memory = Memory()
    for number in range(450):
        memory.want(f"d-{number}", b"desired %d" % number)
    async with running(world.link(memory)) as link:
        await happened(lambda: link.counts().published == 450)
        memory.want("d-7", b"changed")
        link.wake()
        await happened(lambda: link.counts().published == 451)
    device = await world.device("d-7")
    await asyncio.to_thread(device.subscribe, topic("d-7", Kind.DESIRED))
    await asyncio.to_thread(device.until, lambda: bool(device.messages))
    assert [(m.payload, m.retain) for m in device.messages] == [(b"changed", True)]
    memory.asked_after.clear()
    async with running(world.link(memory)) as link:
        await happened(lambda: bool(memory.asked_after))
        assert memory.asked_after[0] == 451
        assert link.counts().published == 0


@pytest.mark.parametrize(
    "held",
    [
        b"",
        b"garbage",
        json.dumps({"store": "another", "position": 5}).encode(),
        json.dumps({"store": "store-1", "position": 99}).encode(),
        json.dumps({"store": "store-1", "position": -1}).encode(),
        json.dumps({"store": "store-1", "position": True}).encode(),
    ],
    ids=["missing", "garbage", "another store's", "ahead", "negative", "no number"],
)
async def test_a_broker_without_our_marker_is_filled_again(world: World, held: bytes) -> None:
    """A marker that isn't this store's, or says what can't be, means: publish everything."""
    memory = Memory()
    for number in range(5):
        memory.want(f"d-{number}", b"desired")
    centre = await world.device("centre")
    await asyncio.to_thread(centre.publish, marker(FLEET), held, retain=True)
    await asyncio.to_thread(centre.leave)
    async with running(world.link(memory)) as link:
        await happened(lambda: link.counts().published == 5)


async def test_the_fill_is_rate_limited(world: World) -> None:
    """A broker that lost its memory isn't flooded while its devices come back."""
    memory = Memory()
    for number in range(100):
        memory.want(f"d-{number}", b"desired")
    pace = Pace(publish_limit=10, publish_per_s=100.0, marker_wait_s=0.1)
    loop = asyncio.get_running_loop()
    async with running(world.link(memory, pace)) as link:
        started = loop.time()
        await happened(lambda: link.counts().published == 100)
        assert loop.time() - started >= 0.8


async def test_a_starting_centre_reads_what_is_retained(world: World) -> None:
    """What devices reported before the centre's first breath is read once, marked as retained."""
    devices = [await world.device(f"d-{number}") for number in range(30)]
    for device in devices:
        await asyncio.to_thread(
            device.publish, topic(device.name, Kind.REPORTED), reported(device.name), retain=True
        )
    memory = Memory()
    async with running(world.link(memory)):
        await happened(
            lambda: {r.topic.device for r in memory.received} == {d.name for d in devices}
        )
        assert all(received.retained for received in memory.received)
        # Afterwards the stream alone: each document once.
        await asyncio.sleep(3 * PACE.quiet_s)
        memory.batches.clear()
        await asyncio.to_thread(
            devices[0].publish, topic("d-0", Kind.REPORTED), reported("d-0"), retain=True
        )
        await happened(lambda: bool(memory.received))
        await asyncio.sleep(0.2)
        assert [received.retained for received in memory.received] == [False]


@pytest.mark.real("mosquitto")
@pytest.mark.parametrize("world", [pytest.param("mosquitto")], indirect=True)
async def test_the_link_comes_back_when_the_broker_does(world: World) -> None:
    """The broker killed outright and restarted: it is filled again, and the stream goes on."""
    assert isinstance(world.broker, Mosquitto)
    memory = Memory()
    memory.want("d-1", b"desired")
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(world.broker.watch(), name="watch")
        async with running(world.link(memory)) as link:
            await happened(lambda: link.counts().published == 1)
            assert world.broker.pid is not None
            os.kill(world.broker.pid, signal.SIGKILL)
            await happened(lambda: not link.connected)
            await happened(lambda: link.connected and link.counts().published == 2)
            device = await world.device("d-1")
            await asyncio.to_thread(device.subscribe, topic("d-1", Kind.DESIRED))
            await asyncio.to_thread(device.until, lambda: b"desired" in device.payloads())
            await asyncio.to_thread(device.publish, topic("d-1", Kind.EVENT), event("d-1", 1))
            await happened(lambda: memory.numbers() == [1])
        watching.cancel()


async def test_a_link_without_a_broker_waits_and_can_be_cancelled() -> None:
    """Nobody listens: the link keeps trying with jitter, and ends at once when told to."""
    memory = Memory()
    link = Link(
        fleet=FLEET,
        url=f"mqtt://127.0.0.1:{free_port()}",
        tls=None,
        inbox=memory,
        outgoing=memory,
        pace=PACE,
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(link.run(), name="link")
        await asyncio.sleep(0.3)
        assert not link.connected
        task.cancel()
    assert link.counts().connections == 0
