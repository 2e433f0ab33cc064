"""When a device may download: windows kept to, over nights, closings, clocks and sticks."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.report import Self, reported
from agent.wire import v1
from agent.wire.phases import Phase
from tests.agent.looped import Device, World, deployment, desired

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
NIGHTS = v1.DeviceSettings(
    download_windows=(v1.Window(days=tuple(v1.Weekday), start="22:00", end="05:00"),)
)
HOUR_S = 3600.0

pytestmark = pytest.mark.looptime


def clock_from(start: datetime) -> Callable[[], str]:
    """Return a wall clock that goes with the loop's time."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    def clock() -> str:
        passed = timedelta(seconds=loop.time() - began_s)
        return (start + passed).strftime("%Y-%m-%dT%H:%M:%SZ")

    return clock


def want(
    device: Device, generation: int, *wanted: v1.Deployment, settings: v1.DeviceSettings = NIGHTS
) -> None:
    device.desired = replace(desired(generation, *wanted), settings=settings)
    device.reconciler.wake()


def condition(device: Device) -> tuple[str, str, str | None] | None:
    """Return what is reported of the deployment: the condition, why, and until when."""
    who = Self(fleet="f", device="d-1", agent_version="1")
    [told] = reported(who, 1, None, device.ledger.records, None).deployments
    for each in told.conditions:
        assert told.last_error is not None
        return each.type, each.reason, told.last_error.parameters.get("opens")
    return None


async def test_a_fetch_waits_for_its_window_and_nothing_else(device: Device, world: World) -> None:
    """Told once with when; looked at once, not all day; begun within a minute of the opening."""
    device.clock = clock_from(NOON)
    async with device.running():
        want(device, 1, deployment())
        await asyncio.sleep(9.99 * HOUR_S)
        assert ["look digits 1"] == world.did
        assert ("deferred", "DOWNLOAD_WINDOW_CLOSED", "2026-11-27T22:00:00Z") == condition(device)
        await asyncio.sleep(0.01 * HOUR_S + 62)
        assert "committed" == device.ledger.records["digits"].phase
    assert [
        ("accepted", 1, None),
        ("fetching", 1, None),
        ("accepted", 1, "DOWNLOAD_WINDOW_CLOSED"),
        ("probation", 1, None),
        ("committed", 1, None),
    ] == device.told()


async def test_neighbours_do_not_begin_in_the_same_second(device: Device) -> None:
    """All that waited for one moment are spread over a minute."""
    device.clock = clock_from(NOON)
    begun: list[float] = []
    loop, began_s = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    async with device.running():
        names = [f"n{number}" for number in range(12)]
        want(device, 1, *(deployment(name) for name in names))
        seen: set[str] = set()
        while len(seen) < len(names):
            device.news.clear()
            await device.news.wait()
            for name, record in device.ledger.records.items():
                if record.phase is Phase.STAGING and name not in seen:
                    seen.add(name)
                    begun.append(loop.time() - began_s - 10 * HOUR_S)
    assert 0 <= min(begun)
    assert 10 < max(begun) - min(begun)
    assert max(begun) < 65


async def test_a_window_that_closes_stops_what_is_under_way(device: Device, world: World) -> None:
    """In order and at its time; the next night it goes on; what serves serves all along."""
    device.clock = clock_from(NOON)
    async with device.running():
        want(device, 1, deployment(), settings=v1.DeviceSettings())
        await device.reaches("digits", Phase.COMMITTED)
        slow = world.wrong[("fetch", 2)] = asyncio.Event()
        want(device, 2, deployment(revision=2))
        await asyncio.sleep(16.9 * HOUR_S)
        assert "fetching" == device.ledger.records["digits"].phase
        await asyncio.sleep(0.2 * HOUR_S)
        assert ("deferred", "DOWNLOAD_WINDOW_CLOSED", "2026-11-28T22:00:00Z") == condition(device)
        assert 1 == world.seats["digits"].revision
        slow.set()
        await asyncio.sleep(16 * HOUR_S)
        assert "accepted" == device.ledger.records["digits"].phase
        await asyncio.sleep(2 * HOUR_S)
        assert 2 == world.seats["digits"].revision
    fetches = [each for each in world.did if each.endswith("2") and each[0] in "fl"]
    assert ["look digits 2", "fetch digits 2"] * 2 == fetches


