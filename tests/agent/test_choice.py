"""The way a bundle serves is chosen by measurement, told, and chosen again on another machine."""

# ruff: noqa: ASYNC110  # what the fakes were asked is looked at, not waited for

import asyncio
from dataclasses import replace

import pytest

from agent.choice import Budget, choose, refusal, thread_counts
from agent.report import Self, reported
from agent.state import Installed, Measured
from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.sentences import WIRE, filled
from tests.agent.looped import Device, World, deployment


def way(threads: int = 1, variant: str = "a") -> Installed:
    digest = "sha256:" + variant * 64
    return Installed(deployment=deployment(), variant=digest, runtime="litert", threads=threads)


def took(of: Installed, seconds: float) -> Measured:
    return Measured(
        variant=of.variant,
        format="int8",
        accelerator="cpu",
        threads=of.threads,
        latency_p50_s=seconds,
    )


@pytest.mark.parametrize(
    ("first_s", "second_s", "threads", "chosen"),
    [
        (0.010, 0.0095, 1, 0),  # that is noise: the likelier one stays
        (0.010, 0.008, 1, 1),
        (0.010, 0.008, 4, 0),  # four cores for a fifth are not worth it
        (0.010, 0.006, 4, 1),
        (0.001, 0.030, 2, 0),
    ],
)
def test_only_what_is_clearly_faster_displaces_a_likelier_one(
    first_s: float, second_s: float, threads: int, chosen: int
) -> None:
    """And more threads must earn their cores."""
    ways = [way(), way(threads, "b" if threads == 1 else "a")]
    found = [took(each, seconds) for each, seconds in zip(ways, (first_s, second_s), strict=True)]
    best = choose(ways, found, Budget())
    assert best is not None
    assert (ways[chosen].variant, ways[chosen].threads) == (best.variant, best.threads)


def test_threads_are_tried_where_there_are_cores_for_them() -> None:
    """Never on an accelerator, and not where somebody has said how many."""
    assert (1, 4) == thread_counts(None, 8, "cpu")
    assert (1, 2) == thread_counts(None, 2, "cpu")
    assert (1,) == thread_counts(None, 1, "cpu")
    assert (1,) == thread_counts(None, 8, "edgetpu")
    assert (3,) == thread_counts(3, 1, "cpu")


async def chosen(device: Device) -> Installed:
    record = device.ledger.records["digits"]
    assert record.current is not None
    return record.current


async def test_the_way_that_measures_fastest_serves(device: Device, world: World) -> None:
    """And the numbers, with the reason, are remembered and told."""
    world.took_s = {"npu": 0.004, "cpu": 0.001}
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    current = await chosen(device)
    assert [("digits", "cpu")] == world.ways
    assert "int8 on cpu, 1 thread: 1 ms; before int8 on npu, 1 thread: 4 ms" == (
        current.why.removesuffix("; 1 worker: its share of the cores is no more")
    )
    assert "" == current.fallback  # it is a choice, not a fallback
    events = [codec.decode(each.body, v1.Event) for each in device.ledger.pending()]
    [told] = [each for each in events if each.phase is Phase.ACTIVATING]
    assert current.why == told.message
    assert ("cpu", "1", "1") == tuple(
        told.parameters[name] for name in ("accelerator", "threads", "latency_p50_ms")
    )


@pytest.mark.parametrize("reason", ["ACCELERATOR_FALLBACK", "GOLDEN_MISMATCH", "LOAD_FAILED"])
async def test_an_accelerator_that_fails_is_no_reason_not_to_serve(
    device: Device, world: World, reason: str
) -> None:
    """The CPU does, and it is said that it is a fallback, and why."""
    world.took_s = {"npu": reason, "cpu": 0.001}
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    current = await chosen(device)
    assert "cpu" == current.accelerator
    assert f"int8 on npu, 1 thread: {reason}: npu went wrong" == current.fallback
    who = Self(fleet="f", device="d-1", agent_version="1")
    document = reported(who, 1, None, device.ledger.records, None)
    [condition] = document.deployments[0].conditions
    assert ("fallback", "ACCELERATOR_FALLBACK") == (condition.type, condition.reason)
    assert ("activating", 1, "ACCELERATOR_FALLBACK") in device.told()


async def test_content_that_no_way_can_serve_is_refused(device: Device, world: World) -> None:
    """By the likeliest one's reason."""
    world.took_s = {"npu": "LOAD_FAILED", "cpu": "GOLDEN_MISMATCH"}
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.REFUSED)
    assert ("refused", 1, "LOAD_FAILED") == device.told()[-1]


async def test_a_model_slower_than_its_budget_is_refused(device: Device) -> None:
    """Before it serves, with both numbers."""
    wanted = deployment()
    settings = replace(wanted.settings, latency_budget_s=0.001)
    async with device.running():
        device.want(1, replace(wanted, settings=settings))
        await device.reaches("digits", Phase.REFUSED)
    problem = device.ledger.records["digits"].problem
    assert problem is not None
    assert "TOO_SLOW" == problem.reason
    assert "int8 on cpu, 1 thread takes 2 ms; 1 ms are allowed" == problem.message
    assert {"measured": "2", "budget": "1"} == problem.parameters
    document = reported(
        Self(fleet="f", device="d-1", agent_version="1"), 1, None, device.ledger.records, None
    )
    said = codec.decode(codec.encode(document), v1.Reported).deployments[0].last_error
    assert said is not None
    assert ": 2 ms, and 1 ms are allowed." in filled(WIRE[said.reason], said.parameters).meaning


