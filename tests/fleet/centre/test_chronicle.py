"""What devices went through is told to a collector, and holds nobody up who commits."""

import asyncio
from collections.abc import Iterable

import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind, Topic
from fleet import chronicle
from fleet.chronicle import Chronicle
from fleet.ports import Received
from fleet.rollouts.spans import Span
from fleet.store.doors import StoreInbox
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW, add_devices

TRACE = "0af7651916cd43dd8448eb211c80319c"
DIGEST = "sha256:" + "a" * 64


def said(device: str) -> list[v1.Event]:
    return [
        v1.Event(
            fleet="harbour",
            device=device,
            ledger="l-1",
            number=number,
            kind=v1.EventKind.PHASE,
            at="2026-03-01T12:00:00Z",
            deployment="digits",
            revision=1,
            digest=DIGEST,
            phase=phase,
            trace_id=TRACE,
        )
        for number, phase in enumerate((Phase.FETCHING, Phase.TESTING, Phase.COMMITTED), start=1)
    ]


async def test_what_ended_is_read_back_beside_the_inbox(store: Store) -> None:
    """A batch is acknowledged before anything is read back for a collector."""
    add_devices(store, ["d-1", "d-2"])
    spans = list[Span]()
    both, loop = asyncio.Event(), asyncio.get_running_loop()

    def export(found: Iterable[Span]) -> None:
        spans.extend(found)
        if len({each.attributes["skerry.device"] for each in spans}) == 2:
            loop.call_soon_threadsafe(both.set)

    told = Chronicle(store, export=export)
    inbox = StoreInbox(store, lambda: NOW, told.wake, heard=told.heard)
    batch = [each for device in ("d-1", "d-2") for each in said(device)]

    acked = await inbox.commit(
        [Received(topic=Topic("harbour", each.device, Kind.EVENT), document=each) for each in batch]
    )

    assert ([3, 3], []) == ([each.number for each in acked], spans)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(told.run(), name="chronicle")
        async with asyncio.timeout(10):
            await both.wait()
        running.cancel()
    assert {TRACE} == {each.trace_id for each in spans}
    assert {"d-1", "d-2"} == {each.attributes["skerry.device"] for each in spans}


def test_a_whole_fleet_at_once_fills_no_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans are lost, and nothing else."""
    monkeypatch.setattr(chronicle, "_WAITING", 2)
    add_devices(store, ["d-1"])
    spans = list[Span]()
    told = Chronicle(store, export=spans.extend)
    told.heard([said("d-1")[-1] for _ in range(5)])

    assert 2 == told.waiting
    told.read_back()
    assert 0 == told.waiting
