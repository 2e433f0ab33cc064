"""A storm on a device does not become one at the broker, and the latest of it always arrives."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bucket import Bucket
from agent.ledger import Ledger
from agent.link.memory import MemoryBroker, MemoryLink
from agent.outbox import Outbox
from agent.ports import Connected
from agent.report import Reporter, Self
from agent.state import Note
from agent.wire import codec, v1
from agent.wire.limits import REPLAY_PER_S, REPORTS_BURST, REPORTS_PER_S
from agent.wire.reasons import Reason
from agent.wire.topics import Kind, Topic
from tests.agent.looped import greet

AT = "2026-01-02T03:04:05Z"
WHO = Self(fleet="f", device="d-1", agent_version="1")
STORM_S = 60
A_SECOND = 100

pytestmark = pytest.mark.looptime


class Timed(MemoryBroker):
    """Notes when each message came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        super().take(topic, payload, retain=retain)
        self.times.append(asyncio.get_running_loop().time())

    def said(self, kind: Kind) -> list[tuple[float, bytes]]:
        topic = str(Topic("f", "d-1", kind))
        return [
            (at, raw) for at, (name, raw) in zip(self.times, self.log, strict=True) if name == topic
        ]


@given(
    st.floats(0.1, 50),
    st.integers(1, 30),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 30)), max_size=60),
)
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(
    per_s: float, burst: int, asked: list[tuple[float, int]]
) -> None:
    """Over any stretch of time; and nobody waits longer than it takes to fill."""
    bucket, now = Bucket(per_s=per_s, burst=burst), 0.0
    taken: list[tuple[float, int]] = []
    for pause, count in asked:
        now += pause
        wanted = min(count, burst)
        wait_s = bucket.wait_s(now, wanted)
        assert wait_s <= wanted / per_s + 1e-6
        now += wait_s
        bucket.take(now, wanted)
        taken.append((now, wanted))

    for place, (begin, _) in enumerate(taken):
        total = 0
        for at, count in taken[place:]:
            total += count
            assert total <= burst + per_s * (at - begin) + 1e-3


async def test_of_a_storm_of_changes_the_latest_is_said_within_a_second(ledger: Ledger) -> None:
    """A hundred changes a second cost a report a second, and none of those is out of date."""
    broker = Timed()
    link = MemoryLink(broker, fleet="f", device="d-1")
    loop = asyncio.get_running_loop()
    state = [0]

    def look() -> tuple[None, v1.Problem]:
        return None, v1.Problem(reason=Reason.DISK_FULL, message=str(state[0]))

    reporter = Reporter(WHO, ledger, link, look=look, serving=dict)
    since = {0: loop.time()}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reporter.report(), name="report")]
        tasks.append(group.create_task(link.run(greet), name="link"))
        assert isinstance(await link.next_event(), Connected)
        reporter.start_over()
        for number in range(1, STORM_S * A_SECOND + 1):
            await asyncio.sleep(1 / A_SECOND)
            state[0], since[number] = number, loop.time()
            reporter.wake()
        await asyncio.sleep(1.1 / REPORTS_PER_S)
        for task in tasks:
            task.cancel()

    said = [
        (at, int(problem.message))
        for at, raw in broker.said(Kind.REPORTED)
        if (problem := codec.decode(raw, v1.Reported).last_error) is not None
    ]
    assert STORM_S <= len(said) <= REPORTS_BURST + STORM_S * REPORTS_PER_S + 1
    assert STORM_S * A_SECOND == said[-1][1]
    for at, number in said:
        # What is said is what is so; a change of this very moment may be missing.
        assert number >= max(each for each, when in since.items() if when < at - 0.001 or not each)
    times = [at for at, _ in said]
    assert all(later - earlier <= 1.1 / REPORTS_PER_S for earlier, later in pairwise(times))


async def test_a_lone_change_is_said_at_once(ledger: Ledger) -> None:
    """The bucket is for storms: what happens now and then does not wait."""
    broker = Timed()
    link = MemoryLink(broker, fleet="f", device="d-1")
    state = [0]

    def look() -> tuple[None, v1.Problem]:
        return None, v1.Problem(reason=Reason.DISK_FULL, message=str(state[0]))

    reporter = Reporter(WHO, ledger, link, look=look, serving=dict)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reporter.report(), name="report")]
        tasks.append(group.create_task(link.run(greet), name="link"))
        assert isinstance(await link.next_event(), Connected)
        for number in range(1, REPORTS_BURST + 1):
            state[0] = number
            reporter.wake()
            await asyncio.sleep(0.01)
            assert number == len(broker.said(Kind.REPORTED))
        for task in tasks:
            task.cancel()


async def test_events_that_nobody_hears_are_not_said_faster_for_being_many(ledger: Ledger) -> None:
    """A broker that has forgotten the centre, and a device in a storm: then all of it, in order."""
    broker = Timed()
    broker.centre_listens = False
    link = MemoryLink(broker, fleet="f", device="d-1")
    outbox = Outbox(ledger, link)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outbox.run(), name="outbox")]
        tasks.append(group.create_task(link.run(greet), name="link"))
        assert isinstance(await link.next_event(), Connected)
        outbox.start_over()
        for number in range(10 * A_SECOND):
            await asyncio.sleep(1 / A_SECOND)
            if number % 50 == 0:
                ledger.tell(Note(kind=v1.EventKind.WORKER), at=AT)
            outbox.wake()
        assert len(broker.said(Kind.EVENT)) <= REPLAY_PER_S * (10 + 1) + 1

        broker.centre_listens = True
        broker.log.clear()
        broker.times.clear()
        await asyncio.sleep(60)
        told = [codec.decode(raw, v1.Event).number for _, raw in broker.said(Kind.EVENT)]
        assert list(range(1, 21)) == list(dict.fromkeys(told))
        for task in tasks:
            task.cancel()
