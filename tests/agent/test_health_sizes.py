"""Health as large as it gets, by the agent's own path: what was answered is told, and it fits."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.drift import HOUR_S
from agent.health import Pulse
from agent.ledger import Ledger, open_ledger
from agent.link.memory import MemoryBroker, MemoryLink
from agent.meter import Meter
from agent.outbox import Outbox
from agent.perform.floor import WorkerFloor
from agent.ports import Connected, Greeting
from agent.report import Self
from agent.state import Installed, Machine, accepted
from agent.wire import codec, v1
from agent.wire.limits import (
    DOCUMENT_LIMIT_BYTES,
    HEALTH_DEPLOYMENT_LIMIT_BYTES,
    HEALTH_DEVICE_LIMIT_BYTES,
    HEALTH_DRIFT_LIMIT_BYTES,
)
from agent.wire.shed import shed_waiting
from agent.wire.sketch import merged, quantile
from agent.wire.topics import Kind, Topic
from agent.workers.pool import Worker, start_worker
from agent.workers.values import Answer, ReadyReport, Verdict
from models.card import DriftReference
from models.card_codec import render
from tests.agent.inline import Inline
from tests.agent.packages import Package
from tests.contract.test_wire_limits import waited

AT = "2026-01-02T03:04:05.678901Z"
WHO = Self(fleet="north-sea", device="d-" + "7f3a" * 4, agent_version="1", accelerator="edgetpu")
REQUESTS = 50_000
DRIFT = (
    ("output-0-class", 11),
    ("input-0-mean", 11),
    ("input-0-deviation", 11),
    ("input-1-mean", 11),
    ("input-1-deviation", 11),
    ("output-1-mean", 11),
)


class Scene:
    """A device's floor, meter and pulse, with deployments that serve; what it said."""

    def __init__(self, folder: Path, names: list[str], digest: str) -> None:
        self.ledger: Ledger = open_ledger(folder / "ledger.db", fleet=WHO.fleet, device=WHO.device)
        for name in names:
            bundle = v1.BundleRef(digest=digest, name=name, version="1.0.0")
            wanted = v1.Deployment(name=name, bundle=bundle, revision=1)
            current = Installed(deployment=wanted, variant=digest, runtime="litert 2.3.0")
            record = replace(accepted(wanted, AT), current=current, proven=True)
            self.ledger.put(name, None, record, at=AT)
        machine = Machine(architecture="aarch64", library="litert", library_version="2.3.0")
        self.floor = WorkerFloor(folder, machine, lambda _event: None)
        self.said: list[tuple[float, v1.Health]] = []
        self.pulse = Pulse(
            WHO,
            self.ledger,
            Meter(self.floor),
            home=folder,
            clock=lambda: AT,
            settings=v1.DeviceSettings,
            say=self._say,
        )

        self.outbox: Outbox | None = None

    async def _say(self, health: v1.Health) -> None:
        self.said.append((asyncio.get_running_loop().time(), health))
        if self.outbox is not None:
            await self.outbox.say(health)

    @property
    def parts(self) -> list[v1.DeploymentHealth]:
        return [part for _, health in self.said for part in health.deployments]

    def drift(self) -> dict[tuple[str, str], int]:
        """Return how many requests were told of, by deployment and subject."""
        total: Counter[tuple[str, str]] = Counter()
        for part in self.parts:
            for each in part.drift:
                total[part.name, each.subject] += sum(each.counts)
        return dict(total)


def fits(health: v1.Health) -> None:
    """Hold a document to the wire's limits, whole and in parts, sent at once or having waited."""
    raw = codec.encode(health)
    tree = json.loads(raw)
    parts = tree.pop("deployments")

    assert len(raw) <= DOCUMENT_LIMIT_BYTES
    assert size({**tree, "deployments": []}) <= HEALTH_DEVICE_LIMIT_BYTES
    for part in parts:
        drift = part.pop("drift", {})
        assert size(part) <= HEALTH_DEPLOYMENT_LIMIT_BYTES
        assert size({"drift": drift}) <= HEALTH_DRIFT_LIMIT_BYTES
    assert health == codec.decode(raw, v1.Health)
    event = waited(health)
    assert event is shed_waiting(event)
    assert len(codec.encode(event)) <= DOCUMENT_LIMIT_BYTES


