"""What must not be lost is said until the centre has it; what may be lost, once."""

import asyncio
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from agent.health import phase_s
from agent.ledger import Ledger
from agent.ledger_events import WINDOW
from agent.link.memory import MemoryBroker, MemoryLink
from agent.outbox import AGAIN_S, Outbox
from agent.ports import Connected, Greeting
from agent.report import Self, reported
from agent.state import Installed, Note, accepted
from agent.wire import codec, v1
from agent.wire.limits import DOCUMENT_LIMIT_BYTES, REPLAY_PER_S
from agent.wire.phases import Happening, Phase
from agent.wire.shed import shed
from agent.wire.topics import Kind, Topic

AT = "2026-01-02T03:04:05Z"
EVENTS = str(Topic("f", "d-1", Kind.EVENT))


def tell(ledger: Ledger, count: int) -> None:
    ledger.tell(*[Note(kind=v1.EventKind.BOOT)] * count, at=AT)


def numbers(broker: MemoryBroker) -> list[int]:
    """Return the events the broker took, in order, repetitions too."""
    return [codec.decode(raw, v1.Event).number for topic, raw in broker.log if topic == EVENTS]


@pytest.mark.looptime
async def test_events_are_said_until_the_centre_has_them(ledger: Ledger) -> None:
    """In order, a window at a time, again after a while, and never after `acked`."""
    broker = MemoryBroker()
    link = MemoryLink(broker, fleet="f", device="d-1")
    outbox = Outbox(ledger, link)
    tell(ledger, WINDOW + 10)

    async def greet() -> Greeting:
        return Greeting(birth=b"birth", death=b"death")

    def acknowledge(number: int) -> None:
        ledger.acknowledge(v1.Acked(fleet="f", device="d-1", ledger=ledger.id, number=number))
        outbox.wake()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outbox.run(), name="outbox")]
        await asyncio.sleep(1)
        assert numbers(broker) == []  # no connection, and nothing lost
        tasks.append(group.create_task(link.run(greet), name="link"))
        assert isinstance(await link.next_event(), Connected)
        outbox.start_over()
        await asyncio.sleep(WINDOW / REPLAY_PER_S + 1)
        window = list(range(1, WINDOW + 1))
        assert numbers(broker) == window
        acknowledge(40)
        await asyncio.sleep(1)
        assert numbers(broker) == [*window, *range(WINDOW + 1, WINDOW + 11)]
        broker.log.clear()
        await asyncio.sleep(AGAIN_S + 4)
        assert numbers(broker) == list(range(41, WINDOW + 11))  # the centre may have lost them
        broker.log.clear()
        acknowledge(WINDOW + 10)
        await asyncio.sleep(3600)
        assert numbers(broker) == []
        tell(ledger, 1)
        outbox.wake()
        await asyncio.sleep(1)
        assert numbers(broker) == [WINDOW + 11]
        for task in tasks:
            task.cancel()


