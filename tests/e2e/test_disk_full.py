"""A device whose disk is full: what serves goes on serving, and room is all that is needed."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.wire.reasons import Reason
from models.layout import Layout
from tests.e2e.scene import Centre, Device, Load, Row, until
from tests.e2e.wares import Model, packed

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

DISK_BYTES = 48 * 1024 * 1024
LARGE_BYTES = 64 * 1024 * 1024
MEDIUM_BYTES = 6 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB."""
    if os.geteuid() != 0:
        pytest.skip("a small file system can only be mounted by root: run the tests as root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "skerry-test", folder)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


def test_a_bundle_larger_than_the_disk(
    town: Centre,
    make_device: Callable[..., Device],
    small_disk: Path,
    old: Model,
    new: Model,
) -> None:
    """Put off with DISK_FULL and no litter; a larger disk later, it completes by itself."""
    layout = Layout.create(small_disk.parent / "large")
    large = packed(new, "4.0.0", layout, key=town.key, filler_bytes=LARGE_BYTES)
    town.publish(layout, large)
    device = _serving(town, make_device, small_disk, old)
    store, workers = _store(device), device.workers()

    with Load(device, old, new) as load:
        town.roll("4.0.0", device)
        _put_off(town, device, large.digest)
        assert device.answers(old)
        assert workers == device.workers()
        manifest = large.digest.removeprefix("sha256:")  # by which it knows what it lacks
        assert {manifest} == _store(device) - store
        assert [] == list((device.home / "store").rglob("*.part"))
        enlarged = _mount("-o", f"remount,size={4 * LARGE_BYTES}", small_disk)
        assert 0 == enlarged.returncode, enlarged.stderr
        town.settled(device, "4.0.0")
    assert [] == load.failed == load.unanswered
    assert device.answers(new)


def test_a_disk_that_fills_up_while_fetching(
    town: Centre,
    make_device: Callable[..., Device],
    small_disk: Path,
    old: Model,
    new: Model,
) -> None:
    """Not one byte left, for store and ledger alike; then room, and all is told and done."""
    layout = Layout.create(small_disk.parent / "medium")
    medium = packed(new, "4.1.0", layout, key=town.key, filler_bytes=MEDIUM_BYTES)
    town.publish(layout, medium)
    device = _serving(town, make_device, small_disk, old)
    held, workers = device.held(), device.workers()
    filler = small_disk / "filler"

    with Load(device, old, new) as load:
        with _kept_full(filler):
            town.roll("4.1.0", device)
            until(
                lambda: any(
                    "full" in str(line.get("message", "")) or line.get("reason") == "DISK_FULL"
                    for line in device.said()
                ),
                what="a word about the full disk",
            )
            load.more(50)
            assert device.answers(old)
            assert workers == device.workers()
            assert held["generation"] <= device.held()["generation"]
            assert device.alive()
        town.settled(device, "4.1.0")
    assert [] == load.failed == load.unanswered
    assert device.answers(new)
    ledger, last = device.numbering()
    until(lambda: [{"n": 0}] == device.ledger("SELECT count(*) AS n FROM event"))
    told = [each for each in town.events(device) if each["ledger"] == ledger]
    assert list(range(1, last + 1)) == sorted(each["number"] for each in told)


def _serving(centre: Centre, make_device: Callable[..., Device], disk: Path, old: Model) -> Device:
    device = make_device(centre, home=disk / "home")
    device.start()
    centre.deliver("1.0.0", device)
    assert device.answers(old)
    return device


def _put_off(centre: Centre, device: Device, digest: str) -> None:
    def look() -> Row | None:
        told = centre.deployment(device)
        here = told["digest"] == digest and told["phase"] == "accepted" and told["last_error"]
        return told if here else None

    told = until(look, what="the bundle put off")
    assert Reason.DISK_FULL == told["last_error"]["reason"]
    assert [("deferred", "DISK_FULL")] == [
        (each["type"], each["reason"]) for each in told["conditions"]
    ]
    assert "1.0.0" == told["active"]["bundle"]["version"]
    until(lambda: "DISK_FULL" in centre.reasons(device), what="the event")


def _store(device: Device) -> set[str]:
    return {path.name for path in (device.home / "store" / "blobs" / "sha256").iterdir()}


@contextmanager
def _kept_full(filler: Path) -> Iterator[None]:
    """Take every byte, and every one that comes free, until the end."""
    stop = threading.Event()

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while not stop.is_set():
                free = shutil.disk_usage(filler.parent).free
                try:
                    file.write(bytes(max(1, free)))
                except OSError:
                    stop.wait(0.002)

    thread = threading.Thread(target=fill, name="filler")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        filler.unlink()


def _mount(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/mount", *map(str, words)], check=False, capture_output=True, text=True
    )
