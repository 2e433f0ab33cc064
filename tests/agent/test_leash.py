"""Short-lived children die with the agent, also where the agent is a container's process 1."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.alone import alone, running_pid

LEASHED = """
import sys
from agent.children.leash import die_with_the_agent
die_with_the_agent(int(sys.argv[1]))
print("at work")
"""
PROBE = "import asyncio; from agent import facts; print(asyncio.run(facts.machine(None)).library)"


def python(code: str, *words: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*under, sys.executable, "-P", "-c", code, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_child_works_for_the_agent_that_started_it() -> None:
    """The agent says who it is, and is believed when it is there."""
    assert "at work\n" == python(LEASHED, str(os.getpid())).stdout


def test_a_child_of_an_agent_that_is_gone_does_nothing() -> None:
    """Whoever took the orphan in is not the agent."""
    ended = python(LEASHED, "1")

    assert ended.returncode != 0
    assert "" == ended.stdout
    assert "the agent is gone" in ended.stderr


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="a process 1 of one's own needs root"
)
def test_an_agent_that_is_process_1_has_children_that_work() -> None:
    """A container's agent is process 1, and is no orphan's foster parent."""
    ended = python(PROBE, under=("unshare", "--pid", "--fork", "--kill-child"))

    assert "litert\n" == ended.stdout, ended.stderr


def test_an_agent_of_another_container_has_no_number_here(tmp_path: Path) -> None:
    """Its process 1 is not ours: whoever wants to tell it something must not signal that."""
    lock = tmp_path / "lock"
    with alone(lock):
        here = running_pid(lock)
        lock.write_text("1 pid:[1]\n")
        elsewhere = running_pid(lock)
        lock.write_text("77\n")
        older = running_pid(lock)

    assert os.getpid() == here
    assert None is elsewhere is older
