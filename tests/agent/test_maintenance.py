"""When what serves on a device may be changed: windows kept to by what comes, not by what returns.

The way is the same as for downloads: a real ledger under the loop, and a clock on a wall.
"""

import asyncio
from dataclasses import replace

import pytest

from agent.ports import Tally
from agent.state import Record
from agent.wire import v1
from agent.wire.phases import Phase
from tests.agent.looped import Device, World, deployment
from tests.agent.test_downloads import HOUR_S, NOON, clock_from, condition, want

NIGHT = v1.Window(days=tuple(v1.Weekday), start="22:00", end="05:00")
BY_NIGHT = v1.DeviceSettings(maintenance_windows=(NIGHT,))
SHADOWED = v1.DeploymentSettings(shadow=v1.ShadowSettings(requests=10))

pytestmark = pytest.mark.looptime


def record(device: Device) -> Record:
    return device.ledger.records["digits"]


async def serves(device: Device, one: v1.Deployment) -> None:
    """Let it serve this, at a time when it may."""
    want(device, 1, one, settings=v1.DeviceSettings())
    await device.reaches(one.name, Phase.COMMITTED, one.revision)
    device.world.did.clear()


async def test_a_candidate_is_fetched_and_staged_by_day_and_tested_by_night(
    device: Device, world: World
) -> None:
    """It waits where it is: told once with when, not fetched anew, and serves in the night."""
    device.clock = clock_from(NOON)
    async with device.running():
        want(device, 1, deployment(), settings=BY_NIGHT)
        await asyncio.sleep(9.99 * HOUR_S)
        assert ["fetch digits 1", "stage digits 1"] == world.did
        assert (Phase.TESTING, {}) == (record(device).phase, world.seats)
        until = "2026-11-27T22:00:00Z"
        assert ("deferred", "MAINTENANCE_WINDOW_CLOSED", until) == condition(device)
        await asyncio.sleep(0.01 * HOUR_S + 62)
        assert (Phase.COMMITTED, None) == (record(device).phase, condition(device))
    assert [
        ("accepted", 1, None),
        ("fetching", 1, None),
        ("verifying", 1, None),
        ("staging", 1, None),
        ("testing", 1, None),
        ("testing", 1, "MAINTENANCE_WINDOW_CLOSED"),
        ("activating", 1, None),
        ("probation", 1, None),
        ("committed", 1, None),
    ] == device.told()


async def test_what_waits_together_does_not_begin_together(device: Device) -> None:
    """Spread over a minute: each is measured beside as few others as can be."""
    device.clock = clock_from(NOON)
    loop, began_s = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    begun: dict[str, float] = {}
    async with device.running():
        names = [f"n{number}" for number in range(12)]
        want(device, 1, *(deployment(name) for name in names), settings=BY_NIGHT)
        while len(begun) < len(names):
            device.news.clear()
            await device.news.wait()
            for name, each in device.ledger.records.items():
                if each.phase is Phase.ACTIVATING:
                    begun.setdefault(name, loop.time() - began_s - 10 * HOUR_S)
    assert 0 <= min(begun.values())
    assert 10 < max(begun.values()) - min(begun.values())
    assert max(begun.values()) < 65


async def test_a_test_goes_on_to_its_end_and_serving_waits_for_the_next_window(
    device: Device, world: World
) -> None:
    """Outside a window nothing that serves is changed, however long a test took."""
    device.clock = clock_from(NOON)
    async with device.running():
        await serves(device, deployment())
        slow = world.wrong["test", 2] = asyncio.Event()
        want(device, 2, deployment(revision=2), settings=BY_NIGHT)
        await asyncio.sleep(18 * HOUR_S)  # 06:00
        device.reconciler.wake()
        await asyncio.sleep(1)
        slow.set()
        await asyncio.sleep(HOUR_S)
        assert (Phase.ACTIVATING, 1) == (record(device).phase, world.seats["digits"].revision)
        until = "2026-11-28T22:00:00Z"
        assert ("deferred", "MAINTENANCE_WINDOW_CLOSED", until) == condition(device)
        await asyncio.sleep(15 * HOUR_S + 62)
        assert 2 == world.seats["digits"].revision
    assert 1 == world.did.count("test digits 2")


