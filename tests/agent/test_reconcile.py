"""The loop of a device, with a real ledger, and a supply and a floor that do what the test says."""

# ruff: noqa: ASYNC110  # what the fakes were asked is looked at, not waited for

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from agent.ledger import open_ledger
from agent.plan import Action
from agent.ports import Tally, Terms
from agent.report import Self, reported
from agent.state import GivenUp, Installed, Serving
from agent.wire import codec, v1
from agent.wire.phases import Happening, Phase
from tests.agent.looped import AT, Device, World, deployment, desired


async def test_a_deployment_comes_to_serve(device: Device, world: World) -> None:
    """Every step once, in order; every phase told; the store keeps what is needed."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        while not world.kept:  # the store is cleaned after the commit
            await asyncio.sleep(0.01)
    # What it could serve by is looked up again before it is tried: the machine may be another.
    steps = ["fetch", "stage", "stage", "test", "activate"]
    assert world.did == [f"{step} digits 1" for step in steps]
    phases = [phase for phase, _, _ in device.told()]
    assert phases == [
        "accepted", "fetching", "verifying", "staging",
        "testing", "activating", "probation", "committed",
    ]  # fmt: skip
    assert world.kept == {deployment().bundle.digest}


@pytest.mark.parametrize("step", ["fetch", "stage", "test", "activate"])
async def test_a_bad_candidate_is_refused_and_the_incumbent_kept(
    device: Device, world: World, step: str
) -> None:
    """Whichever step finds it out: what served serves, and the centre hears why."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        world.wrong[(step, 2)] = "GOLDEN_MISMATCH"
        device.want(2, deployment(revision=2))
        await device.reaches("digits", Phase.REFUSED, 2)
        await asyncio.sleep(0.05)
    record = device.ledger.records["digits"]
    assert record.current is not None
    assert record.current.revision == 1
    assert world.seats["digits"].revision == 1
    assert device.told()[-1] == ("refused", 2, "GOLDEN_MISMATCH")
    assert world.did.count(f"{step} digits 2") == 1


@pytest.mark.looptime
async def test_what_passes_is_tried_again_and_told_once(device: Device, world: World) -> None:
    """A device that is offline for a day goes on trying, and doesn't fill its outbox."""
    world.wrong[("fetch", 1)] = "REGISTRY_UNREACHABLE"
    async with device.running():
        device.want(1, deployment())
        await asyncio.sleep(86400)
        tried = len(world.did)
        told = device.told()
        del world.wrong[("fetch", 1)]
        await device.reaches("digits", Phase.COMMITTED)
    assert 280 < tried < 1500
    assert told == [
        ("accepted", 1, None),
        ("fetching", 1, None),
        ("accepted", 1, "REGISTRY_UNREACHABLE"),
    ]
    assert device.told()[-1] == ("committed", 1, None)


@pytest.mark.looptime
async def test_a_worker_that_hangs_is_given_a_few_tries(device: Device, world: World) -> None:
    """A busy machine is no bad model; three times is."""
    world.wrong[("test", 1)] = "WORKER_STUCK"
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.REFUSED)
    assert world.did.count("test digits 1") == 3


async def test_two_deployments_change_independently(device: Device, world: World) -> None:
    """One that hangs holds up nobody, and a new generation leaves the other untouched."""
    world.wrong[("fetch", 2)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment("cat", 2), deployment("digits", 1))
        await device.reaches("digits", Phase.COMMITTED)
        did = [each for each in world.did if "digits" in each]
        told = [each for each in device.told() if each[1] == 1]
        device.want(2, deployment("cat", 3), deployment("digits", 1))
        await device.reaches("cat", Phase.COMMITTED, 3)
        assert did == [each for each in world.did if "digits" in each]
        assert told == [each for each in device.told() if each[1] == 1]
        device.want(3, deployment("cat", 3), deployment("digits", 4))
        await device.reaches("digits", Phase.COMMITTED, 4)
    assert {"cat": 3, "digits": 4} == {name: seat.revision for name, seat in world.seats.items()}
    assert ("retired", 2, "SUPERSEDED") in device.told()


