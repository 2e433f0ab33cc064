"""Fetching, in its real child, from a registry that does everything a registry may do wrong."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from agent.children.converse import converse
from agent.errors import StepError
from agent.fetch.job import Credentials, FetchJob
from models import bundle, keys
from models import manifest as oci
from models.bundle import Bundle
from models.card import Requirements
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from tests.agent.device.world import HARDWARE, Fetch, Handler, Publish, Registry, Tree

CARD = 200_000  # a card of that size makes the config the largest part


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def fetch(registry: Registry, bundle_key: keys.SigningKey, store: Path) -> Fetch:
    async def run(of: Bundle, **changes: object) -> list[Any]:
        heard: list[Any] = []

        async def progress(line: object) -> None:
            heard.append(line)

        fields: dict[str, Any] = {
            "store": str(store),
            "registry_url": registry.url,
            "name": of.ref.name,
            "digest": of.digest,
            "keys": (bundle_key.public_pem,),
            "credentials": Credentials(key="none", certificate="none", ca="none"),
            "hardware": HARDWARE,
            "reserve_bytes": 0,
            **changes,
        }
        job = FetchJob(**fields)
        await converse("agent.fetch", job.to_json(), deadline_s=30, progress=progress)
        return heard

    return run


def partials(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "ingest").glob("*"))


async def refused(fetching: Awaitable[object]) -> str:
    with pytest.raises(StepError) as caught:
        await fetching
    return caught.value.reason


async def test_a_bundle_arrives_verified(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """All of it, with its signature; asked again, nothing is fetched."""
    made = publish()
    assert await fetch(made) == ["fetched"]
    assert bundle.read(Layout(store), made.digest) == made
    assert partials(store) == []
    registry.asked.clear()
    assert await fetch(made) == ["fetched"]
    assert registry.asked == []


async def test_a_connection_that_breaks_is_resumed(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """Every 64 kB the server hangs up: the next connection goes on where it stopped."""
    made = publish(padding=CARD)

    def breaks(handler: Handler, content: bytes) -> bool:
        if len(content) < CARD:
            return False
        wanted = handler.headers.get("Range", "")
        handler.answer(content, int(wanted[6:-1]) if wanted else 0, send=65536)
        return True

    registry.wrong = breaks
    await fetch(made)
    ranges = [range_ for kind, range_ in registry.asked if range_]
    assert ranges[:3] == ["bytes=65536-", "bytes=131072-", "bytes=196608-"]
    assert bundle.read(Layout(store), made.digest) == made


async def stop_halfway(fetch: Fetch, registry: Registry, made: Bundle) -> None:
    """Leave 65,536 bytes of the card in the store."""
    halfway = False

    def stops(handler: Handler, content: bytes) -> bool:
        nonlocal halfway
        if len(content) < CARD:
            return False
        if halfway:
            handler.send_error(503)
        else:
            halfway = True
            handler.answer(content, send=65536)
        return True

    registry.wrong = stops
    assert await refused(fetch(made)) == "REGISTRY_UNREACHABLE"
    registry.wrong = lambda *_: False
    registry.asked.clear()


async def test_another_child_resumes(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """What was fetched before a restart is not fetched again."""
    made = publish(padding=CARD)
    await stop_halfway(fetch, registry, made)
    assert [name.split(".")[1] for name in partials(store)] == ["etag", "part"]
    await fetch(made)
    assert ("blobs", "bytes=65536-") in registry.asked
    assert partials(store) == []


@pytest.mark.parametrize("wrong", ["200", "another range", "another size", "another etag", "none"])
async def test_only_a_matching_206_is_gone_on_with(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry, wrong: str
) -> None:
    """Anything else starts over, and what arrives is whole."""
    made = publish(padding=CARD)
    await stop_halfway(fetch, registry, made)
    if wrong == "another etag":
        registry.etag = "two"

    def lies(handler: Handler, content: bytes) -> bool:
        wanted = handler.headers.get("Range")
        if not wanted or wrong == "another etag":
            return False
        if wrong == "200":
            handler.answer(content)
            return True
        handler.send_response(206)
        told = {
            "another range": f"bytes 0-{len(content) - 1}/{len(content)}",
            "another size": f"bytes 65536-{len(content) + 8}/{len(content) + 9}",
        }
        if wrong in told:
            handler.send_header("Content-Range", told[wrong])
        handler.send_header("ETag", registry.etag)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)
        return True

    registry.wrong = lies
    await fetch(made)
    assert bundle.read(Layout(store), made.digest) == made


async def test_other_bytes_than_promised_are_thrown_away(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """A registry that sends something else is told apart; nothing of it stays."""
    made = publish(padding=CARD)

    def lies(handler: Handler, content: bytes) -> bool:
        if len(content) < CARD:
            return False
        handler.answer(b"y" * len(content))
        return True

    registry.wrong = lies
    assert await refused(fetch(made)) == "DIGEST_MISMATCH"
    assert [name for name in partials(store) if name.endswith(".part")] == []
    registry.wrong = lambda *_: False
    await fetch(made)


async def test_more_than_promised_is_not_taken(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """A registry that never stops sending is stopped at the promised size."""
    made = publish(padding=CARD)

    def floods(handler: Handler, content: bytes) -> bool:
        if len(content) < CARD:
            return False
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"z" * 65536)
        handler.close_connection = True
        return True

    registry.wrong = floods
    assert await refused(fetch(made)) == "SIZE_MISMATCH"
    assert [name for name in partials(store) if name.endswith(".part")] == []


async def test_a_trickle_is_not_waited_for(
    fetch: Fetch, publish: Publish, registry: Registry
) -> None:
    """A connection that brings a byte now and then ends."""
    made = publish(padding=CARD)

    def trickles(handler: Handler, content: bytes) -> bool:
        if len(content) < CARD:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for start in range(100):
            handler.wfile.write(content[start : start + 1])
            handler.wfile.flush()
            time.sleep(0.05)  # noqa: TID251  # a slow server, in a thread of its own
        return True

    registry.wrong = trickles
    assert await refused(fetch(made, stall_s=0.5, stall_bytes=1000)) in {
        "TIMED_OUT",
        "REGISTRY_UNREACHABLE",
    }


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "REGISTRY_REFUSED"),
        (403, "REGISTRY_REFUSED"),
        (500, "REGISTRY_UNREACHABLE"),
        (429, "REGISTRY_UNREACHABLE"),
    ],
)
async def test_a_registry_that_says_no(
    fetch: Fetch, publish: Publish, registry: Registry, status: int, reason: str
) -> None:
    """Its answer becomes a reason; none of them is the bundle's fault."""
    made = publish()

    def says_no(handler: BaseHTTPRequestHandler, _: object) -> bool:
        handler.send_error(status)
        return True

    registry.wrong = says_no
    assert await refused(fetch(made)) == reason