class SlowLink(MemoryLink):
    """Takes an event only when it may."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker, fleet="f", device="d-1")
        self.may = asyncio.Event()
        self.may.set()

    async def publish(self, kind: Kind, payload: bytes) -> bool:
        await self.may.wait()
        return await super().publish(kind, payload)


@pytest.mark.looptime
async def test_a_connection_made_while_an_event_is_under_way_starts_over(ledger: Ledger) -> None:
    """What the last connection took, and its broker may have forgotten, is said again at once."""
    broker = MemoryBroker()
    link = SlowLink(broker)
    outbox = Outbox(ledger, link)

    async def greet() -> Greeting:
        return Greeting(birth=b"birth", death=b"death")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outbox.run(), name="outbox")]
        tasks.append(group.create_task(link.run(greet), name="link"))
        assert isinstance(await link.next_event(), Connected)
        tell(ledger, 3)
        outbox.start_over()
        await asyncio.sleep(1)
        assert numbers(broker) == [1, 2, 3]
        link.may.clear()
        tell(ledger, 1)
        outbox.wake()
        await asyncio.sleep(1)
        outbox.start_over()
        link.may.set()
        await asyncio.sleep(1)
        assert numbers(broker) == [1, 2, 3, 4, 1, 2, 3, 4]
        for task in tasks:
            task.cancel()


@pytest.mark.looptime
async def test_nothing_overtakes_what_nobody_heard(ledger: Ledger) -> None:
    """A broker without the centre takes one event, and again; the rest goes when it is heard."""
    random.seed(3)
    broker = MemoryBroker()
    broker.centre_listens = False
    link = MemoryLink(broker, fleet="f", device="d-1")
    outbox = Outbox(ledger, link)
    tell(ledger, 50)

    async def greet() -> Greeting:
        return Greeting(birth=b"birth", death=b"death")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outbox.run(), name="outbox")]
        tasks.append(group.create_task(link.run(greet), name="link"))
        assert isinstance(await link.next_event(), Connected)
        outbox.start_over()
        await asyncio.sleep(300)
        unheard = numbers(broker)
        tell(ledger, 1)
        outbox.wake()  # something new waits its turn
        await asyncio.sleep(1)
        assert {1} == set(numbers(broker))
        assert 10 < len(unheard) < 60  # not all the time: a fleet may be waiting for its centre
        broker.log.clear()
        broker.centre_listens = True
        await asyncio.sleep(40)
        assert list(range(1, 52)) == numbers(broker)[:51]
        for task in tasks:
            task.cancel()


@pytest.mark.looptime
async def test_a_backlog_is_told_in_order_at_a_limited_rate(ledger: Ledger) -> None:
    """However fast the centre acknowledges; a connection that breaks meanwhile alters no order."""
    broker = MemoryBroker()
    link = MemoryLink(broker, fleet="f", device="d-1")
    outbox = Outbox(ledger, link)
    tell(ledger, 300)

    async def greet() -> Greeting:
        return Greeting(birth=b"birth", death=b"death")

    async def acknowledge() -> None:
        while True:
            await asyncio.sleep(0.3)
            number = max(numbers(broker), default=0)
            ledger.acknowledge(v1.Acked(fleet="f", device="d-1", ledger=ledger.id, number=number))
            outbox.wake()

    async def listen() -> None:
        while True:
            if isinstance(await link.next_event(), Connected):
                outbox.start_over()

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(each, name="one of four")
            for each in (outbox.run(), link.run(greet), listen(), acknowledge())
        ]
        seconds: list[int] = []
        while ledger.depth:
            before = len(numbers(broker))
            await asyncio.sleep(1)
            seconds.append(len(numbers(broker)) - before)
            if len(seconds) == 7:
                broker.cut()
        for task in tasks:
            task.cancel()

    said = numbers(broker)
    # A second that begins between two batches sees both, and so does one with a new connection.
    assert max(seconds) <= 2 * REPLAY_PER_S
    assert len(said) / len(seconds) <= 1.1 * REPLAY_PER_S
    assert list(range(1, 301)) == sorted(set(said))
    assert len(said) <= 300 + WINDOW
    steps = {after - before for before, after in pairwise(said)}
    assert {1} >= {step for step in steps if step > 0}  # none was passed over


def big_report(name: int, message: int) -> v1.Reported:
    """Return a report of 16 deployments, each with a candidate refused and an incumbent."""
    records = {}
    for index in range(16):
        wanted = v1.Deployment(
            name=f"{index:02}".ljust(name, "n"),
            revision=1000,
            bundle=v1.BundleRef(digest="sha256:" + "a" * 64, name="b" * name, version="10.10.10"),
        )
        serving = Installed(deployment=wanted, variant="sha256:" + "c" * 64, runtime="litert 2.3.0")
        record = accepted(wanted, AT).moved(
            Happening.FAILED, AT, v1.Problem(reason="GOLDEN_MISMATCH", message="m" * message)
        )
        records[wanted.name] = replace(record, current=serving)
    who = Self(fleet="fleet", device="d-" + "x" * 20, agent_version="0.1.0")
    return reported(who, 12345, v1.Order(epoch=1, generation=99), records, None)


@pytest.mark.parametrize(("name", "message"), [(12, 0), (12, 250), (20, 250)])
def test_a_report_of_sixteen_deployments_fits(name: int, message: int) -> None:
    """Explanations go first, as they went as events; how far each is and what serves stay."""
    document = big_report(name, message)
    raw = codec.encode(shed(document))
    assert len(raw) <= DOCUMENT_LIMIT_BYTES
    read = codec.decode(raw, v1.Reported)
    for each, sent in zip(document.deployments, read.deployments, strict=True):
        assert sent.active == each.active
        assert sent.phase is Phase.REFUSED


def test_devices_speak_at_moments_of_their_own() -> None:
    """Spread over the period, whatever the fleet boots by; the same after every start."""
    moments = [phase_s(f"d-{index}", 60.0) for index in range(1000)]
    assert moments == [phase_s(f"d-{index}", 60.0) for index in range(1000)]
    tenths = [sum(start <= each < start + 6 for each in moments) for start in range(0, 60, 6)]
    assert min(tenths) > 60
    assert sum(tenths) == 1000
