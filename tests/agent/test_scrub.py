"""What rotted at rest: found without touching it, told, and fetched again beside what serves."""

# ruff: noqa: ASYNC110  # what the fakes were asked is looked at, not waited for

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from agent.bucket import Bucket
from agent.children.converse import converse
from agent.errors import StepError
from agent.scrub import Found, look
from agent.state import hold_note
from agent.upkeep import FIRST_S, PERIOD_S, Upkeep
from agent.wire import codec, v1
from agent.wire.phases import Phase
from models import keys
from models.bundle import Bundle
from models.layout import Layout
from tests.agent.device.world import publisher
from tests.agent.looped import Device, World, deployment
from tests.agent.packages import Package

BUNDLE = deployment().bundle.digest


@pytest.fixture
def made(tmp_path: Path, dense: Package) -> tuple[Path, Bundle]:
    keys.generate(tmp_path / "key", tmp_path / "pub")
    layout = Layout.create(tmp_path / "store")
    return layout.path, publisher(layout, keys.SigningKey.load(tmp_path / "key"), dense)()


def flip(path: Path) -> bytes:
    """Flip one bit in the middle of a file; return what was there."""
    content = path.read_bytes()
    middle = len(content) // 2
    harmed = bytes([content[middle] ^ 1])
    path.write_bytes(content[:middle] + harmed + content[middle + 1 :])
    return content


def test_one_flipped_bit_of_any_blob_is_found(made: tuple[Path, Bundle]) -> None:
    """Whose it is, is told; not one byte of the store is changed by looking."""
    store, whole = made
    blobs = sorted((store / "blobs" / "sha256").iterdir())
    sizes = sum(path.stat().st_size for path in blobs)
    assert Found(read_bytes=sizes) == look(store, wait=lambda _: None)
    for path in blobs:
        content = flip(path)
        harmed = path.read_bytes()
        found = look(store, wait=lambda _: None)
        assert {whole.digest: (f"sha256:{path.name}",)} == found.bundles
        assert () == found.loose
        assert harmed == path.read_bytes()
        path.write_bytes(content)


def test_what_is_gone_is_found_and_what_nobody_needs_is_told_apart(
    made: tuple[Path, Bundle],
) -> None:
    """A file that a repaired disk has lost is as bad as one that rotted."""
    store, whole = made
    layout = Layout(store)
    layer = whole.manifest.layers[0].digest
    layout.blob_path(layer).unlink()
    loose = layout.add(b"nobody's")
    flip(layout.blob_path(loose))
    (store / "blobs" / "sha256" / ".killed.tmp").write_bytes(b"half")
    found = look(store, wait=lambda _: None)
    assert {whole.digest: (layer,)} == found.bundles
    assert (loose,) == found.loose


async def test_the_child_says_the_same(made: tuple[Path, Bundle]) -> None:
    """Through its pipe; and a folder that is no store is an answer, too."""
    store, whole = made
    flip(Layout(store).blob_path(whole.manifest.layers[0].digest))
    job = {"store": str(store), "rate_bytes_per_s": 1e9}
    found = Found.from_json(await converse("agent.scrub", job, deadline_s=30))
    assert look(store, wait=lambda _: None) == found
    with pytest.raises(StepError) as caught:
        await converse("agent.scrub", {**job, "store": str(store / "blobs")}, deadline_s=30)
    assert "BUNDLE_MALFORMED" == caught.value.reason


@pytest.mark.parametrize("piece_bytes", [1, 1000, 65536])
def test_a_paced_reader_is_never_faster_than_its_rate(piece_bytes: int) -> None:
    """From any moment on, also after an hour of nothing, but for the one piece of a burst."""
    bucket, now_s = Bucket(per_s=10_000, burst=piece_bytes), 50.0
    for pause_s in (0.0, 3600.0):
        now_s += pause_s
        began_s, taken = now_s, 0
        for _ in range(200):
            bucket.take(now_s, piece_bytes)
            taken += piece_bytes
            now_s += bucket.wait_s(now_s, 0)
            assert taken <= 10_000 * (now_s - began_s) + piece_bytes + 1e-6
        assert taken == pytest.approx(10_000 * (now_s - began_s) + piece_bytes)


