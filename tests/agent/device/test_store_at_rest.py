"""A device's store at rest: what is cleaned out of it, and what is found to have rotted in it."""

import os
import shutil
from pathlib import Path

import pytest

from agent.cli import main
from agent.fetch.job import Credentials
from agent.home import Home as Folder
from agent.perform.supply import Origin, StoreSupply
from agent.state import Machine
from agent.technician import read_rotten
from agent.wire import v1
from agent.wire.phases import Phase
from models import bundle
from models import manifest as oci
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.values import Digest, digest_of
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Handler, Home, Publish, Registry, until

DAY_S = 86400.0


def supply_of(home: Home, registry: Registry) -> StoreSupply:
    nobody = Credentials(key="none", certificate="none", ca="none")
    origin = Origin(registry_url=registry.url, keys=(), credentials=nobody)
    machine = Machine(architecture="x86_64", library="litert", library_version="2.3.0")
    return StoreSupply(Folder(home.path), origin, machine)


def half(store: Layout, digest: Digest, *, age_s: float) -> Path:
    partial = store.ingest_path(digest)
    partial.write_bytes(b"half of it")
    written = partial.stat().st_mtime - age_s
    os.utime(partial, (written, written))
    return partial


async def test_half_a_download_goes_when_nothing_wanted_it_for_a_day(
    home: Home, registry: Registry, publish: Publish
) -> None:
    """One that is wanted stays however old, and so does one that may be wanted again today."""
    made = publish()
    store = Layout.create(Folder(home.path).store)
    store.add(registry.layout.read(made.digest, 1 << 20))  # as when its fetch was put off
    wanted = half(store, made.manifest.layers[0].digest, age_s=9 * DAY_S)
    young = half(store, digest_of(b"young"), age_s=0.9 * DAY_S)
    old = half(store, digest_of(b"old"), age_s=1.1 * DAY_S)

    await supply_of(home, registry).collect([made.digest])

    assert [True, True, False] == [each.exists() for each in (wanted, young, old)]
    assert bundle.find(store, made.digest) == made.digest


def flip(path: Path) -> bytes:
    """Flip one bit in the middle of a file; return what was there."""
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    return content


def scrub(home: Home) -> int:
    return main(["scrub", "--home", str(home.path)])


@pytest.mark.real("mosquitto")
def test_what_rotted_under_a_loaded_worker_is_replaced_and_the_worker_goes_on(
    agent: Agent,
    centre: Centre,
    home: Home,
    registry: Registry,
    serving: v1.Deployment,
    *,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a network it is told and stays; with one it is whole again, by one request for it."""
    store, workers = Layout(Folder(home.path).store), agent.workers()
    assert scrub(home) == 0
    assert "all whole" in capsys.readouterr().out
    manifest = oci.parse(store.read(Digest(serving.bundle.digest), MANIFEST_LIMIT_BYTES))
    model = store.blob_path(manifest.layers[0].digest)
    whole = flip(model)
    registry.wrong = away
    assert scrub(home) == 1
    rotten = f"rotten: sha256:{model.name} of {serving.bundle.digest}"
    said = capsys.readouterr().out
    assert rotten in said.splitlines()
    assert "all whole" not in said
    until(lambda: told(centre) == [("BLOB_ROTTEN", "rotten")])
    until(lambda: registry.digests[-1] == f"sha256:{model.name}")  # it was tried
    assert model.exists()
    assert agent.serves() == "1.0.0"
    registry.wrong = lambda *_: False
    registry.digests.clear()
    assert scrub(home) == 1  # somebody is impatient
    until(lambda: told(centre)[-1] == (None, "mended"))
    assert model.read_bytes() == whole
    assert set(registry.digests) == {f"sha256:{model.name}"}
    assert agent.workers() == workers
    assert agent.serves() == "1.0.0"
    assert centre.phase() == (Phase.COMMITTED, 1)
    assert scrub(home) == 0


def away(handler: Handler, _content: bytes) -> bool:
    handler.send_error(503)
    return True


def told(centre: Centre) -> list[tuple[str | None, str]]:
    events = [centre.events[number] for number in sorted(centre.events)]
    kind = v1.EventKind.STORE
    return [(each.reason, each.parameters["what"]) for each in events if each.kind is kind]


def test_a_scrub_with_no_agent_is_looked_at_by_the_next(
    home: Home, registry: Registry, publish: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    """Word is left; a folder with no store is said in three lines."""
    assert scrub(home) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3
    folder = Folder(home.path)
    made = publish()
    shutil.copytree(registry.layout.path, folder.store)
    assert scrub(home) == 0
    assert not folder.rotten.exists()
    flip(Layout(folder.store).blob_path(made.digest))
    assert scrub(home) == 1
    assert read_rotten(folder.rotten) == {made.digest: [made.digest]}
    folder.rotten.write_bytes(b"[")
    assert read_rotten(folder.rotten) == {}
