"""A device's store at rest: what is cleaned out of it, and what is found to have rotted in it."""

import os
from pathlib import Path

from agent.fetch.job import Credentials
from agent.home import Home as Folder
from agent.perform.supply import Origin, StoreSupply
from agent.state import Machine
from models import bundle
from models.layout import Layout
from models.values import Digest, digest_of
from tests.agent.device.world import Home, Publish, Registry

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