@pytest.mark.looptime
async def test_a_store_is_scrubbed_an_hour_after_the_start_and_then_weekly() -> None:
    """One that fails is not the last."""
    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    at: list[float] = []
    heard: list[Mapping[str, Collection[str]]] = []

    async def scrub() -> Found:
        at.append(loop.time() - began)
        if len(at) == 2:
            raise StepError("TIMED_OUT", "too slow")
        return Found(read_bytes=1, bundles={BUNDLE: (BUNDLE,)})

    async def rotten(bundles: Mapping[str, Collection[str]]) -> None:
        heard.append(bundles)

    task = asyncio.create_task(Upkeep(scrub, rotten).run())  # noqa: TID251  # ended below
    await asyncio.sleep(FIRST_S + 2 * PERIOD_S + 1)
    task.cancel()
    assert [FIRST_S, FIRST_S + PERIOD_S, FIRST_S + 2 * PERIOD_S] == pytest.approx(at)
    assert [{BUNDLE: (BUNDLE,)}] * 2 == heard


@pytest.mark.looptime
async def test_what_rotted_is_fetched_again_when_it_can_be(device: Device, world: World) -> None:
    """Told once; tried ever more seldom without a network, soon with one; then told."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        world.wrong[("fetch", 1)] = "REGISTRY_UNREACHABLE"
        world.did.clear()
        await device.reconciler.rotten({BUNDLE: [BUNDLE], "sha256:" + "e" * 64: ["x"]})
        await asyncio.sleep(86400)
        tried = len(world.did)
        del world.wrong[("fetch", 1)]
        device.reconciler.hurry()
        await asyncio.sleep(5)
        did = list(world.did)
        await asyncio.sleep(86400)
        assert did == world.did
    assert {"fetch digits 1"} == set(did)
    assert 20 < tried < 100
    assert len(did) == tried + 1
    assert world.terms[-1].served
    assert [("BLOB_ROTTEN", "rotten"), (None, "mended")] == stored(device)
    assert 1 == world.seats["digits"].revision
    assert Phase.COMMITTED is device.ledger.records["digits"].phase


async def test_what_would_be_returned_to_is_mended_too(device: Device, world: World) -> None:
    """A rollback needs it whole."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2))
        await device.reaches("digits", Phase.COMMITTED, 2)
        world.did.clear()
        await device.reconciler.rotten({BUNDLE: [BUNDLE]})
        while len(stored(device)) < 2:
            await asyncio.sleep(0.01)
    assert ["fetch digits 1"] == world.did


def stored(device: Device) -> list[tuple[str | None, str]]:
    """Return reason and word of what the centre will hear of the store."""
    events = [codec.decode(each.body, v1.Event) for each in device.ledger.pending()]
    kind = v1.EventKind.STORE
    return [(each.reason, each.parameters["what"]) for each in events if each.kind is kind]


async def test_mending_gives_way_to_what_is_newly_wanted_and_to_a_hold(
    device: Device, world: World
) -> None:
    """It may last; whoever wants something else, or nothing at all for now, does not wait."""
    async with device.running():
        device.want(1, deployment(revision=2))
        await device.reaches("digits", Phase.COMMITTED, 2)
        second = deployment(revision=2).bundle.digest
        world.wrong[("fetch", 2)] = asyncio.Event()
        world.did.clear()
        await device.reconciler.rotten({second: [second]})
        while not world.did:
            await asyncio.sleep(0.01)
        hold = v1.Hold(reason="repairs", since="2026-01-02T03:04:05Z")
        device.ledger.heed(hold, hold_note(hold, None), at=hold.since)
        device.reconciler.wake()
        await asyncio.sleep(0.1)
        assert ["fetch digits 2"] == world.did
        device.ledger.heed(None, hold_note(None, hold), at=hold.since)
        device.want(2, deployment(revision=3))
        await device.reaches("digits", Phase.COMMITTED, 3)
    assert 3 == world.seats["digits"].revision


@pytest.mark.looptime
@pytest.mark.parametrize("fails", ["test", "fetch"])
async def test_what_is_only_to_be_better_keeps_nothing_else_waiting(
    device: Device, world: World, fails: str
) -> None:
    """On other hardware, mending comes to its turn where measuring fails, and the reverse.

    What fails is tried for ever, and seldom: it serves all the same, and trying costs.
    """
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
    world.hardware = "another"
    world.wrong[(fails, 1)] = "REGISTRY_REFUSED" if fails == "fetch" else "TIMED_OUT"
    world.did.clear()
    async with device.running():
        await device.reconciler.rotten({BUNDLE: [BUNDLE]})
        await asyncio.sleep(86400)
        current = device.ledger.records["digits"].current
        assert current is not None
        if fails == "fetch":
            assert "another" == current.hardware
        else:
            assert (None, "mended") in stored(device)
    assert 20 < world.did.count(f"{fails} digits 1") < 200