async def test_a_newer_revision_waits_for_nobody(device: Device, world: World) -> None:
    """A fetch that would last for hours ends when something else is wanted."""
    world.wrong[("fetch", 1)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.FETCHING)
        device.want(2, deployment(revision=2))
        await device.reaches("digits", Phase.COMMITTED, 2)
    assert world.seats["digits"].revision == 2


async def test_a_return_to_what_serves_is_a_matter_of_numbers(device: Device, world: World) -> None:
    """What the centre asks for after a rollback serves already: it goes on, and is committed."""
    world.wrong[("fetch", 2)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2))
        await device.reaches("digits", Phase.FETCHING, 2)
        did = [*world.did]
        device.want(3, replace(deployment(), revision=3))
        await device.reaches("digits", Phase.COMMITTED, 3)
        await asyncio.sleep(0.05)
    assert did == world.did, "nothing was fetched, tested or started"
    assert Serving(revision=3, digest=deployment().bundle.digest) == world.seats["digits"]
    assert [("accepted", 3, None), ("committed", 3, None)] == device.told()[-2:]


async def test_a_return_with_other_settings_is_tried_as_anything_new(
    device: Device, world: World
) -> None:
    """The number of threads is the worker's: it must be started anew."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        settings = v1.DeploymentSettings(probation_s=0, threads=2)
        device.want(2, replace(deployment(), revision=2, settings=settings))
        await device.reaches("digits", Phase.COMMITTED, 2)
    assert "activate digits 2" == world.did[-1]


async def test_a_removed_deployment_is_closed_and_forgotten(device: Device, world: World) -> None:
    """Even one that is still being fetched."""
    world.wrong[("fetch", 2)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment(), deployment("cat", 2))
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2)
        while device.ledger.records:
            device.news.clear()
            await device.news.wait()
        await asyncio.sleep(0.05)
    assert {} == world.seats
    assert frozenset() == world.kept
    assert ("retired", 1, "REMOVED") in device.told()


@pytest.mark.looptime
@pytest.mark.parametrize("trouble", ["crashes", "errors"])
async def test_a_failed_probation_rolls_back_with_no_centre(
    device: Device, world: World, trouble: str
) -> None:
    """By itself, to what was committed, and it stays there."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2, probation_s=600))
        await device.reaches("digits", Phase.PROBATION, 2)
        assert world.seats["digits"].revision == 2
        if trouble == "crashes":
            device.meter.died("digits", 2, of_itself=True)
            device.meter.died("digits", 2, of_itself=True)
        else:
            world.counts.append(
                Tally(
                    deployment="digits", revision=2, digest="", requests=50, errors=9, restarts=0,
                    latency=v1.LatencySketch(),
                )
            )  # fmt: skip
        await device.reaches("digits", Phase.ROLLED_BACK, 2)
        await asyncio.sleep(1000)
    assert world.seats["digits"].revision == 1
    assert device.ledger.records["digits"].proven
    assert device.told()[-1][0::2] == ("rolled-back", "PROBATION_FAILED")


@pytest.mark.looptime
async def test_a_quiet_probation_ends_in_time(device: Device) -> None:
    """It lasts as long as was said, and then the revision is committed."""
    async with device.running():
        device.want(1, deployment(probation_s=600))
        await device.reaches("digits", Phase.PROBATION)
        began = asyncio.get_running_loop().time()
        await device.reaches("digits", Phase.COMMITTED)
        assert 600 <= asyncio.get_running_loop().time() - began < 602


@pytest.mark.looptime
async def test_a_first_revision_that_fails_leaves_nothing(device: Device, world: World) -> None:
    """Where nothing was before, a rollback ends with nothing, and says so."""
    async with device.running():
        device.want(1, deployment(probation_s=600))
        await device.reaches("digits", Phase.PROBATION)
        device.meter.died("digits", 1, of_itself=True)
        device.meter.died("digits", 1, of_itself=True)
        device.reconciler.wake()
        await device.reaches("digits", Phase.ROLLED_BACK)
    assert {} == world.seats
    assert device.ledger.records["digits"].current is None