async def test_what_is_in_the_store_needs_no_window(device: Device, world: World) -> None:
    """Nor does what a stick brings later, under the same document."""
    device.clock = clock_from(NOON)
    world.stored.add(1)
    async with device.running():
        want(device, 1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        want(device, 2, deployment(revision=2))
        await asyncio.sleep(HOUR_S)
        assert "accepted" == device.ledger.records["digits"].phase
        world.stored.add(2)
        device.reconciler.hurry()  # as after `skerry-agent apply`
        await asyncio.sleep(5)
        assert 2 == world.seats["digits"].revision


async def test_an_operator_opens_it(device: Device, world: World) -> None:
    """Without windows there is nothing to wait for; with another, its own time is told."""
    device.clock = clock_from(NOON)
    later = replace(NIGHTS.download_windows[0], start="23:30")
    async with device.running():
        want(device, 1, deployment())
        await asyncio.sleep(HOUR_S)
        want(device, 2, deployment(), settings=v1.DeviceSettings(download_windows=(later,)))
        await asyncio.sleep(1)
        assert ("deferred", "DOWNLOAD_WINDOW_CLOSED", "2026-11-27T23:30:00Z") == condition(device)
        want(device, 3, deployment(), settings=v1.DeviceSettings())
        await asyncio.sleep(1)
        assert 1 == world.seats["digits"].revision


async def test_a_clock_that_is_wrong_keeps_no_window(device: Device, world: World) -> None:
    """By night, and shut: until it is set, which is seen within a minute."""
    device.clock = lambda: "1970-01-01T23:00:00Z"
    async with device.running():
        want(device, 1, deployment())
        await asyncio.sleep(HOUR_S)
        assert ("deferred", "CLOCK_WRONG", None) == condition(device)
        device.clock = clock_from(NOON.replace(hour=23))
        await asyncio.sleep(121)
        assert "committed" == device.ledger.records["digits"].phase
    assert ["look digits 1", "fetch digits 1"] == [each for each in world.did if each[0] in "fl"]


async def test_what_should_serve_and_cannot_start_waits_for_no_window(
    device: Device, world: World
) -> None:
    """Its blob rotted, and its worker is gone: a device has never fewer that work for a window."""
    device.clock = clock_from(NOON)
    async with device.running():
        want(device, 1, deployment(), settings=v1.DeviceSettings())
        await device.reaches("digits", Phase.COMMITTED)
        world.wrong[("activate", 1)] = "DIGEST_MISMATCH"
        world.seats.clear()
        world.did.clear()
        want(device, 2, deployment())
        await asyncio.sleep(1)
        assert "fetch digits 1" in world.did


async def test_mending_waits_for_a_window(device: Device, world: World) -> None:
    """What rotted serves on from memory: there is time until night."""
    device.clock = clock_from(NOON)
    bundle = deployment().bundle.digest
    async with device.running():
        want(device, 1, deployment(), settings=v1.DeviceSettings())
        await device.reaches("digits", Phase.COMMITTED)
        want(device, 2, deployment())
        world.did.clear()
        await device.reconciler.rotten({bundle: [bundle]})
        await asyncio.sleep(9.9 * HOUR_S)
        assert ["look digits 1"] == world.did
        await asyncio.sleep(0.2 * HOUR_S)
    assert ["look digits 1", "fetch digits 1"] == world.did


async def test_another_rate_counts_for_what_is_under_way(device: Device, world: World) -> None:
    """It is stopped and resumed, as fast as it may be now."""
    world.wrong[("fetch", 1)] = asyncio.Event()
    async with device.running():
        for rate in (None, 200_000, 100_000):
            settings = v1.DeviceSettings(download_rate_bytes_per_s=rate)
            want(device, 1, deployment(), settings=settings)
            await asyncio.sleep(60)
    assert [None, 200_000, 100_000] == [each.rate_bytes_per_s for each in world.terms]