async def test_a_comparison_goes_on_by_day(device: Device, world: World) -> None:
    """It needs requests; what came of it waits for the night."""
    device.clock = clock_from(NOON)
    async with device.running():
        await serves(device, deployment())
        slow = world.wrong["shadow", 2] = asyncio.Event()
        two = replace(deployment(revision=2), settings=SHADOWED)
        want(device, 2, two, settings=BY_NIGHT)
        await asyncio.sleep(20 * HOUR_S)  # 08:00
        assert (Phase.SHADOWING, None) == (record(device).phase, condition(device))
        slow.set()
        await asyncio.sleep(HOUR_S)
        assert (Phase.ACTIVATING, 1) == (record(device).phase, world.seats["digits"].revision)
        await asyncio.sleep(13 * HOUR_S + 62)
        assert 2 == world.seats["digits"].revision


async def test_a_way_back_waits_for_no_window(device: Device, world: World) -> None:
    """By day: what the centre wants back, and what the device brings back itself."""
    device.clock = clock_from(NOON)
    async with device.running():
        await serves(device, deployment())
        want(device, 2, deployment(revision=2), settings=v1.DeviceSettings())
        await device.reaches("digits", Phase.COMMITTED, 2)
        one_again = replace(deployment(), revision=3)
        want(device, 3, one_again, settings=BY_NIGHT)
        await device.reaches("digits", Phase.COMMITTED, 3)
        assert one_again.bundle.digest == world.seats["digits"].digest

        want(device, 4, deployment(revision=4, probation_s=99), settings=v1.DeviceSettings())
        await device.reaches("digits", Phase.PROBATION, 4)
        want(device, 5, deployment(revision=4, probation_s=99), settings=BY_NIGHT)
        digest = deployment(revision=4).bundle.digest
        world.counts.append(
            Tally(
                deployment="digits",
                revision=4,
                digest=digest,
                requests=100,
                errors=50,
                restarts=0,
                latency=v1.LatencySketch(),
            )
        )
        await device.reaches("digits", Phase.ROLLED_BACK, 4)
        assert 3 == world.seats["digits"].revision


async def test_other_settings_of_what_serves_are_no_way_back(device: Device, world: World) -> None:
    """Another threshold changes what serves, though its files are those that are here."""
    device.clock = clock_from(NOON)
    async with device.running():
        await serves(device, deployment())
        other = v1.DeploymentSettings(values={"threshold": 0.5})
        want(device, 2, replace(deployment(), revision=2, settings=other), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S)
        assert (Phase.TESTING, 1) == (record(device).phase, world.seats["digits"].revision)


async def test_what_should_serve_is_started_again_by_day(device: Device, world: World) -> None:
    """Its worker is gone: a window is about what changes."""
    device.clock = clock_from(NOON)
    async with device.running():
        await serves(device, deployment())
        want(device, 2, deployment(revision=2), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S)
        world.seats.clear()
        device.reconciler.wake()
        await asyncio.sleep(1)
        assert 1 == world.seats["digits"].revision
        assert Phase.TESTING is record(device).phase


async def test_who_starts_again_waits_on_without_a_word(device: Device, world: World) -> None:
    """What it waits for is in the ledger; nothing is staged anew or told twice."""
    device.clock = clock_from(NOON)
    async with device.running():
        want(device, 1, deployment(), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S)
    told = device.told()
    world.did.clear()
    async with device.running():
        await asyncio.sleep(HOUR_S)
        assert ([], told) == (world.did, device.told())
        await asyncio.sleep(8 * HOUR_S + 62)
        assert Phase.COMMITTED is record(device).phase


async def test_an_operator_opens_it(device: Device, world: World) -> None:
    """Without windows there is nothing to wait for; with another, its own time is told."""
    device.clock = clock_from(NOON)
    later = v1.DeviceSettings(maintenance_windows=(replace(NIGHT, start="23:30"),))
    async with device.running():
        want(device, 1, deployment(), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S)
        want(device, 2, deployment(), settings=later)
        await asyncio.sleep(1)
        until = "2026-11-27T23:30:00Z"
        assert ("deferred", "MAINTENANCE_WINDOW_CLOSED", until) == condition(device)
        want(device, 3, deployment(), settings=v1.DeviceSettings())
        await asyncio.sleep(1)
        assert 1 == world.seats["digits"].revision