async def test_what_served_is_started_again_before_anything_else(
    device: Device, world: World
) -> None:
    """After a restart, with no document and no network: one step, and it serves."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    world.did.clear()
    world.seats.clear()
    async with device.running():
        assert world.did == ["activate digits 1"]
        assert world.seats["digits"].revision == 1
        await asyncio.sleep(0.05)
    assert world.did == ["activate digits 1"]


@pytest.mark.parametrize("phase", ["fetch", "stage", "test", "activate"])
async def test_a_restart_in_any_step_goes_on(device: Device, world: World, phase: str) -> None:
    """The incumbent first, then the candidate from the step it was in."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        world.wrong[(phase, 2)] = asyncio.Event()
        device.want(2, deployment(revision=2))
        while f"{phase} digits 2" not in world.did:
            await asyncio.sleep(0.005)
    assert world.seats["digits"].revision == 1
    world.wrong.clear()
    world.seats.clear()
    world.did.clear()
    async with device.running():
        assert world.did[0] == "activate digits 1"
        await device.reaches("digits", Phase.COMMITTED, 2)
    begun = "stage" if phase == "test" else phase  # which looks up the ways first
    assert world.did[1] == f"{begun} digits 2"


@pytest.mark.looptime
async def test_what_cannot_be_started_again_gives_way_to_what_was_before(
    device: Device, world: World
) -> None:
    """A device whose model no longer starts serves the one before it, and goes on trying."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2))
        await device.reaches("digits", Phase.COMMITTED, 2)
    world.seats.clear()
    world.wrong[("activate", 2)] = "LOAD_FAILED"
    async with device.running():
        assert world.seats["digits"].revision == 1
        await asyncio.sleep(3600)
        assert world.seats["digits"].revision == 1
        world.wrong.clear()
        await asyncio.sleep(600)
        assert world.seats["digits"].revision == 2
    assert device.ledger.records["digits"].phase is Phase.COMMITTED


async def test_a_blob_that_rotted_is_fetched_again(device: Device, world: World) -> None:
    """What served and is no longer what it was on disk is mended from the registry."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    world.seats.clear()
    world.did.clear()
    world.wrong[("activate", 1)] = "DIGEST_MISMATCH"

    async def mended(
        _bundle: v1.BundleRef,
        terms: Terms,
        _progress: Callable[[Happening], Awaitable[None]],
    ) -> None:
        assert terms.served
        world.did.append("mended")
        world.wrong.clear()

    world.fetch = mended  # type: ignore[method-assign,assignment]
    async with device.running():
        assert world.did == ["activate digits 1", "mended", "activate digits 1"]
    assert world.seats["digits"].revision == 1


