"""A device whose clock is wrong does all it does: nothing is decided by the time of day."""

import subprocess
import time
from pathlib import Path

import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from tests.agent.delegate.stub import COMPILER
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Deployed, Home, Publish, until

YEAR_S = 365.25 * 86400


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that moves a process's time of day."""
    library = tmp_path_factory.mktemp("clock") / "libclock.so"
    source = str(Path(__file__).with_name("clock.c"))
    words = [str(COMPILER), "-O2", "-shared", "-fPIC", "-o", str(library), source]
    subprocess.run(words, check=True, timeout=60)
    return library


@pytest.mark.real("mosquitto", "gcc")
@pytest.mark.slow
@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("years", [-100, 10])
def test_a_wrong_clock_changes_nothing(  # noqa: PLR0917  # fixtures are given by name
    agent: Agent,
    centre: Centre,
    home: Home,
    publish: Publish,
    deployed: Deployed,
    clock: Path,
    monkeypatch: pytest.MonkeyPatch,
    years: int,
) -> None:
    """In 1970, as a board without a battery has it, and ten years ahead: it serves and changes."""
    now = time.time()  # noqa: TID251  # the time of day is what this is about
    offset = max(years * YEAR_S, 60 - now)  # no board's clock is before its epoch
    begins = str(time.gmtime(now + offset).tm_year)
    assert (begins == "1970") == (years < 0)
    agent.stop()
    monkeypatch.setenv("LD_PRELOAD", str(clock))
    monkeypatch.setenv("CLOCK_OFFSET_S", str(int(offset)))
    agent.start()
    until(lambda: agent.serves() == "1.0.0")
    until(lambda: isinstance(centre.presence, v1.Birth) and centre.presence.at.startswith(begins))
    centre.say(Kind.DESIRED, home.envelope(2, deployed(publish("2.0.0"), 2, probation_s=0.5)))
    until(lambda: centre.phase() == (Phase.COMMITTED, 2))
    assert agent.serves() == "2.0.0"
    until(lambda: any(each.at.startswith(begins) for each in centre.events.values()))