@pytest.mark.parametrize(
    ("zone", "now", "reason"),
    [
        ("UTC", "1970-01-01T23:00:00Z", "CLOCK_WRONG"),
        ("Europe/Atlantis", "2026-11-27T23:00:00Z", "TIME_ZONE_UNKNOWN"),
    ],
)
async def test_a_window_that_cannot_be_kept_holds(
    device: Device, world: World, zone: str, now: str, reason: str
) -> None:
    """By night, and yet: nothing is guessed. A clock that was set is seen within a minute."""
    device.clock = lambda: now
    async with device.running():
        want(device, 1, deployment(), settings=replace(BY_NIGHT, time_zone=zone))
        await asyncio.sleep(HOUR_S)
        assert Phase.TESTING is record(device).phase
        assert ("testing", 1, reason) == device.told()[-1]
        assert {} == world.seats
        if reason == "CLOCK_WRONG":
            device.clock = clock_from(NOON.replace(hour=23))
            await asyncio.sleep(121)
            assert Phase.COMMITTED is record(device).phase


async def test_both_windows_are_kept(device: Device, world: World) -> None:
    """Fetched in the one, tested in the other."""
    device.clock = clock_from(NOON)
    both = v1.DeviceSettings(
        download_windows=(replace(NIGHT, start="18:00", end="20:00"),),
        maintenance_windows=(NIGHT,),
    )
    async with device.running():
        want(device, 1, deployment(), settings=both)
        await asyncio.sleep(5 * HOUR_S)
        assert ["look digits 1"] == world.did
        await asyncio.sleep(4 * HOUR_S)
        assert ["look digits 1", "fetch digits 1", "stage digits 1"] == world.did
        await asyncio.sleep(HOUR_S + 62)
        assert 1 == world.seats["digits"].revision


async def test_another_revision_does_not_wait_for_the_one_before(
    device: Device, world: World
) -> None:
    """What is no longer wanted gives way as always, by day too."""
    device.clock = clock_from(NOON)
    async with device.running():
        want(device, 1, deployment(), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S)
        want(device, 2, deployment(revision=2), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S)
        assert (2, Phase.TESTING) == (record(device).wanted.revision, record(device).phase)
        await asyncio.sleep(8 * HOUR_S + 62)
        assert 2 == world.seats["digits"].revision
    assert "test digits 1" not in world.did


async def test_a_trial_that_was_begun_in_a_window_ends_before_anything_newer(
    device: Device,
) -> None:
    """What serves by day has been judged: a newer revision waits for that, and then for its own."""
    device.clock = clock_from(NOON)
    trial_s = 9 * HOUR_S  # from ten in the evening to seven
    async with device.running():
        want(device, 1, deployment(), settings=v1.DeviceSettings())
        await device.reaches("digits", Phase.COMMITTED, 1)
        want(device, 2, deployment(revision=2, probation_s=trial_s), settings=BY_NIGHT)
        await asyncio.sleep(10 * HOUR_S + 62)
        assert (2, Phase.PROBATION) == (record(device).wanted.revision, record(device).phase)
        await asyncio.sleep(8 * HOUR_S)
        want(device, 3, deployment(revision=3), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S / 2)
        assert (2, Phase.PROBATION) == (record(device).wanted.revision, record(device).phase)

        await asyncio.sleep(HOUR_S)
        assert (3, Phase.TESTING) == (record(device).wanted.revision, record(device).phase)
        current = record(device).current
        assert current is not None
        assert (2, True) == (current.deployment.revision, record(device).proven)


async def test_a_way_back_ends_a_trial_at_once(device: Device) -> None:
    """By day, too: what was proven is wanted again, and nobody waits for the end of the trial."""
    device.clock = clock_from(NOON)
    async with device.running():
        want(device, 1, deployment(), settings=v1.DeviceSettings())
        await device.reaches("digits", Phase.COMMITTED, 1)
        later = deployment(revision=2, probation_s=9 * HOUR_S)
        want(device, 2, later, settings=BY_NIGHT)
        await asyncio.sleep(10 * HOUR_S + 62)
        assert (2, Phase.PROBATION) == (record(device).wanted.revision, record(device).phase)
        await asyncio.sleep(8 * HOUR_S)
        want(device, 3, replace(deployment(), revision=3), settings=BY_NIGHT)
        await asyncio.sleep(600)
        assert (3, Phase.COMMITTED) == (record(device).wanted.revision, record(device).phase)


async def test_what_serves_is_mended_while_its_candidate_waits(
    device: Device, world: World
) -> None:
    """A part that rotted is fetched by day: the next window may be days away."""
    device.clock = clock_from(NOON)
    async with device.running():
        await serves(device, deployment())
        want(device, 2, deployment(revision=2), settings=BY_NIGHT)
        await asyncio.sleep(HOUR_S)
        assert Phase.TESTING is record(device).phase
        digest = deployment().bundle.digest
        await device.reconciler.rotten({digest: [digest]})
        await asyncio.sleep(60)

    assert "fetch digits 1" in world.did