@pytest.mark.looptime
async def test_a_ledger_that_cannot_be_written_changes_nothing_that_serves(
    device: Device, world: World
) -> None:
    """Full disk: it goes on serving, and goes on when there is room, without a storm."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        pages = device.ledger._database.execute("PRAGMA page_count").fetchone()[0]
        device.ledger._database.execute(f"PRAGMA max_page_count={pages}")
        long = [deployment(f"n{index}-{'x' * 50}", 9) for index in range(15)]
        device.want(2, deployment(), *long)
        await asyncio.sleep(600)
        stuck = 15 - len(device.ledger.records) + 1
        assert stuck > 0
        assert world.seats["digits"].revision == 1
        device.ledger._database.execute("PRAGMA max_page_count=1000000")
        for each in long:
            await device.reaches(each.name, Phase.COMMITTED, 9)
    assert len(world.seats) == 16


async def test_a_defect_of_ours_stops_neither_the_loop_nor_others(
    device: Device, world: World
) -> None:
    """It is told as INTERNAL and tried again; the other deployment goes on."""

    async def broken(_: Installed) -> None:
        raise ZeroDivisionError("a bug")

    honest, world.test = world.test, broken  # type: ignore[method-assign,assignment]
    async with device.running():
        device.want(1, deployment())
        while ("accepted", 1, "INTERNAL") not in device.told():
            await asyncio.sleep(0.01)
        world.test = honest  # type: ignore[method-assign]
        device.want(2, deployment(), deployment("cat", 2))
        await device.reaches("cat", Phase.COMMITTED, 2)


def gave_up(revision: int, reason: str = "WORKER_CRASHED") -> GivenUp:
    """Return a revision whose worker died too often."""
    digest = deployment(revision=revision).bundle.digest
    return GivenUp(revision=revision, digest=digest, reason=reason, message="5 deaths in 60 s")


async def two_committed(device: Device) -> None:
    device.want(1, deployment())
    await device.reaches("digits", Phase.COMMITTED)
    device.want(2, deployment(revision=2))
    await device.reaches("digits", Phase.COMMITTED, 2)


def die(device: Device, world: World, gone: GivenUp) -> None:
    del world.seats["digits"]
    world.dead["digits"] = gone
    device.reconciler.wake()


@pytest.mark.looptime
async def test_a_committed_revision_that_keeps_dying_gives_way_to_the_one_before(
    device: Device, world: World
) -> None:
    """By itself, told with its reason; its content is not tried again, even as a new revision."""
    async with device.running():
        await two_committed(device)
        die(device, world, gave_up(2))
        await device.reaches("digits", Phase.ROLLED_BACK, 2)
        assert world.seats["digits"].revision == 1
        world.did.clear()
        again = replace(deployment(revision=2), revision=3)
        device.want(3, again)
        await device.reaches("digits", Phase.REFUSED, 3)
        await asyncio.sleep(1000)
    record = device.ledger.records["digits"]
    assert world.did == []
    assert world.seats["digits"].revision == 1
    assert record.proven
    assert record.problem is not None
    assert record.problem.parameters["cause"] == "WORKER_CRASHED"
    assert device.told()[-5:] == [
        (None, None, "WORKER_CRASHED"),
        ("rolling-back", 2, "WORKER_CRASHED"),
        ("rolled-back", 2, "WORKER_CRASHED"),
        ("accepted", 3, None),
        ("refused", 3, "QUARANTINED"),
    ]


@pytest.mark.looptime
async def test_the_only_revision_there_is_is_started_again_for_ever(
    device: Device, world: World
) -> None:
    """With back-off, reported as ailing; after ten quiet minutes it is well again."""
    starts = 0
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        world.did.clear()
        for _ in range(20):
            die(device, world, gave_up(1))
            async with asyncio.timeout(400):
                while "digits" not in world.seats:
                    await asyncio.sleep(1)
            starts = len(world.did)
        record = device.ledger.records["digits"]
        told = reported(
            Self(fleet="f", device="d-1", agent_version="1"), 1, None, {"digits": record}, None,
            quarantined=device.ledger.quarantined,
        )  # fmt: skip
        ailing = [(each.type, each.reason) for each in told.deployments[0].conditions]
        assert ailing == [("ailing", "WORKER_CRASHED")]
        assert record.phase is Phase.COMMITTED
        took_s = asyncio.get_running_loop().time()
        await asyncio.sleep(700)
    assert starts == 20
    assert took_s > 300  # it waited between them
    assert world.seats["digits"].revision == 1
    assert device.ledger.records["digits"].problem is None
    assert {} == dict(device.ledger.quarantined)
    kinds = [codec.decode(each.body, v1.Event).parameters for each in device.ledger.pending()]
    assert [each["what"] for each in kinds if "what" in each] == ["quarantined", "lifted"]


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("reason", "condemned"), [("GOLDEN_MISMATCH", True), ("LOAD_FAILED", False)]
)
async def test_golden_vectors_missed_at_a_restart_lead_back_to_what_was_committed_before(
    device: Device, world: World, reason: str, *, condemned: bool
) -> None:
    """The content is wrong here now; what merely can't be loaded may be loaded later."""
    async with device.running():
        await two_committed(device)
    world.seats.clear()
    world.wrong[("activate", 2)] = reason
    async with device.running():
        assert world.seats["digits"].revision == 1
        await asyncio.sleep(3600)
        assert world.seats["digits"].revision == 1
    phase = Phase.ROLLED_BACK if condemned else Phase.COMMITTED
    assert device.ledger.records["digits"].phase is phase
    assert len(device.ledger.quarantined) == condemned