async def test_no_registry_at_all(fetch: Fetch, publish: Publish, tree: Tree, store: Path) -> None:
    """Nobody listens: put off, and the store is as it was."""
    made = publish()
    await fetch(made)
    before = tree(store)
    other = publish("2.0.0")
    assert await refused(fetch(other, registry_url="http://127.0.0.1:9")) == "REGISTRY_UNREACHABLE"
    assert await refused(fetch(other, registry_url="http://192.0.2.1")) == "REGISTRY_REFUSED"
    assert tree(store) == before


async def test_a_signature_by_a_stranger_is_no_signature(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry, tmp_path: Path
) -> None:
    """An untrusted key, or none, is refused, and the store doesn't name the bundle."""
    made = publish()
    keys.generate(tmp_path / "x.key", tmp_path / "x.pub")
    stranger = keys.load_public(tmp_path / "x.pub").pem
    assert await refused(fetch(made, keys=(stranger,))) == "SIGNATURE_INVALID"
    assert Layout(store).entries() == ()
    unsigned = publish("1.1.0")
    for signature in registry.layout.referrers(unsigned.digest):
        registry.layout.forget(signature.digest)
    assert await refused(fetch(unsigned)) == "SIGNATURE_MISSING"
    assert Layout(store).entries() == ()
    await fetch(made)


