"""Somebody at the device: a hold that outlives everything, and what `status` tells them."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from agent import technician
from agent.cli import main
from agent.errors import PersonError
from agent.home import Home as Folder
from agent.ledger import open_ledger
from agent.state import Quarantined, accepted
from agent.technician import Hold, hold, in_quarantine, read_hold, read_lifted, recorded
from agent.wire import v1
from agent.wire.limits import TEXT_LIMIT
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Deployed, Home, Publish, Registry, until
from tests.agent.packages import Package

AT = "2026-01-02T03:04:05Z"
RUNTIME = "litert 2.3.0"
WHY = "the belt is being changed"
ROOT = Path(__file__).parents[3]
Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "home")
    made.identity.mkdir(parents=True)
    return made


def test_a_device_can_be_held_while_no_agent_runs(folder: Folder, capsys: Capsys) -> None:
    """It is there for the next start; said again it stays as it was; released it is gone."""
    home = ["--home", str(folder.path)]
    assert main(["hold", "--reason", f" {WHY}\n", *home]) == 0
    first = read_hold(folder.hold)
    assert first is not None
    assert first.reason == WHY
    v1.Hold(reason=first.reason, since=first.since)
    assert hold(folder, WHY, AT) is False
    assert read_hold(folder.hold) == first
    hold(folder, "another", AT)
    assert read_hold(folder.hold) == Hold(reason="another", since=AT)
    assert main(["release", *home]) == 0
    assert main(["release", *home]) == 0
    assert read_hold(folder.hold) is None
    assert not folder.ledger.exists()
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"held: {WHY}", "released", "released"]
    assert set(told.err.splitlines()) == {"no agent runs here: it looks when it is started"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff" * 9000, b'{"since": 1}'])
def test_a_hold_that_cannot_be_read_holds(folder: Folder, content: bytes) -> None:
    """Somebody wanted the device to stay as it is: when in doubt it does."""
    folder.hold.write_bytes(content)
    found = read_hold(folder.hold)
    assert found is not None
    v1.Hold(reason=found.reason, since=found.since)


def test_a_hold_written_by_hand_is_taken_as_far_as_it_goes(folder: Folder) -> None:
    """Its reason is cut to what a report carries, its time is left out when it is none."""
    folder.hold.write_text(json.dumps({"reason": "x" * 1000, "since": "yesterday"}))
    found = read_hold(folder.hold)
    assert found is not None
    assert v1.Hold(reason=found.reason, since=found.since).reason == "x" * TEXT_LIMIT


@pytest.mark.parametrize("reason", ["", "  ", "x" * (TEXT_LIMIT + 1)])
def test_a_hold_needs_a_reason_that_fits(folder: Folder, reason: str) -> None:
    """Refused before anything is written."""
    with pytest.raises(PersonError) as caught:
        hold(folder, reason, AT)
    assert caught.value.code == 2
    assert list(folder.path.iterdir()) == [folder.identity]


def test_a_folder_that_is_no_device_is_not_held(tmp_path: Path, capsys: Capsys) -> None:
    """A mistyped --home says so, in three lines."""
    assert main(["hold", "--reason", WHY, "--home", str(tmp_path / "typo")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert not (tmp_path / "typo").exists()


def test_holding_loads_neither_pydantic_nor_a_log(folder: Folder) -> None:
    """The command is for a device that may be busy: 50 ms on an idle one."""
    code = (
        "import sys; from agent.cli import main; "
        f"main(['hold', '--reason', 'x', '--home', {str(folder.path)!r}]); "
        "print(*{'pydantic', 'structlog', 'asyncio', 'ssl', 'agent.wire.v1'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["held: x", ""]


def test_an_agent_that_does_not_answer_is_told_apart(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold is set and stays; the command says that nobody has confirmed it."""
    monkeypatch.setattr(technician, "_PATIENCE_S", 0.2)
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    holder += "print(flush=True); time.sleep(60)"  # an older agent: it wrote no process id
    argv = [sys.executable, "-c", holder, str(folder.lock)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            with pytest.raises(PersonError) as caught:
                hold(folder, WHY, AT)
        finally:
            process.kill()
    assert (caught.value.reason, caught.value.code) == ("TIMED_OUT", 1)
    assert read_hold(folder.hold) == Hold(reason=WHY, since=AT)


def test_status_says_what_is_held_and_what_is_in_quarantine(
    home: Home, deployed: Deployed, publish: Publish, capsys: Capsys
) -> None:
    """For people and for programs."""
    made = publish()
    verdict = Quarantined(
        digest=made.digest, reason="GOLDEN_MISMATCH", since=AT, message="0 of 8", runtime=RUNTIME
    )
    ledger = open_ledger(home.path / "ledger.db", fleet="f", device="d-1")
    record = accepted(deployed(made), AT)
    ledger.put("digits", None, record, at=AT, verdicts={made.digest: verdict})
    ledger.close()
    hold(Folder(home.path), WHY, AT)
    assert main(["status", "--home", str(home.path)]) == 0
    text = capsys.readouterr().out
    assert f"held since {AT}: {WHY}" in text
    assert f"in quarantine since {AT}: {made.digest} (GOLDEN_MISMATCH)" in text
    assert main(["status", "-o", "json", "--home", str(home.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hold"] == {"reason": WHY, "since": AT}
    assert found["quarantine"] == [
        {
            "digest": made.digest,
            "reason": "GOLDEN_MISMATCH",
            "since": AT,
            "message": "0 of 8",
            "runtime": RUNTIME,
        }
    ]


def test_a_quarantine_can_be_lifted_while_no_agent_runs(
    home: Home, deployed: Deployed, publish: Publish, capsys: Capsys
) -> None:
    """It stays wanted until an agent has looked; what is not there, or unclear, is said."""
    digests = [str(each.digest) for each in (publish(), publish("2.0.0"))]
    ledger = open_ledger(home.path / "ledger.db", fleet="f", device="d-1")
    record = accepted(deployed(publish()), AT)
    verdicts = {
        digest: Quarantined(
            digest=digest, reason="GOLDEN_MISMATCH", since=AT, message="", runtime=RUNTIME
        )
        for digest in digests
    }
    ledger.put("digits", None, record, at=AT, verdicts=verdicts)
    ledger.close()
    where = ["--home", str(home.path)]
    for unclear in ("", "sha256:", "nothing-like-it"):
        assert main(["lift-quarantine", unclear, *where]) == 3
    assert read_lifted(Folder(home.path).lifted) is None

    assert main(["lift-quarantine", digests[0], *where]) == 0
    assert read_lifted(Folder(home.path).lifted) == frozenset(digests[:1])
    assert main(["lift-quarantine", "all", *where]) == 0
    assert read_lifted(Folder(home.path).lifted) == frozenset(digests)
    assert digests == in_quarantine(home.path / "ledger.db"), "only the agent writes its ledger"
    told = capsys.readouterr()
    assert [f"lifted: {each}" for each in (digests[0], *digests)] == told.out.splitlines()
    assert "no agent runs here" in told.err


@pytest.mark.parametrize("content", [b"", b"{", b"7", b"null", b"\xff" * 90])
def test_a_wish_that_cannot_be_read_lifts_nothing(folder: Folder, content: bytes) -> None:
    """A quarantine protects: when in doubt it stays."""
    folder.lifted.write_bytes(content)

    assert frozenset() == read_lifted(folder.lifted)


def _say(agent: Agent, *words: str) -> tuple[int, float]:
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "agent", *words, "--home", str(agent.home)],
        check=False,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    return done.returncode, time.perf_counter() - begun


@pytest.mark.real("mosquitto")
@pytest.mark.usefixtures("serving")
def test_a_running_agent_is_held_and_released(
    agent: Agent, centre: Centre, home: Home, publish: Publish, deployed: Deployed
) -> None:
    """The centre sees who holds it; what it wants meanwhile waits, over a restart of the agent."""
    assert _say(agent, "hold", "--reason", WHY)[0] == 0
    until(lambda: centre.reported is not None and centre.reported.hold is not None)
    assert centre.reported is not None
    assert centre.reported.hold is not None
    assert centre.reported.hold.reason == WHY
    centre.say(Kind.DESIRED, home.envelope(2, deployed(publish("2.0.0"), 2)))
    second = v1.Order(epoch=0, generation=2)
    until(lambda: centre.reported is not None and centre.reported.observed == second)
    agent.kill()
    agent.start()
    until(lambda: agent.serves() is not None)
    time.sleep(1)  # noqa: TID251  # in which a device that is not held would have begun
    assert agent.serves() == "1.0.0"
    assert centre.phase() == (Phase.COMMITTED, 1)
    assert _say(agent, "release")[0] == 0
    until(lambda: centre.phase() == (Phase.COMMITTED, 2))
    assert agent.serves() == "2.0.0"
    until(lambda: [e.parameters["what"] for e in _holds(centre)] == ["held", "released"])


@pytest.mark.real("mosquitto")
@pytest.mark.usefixtures("serving")
def test_each_of_many_holds_and_releases_is_told(agent: Agent, centre: Centre) -> None:
    """However quickly they follow each other: every command is one transition, in order."""
    took: list[float] = []
    for index in range(10):
        code, took_s = _say(agent, "hold", "--reason", f"reason {index}")
        assert code == 0
        took.append(took_s)
        code, took_s = _say(agent, "release")
        assert code == 0
        took.append(took_s)
    until(lambda: len(_holds(centre)) == 20)
    told = [(event.parameters["what"], event.message) for event in _holds(centre)]
    assert told == [
        (what, f"reason {index}") for index in range(10) for what in ("held", "released")
    ]
    assert sorted(took)[10] < 1.0
    assert recorded(agent.home / "ledger.db") is None


@pytest.mark.real("mosquitto")
def test_a_signal_while_the_agent_starts_does_not_end_it(agent: Agent, registry: Registry) -> None:
    """Whoever holds a device at that moment must not stop it."""
    agent.kill()
    for after_s in (0.0, 0.2, 0.4, 0.6):
        agent.start()
        assert agent.process is not None
        until(partial(_has_said_who_it_is, agent, agent.process.pid))
        time.sleep(after_s)  # noqa: TID251  # a moment of the start of a real process
        agent.process.send_signal(signal.SIGHUP)
        until(lambda: b'"serving"' in agent.log.read_bytes())
        assert agent.process.poll() is None
        agent.stop()
    assert registry.asked == []


@pytest.mark.real("mosquitto")
@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_a_committed_model_whose_worker_keeps_dying_gives_way_to_the_one_before(
    agent: Agent, centre: Centre, home: Home, publish: Publish, deployed: Deployed
) -> None:
    """Five deaths in a minute: back, quarantined, and refused as a new revision."""
    second = publish("2.0.0", padding=1)
    centre.say(Kind.DESIRED, home.envelope(2, deployed(second, 2)))
    until(lambda: centre.phase() == (Phase.COMMITTED, 2))
    deadline = time.perf_counter() + 50
    while centre.phase() == (Phase.COMMITTED, 2):
        assert time.perf_counter() < deadline
        agent.kill_workers()
        time.sleep(0.1)  # noqa: TID251  # the moments at which real processes are killed
    until(lambda: centre.phase() == (Phase.ROLLED_BACK, 2))
    until(lambda: agent.serves() == "1.0.0")
    centre.say(Kind.DESIRED, home.envelope(3, deployed(second, 3)))
    until(lambda: centre.phase() == (Phase.REFUSED, 3))
    assert centre.reported is not None
    [deployment] = centre.reported.deployments
    assert deployment.last_error is not None
    assert deployment.last_error.reason == "QUARANTINED"
    assert deployment.last_error.parameters["cause"] == "WORKER_CRASHED"
    assert agent.serves() == "1.0.0"
    [told] = centre.reported.quarantined
    assert (second.digest, "WORKER_CRASHED") == (told.digest, told.reason)

    # The machine was the cause, not the model: somebody at the device says so.
    assert 3 == _say(agent, "lift-quarantine", "ffff")[0]
    assert 0 == _say(agent, "lift-quarantine", second.digest.removeprefix("sha256:")[:12])[0]
    until(lambda: centre.reported is not None and centre.reported.quarantined == ())
    centre.say(Kind.DESIRED, home.envelope(4, deployed(second, 4)))
    until(lambda: centre.phase() == (Phase.COMMITTED, 4))
    assert agent.serves() == "2.0.0"
    told_of = [e for e in centre.events.values() if e.kind is v1.EventKind.QUARANTINE]
    assert [(second.digest, "quarantined"), (second.digest, "lifted")] == [
        (event.digest, event.parameters["what"]) for event in told_of
    ]
    assert not (agent.home / "lifted.json").exists()


@pytest.mark.real("mosquitto")
@pytest.mark.usefixtures("serving")
def test_content_that_missed_its_golden_vectors_is_not_fetched_again(  # noqa: PLR0917  # fixtures
    agent: Agent,
    centre: Centre,
    home: Home,
    publish: Publish,
    deployed: Deployed,
    dense: Package,
    registry: Registry,
) -> None:
    """Refused with its cause as another revision, after a restart too, and with no request."""
    wrong = publish("2.0.0", golden=bytes(each ^ 0x40 for each in dense.golden))
    centre.say(Kind.DESIRED, home.envelope(2, deployed(wrong, 2)))
    until(lambda: centre.phase() == (Phase.REFUSED, 2))
    agent.kill()
    agent.start()
    registry.asked.clear()
    centre.say(Kind.DESIRED, home.envelope(3, deployed(wrong, 3)))
    until(lambda: centre.phase() == (Phase.REFUSED, 3))
    assert centre.reported is not None
    [deployment] = centre.reported.deployments
    assert deployment.last_error is not None
    assert deployment.last_error.parameters["cause"] == "GOLDEN_MISMATCH"
    assert registry.asked == []
    assert agent.serves() == "1.0.0"


def _holds(centre: Centre) -> list[v1.Event]:
    return [event for event in list(centre.events.values()) if event.kind is v1.EventKind.HOLD]


def _has_said_who_it_is(agent: Agent, pid: int) -> bool:
    lock = agent.home / "lock"
    return lock.exists() and lock.read_text().split()[:1] == [str(pid)]
