"""How many workers answer is chosen by measurement: each doubling must earn its cores."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pooling import (
    MARGIN_BYTES,
    PER_DOUBLING,
    WORKERS_MOST,
    affordable,
    counts,
    sized,
)
from agent.state import Installed, Measured, Throughput
from agent.wire import codec, v1
from agent.wire.phases import Phase
from tests.agent.looped import Device, World, deployment


def way(
    *,
    took_s: float | None = 0.005,
    accelerator: str = "cpu",
    threads: int = 1,
    workers: int | None = None,
    stateful: bool = False,
) -> Installed:
    wanted = deployment()
    digest = wanted.bundle.digest
    measured = Measured(
        variant=digest,
        format="int8",
        accelerator=accelerator,
        threads=threads,
        latency_p50_s=took_s,
    )
    return Installed(
        deployment=replace(wanted, settings=replace(wanted.settings, workers=workers)),
        variant=digest,
        runtime="litert",
        accelerator=accelerator,
        threads=threads,
        stateful=stateful,
        measured=(measured,),
        why="fastest",
    )


def rates(*per_s: float | None) -> list[Throughput]:
    """Return what one, two, four workers answered."""
    return [
        Throughput(workers=count, per_s=each) for count, each in zip((1, 2, 4), per_s, strict=False)
    ]


@pytest.mark.parametrize(
    ("cores", "deployments", "tried"),
    [
        (1, 1, (1,)),
        (2, 1, (1, 2)),
        (3, 1, (1, 2, 3)),
        (4, 1, (1, 2, 4)),
        (64, 1, (1, 2, 4)),
        (4, 2, (1, 2)),
        (4, 3, (1,)),
        (4, 16, (1,)),
    ],
)
def test_a_deployment_may_have_its_share_of_the_cores(
    cores: int, deployments: int, tried: tuple[int, ...]
) -> None:
    """Sixteen on four cores have one worker each, and none of them measures more."""
    assert tried == counts(way(), cores=cores, deployments=deployments)[0]


@pytest.mark.parametrize(
    ("found", "tried", "why"),
    [
        (way(threads=4), (1, 2), ""),
        (way(threads=8), (1,), "its share of the cores"),
        (way(accelerator="edgetpu"), (1,), "edgetpu is not shared"),
        (way(accelerator="edgetpu", workers=2), (2,), "its settings say so"),
        (way(took_s=0.0004), (1,), "quick enough"),
        (way(took_s=3.0), (1,), "too slow to measure"),
        (way(took_s=None), (1,), "quick enough"),
        (way(workers=1), (1,), "its settings say so"),
        (way(workers=6), (6,), "6 workers: its settings say so"),
        (way(stateful=True), (1,), "keeps state"),
        (way(stateful=True, workers=3), (1,), "keeps state from one request to the next; 3 were"),
    ],
)
def test_not_everything_is_measured(found: Installed, tried: tuple[int, ...], why: str) -> None:
    """What leaves no choice, or could earn nothing, starts nobody, and says why."""
    told = counts(found, cores=8, deployments=1)
    assert tried == told[0]
    assert why in told[1]


@pytest.mark.parametrize(
    ("per_s", "workers"),
    [
        ((100, 149), 1),  # two cores for half as much again are not worth it
        ((100, 150), 2),
        ((100, 195, 380), 4),
        ((100, 195, 240), 2),
        ((100, 140, 224), 1),
        ((100, 140, 226), 4),  # four are clearly more than one, though two were not
        ((100, 60, 30), 1),
        ((100, None), 1),  # there was no memory for two
        ((100, 190, None), 2),
        ((0.0, 100), 1),  # the one alone failed: nothing is known
    ],
)
def test_more_workers_must_earn_their_cores(per_s: tuple[float | None, ...], workers: int) -> None:
    """Half as much again for each doubling; what was not measured earned nothing."""
    chosen = sized(way(), rates(*per_s))
    assert workers == chosen.workers
    assert f"fastest; {workers} worker" in chosen.why


@given(st.lists(st.none() | st.floats(0, 1e6), min_size=3, max_size=3))
def test_each_doubling_that_is_taken_has_earned_its_cores(per_s: list[float | None]) -> None:
    """Whatever was measured: from one worker to the chosen number it grew by so much at least."""
    found = rates(*per_s)
    chosen = sized(way(), found)
    assert chosen.workers in {each.workers for each in found}
    if chosen.workers > 1:
        doublings = {2: 1, 4: 2}[chosen.workers]
        taken, alone = per_s[doublings], per_s[0]
        assert taken
        assert alone
        assert taken >= alone * PER_DOUBLING**doublings * 0.999  # rounding


@given(st.integers(1, 256), st.integers(1, 16), st.integers(1, 8))
def test_no_more_are_measured_than_there_are_cores_for(
    cores: int, deployments: int, threads: int
) -> None:
    """Were every deployment to take all that it may, each thread would have its core."""
    tried, _ = counts(way(threads=threads), cores=cores, deployments=deployments)
    assert 1 == tried[0]
    assert sorted(set(tried)) == list(tried)
    most = max(tried)
    assert 1 == most or most * threads * deployments <= cores
    assert most <= WORKERS_MOST


@given(st.integers(0, 16), st.integers(0, 1 << 34), st.integers(0, 1 << 40))
def test_memory_is_left_to_all_else(wanted: int, each_bytes: int, available_bytes: int) -> None:
    """Whatever there is, a margin stays."""
    many = affordable(wanted, each_bytes=each_bytes, available_bytes=available_bytes)
    assert 0 <= many <= wanted
    assert not many or available_bytes - many * each_bytes >= MARGIN_BYTES


async def current(device: Device) -> Installed:
    record = device.ledger.records["digits"]
    assert record.current is not None
    return record.current


async def test_as_many_as_were_measured_to_be_worth_it_serve(device: Device, world: World) -> None:
    """And the numbers, with the reason, are remembered and told."""
    world.cores, world.took_s, world.per_s = 4, {"cpu": 0.005}, {1: 200.0, 2: 390.0, 4: 500.0}
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    found = await current(device)
    assert (2, 2) == (found.workers, world.seats["digits"].workers)
    assert found.why.endswith("2 workers: 390/s, before 1 worker: 200/s, 4 workers: 500/s")
    [told] = [
        event
        for each in device.ledger.pending()
        if (event := codec.decode(each.body, v1.Event)).phase is Phase.ACTIVATING
    ]
    assert "2" == told.parameters["workers"]
    assert "1 worker: 200/s, 2 workers: 390/s, 4 workers: 500/s" == told.parameters["throughput"]


async def test_other_hardware_is_measured_again(device: Device, world: World) -> None:
    """Cores that came or went: what is committed serves by as many as are worth it there."""
    world.cores, world.took_s, world.per_s = 2, {"cpu": 0.005}, {1: 200.0, 2: 390.0}
    world.hardware = "2 cores"
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    assert 2 == (await current(device)).workers
    world.cores, world.hardware = 1, "1 core"
    async with device.running(), asyncio.timeout(10):
        while (await current(device)).hardware != "1 core":
            device.news.clear()
            await device.news.wait()
    assert (1, 1) == ((await current(device)).workers, world.seats["digits"].workers)


async def test_a_stateful_model_has_one_worker_whatever_is_wanted(
    device: Device, world: World
) -> None:
    """A request must meet the state that the one before it left; that is told, not hidden."""
    world.cores, world.stateful = 4, True
    wanted = deployment()
    async with device.running():
        device.want(1, replace(wanted, settings=replace(wanted.settings, workers=3)))
        await device.reaches("digits", Phase.COMMITTED)
    found = await current(device)
    assert 1 == found.workers
    assert "1 worker: it keeps state from one request to the next; 3 were asked for" in found.why
    assert "pace digits 1" not in world.did
