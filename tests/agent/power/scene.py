"""The device that loses its power: recorded once, and started again on what a cut left it.

Its life: a first bundle is committed, the agent stops in order and starts, a second bundle
is committed after a probation, a third one fails its own and gives way to the second.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import facts
from agent.wire.phases import Phase
from models import keys
from tests.agent.device.world import (
    Home,
    deployment,
    make_home,
    publisher,
    serving_registry,
)
from tests.agent.packages import DENSE_INPUTS, DENSE_OUTPUTS, dense_net, packaged, quantized
from tests.agent.power.judging import LEDGER, STORE, Image, Judge, Judgement
from tests.agent.power.recording import Recording, Synced, record, run_program

MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of the test's own is made in it
"""Where thousands of images are looked at without wearing out a disk."""

LAST_REVISION = 9
"""Wanted of every device that is started again: the second version, whatever came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A device that was recorded, and what it takes to start it again."""

    home: Home
    recording: Recording
    said: list[dict[str, Any]]
    versions: dict[str, str]
    judge: Judge
    folder: Path
    last: Path
    machine: dict[str, Any]


@contextmanager
def recorded(folder: Path) -> Iterator[Scene]:
    """Record the device in a folder; its registry serves while the block lasts."""
    keys.generate(folder / "bundle.key", folder / "bundle.pub")
    key = keys.SigningKey.load(folder / "bundle.key")
    machine = asdict(asyncio.run(facts.machine(None)))
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else folder) as judging,
        serving_registry(folder / "registry") as registry,
    ):
        home = make_home(folder, registry.url, key, broker_port=1)
        digests = []
        for revision in (1, 2, 3):
            made = folder / f"version-{revision}"
            made.mkdir()
            content = quantized(dense_net((64, 32, 10), seed=revision), 64, made)
            dense = packaged(content, made, inputs=DENSE_INPUTS, outputs=DENSE_OUTPUTS)
            digests.append(publisher(registry.layout, key, dense)(f"{revision}.0.0"))
        wanted = [
            deployment(digests[0], 1),
            deployment(digests[1], 2, probation_s=0.2),
            deployment(digests[2], 3, probation_s=60),
        ]
        envelopes = []
        for revision, each in enumerate(wanted, 1):
            envelopes.append(folder / f"desired-{revision}")
            envelopes[-1].write_bytes(home.envelope(revision, each))
        last = deployment(digests[1], LAST_REVISION)
        (folder / "last").write_bytes(home.envelope(LAST_REVISION, last))
        job = {
            "home": str(home.path),
            "machine": machine,
            "marks": str(folder / "marks"),
            "envelopes": [str(each) for each in envelopes],
            "lives": [[1], [2, 3]],
            "crashes": [3],
        }
        recording, said = record(job, folder / "trace")
        versions = {str(each.digest): each.ref.version for each in digests}
        yield Scene(
            home=home,
            recording=recording,
            said=said,
            versions=versions,
            judge=Judge(Path(judging), versions),
            folder=folder,
            last=folder / "last",
            machine=machine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Syncs that a careless device would leave out, and the harm that must come of it."""

    name: str
    taken: Callable[[Synced], bool]
    harm: str


REMOVALS = (
    Removal(
        name="of what models.durable writes",
        taken=lambda sync: not sync.is_folder and not sync.path.startswith(LEDGER),
        harm="the index names what is not there",
    ),
    Removal(
        name="of the store's folders",
        taken=lambda sync: sync.is_folder and sync.path.startswith(STORE),
        harm="it should serve 1.0.0 and the store has no such bundle",
    ),
    Removal(
        name="of the home's own folder",
        taken=lambda sync: sync.is_folder and not sync.path.startswith(STORE),
        harm="it should serve 1.0.0 and the store has no such bundle",
    ),
    Removal(
        name="of the ledger's log",
        taken=lambda sync: sync.path == f"{LEDGER}-wal",
        harm="the ledger has lost what it had written, or has half of it",
    ),
    Removal(
        name="of the ledger itself",
        taken=lambda sync: sync.path == LEDGER,
        harm="the ledger has lost what it had written, or has half of it",
    ),
)


def kind(image: Image) -> tuple[object, ...]:
    """Return what two images have in common that look the same to an agent."""
    record = image.ledger.record
    paths = [path for path, digest in image.files if digest]
    return (
        record and (record.wanted.revision, record.phase),
        record and record.current and record.current.digest,
        image.store.whole,
        any(path.endswith(".tmp") for path in paths),
        any("/ingest/" in path for path in paths),
        any(path.startswith(LEDGER) for path in paths),
    )


def sample(judgement: Judgement, *, spread: int, kinds: int | None) -> list[Image]:
    """Return images along the whole way, and the first of every kind (or of so many)."""
    found: dict[tuple[object, ...], Image] = {}
    for image in judgement.images:
        found.setdefault(kind(image), image)
    firsts = list(found.values())
    chosen = [*_along(judgement.images, spread), *_along(firsts, kinds or len(firsts))]
    return list({image.files: image for image in chosen}.values())


def _along(images: Sequence[Image], count: int) -> list[Image]:
    step = max(1.0, len(images) / max(1, count))
    return [images[int(place * step)] for place in range(min(count, len(images)))]


def start_again(scene: Scene, judgement: Judgement, images: Sequence[Image]) -> list[str]:
    """Start a real agent on each image, let it answer and obey; return what went wrong."""
    with tempfile.TemporaryDirectory(dir=scene.folder) as folder:
        homes = {str(Path(folder, str(number))): each for number, each in enumerate(images)}
        for home, image in homes.items():
            scene.judge.materialise(judgement.disk, image.files, Path(home))
        job = {
            "homes": list(homes),
            "machine": scene.machine,
            "envelopes": [str(scene.last)],
            "revision": LAST_REVISION,
        }
        said = {line["home"]: line for line in run_program(job)}
    assert set(homes) == set(said)
    return [why for home, image in homes.items() if (why := _wrong(scene, image, said[home]))]


def _wrong(scene: Scene, image: Image, said: dict[str, Any]) -> str:
    record = image.ledger.record
    serves = record and (record.previous if record.phase is Phase.ROLLING_BACK else record.current)
    expected = {
        "aside": False,
        "first": scene.versions[serves.digest] if serves else None,
        "phase": Phase.COMMITTED,
        "last": "2.0.0",
    }
    found = {name: said[name] for name in expected}
    return "" if found == expected else f"cut {image.cuts[0]}: {found}, not {expected}"