def size(tree: object) -> int:
    return len(json.dumps(tree, separators=(",", ":")))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Callable[[list[str]], Scene]]:
    asyncio.get_running_loop().set_default_executor(Inline())
    made: list[Scene] = []

    def make(names: list[str], digest: str = "sha256:" + "b" * 64) -> Scene:
        made.append(Scene(tmp_path, names, digest))
        return made[-1]

    yield make
    for each in made:
        each.ledger.close()


def seated(package: Package, name: str) -> Worker:
    """Return a worker's place in the counts, and all that they ask of it: there is no process."""
    report = ReadyReport(
        library="litert",
        library_version="2.3.0",
        verdict=Verdict(vectors=1, agreed=1, largest=(), mean=()),
        metadata=b"",
        body_limit_bytes=1,
        sandbox=(),
        start_s=0.0,
        drift=DRIFT,
    )
    return Worker(package.launch(deployment=name), report, None, None)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.looptime
@pytest.mark.parametrize("deployments", [1, 4, 16])
@pytest.mark.parametrize("at_once", [True, False])
async def test_fifty_thousand_skewed_requests_fit_and_are_all_told(
    scene: Callable[[list[str]], Scene], dense: Package, deployments: int, *, at_once: bool
) -> None:
    """Log-normal with outliers, most for the first deployments; in one period, or over two hours.

    They enter where real answers are counted. Drift is told once an hour of each deployment, in
    documents that follow each other; no request is told twice or not at all.
    """
    names = [f"{number:02}-".ljust(63, "n") for number in range(deployments)]
    made = scene(names)
    workers = [seated(dense, name) for name in names]
    rng = np.random.default_rng(8)
    seconds = rng.lognormal(-4, 1, REQUESTS)
    seconds[::100] *= rng.uniform(10, 100, len(seconds[::100]))
    seconds = np.minimum(seconds, 5.0)  # a call that takes longer is ended
    chosen = np.minimum(rng.geometric(0.3, REQUESTS) - 1, deployments - 1)
    bins = np.minimum(rng.geometric(0.25, (REQUESTS, len(DRIFT))) - 1, 10).astype(np.uint8)
    loop, began = asyncio.get_running_loop(), 0.0
    count = made.floor.board._count
    wanted: Counter[str] = Counter()

    async with asyncio.TaskGroup() as group:
        pulse = group.create_task(made.pulse.run(), name="pulse")
        await asyncio.sleep(0)
        began = loop.time()
        for place in range(REQUESTS):
            if not at_once and place % 500 == 0:
                await asyncio.sleep(72)
            status = 500 if place % 1000 == 7 else 200
            answer = Answer(status=status, body=b"", bins=bins[place].tobytes())
            worker = workers[chosen[place]]
            count(worker, answer, seconds=float(seconds[place]))
            wanted[worker.launch.deployment] += status == 200
        await asyncio.sleep(began + 3.5 * HOUR_S - loop.time())
        pulse.cancel()

    for _, health in made.said:
        fits(health)
    assert REQUESTS == sum(part.requests for part in made.parts)
    assert REQUESTS / 1000 == sum(part.errors for part in made.parts)
    assert sum(wanted.values()) == sum(part.latency.count for part in made.parts)
    for name in names:
        total = merged(part.latency for part in made.parts if part.name == name)
        mine = seconds[(chosen == names.index(name)) & (np.arange(REQUESTS) % 1000 != 7)]
        for share in (0.5, 0.95, 0.99):
            exact = np.quantile(mine, share, method="lower")
            assert quantile(total, share) == pytest.approx(exact, rel=0.051)
    assert {
        (name, subject): number for name, number in wanted.items() for subject, _ in DRIFT
    } == made.drift()
    moments: dict[str, list[float]] = {name: [] for name in names}
    for at, health in made.said:
        for part in health.deployments:
            if part.drift:
                moments[part.name].append(at - began)
    assert (1 if at_once else 2) == len(moments[names[0]])
    for told in moments.values():
        assert HOUR_S <= told[0] <= 2 * HOUR_S
        assert all(later - earlier >= HOUR_S for earlier, later in pairwise(told))


def heard(broker: MemoryBroker) -> tuple[list[v1.Health], dict[int, v1.Health]]:
    """Return the health that came at once, and what had waited by its event's number."""
    topics = {kind: str(Topic(WHO.fleet, WHO.device, kind)) for kind in (Kind.HEALTH, Kind.EVENT)}
    said = [
        codec.decode(raw, v1.Health) for topic, raw in broker.log if topic == topics[Kind.HEALTH]
    ]
    events = [
        codec.decode(raw, v1.Event) for topic, raw in broker.log if topic == topics[Kind.EVENT]
    ]
    return said, {event.number: event.health for event in events if event.health is not None}