@pytest.mark.parametrize("step", ["test", "activate"])
async def test_missed_golden_vectors_condemn_the_digest(
    device: Device, world: World, step: str
) -> None:
    """The same content as a newer revision is refused before it is fetched, after a restart too."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        world.wrong[(step, 2)] = "GOLDEN_MISMATCH"
        device.want(2, deployment(revision=2))
        await device.reaches("digits", Phase.REFUSED, 2)
    world.wrong.clear()
    world.did.clear()
    async with device.running():
        device.want(3, replace(deployment(revision=2), revision=3))
        await device.reaches("digits", Phase.REFUSED, 3)
        device.want(4, deployment(revision=4))
        await device.reaches("digits", Phase.COMMITTED, 4)
    assert "fetch digits 2" not in world.did
    assert ("refused", 3, "QUARANTINED") in device.told()


@pytest.mark.looptime
async def test_a_worker_that_never_comes_up_condemns_the_digest_and_a_hang_does_not(
    device: Device, world: World
) -> None:
    """Three starts that crashed are the content's; three that hung may be the machine's."""
    world.wrong[("test", 1)] = "WORKER_CRASHED"
    world.wrong[("test", 2)] = "WORKER_STUCK"
    async with device.running():
        device.want(1, deployment(), deployment("cat", 2))
        await device.reaches("digits", Phase.REFUSED)
        await device.reaches("cat", Phase.REFUSED, 2)
    assert set(device.ledger.quarantined) == {deployment().bundle.digest}


@pytest.mark.looptime
async def test_a_probation_failed_by_errors_condemns_only_the_revision(
    device: Device, world: World
) -> None:
    """The same content may come again with other settings."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2, probation_s=600))
        await device.reaches("digits", Phase.PROBATION, 2)
        world.counts.append(
            Tally(
                deployment="digits", revision=2, digest="", requests=50, errors=9, restarts=0,
                latency=v1.LatencySketch(),
            )
        )  # fmt: skip
        await device.reaches("digits", Phase.ROLLED_BACK, 2)
        assert {} == dict(device.ledger.quarantined)
        device.want(3, replace(deployment(revision=2), revision=3))
        await device.reaches("digits", Phase.COMMITTED, 3)


async def test_another_runtime_may_try_again(device: Device, world: World) -> None:
    """A verdict is of content on a runtime: whoever renews it gets what was refused before."""
    world.wrong[("test", 2)] = "GOLDEN_MISMATCH"
    async with device.running():
        device.want(1, deployment(revision=2))
        await device.reaches("digits", Phase.REFUSED, 2)
    async with device.running():
        assert len(device.ledger.quarantined) == 1
    world.wrong.clear()
    world.runtime = "litert 2.4.0"
    async with device.running():
        device.want(2, replace(deployment(revision=2), revision=3))
        await device.reaches("digits", Phase.COMMITTED, 3)
    assert {} == dict(device.ledger.quarantined)
    kinds = [codec.decode(each.body, v1.Event).parameters for each in device.ledger.pending()]
    assert [each["what"] for each in kinds if "what" in each] == ["quarantined", "lifted"]


# Hold


def hold(device: Device, *, release: bool = False) -> None:
    held = None if release else v1.Hold(reason="the belt is being changed", since=AT)
    device.ledger.heed(held, at=AT)
    device.reconciler.wake()