async def test_a_model_that_takes_more_memory_than_its_budget_is_refused(device: Device) -> None:
    """Before it serves, with both numbers."""
    wanted = deployment()
    settings = replace(wanted.settings, memory_budget_bytes=4_999_999)
    async with device.running():
        device.want(1, replace(wanted, settings=settings))
        await device.reaches("digits", Phase.REFUSED)
    problem = device.ledger.records["digits"].problem
    assert problem is not None
    assert "TOO_MUCH_MEMORY" == problem.reason
    said = "int8 on cpu, 1 thread takes 5000000 bytes of memory; 4999999 are allowed"
    assert said == problem.message
    assert {"measured": "4.768372", "budget": "4.768371"} == problem.parameters
    meaning = filled(WIRE[problem.reason], problem.parameters).meaning
    assert ": 4.768372 MiB, and 4.768371 MiB are allowed." in meaning


@pytest.mark.parametrize(
    ("took_s", "most_s", "measured", "budget"),
    [
        (0.0123456, 0.01, "12.35", "10"),
        (0.0100001, 0.01, "10.0001", "10"),
        (1234.5, 100.0, "1234500", "100000"),
        (0.000004, 0.000001, "0.004", "0.001"),
    ],
)
def test_a_refusal_by_a_budget_says_two_different_numbers(
    took_s: float, most_s: float, measured: str, budget: str
) -> None:
    """However close they are: 10 ms where 10 ms are allowed would explain nothing."""
    said = refusal([took(way(), took_s)], Budget(latency_s=most_s))
    assert ("TOO_SLOW", {"measured": measured, "budget": budget}) == (said[0], said[2])


def test_a_way_within_its_budget_is_taken_before_a_faster_one_that_is_not() -> None:
    """Of time and of memory alike."""
    ways = [way(variant="a"), way(variant="b")]
    found = [replace(took(ways[0], 0.001), memory_bytes=200), took(ways[1], 0.004)]
    best = choose(ways, found, Budget(memory_bytes=100, latency_s=0.01))
    assert best is not None
    assert ways[1].variant == best.variant


async def test_an_accelerator_that_is_gone_after_a_restart(device: Device, world: World) -> None:
    """What it served is served by the CPU; when it is back, by the accelerator again."""
    world.took_s, world.hardware = {"npu": 0.001, "cpu": 0.004}, "with npu"
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    assert "npu" == (await chosen(device)).accelerator
    world.seats.clear()
    world.took_s, world.hardware = {"cpu": 0.004}, "without"
    async with device.running(), asyncio.timeout(10):
        while (await chosen(device)).hardware != "without":
            await asyncio.sleep(0.01)
        assert ("digits", "cpu") == world.ways[-1]
        assert 1 == world.seats["digits"].revision
    assert Phase.COMMITTED is device.ledger.records["digits"].phase
    world.took_s, world.hardware = {"npu": 0.001, "cpu": 0.004}, "with npu"
    async with device.running(), asyncio.timeout(10):
        while (await chosen(device)).accelerator != "npu":
            await asyncio.sleep(0.01)
    assert ("digits", "npu") == world.ways[-1]


async def test_the_way_back_to_an_accelerator_that_is_gone(device: Device, world: World) -> None:
    """Leads to the CPU: better slow than never."""
    world.took_s = {"npu": 0.001, "cpu": 0.004}
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2, probation_s=600))
        await device.reaches("digits", Phase.PROBATION, 2)
        world.took_s = {"cpu": 0.004}
        device.meter.died("digits", 2, of_itself=True)
        device.meter.died("digits", 2, of_itself=True)
        device.reconciler.wake()
        await device.reaches("digits", Phase.ROLLED_BACK, 2)
    current = await chosen(device)
    assert (1, "cpu") == (current.revision, current.accelerator)
    assert "npu: ACCELERATOR_MISSING" in current.fallback
    assert ("digits", "cpu") == world.ways[-1]


async def test_an_accelerator_that_fails_where_it_served(device: Device, world: World) -> None:
    """It is there and answers wrongly since the restart: the CPU serves, and that is told."""
    world.took_s, world.hardware = {"npu": 0.001, "cpu": 0.004}, "with npu"
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    world.seats.clear()
    world.took_s = {"npu": "GOLDEN_MISMATCH", "cpu": 0.004}
    async with device.running(), asyncio.timeout(10):
        while (await chosen(device)).hardware != "with npu" or not (await chosen(device)).fallback:
            await asyncio.sleep(0.01)
    assert ("digits", "cpu") == world.ways[-1]
    assert not device.ledger.quarantined
