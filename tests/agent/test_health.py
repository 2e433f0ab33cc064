"""How the device feels is said once a period, at its moment; without a connection it waits."""

import asyncio
from pathlib import Path

import pytest

from agent.health import Pulse, phase_s
from agent.ledger import Ledger
from agent.link.memory import MemoryBroker, MemoryLink
from agent.meter import Meter
from agent.outbox import Outbox
from agent.ports import Connected, LinkRefusedError, Tally
from agent.report import Self
from agent.state import Compared, Note
from agent.wire import codec, v1
from agent.wire.topics import Kind, Topic
from tests.agent.looped import greet

AT = "2026-01-02T03:04:05Z"
WHO = Self(fleet="f", device="d-1", agent_version="1")


class NoRequests:
    """Counts nothing."""

    def take(self) -> tuple[Tally, ...]:
        return ()

    def compared(self) -> dict[str, Compared]:
        return {}


def said(broker: MemoryBroker, kind: Kind) -> list[bytes]:
    topic = str(Topic("f", "d-1", kind))
    return [raw for name, raw in broker.log if name == topic]


def health(told: int = 0) -> v1.Health:
    return v1.Health(fleet="f", device="d-1", session=0, at=AT, period_s=60.0, told=told)


def kept(ledger: Ledger) -> list[v1.Event]:
    return [codec.decode(each.body, v1.Event) for each in ledger.pending()]


@pytest.mark.looptime
async def test_health_waits_in_order_while_there_is_no_connection(ledger: Ledger) -> None:
    """Said at once when connected, kept among the transitions when not, told when it can be."""
    broker = MemoryBroker()
    link = MemoryLink(broker, fleet="f", device="d-1")
    outbox = Outbox(ledger, link)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outbox.run(), name="outbox")]
        tasks.append(group.create_task(link.run(greet), name="link"))
        assert isinstance(await link.next_event(), Connected)
        outbox.start_over()
        await outbox.say(health())
        assert [codec.encode(health())] == said(broker, Kind.HEALTH)
        assert ledger.depth == 0

        broker.stop()
        await outbox.say(health(0))
        ledger.tell(Note(kind=v1.EventKind.WORKER), at=AT)
        await outbox.say(health(2))
        assert ["health", "worker", "health"] == [event.kind for event in kept(ledger)]
        assert [health(0), None, health(2)] == [event.health for event in kept(ledger)]
        waiting = [each.body for each in ledger.pending()]

        broker.start()
        assert not isinstance(await link.next_event(), Connected)  # that it was lost
        assert isinstance(await link.next_event(), Connected)
        outbox.start_over()
        await asyncio.sleep(1)
        assert waiting == list(dict.fromkeys(said(broker, Kind.EVENT)))
        assert 1 == len(said(broker, Kind.HEALTH))
        for task in tasks:
            task.cancel()


class Deaf(MemoryLink):
    """A link whose broker takes nothing."""

    async def publish(self, kind: Kind, payload: bytes) -> bool:
        raise LinkRefusedError(f"{kind} of {len(payload)} bytes")


async def test_health_that_is_refused_does_not_stop_what_comes_after_it(ledger: Ledger) -> None:
    """As an event it would be refused as well, again and again: it is let go."""
    outbox = Outbox(ledger, Deaf(MemoryBroker(), fleet="f", device="d-1"))

    await outbox.say(health())

    assert ledger.depth == 0


@pytest.mark.looptime
async def test_a_device_speaks_once_a_period_and_heeds_another_one_at_once(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Settings that arrive in the middle of a long period don't wait for its end."""
    wanted = [v1.DeviceSettings(health_period_s=60.0)]
    heard: list[tuple[float, v1.Health]] = []
    loop = asyncio.get_running_loop()

    async def say(document: v1.Health) -> None:
        heard.append((loop.time() - began, document))

    pulse = Pulse(
        WHO,
        ledger,
        Meter(NoRequests()),
        home=tmp_path,
        clock=lambda: AT,
        settings=lambda: wanted[0],
        say=say,
    )
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pulse.run(), name="pulse")
        await asyncio.sleep(200)
        moment = phase_s("d-1", 60.0)
        assert [moment + 60 * number for number in range(len(heard))] == pytest.approx(
            [at for at, _ in heard], abs=0.1
        )
        assert 3 <= len(heard) <= 4
        assert [60.0] * (len(heard) - 1) == pytest.approx(
            [document.period_s for _, document in heard[1:]], abs=0.1
        )
        heard.clear()
        ledger.tell(Note(kind=v1.EventKind.BOOT), at=AT)
        wanted[0] = v1.DeviceSettings(health_period_s=1.0)
        pulse.wake()
        await asyncio.sleep(5.5)
        assert 5 <= len(heard) <= 6
        assert {1} == {document.told for _, document in heard}
        assert heard[0][0] < 202
        task.cancel()
