"""A real agent, broker and workers: killed and lied to. Old or new serves, never neither."""

# ruff: noqa: PLR0917  # fixtures are given by name

import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from agent.home import Home as StoredHome
from agent.status import as_text, look
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from models import dsse, keys
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Deployed, Handler, Home, Publish, Registry, until
from tests.agent.packages import Package

pytestmark = pytest.mark.real("mosquitto")


def unavailable(handler: Handler, _: bytes) -> bool:
    """Answer as a registry that is overloaded."""
    handler.send_error(503)
    return True


def test_from_desired_to_answers_and_back_to_nothing(
    agent: Agent, centre: Centre, home: Home, serving: v1.Deployment
) -> None:
    """Reported, told in order, counted; and who leaves says so and leaves nothing behind."""
    until(lambda: isinstance(centre.presence, v1.Birth))
    assert centre.reported is not None
    [deployment] = centre.reported.deployments
    assert deployment.active is not None
    assert deployment.active.bundle == serving.bundle
    assert centre.reported.observed == v1.Order(epoch=0, generation=1)
    assert isinstance(centre.presence, v1.Birth)
    assert centre.presence.facts["skerry/runtime"] in {"litert", "tflite"}
    until(lambda: any(each.deployments for each in centre.health))
    until(lambda: sum(r.requests for h in centre.health for r in h.deployments) == 1)
    until(lambda: len(centre.events) >= 9)
    assert list(centre.events) == sorted(centre.events)
    centre.say(Kind.DESIRED, home.envelope(2))
    until(lambda: centre.reported is not None and not centre.reported.deployments)
    assert agent.serves() is None
    assert agent.stop() == 0
    until(lambda: isinstance(centre.presence, v1.Death))


def test_a_return_to_what_serves_keeps_its_worker(
    agent: Agent, centre: Centre, home: Home, serving: v1.Deployment
) -> None:
    """Another number for the same content: no worker is started, and a killed one is no reason.

    The worker is killed again and again meanwhile, as a machine in trouble may do.
    """
    worker = agent.workers()
    centre.say(Kind.DESIRED, home.envelope(2, replace(serving, revision=4)))
    until(lambda: centre.phase() == (Phase.COMMITTED, 4))
    assert worker == agent.workers()
    assert agent.serves() == "1.0.0"

    agent.kill_workers()
    centre.say(Kind.DESIRED, home.envelope(3, replace(serving, revision=6)))
    agent.kill_workers()
    until(lambda: centre.phase() == (Phase.COMMITTED, 6))
    until(lambda: agent.serves() == "1.0.0")
    assert centre.reported is not None
    assert () == centre.reported.quarantined
    [deployment] = centre.reported.deployments
    assert deployment.active is not None
    assert 6 == deployment.active.revision
    until(lambda: any(part.revision == 6 for each in centre.health for part in each.deployments))


def test_as_many_workers_answer_as_are_asked_for(
    agent: Agent, centre: Centre, home: Home, publish: Publish, deployed: Deployed
) -> None:
    """That is reported; one that is killed is not missed; and they are all back after a restart."""
    wanted = deployed(publish())
    wanted = replace(wanted, settings=replace(wanted.settings, workers=2))
    centre.say(Kind.DESIRED, home.envelope(1, wanted))
    until(lambda: centre.phase() == (Phase.COMMITTED, 1))
    assert centre.reported is not None
    [deployment] = centre.reported.deployments
    assert deployment.active is not None
    assert (2, ()) == (deployment.active.workers, deployment.conditions)
    assert "serves dense:1.0.0 by 2 workers" in as_text(look(StoredHome(home.path)))
    until(lambda: look(StoredHome(home.path)).remembered.deployments[0].answering == 2)
    first, second = agent.workers()

    first.kill()
    psutil.wait_procs([first])
    assert ["1.0.0"] * 5 == [agent.serves() for _ in range(5)]
    until(lambda: len(agent.workers()) == 2 and first not in agent.workers())
    assert second in agent.workers()
    agent.stop()
    agent.start()
    until(lambda: agent.serves() == "1.0.0")
    until(lambda: len(agent.workers()) == 2)


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.15, 0.45, 0.75, 1.05, 1.3])
@pytest.mark.usefixtures("serving")
def test_killed_at_some_moment_of_a_change(
    agent: Agent,
    centre: Centre,
    home: Home,
    publish: Publish,
    deployed: Deployed,
    after_s: float,
) -> None:
    """Old or new serves after the restart, and then the new one, whatever step it was killed in."""
    centre.say(Kind.DESIRED, home.envelope(2, deployed(publish("2.0.0"), 2)))
    time.sleep(after_s)  # noqa: TID251  # the moment at which a real process is killed
    agent.kill()
    agent.start()
    until(lambda: agent.serves() is not None)
    assert agent.serves() in {"1.0.0", "2.0.0"}
    until(lambda: centre.phase() == (Phase.COMMITTED, 2))
    assert agent.serves() == "2.0.0"


