"""The power goes at any moment of a change: what is left starts, and has kept its word."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.power.conftest import LAST_REVISION, Scene
from tests.agent.power.judging import Image, Judgement, without
from tests.agent.power.recording import ROOT, Synced

pytestmark = [pytest.mark.real("strace"), pytest.mark.slow]

SAMPLE = 6
"""So many images are started for real, beside one of each kind of state."""

TAKEN: dict[str, Callable[[Synced], bool]] = {
    "files of the store": lambda each: not each.is_folder and each.path.startswith("store/"),
    "folders of the store": lambda each: each.is_folder and each.path.startswith("store"),
    "the ledger's log": lambda each: each.path == "ledger.db-wal",
    "the ledger itself": lambda each: each.path == "ledger.db",
    "all files": lambda each: not each.is_folder,
    "all folders": lambda each: each.is_folder,
}
"""Syncs that are taken out of the recording, kind by kind: each of them is needed."""


def test_the_recording_is_of_the_whole_walk(scene: Scene) -> None:
    """A first model, a second one through its probation, a third that fails its own."""
    came = [(each["revision"], each["phase"], each["serves"]) for each in scene.said]
    assert came == [
        (1, "committed", "1.0.0"),
        (2, "committed", "2.0.0"),
        (3, "rolled-back", "2.0.0"),
    ]


def test_every_image_that_a_power_cut_may_leave_has_kept_its_word(judgement: Judgement) -> None:
    """The ledger opens, knows what was told, and what should serve is whole in the store."""
    print(  # noqa: T201  # the figures
        f"{judgement.operations} operations, {judgement.built} images, "
        f"{len(judgement.images)} different: {judgement.ledgers} ledgers, {judgement.stores} stores"
    )
    assert [] == [(image.wrong, image.cuts[:3]) for image in judgement.broken]
    assert judgement.operations > 400
    assert len(judgement.images) > 2000


@pytest.mark.parametrize("what", TAKEN)
def test_without_a_sync_some_image_is_broken(scene: Scene, what: str) -> None:
    """What the test before finds is findable: each kind of sync, left out, turns it red."""
    syncs = [each for each in scene.recording.operations if isinstance(each, Synced)]
    assert any(TAKEN[what](each) for each in syncs)
    judged = scene.judge.judge(without(scene.recording, TAKEN[what]), until_broken=True)
    assert judged.broken, what
    print(f"without syncs of {what}: {judged.broken[0].wrong}")  # noqa: T201  # the figures


def test_a_device_starts_from_each_kind_of_image(scene: Scene, judgement: Judgement) -> None:
    """For real: it serves an old or a new version at once, and then the one it is told."""
    chosen = _chosen(judgement)
    homes = [scene.folder / f"image-{number}" for number in range(len(chosen))]
    for image, home in zip(chosen, homes, strict=True):
        scene.judge.materialise(judgement.disk, image.files, home)
        if not (home / "identity").exists():  # it was made before the recording began
            (home / "identity").mkdir()
            for file in (scene.home.path / "identity").iterdir():
                (home / "identity" / file.name).write_bytes(file.read_bytes())
    for image, home, said in zip(chosen, homes, _started(scene, homes), strict=True):
        assert str(home) == said["home"]
        assert not said["aside"]
        record = image.ledger.record
        current = None if record is None else record.current
        versions = {None} if current is None else {"1.0.0", "2.0.0", "3.0.0"}
        assert said["first"] in versions, (image.cuts[:3], said)
        assert ("committed", "2.0.0") == (said["phase"], said["last"])


def _chosen(judgement: Judgement) -> list[Image]:
    """Return one image of each state that the ledger may be in, and some from all over."""
    kinds: dict[object, Image] = {}
    for image in judgement.images:
        record = image.ledger.record
        current = record and record.current and record.current.digest
        kinds.setdefault((record and (record.wanted.revision, record.phase), current), image)
    spread = judgement.images[:: max(1, len(judgement.images) // SAMPLE)]
    return [*kinds.values(), *spread]


def _started(scene: Scene, homes: list[Any]) -> list[dict[str, Any]]:
    last = scene.folder / "last"
    job = {
        "machine": scene.machine,
        "envelopes": [str(last)],
        "revision": LAST_REVISION,
        "homes": [str(home) for home in homes],
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.agent.power.program"],
        check=False,
        input=json.dumps(job).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
