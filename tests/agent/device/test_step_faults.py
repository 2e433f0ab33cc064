"""Some cells of the table step x fault: all steps and all faults occur. `make faults` does all."""

import os
import subprocess

import pytest

from tests.agent.device.faults import FAULTS, STEPS, Cell, run

CELLS = (
    ("fetch", "disk full"),
    ("verify", "child killed"),
    ("stage", "ledger locked"),
    ("test", "child hangs"),
    ("activate", "disk read-only"),
    ("probation", "ledger corrupt"),
    ("commit", "agent killed"),
    ("roll-back", "agent killed"),
)


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    try:
        return run(CELLS, seed=3, tell=print)
    except subprocess.CalledProcessError as error:
        if error.cmd[0] == "mount":
            pytest.skip(f"no disk can be mounted here: {error.stderr}")
        raise


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk to fail")
def test_whatever_hits_a_step_a_version_serves_and_the_change_comes_to_its_end(
    cells: list[Cell],
) -> None:
    """For real, from outside; each cell says what became of it."""
    assert {step for step, _ in CELLS} == set(STEPS)
    assert {fault for _, fault in CELLS} == set(FAULTS) - {"child hangs for good"}  # minutes
    assert [] == [(cell.step, cell.fault, cell.wrong) for cell in cells if cell.wrong]
    assert len(CELLS) == len(cells)