@pytest.mark.looptime
async def test_a_held_device_stays_as_it_is(device: Device, world: World) -> None:
    """Nothing is accepted, fetched or retired; what serves is kept up; released, it goes on."""
    async with device.running():
        device.want(1, deployment(), deployment("cat", 3))
        await device.reaches("digits", Phase.COMMITTED)
        await device.reaches("cat", Phase.COMMITTED, 3)
        hold(device)
        before, did = dict(device.ledger.records), list(world.did)
        device.want(2, deployment(revision=2), deployment("word", 4))
        await asyncio.sleep(3600)
        assert before == dict(device.ledger.records)
        assert did == world.did
        del world.seats["digits"]
        device.reconciler.wake()
        await asyncio.sleep(1)
        assert world.seats["digits"].revision == 1
        hold(device, release=True)
        await device.reaches("digits", Phase.COMMITTED, 2)
        await device.reaches("word", Phase.COMMITTED, 4)
    assert set(world.seats) == {"digits", "word"}


@pytest.mark.looptime
async def test_a_hold_ends_a_fetch_at_once_and_leaves_the_candidate_where_it_is(
    device: Device, world: World
) -> None:
    """It goes on from there when the device is released."""
    world.wrong[("fetch", 1)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.FETCHING)
        hold(device)
        await asyncio.sleep(3600)
        assert device.ledger.records["digits"].phase is Phase.FETCHING
        assert world.did == ["fetch digits 1"]
        world.wrong.clear()
        hold(device, release=True)
        await device.reaches("digits", Phase.COMMITTED)
    assert world.did.count("fetch digits 1") == 2


@pytest.mark.looptime
@pytest.mark.parametrize("fails", [True, False])
async def test_a_trial_ends_under_a_hold(device: Device, world: World, *, fails: bool) -> None:
    """Committed when it was quiet, rolled back when it was not."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2, probation_s=60))
        await device.reaches("digits", Phase.PROBATION, 2)
        hold(device)
        if fails:
            device.meter.died("digits", 2, of_itself=True)
            device.meter.died("digits", 2, of_itself=True)
            device.reconciler.wake()
        await device.reaches("digits", Phase.ROLLED_BACK if fails else Phase.COMMITTED, 2)
    assert world.seats["digits"].revision == (1 if fails else 2)


async def test_a_device_that_starts_held_serves_and_begins_nothing(
    device: Device, world: World
) -> None:
    """A hold outlives the agent."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        hold(device)
    world.seats.clear()
    world.did.clear()
    device.ledger.close()
    device.ledger = open_ledger(device.path, fleet="f", device="d-1")
    device.desired = desired(2, deployment(revision=2))
    async with device.running():
        await asyncio.sleep(0.05)
    assert world.did == ["activate digits 1"]
    assert world.seats["digits"].revision == 1


async def test_a_device_that_can_write_no_ledger_serves_what_it_knows(
    device: Device, world: World
) -> None:
    """And begins nothing new, whatever is desired: it could not remember it."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    device.ledger.close()
    device.path.rename(device.path.with_name("away"))
    device.path.mkdir()
    device.ledger = open_ledger(device.path, fleet="f", device="d-1")
    world.seats.clear()
    world.did.clear()
    async with device.running():
        device.want(2, deployment(revision=2))
        await asyncio.sleep(0.05)
    assert ["activate digits 1"] == world.did
    assert 1 == world.seats["digits"].revision
    assert device.ledger.forgetful


async def test_downloads_take_turns_where_a_device_has_a_rate(device: Device, world: World) -> None:
    """It is of the device, not of each; one that should serve and can't waits for nobody."""
    settings = v1.DeviceSettings(download_rate_bytes_per_s=200_000)
    world.wrong[("fetch", 2)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment("ape", 5))
        await device.reaches("ape", Phase.COMMITTED, 5)
        wanted = desired(2, deployment("ape", 5), deployment("cat", 2), deployment("dog", 3))
        device.desired = replace(wanted, settings=settings)
        device.reconciler.wake()
        await device.reaches("dog", Phase.FETCHING, 3)
        await device.reaches("cat", Phase.FETCHING, 2)
        fetched = [each for each in world.did if each.startswith("fetch")]
        world.wrong[("activate", 5)] = "DIGEST_MISMATCH"
        world.seats.pop("ape")
        device.reconciler.wake()
        while world.did.count("fetch ape 5") < 2:
            await asyncio.sleep(0.01)
        del world.wrong[("activate", 5)]
        assert ["fetch ape 5", "fetch cat 2"] == fetched
        assert Phase.FETCHING is device.ledger.records["dog"].phase
        hanging = world.wrong.pop(("fetch", 2))
        assert isinstance(hanging, asyncio.Event)
        hanging.set()
        await device.reaches("cat", Phase.COMMITTED, 2)
        await device.reaches("dog", Phase.COMMITTED, 3)
    rates = [each.rate_bytes_per_s for each in world.terms]
    assert None is rates[0]
    assert {200_000} == set(rates[1:])


