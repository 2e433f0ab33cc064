"""A real agent, broker and workers: killed and lied to. Old or new serves, never neither."""

# ruff: noqa: PLR0917  # fixtures are given by name

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind, Topic
from models import dsse, keys
from tests.agent.device.world import Deployed, Handler, Home, Publish, Registry, until
from tests.agent.packages import Package

pytestmark = pytest.mark.real("mosquitto")


def unavailable(handler: Handler, _: bytes) -> bool:
    """Answer as a registry that is overloaded."""
    handler.send_error(503)
    return True


class Centre:
    """The other end: says what is desired, acknowledges events, remembers what it heard."""

    def __init__(self, port: int) -> None:
        self.reported: v1.Reported | None = None
        self.events: dict[int, v1.Event] = {}
        self.presence: v1.Birth | v1.Death | None = None
        self.health: list[v1.Health] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, "centre", protocol=paho.MQTTv5)
        self.client.on_message = self._heard
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("skerry/v1/f/+/#", qos=1)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def say(self, kind: Kind, payload: bytes) -> None:
        self.client.publish(str(Topic("f", "d-1", kind)), payload, qos=1, retain=True)

    def _heard(self, _client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        kind, payload = Topic.parse(message.topic).kind, bytes(message.payload)
        if kind is Kind.REPORTED:
            self.reported = codec.decode(payload, v1.Reported)
        elif kind is Kind.PRESENCE:
            found = codec.decode(payload, v1.Birth, v1.Death)
            assert isinstance(found, v1.Birth | v1.Death)
            self.presence = found
        elif kind is Kind.HEALTH:
            self.health.append(codec.decode(payload, v1.Health))
        elif kind is Kind.EVENT:
            event = codec.decode(payload, v1.Event)
            self.events[event.number] = event
            acked = v1.Acked(fleet="f", device="d-1", ledger=event.ledger, number=event.number)
            self.say(Kind.ACKED, codec.encode(acked))

    def phase(self, name: str = "digits") -> tuple[Phase, int] | None:
        """Return how far the wanted revision has come."""
        for each in self.reported.deployments if self.reported else ():
            if each.name == name:
                return each.phase, each.revision
        return None

    def last_error(self) -> str | None:
        """Return why the last document was refused."""
        error = self.reported.last_error if self.reported else None
        return error.reason if error else None


class Agent:
    """One agent's process, started again at will."""

    def __init__(self, home: Path, port: int, log: Path) -> None:
        self.home, self.port, self.log = home, port, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-P", "-m", "agent", "run", "--home", str(self.home)]
        root = str(Path(__file__).parents[3])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--listen", f"127.0.0.1:{self.port}"],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": root},
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        code = self.process.wait(30)
        _, alive = psutil.wait_procs(children, 5)
        assert alive == []
        self.process = None
        return code

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def serves(self, name: str = "digits") -> str | None:
        """Return the version that answers a real request under a name; None when none does."""
        url = f"http://127.0.0.1:{self.port}/v2/models/{name}"
        tensor = {"name": "x", "shape": [1, 64], "datatype": "INT8", "data": [0] * 64}
        try:
            body = json.dumps({"inputs": [tensor]}).encode()
            with urllib.request.urlopen(f"{url}/infer", body, timeout=10) as answer:  # noqa: S310  # loopback
                found = json.load(answer)
        except (urllib.error.URLError, OSError):
            return None
        assert len(found["outputs"][0]["data"]) == 10
        return str(found["model_version"])


@pytest.fixture
def centre(broker: int) -> Iterator[Centre]:
    made = Centre(broker)
    yield made
    made.close()


@pytest.fixture
def agent(home: Home, tmp_path: Path) -> Iterator[Agent]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    made = Agent(home.path, port, tmp_path / "agent.log")
    made.start()
    yield made
    if made.process is not None:
        made.stop()
    assert b"Traceback" not in made.log.read_bytes()


@pytest.fixture
def serving(
    agent: Agent, centre: Centre, home: Home, publish: Publish, deployed: Deployed
) -> v1.Deployment:
    """Version 1.0.0 is committed on the device; return its deployment."""
    wanted = deployed(publish())
    centre.say(Kind.DESIRED, home.envelope(1, wanted))
    until(lambda: centre.phase() == (Phase.COMMITTED, 1))
    assert agent.serves() == "1.0.0"
    return wanted


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
    until(lambda: len(stuck) >= 1)
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