async def test_a_part_that_rotted_is_fetched_again(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """Only that part."""
    made = publish(padding=CARD)
    await fetch(made)
    path = Layout(store).blob_path(made.manifest.config.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    registry.asked.clear()
    await fetch(made)
    assert registry.asked == [("blobs", "")]
    assert bundle.read(Layout(store), made.digest) == made


async def test_room_is_looked_for_before_the_first_byte(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """A bundle that can't fit is put off without fetching any part of it."""
    made = publish()
    assert await refused(fetch(made, reserve_bytes=1 << 60)) == "DISK_FULL"
    assert [kind for kind, _ in registry.asked] == ["manifests"]
    assert partials(store) == []


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        (Requirements(memory_bytes=1 << 20, operators=(), accelerator="vx"), "NO_VARIANT_FITS"),
        (Requirements(memory_bytes=1 << 40, operators=()), "OUT_OF_MEMORY"),
    ],
)
async def test_what_cannot_serve_here_is_refused_before_its_weights_are_asked_for(
    fetch: Fetch, publish: Publish, registry: Registry, needs: Requirements, reason: str
) -> None:
    """By its card, with the reason that staging would give; not one byte of weights comes."""
    made = publish(needs=needs)
    assert await refused(fetch(made)) == reason
    assert registry.digests == [made.digest, made.manifest.config.digest]
    assert await refused(fetch(made)) == reason
    assert registry.digests == [made.digest, made.manifest.config.digest]
    accelerated = replace(HARDWARE, memory_bytes=1 << 41, accelerators=("vx",))
    await fetch(made, hardware=accelerated)
    assert {layer.digest for layer in made.manifest.layers} < set(registry.digests)


async def test_whatever_rotted_is_fetched_again_and_stays_until_it_is_there(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """Manifest, card, weights, signature: each alone; without a network nothing is deleted."""
    made = publish()
    await fetch(made)
    blobs = sorted((store / "blobs" / "sha256").iterdir())
    kept = {path: path.read_bytes() for path in blobs}
    assert len(blobs) >= 6
    for path, content in kept.items():
        if content == oci.EMPTY:
            continue  # it is in the program, and never asked for
        path.write_bytes(b"!" + content[1:])
        with pytest.raises(StepError):
            await fetch(made, registry_url="http://127.0.0.1:9")
        assert path.exists(), "deleted, and nothing in its place"
        registry.digests.clear()
        await fetch(made)
        assert f"sha256:{path.name}" in registry.digests
        assert {each: each.read_bytes() for each in blobs} == kept


async def test_while_the_line_is_shut_nothing_is_asked(
    fetch: Fetch, publish: Publish, registry: Registry
) -> None:
    """For that reason; what is all here is verified, for it needs nothing."""
    made = publish()
    assert await refused(fetch(made, shut="DOWNLOAD_WINDOW_CLOSED")) == "DOWNLOAD_WINDOW_CLOSED"
    assert registry.asked == []
    await fetch(made)
    registry.asked.clear()
    assert await fetch(made, shut="DOWNLOAD_WINDOW_CLOSED") == ["fetched"]
    assert registry.asked == []


async def test_a_fetch_that_is_stopped_goes_on_where_it_was(
    fetch: Fetch, publish: Publish, store: Path, registry: Registry
) -> None:
    """As when its window closes: what has come stays, and is not asked for again."""
    made = publish(padding=CARD)
    parts = store / "ingest"

    async def slowly() -> None:
        await fetch(made, rate_bytes_per_s=50_000)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(slowly())
        while True:  # it is about a real child
            if any(path.stat().st_size > 60_000 for path in parts.glob("*.part")):
                break
            await asyncio.sleep(0.02)
        task.cancel()
    [part] = parts.glob("*.part")
    here = part.stat().st_size
    registry.asked.clear()
    await fetch(made)
    assert registry.asked[0] == ("blobs", f"bytes={here}-")
    assert bundle.read(Layout(store), made.digest) == made


async def test_a_rate_is_kept_to(fetch: Fetch, publish: Publish, store: Path) -> None:
    """The same bytes take as long as they must; without a rate they are there at once."""
    made = publish(padding=CARD)
    times_s = {}
    for rate in (100_000, None):
        began_s = time.monotonic()  # noqa: TID251  # real bytes in a real child
        await fetch(made, rate_bytes_per_s=rate)
        times_s[rate] = time.monotonic() - began_s  # noqa: TID251  # as above
        assert bundle.read(Layout(store), made.digest) == made
        shutil.rmtree(store)
    brought = made.manifest.config.size_bytes + sum(
        layer.size_bytes for layer in made.manifest.layers
    )
    assert times_s[100_000] - times_s[None] > 0.5 * brought / 100_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Two megabytes of a disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root, and a machine that allows it")
    yield disk
    subprocess.run(["/bin/umount", str(disk)], check=True)


@pytest.mark.real  # where it can't be mounted, CI fails instead of skipping
async def test_a_disk_that_fills_up_is_left_as_it_was(
    fetch: Fetch, publish: Publish, small_disk: Path, tree: Tree
) -> None:
    """Nothing partial stays, what was there is there, and with room it works."""
    first, second = publish(), publish("2.0.0", padding=450_000)
    store = small_disk / "store"
    await fetch(first, store=str(store))
    hog = small_disk / "hog"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    hog.write_bytes(bytes(free - 500_000))
    before = tree(store)
    # It is told to see room that isn't there, as when somebody else takes it meanwhile.
    assert await refused(fetch(second, store=str(store), reserve_bytes=-(1 << 40))) == "DISK_FULL"
    assert [name for name in partials(store) if name.endswith(".part")] == []
    assert before.items() <= tree(store).items()
    assert bundle.read(Layout(store), first.digest) == first
    hog.unlink()
    await fetch(second, store=str(store))


async def test_a_manifest_that_lies_about_sizes_is_refused(
    fetch: Fetch, publish: Publish, registry: Registry
) -> None:
    """A part larger than any may be is not begun."""
    made = publish()
    raw = registry.layout.read(made.digest, MANIFEST_LIMIT_BYTES)
    size = str(made.manifest.config.size_bytes).encode()
    forged = raw.replace(b'"size":' + size, b'"size":99999999999', 1)
    assert forged != raw
    digest = registry.layout.add(forged)
    oci.parse(forged)  # in itself it is well formed
    assert await refused(fetch(made, digest=digest)) in {"TOO_LARGE", "BUNDLE_MALFORMED"}
    assert [kind for kind, _ in registry.asked] == ["manifests"]