async def connected(link: MemoryLink, outbox: Outbox) -> None:
    async def greet() -> Greeting:
        return Greeting(birth=b"birth", death=b"death")

    async with asyncio.TaskGroup() as group:
        group.create_task(link.run(greet), name="link")
        group.create_task(outbox.run(), name="outbox")
        while True:
            if isinstance(await link.next_event(), Connected):
                outbox.start_over()


@pytest.mark.looptime
async def test_a_broker_that_comes_and_goes_costs_no_count(
    scene: Callable[[list[str]], Scene], dense: Package
) -> None:
    """What was measured while there was no connection is told as events, with its drift."""
    made = scene(["digits"])
    worker = seated(dense, "digits")
    broker = MemoryBroker()
    link = MemoryLink(broker, fleet=WHO.fleet, device=WHO.device)
    made.outbox = Outbox(made.ledger, link)
    answer = Answer(status=200, body=b"", bins=bytes(range(len(DRIFT))))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(made.pulse.run(), name="pulse")]
        tasks.append(group.create_task(connected(link, made.outbox), name="connected"))
        for minute in range(300):
            await asyncio.sleep(60)
            for _ in range(minute % 7 if minute < 180 else 0):
                made.floor.board._count(worker, answer, seconds=0.01)
            if minute % 50 == 49:  # also while drift is due
                (broker.start if minute % 100 == 99 else broker.stop)()
            if minute % 10 == 0:
                told_to = max(heard(broker)[1], default=0)
                made.ledger.acknowledge(
                    v1.Acked(
                        fleet=WHO.fleet, device=WHO.device, ledger=made.ledger.id, number=told_to
                    )
                )
        for task in tasks:
            task.cancel()

    said, waited_ = heard(broker)
    told: Counter[tuple[str, int]] = Counter()
    for part in (part for health in (*said, *waited_.values()) for part in health.deployments):
        for each in part.drift:
            told.update({(each.subject, place): count for place, count in enumerate(each.counts)})
    total = sum(minute % 7 for minute in range(180))
    assert {(subject, place): total for place, (subject, _) in enumerate(DRIFT)} == +told
    assert len(waited_) > 90
    assert any(part.drift for health in waited_.values() for part in health.deployments)


@pytest.mark.slow
async def test_what_real_workers_answered_is_what_health_tells(
    scene: Callable[[list[str]], Scene], dense: Package
) -> None:
    """Four models in processes of their own, asked by eight clients at once; each is counted."""
    references = tuple(
        DriftReference(
            subject=subject, edges=tuple(map(float, edges)), shares=(0.1,) * 10, samples=100
        )
        for subject, edges in (
            ("output-0-class", np.arange(9) + 0.5),
            ("input-0-mean", np.linspace(-20, 20, 9)),
            ("input-0-deviation", np.linspace(60, 85, 9)),
        )
    )
    (dense.folder / "card.json").write_bytes(render(replace(dense.card, drift=references)))
    names = ["one", "two", "three", "four"]
    made = scene(names)
    board = made.floor.board
    bodies = [array.tobytes() for array in dense.inputs(500, seed=4)]
    luck = random.Random(3)  # noqa: S311  # not a secret
    asked: Counter[str] = Counter()

    async def client() -> None:
        for _ in range(500):
            name = luck.choices(names, weights=(8, 4, 2, 1))[0]
            answer = await board.infer(name, luck.choice(bodies), 0)
            assert 200 == answer.status
            asked[name] += 1

    async with board:
        for name in names:
            await board.install(await start_worker(dense.launch(deployment=name)), name)
        async with asyncio.TaskGroup() as clients:
            for number in range(8):
                clients.create_task(client(), name=f"client {number}")
        health = await made.pulse._look(60.0)

    fits(health)
    assert 4000 == sum(asked.values())
    assert dict(asked) == {part.name: part.requests for part in health.deployments}
    assert dict(asked) == {part.name: part.latency.count for part in health.deployments}
    assert {(name, each.subject): asked[name] for name in names for each in references} == {
        (name, subject): sum(counts)
        for name, waiting in made.pulse._drift.items()
        for subject, counts in waiting.counts.items()
    }
