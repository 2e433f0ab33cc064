"""One recording of a device for all tests of this folder, and the world it lives in."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import facts
from models import keys
from tests.agent.device.world import (
    Home,
    deployment,
    make_home,
    publisher,
    serving_registry,
)
from tests.agent.packages import DENSE_INPUTS, DENSE_OUTPUTS, dense_net, packaged, quantized
from tests.agent.power.judging import Judge, Judgement
from tests.agent.power.recording import Recording, record

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
    machine: dict[str, Any]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Record a first bundle, a stop in order, a second one on probation, a third that goes back."""
    folder = tmp_path_factory.mktemp("power").resolve()
    keys.generate(folder / "bundle.key", folder / "bundle.pub")
    key = keys.SigningKey.load(folder / "bundle.key")
    found = asyncio.run(facts.machine(None))
    machine = {"architecture": found.architecture, "library": found.library}
    machine["library_version"] = found.library_version
    with serving_registry(folder / "registry") as registry:
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
            judge=Judge(folder / "judging", versions),
            folder=folder,
            machine=machine,
        )


@pytest.fixture(scope="module")
def judgement(scene: Scene) -> Judgement:
    """Every image of the recording, judged."""
    return scene.judge.judge(scene.recording)