async def test_what_rotted_of_what_is_returned_to_is_fetched_again(
    device: Device, world: World
) -> None:
    """A way back that can't be started from the store is mended, as what serves is."""
    trial = deployment(revision=2, probation_s=60.0)
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, trial)
        await device.reaches("digits", Phase.PROBATION, 2)
        world.wrong[("activate", 1)] = "DIGEST_MISMATCH"

        async def mended(
            _bundle: v1.BundleRef,
            terms: Terms,
            _progress: Callable[[Happening], Awaitable[None]],
        ) -> None:
            assert terms.served
            world.wrong.clear()

        world.fetch = mended  # type: ignore[method-assign,assignment]
        for _ in range(2):
            device.meter.died("digits", 2, of_itself=True)
        device.reconciler.wake()
        async with asyncio.timeout(5):
            await device.reaches("digits", Phase.ROLLED_BACK, 2)
    assert world.seats["digits"].revision == 1


async def test_what_is_said_of_content_names_the_rollout_that_brought_it(
    device: Device, world: World
) -> None:
    """Quarantined, lifted by another runtime, rotten and mended: each with its own trace."""
    first = replace(deployment(), trace_id="a" * 32)
    second = replace(deployment(revision=2), trace_id="b" * 32)
    async with device.running():
        device.want(1, first)
        await device.reaches("digits", Phase.COMMITTED)
        world.wrong[("test", 2)] = "GOLDEN_MISMATCH"
        device.want(2, second)
        await device.reaches("digits", Phase.REFUSED, 2)
        await device.reconciler.rotten({first.bundle.digest: ["sha256:0b"]})
        async with asyncio.timeout(5):
            while "mended" not in [each.parameters.get("what") for each in told(device)]:
                device.news.clear()
                device.reconciler.wake()
                await device.news.wait()
    world.runtime = "litert 9.9.9"
    async with device.running():
        pass

    found = [
        (each.parameters["what"], each.trace_id)
        for each in told(device)
        if each.kind in {v1.EventKind.QUARANTINE, v1.EventKind.STORE}
    ]
    assert [
        ("quarantined", "b" * 32),
        ("rotten", "a" * 32),
        ("mended", "a" * 32),
        ("lifted", "b" * 32),
    ] == found


async def test_who_measures_hears_of_what_is_started_again(device: Device, world: World) -> None:
    """A step that moves no revision is told when it begins, and is seen while it is taken."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        await rests(device)
        world.wrong[("activate", 1)] = blocked = asyncio.Event()
        world.seats.clear()
        device.news.clear()
        device.reconciler.wake()
        async with asyncio.timeout(5):
            await device.news.wait()
        assert [("digits", Action.RESTORE)] == [
            (each.deployment, each.action) for each in device.reconciler.under_way()
        ]
        blocked.set()
        await rests(device)
    assert "digits" in world.seats


async def rests(device: Device) -> None:
    async with asyncio.timeout(5):
        while device.reconciler.under_way():
            await asyncio.sleep(0)


def told(device: Device) -> list[v1.Event]:
    return [codec.decode(each.body, v1.Event) for each in device.ledger.pending()]