@pytest.mark.slow
@pytest.mark.usefixtures("serving")
def test_killed_while_fetching(
    agent: Agent,
    centre: Centre,
    home: Home,
    registry: Registry,
    publish: Publish,
    deployed: Deployed,
) -> None:
    """The fetch goes on where it stopped; meanwhile, with no registry, the old one serves."""
    second = publish("2.0.0", padding=200_000)
    stuck: list[str] = []

    def hangs(handler: Handler, content: bytes) -> bool:
        if len(content) < 200_000 or len(stuck) > 1:
            return False
        stuck.append(handler.headers.get("Range", ""))
        if len(stuck) == 1:
            handler.answer(content, send=65536)
        else:
            handler.send_error(503)
        return True

    registry.wrong = hangs
    centre.say(Kind.DESIRED, home.envelope(2, deployed(second, 2)))
    ingest = home.path / "store" / "ingest"
    until(lambda: 65536 in {part.stat().st_size for part in ingest.glob("*.part")})
    agent.kill()
    registry.wrong = unavailable
    agent.start()
    until(lambda: agent.serves() is not None)
    assert agent.serves() == "1.0.0"
    registry.wrong = lambda *_: False
    until(lambda: centre.phase() == (Phase.COMMITTED, 2))
    assert agent.serves() == "2.0.0"
    assert ("blobs", "bytes=65536-") in registry.asked


@pytest.mark.usefixtures("serving")
def test_a_model_that_answers_wrongly_never_serves(
    agent: Agent,
    centre: Centre,
    home: Home,
    publish: Publish,
    deployed: Deployed,
    dense: Package,
) -> None:
    """Its golden vectors refuse it; what served goes on serving, and the centre hears why."""
    wrong = bytes(each ^ 0x40 for each in dense.golden)
    centre.say(Kind.DESIRED, home.envelope(2, deployed(publish("2.0.0", golden=wrong), 2)))
    until(lambda: centre.phase() == (Phase.REFUSED, 2))
    assert agent.serves() == "1.0.0"
    assert centre.reported is not None
    [deployment] = centre.reported.deployments
    assert deployment.last_error is not None
    assert deployment.last_error.reason == "GOLDEN_MISMATCH"
    assert deployment.active is not None
    assert deployment.active.revision == 1


@pytest.mark.usefixtures("serving")
def test_alone_from_the_first_second(agent: Agent, registry: Registry) -> None:
    """No registry and nobody it could ask: it starts, and serves what it served."""
    agent.kill()
    registry.wrong = unavailable
    registry.asked.clear()
    agent.start()
    until(lambda: agent.serves() is not None)
    assert agent.serves() == "1.0.0"
    assert registry.asked == []


def test_documents_that_are_not_to_be_obeyed(
    agent: Agent,
    centre: Centre,
    home: Home,
    serving: v1.Deployment,
    tmp_path: Path,
) -> None:
    """Each is refused with its reason, on the wire, and the device goes on as before."""
    keys.generate(tmp_path / "x.key", tmp_path / "x.pub")
    stranger = keys.SigningKey.load(tmp_path / "x.key")
    bad = {
        "CONFLICTING_GENERATION": home.envelope(1),
        "WRONG_TARGET": home.envelope(9, target="d-2"),
        "WRONG_FLEET": home.envelope(9, fleet="g"),
        "WRONG_KIND": home.envelope(9, kind=dsse.COMMAND_PAYLOAD_TYPE),
        "SIGNATURE_INVALID": home.envelope(9, key=stranger),
        "MALFORMED": b"{}",
        "TOO_LARGE": home.envelope(9) + b" " * 9000,
    }
    for reason, envelope in bad.items():
        centre.say(Kind.DESIRED, envelope)
        until(partial(_says, centre, reason))
    second = v1.Order(epoch=0, generation=2)
    centre.say(Kind.DESIRED, b"\0" * (1 << 20))  # dropped by the broker, or refused: survived
    centre.say(Kind.ACKED, b"\0" * (1 << 20))
    centre.say(Kind.DESIRED, home.envelope(2, serving))
    until(lambda: centre.reported is not None and centre.reported.observed == second)
    centre.say(Kind.DESIRED, home.envelope(1, serving))
    until(lambda: centre.last_error() == "STALE_GENERATION")
    assert agent.serves() == "1.0.0"
    until(lambda: len([e for e in centre.events.values() if e.kind is v1.EventKind.REFUSED]) == 8)


@pytest.mark.usefixtures("serving")
def test_a_corrupt_ledger_costs_no_model(
    agent: Agent, centre: Centre, home: Home, registry: Registry
) -> None:
    """It is kept aside and reported; the retained document and the store bring the model back."""
    agent.stop()
    ledger = home.path / "ledger.db"
    damaged = os.urandom(9000)
    ledger.write_bytes(damaged)
    centre.events.clear()
    registry.asked.clear()
    agent.start()
    until(lambda: agent.serves() is not None)
    assert agent.serves() == "1.0.0"
    until(lambda: any(e.reason == "LEDGER_CORRUPT" for e in centre.events.values()))
    assert (home.path / "ledger.db.corrupt-1").read_bytes() == damaged
    assert registry.asked == []


def test_two_agents_do_not_share_a_home_or_a_port(agent: Agent, home: Home, tmp_path: Path) -> None:
    """The second says so in three lines and leaves; the first goes on."""
    until(lambda: b'"serving"' in agent.log.read_bytes())
    argv = [sys.executable, "-P", "-m", "agent", "run", "--listen", f"127.0.0.1:{agent.port}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    other = tmp_path / "other"
    (other / "identity").mkdir(parents=True)
    raw = (home.path / "identity" / "join.json").read_bytes()
    (other / "identity" / "join.json").write_bytes(raw)
    for folder, what in ((home.path, "can't start"), (other, "can't listen")):
        done = subprocess.run(
            [*argv, "--home", str(folder)],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
        )
        told = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert done.returncode == 1
        assert len(told) == 3
        assert what in told[0]
    assert agent.process is not None
    assert agent.process.poll() is None


def _says(centre: Centre, reason: str) -> bool:
    return centre.last_error() == reason
