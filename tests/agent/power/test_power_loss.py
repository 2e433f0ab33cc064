"""The power goes at any moment of a transaction: old or new serves, and nothing told is lost.

Not by a signal, which the page cache survives: what a disk may have come to is built from
what the device really did to it. `make power-loss` does the same for every kind of image.
"""

from collections.abc import Iterator

import pytest

from tests.agent.power.disk import Disk
from tests.agent.power.judging import Judgement, without
from tests.agent.power.scene import REMOVALS, Removal, Scene, recorded, sample, start_again

pytestmark = [pytest.mark.real("strace"), pytest.mark.slow]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with recorded(tmp_path_factory.mktemp("power").resolve()) as made:
        yield made


@pytest.fixture(scope="module")
def judgement(scene: Scene) -> Judgement:
    return scene.judge.judge(scene.recording)


def test_what_was_recorded_is_all_that_happened_to_the_disk(scene: Scene) -> None:
    """The operations, done again one by one, lead to the very folder that the device left."""
    disk = Disk(scene.recording)
    for operation in scene.recording.operations:
        disk.do(operation)
    again = {path: disk.content(digest) if digest else None for path, digest in disk.whole()}
    home = scene.home.path
    found = {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in home.rglob("*")
    }

    assert found == again
    assert ["committed", "committed", "rolled-back"] == [each["phase"] for each in scene.said]
    assert ["1.0.0", "2.0.0", "2.0.0"] == [each["serves"] for each in scene.said]


def test_whatever_a_cut_leaves_nothing_is_lost_that_was_promised(judgement: Judgement) -> None:
    """The ledger is as it was told, and what it names is whole in the store: in every image."""
    assert [] == [(image.cuts[0], image.wrong) for image in judgement.broken]

    # It was asked often enough, all along the way.
    phases = {
        (record.wanted.revision, record.phase.value)
        for image in judgement.images
        if (record := image.ledger.record)
    }
    walk = ["accepted", "fetching", "verifying", "staging", "testing", "activating", "probation"]
    ends = {1: ["committed"], 2: ["committed"], 3: ["rolling-back", "rolled-back"]}
    every = {(revision, phase) for revision, end in ends.items() for phase in [*walk, *end]}
    assert every == phases
    assert len(judgement.images) > 1000


@pytest.mark.timeout(180)
def test_an_agent_starts_on_what_is_left_answers_and_goes_on(
    scene: Scene, judgement: Judgement
) -> None:
    """A real one, on images from along the way: version 1 or 2 answers, the desired one at last."""
    chosen = sample(judgement, spread=1, kinds=3)

    assert [] == start_again(scene, judgement, chosen)


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda each: each.name)
def test_a_sync_left_out_would_be_found(removal: Removal, scene: Scene) -> None:
    """Without one kind of sync a cut does the harm that it was for: the above could have failed."""
    careless = without(scene.recording, removal.taken)

    assert len(careless.operations) < len(scene.recording.operations)
    broken = scene.judge.judge(careless, until=removal.harm).broken
    assert removal.harm in {image.wrong for image in broken}
