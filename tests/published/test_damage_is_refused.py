"""Golden vectors find damage, and only damage: shown on twenty published int8 models."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from models import card_codec
from models.build.pack import Prepared

ROOT = Path(__file__).parents[2]
HARM = Path(__file__).parent / "harm.py"
TFLITE_PYTHON = ROOT / ".venv-tflite/bin/python"
COPIES = 3
LIMIT_S = 240
AGREEING = 0.9

pytestmark = [pytest.mark.slow, pytest.mark.real("tflite"), pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One model on one runtime."""

    runtime: str
    whole: bool
    message: str
    refused: int
    missed: tuple[str, ...]
    light_refused: int
    light_unseen: int


def try_out(folder: Path, python: str) -> Trial:
    """Harm copies of the model in `folder` until all are done, however often one crashes."""
    runtime, whole, message = "", False, "it did not start"
    refused = light_refused = light_unseen = first = 0
    missed = []
    while first < COPIES:
        done = subprocess.run(
            [python, "-P", str(HARM), str(folder), str(COPIES), str(first)],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
            env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert lines, done.stderr[-500:]
        runtime, whole, message = lines[0]["runtime"], lines[0]["whole"], lines[0]["message"]
        for line in lines[1:]:
            if line.get("began"):
                continue
            if line["agrees"] < AGREEING:
                refused += line["refused"]
                if not line["refused"]:
                    missed.append(f"{line['bytes']} bytes, {line['agrees']:.0%} agree")
            elif line["refused"]:
                light_refused += 1
            else:
                light_unseen += 1
        if done.returncode == 0:
            break
        assert done.returncode < 0, done.stderr[-500:]
        # The copy crashed its process: no worker would ever have been ready.
        refused += 1
        first = lines[-1]["copy"] + 1
    return Trial(
        runtime=runtime,
        whole=whole,
        message=message,
        refused=refused,
        missed=tuple(missed),
        light_refused=light_refused,
        light_unseen=light_unseen,
    )


def show(packed: Prepared, folder: Path) -> tuple[Prepared, list[Trial]]:
    """Try one packed model on both runtimes."""
    folder.mkdir()
    (content,) = packed.files.values()
    (folder / "model").write_bytes(content)
    (folder / "card").write_bytes(card_codec.render(packed.card))
    (folder / "golden").write_bytes(packed.golden)
    return packed, [try_out(folder, python) for python in (sys.executable, str(TFLITE_PYTHON))]


def test_damage_is_refused_and_nothing_else(
    packed: dict[str, Prepared], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of twenty models, every harmed copy is refused and no whole one, on both runtimes."""
    assert len(packed) == 20, sorted(packed)
    with ThreadPoolExecutor(2) as both_cores:
        tried = {
            name: both_cores.submit(show, prepared, tmp_path / name)
            for name, prepared in packed.items()
        }
        shown = {name: each.result() for name, each in tried.items()}
    with capsys.disabled():
        sys.stdout.write(table(shown))

    trials = [(name, trial) for name, (_, both) in shown.items() for trial in both]
    assert [] == [(name, trial.message) for name, trial in trials if not trial.whole]
    assert [] == [(name, trial.runtime, trial.missed) for name, trial in trials if trial.missed]
    assert all(trial.refused for _, trial in trials)  # some copies bear any harm: one class for all
    assert {"litert", "tflite"} == {trial.runtime.partition(" ")[0] for _, trial in trials}
    goldens = [prepared.card.golden for prepared in packed.values()]
    assert all(golden.classes_seen >= 2 for golden in goldens if golden.decision is not None)
    assert 16 == sum(golden.decision is not None for golden in goldens)


def table(shown: dict[str, tuple[Prepared, list[Trial]]]) -> str:
    lines = ["", f"{'model':42}{'vectors':>8}{'bytes':>9}{'classes':>8}{'largest':>9}{'mean':>9}"]
    for name, (packed, trials) in shown.items():
        golden = packed.card.golden
        bound = golden.tolerances[0]
        lines.append(
            f"{name:42}{golden.vectors:8}{golden.size_bytes:9}{golden.classes_seen or '-':>8}"
            f"{bound.largest:9.3g}{bound.mean:9.3g}"
        )
        lines += [
            f"    {trial.runtime}: harmed {trial.refused} of {trial.refused + len(trial.missed)}"
            f" refused; lighter {trial.light_refused} refused, {trial.light_unseen} unseen"
            for trial in trials
        ]
    for place in (0, 1):
        trials = [both[place] for _, both in shown.values()]
        lines.append(
            f"{trials[0].runtime}: {sum(t.refused for t in trials)} harmed copies refused, "
            f"{sum(len(t.missed) for t in trials)} missed; of lighter damage "
            f"{sum(t.light_refused for t in trials)} refused, "
            f"{sum(t.light_unseen for t in trials)} unseen"
        )
    return "\n".join([*lines, ""])
