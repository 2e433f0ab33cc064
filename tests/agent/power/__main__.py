"""`make power-loss`: every image a power cut may leave, judged; one agent started on each kind.

And the proof that it would find something: the same recording without some of its syncs.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.agent.power.judging import Image, without
from tests.agent.power.recording import Marked
from tests.agent.power.scene import REMOVALS, Scene, recorded, sample, start_again

_SPREAD = 20


def main() -> int:
    """Print what was tried and what came of it; return 0 when all is as it should be."""
    with (
        tempfile.TemporaryDirectory(prefix="skerry-power-") as folder,
        recorded(Path(folder).resolve()) as scene,
    ):
        return 0 if _tried(scene) else 1


def _tried(scene: Scene) -> bool:
    kinds = Counter(type(each).__name__.lower() for each in scene.recording.operations)
    kinds.pop(Marked.__name__.lower())
    _say("operations recorded", kinds.total(), ", ".join(f"{kinds[kind]} {kind}" for kind in kinds))
    judgement = scene.judge.judge(scene.recording)
    _say("images built", judgement.built)
    parts = f"{judgement.ledgers} ledgers, {judgement.stores} stores"
    _say("images different", len(judgement.images), parts)
    _say("images broken", len(judgement.broken), "; ".join(_reasons(judgement.broken)))
    chosen = sample(judgement, spread=_SPREAD, kinds=None)
    wrong = start_again(scene, judgement, chosen)
    _say("agents started", len(chosen))
    _say("agents wrong", len(wrong), "; ".join(wrong[:3]))
    missed = []
    for removal in REMOVALS:
        careless = scene.judge.judge(without(scene.recording, removal.taken))
        of = f"of {len(careless.images)}: {removal.name}"
        _say("broken without syncs", len(careless.broken), of)
        missed += [] if careless.broken else [removal]
    return not (judgement.broken or wrong or missed)


def _reasons(images: list[Image]) -> list[str]:
    return [f"{count} {why}" for why, count in Counter(each.wrong for each in images).items()]


def _say(what: str, count: int, more: str = "") -> None:
    print(f"{what:<22}{count:>7}  {more}".rstrip(), flush=True)  # noqa: T201  # it is a command


if __name__ == "__main__":
    sys.exit(main())
