"""The other end and the agent itself, as real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind, Topic


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

    def workers(self) -> set[psutil.Process]:
        """Return every worker that there is at this moment."""
        assert self.process is not None
        found = set()
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "agent.workers.child" in child.cmdline():
                    found.add(child)
        return found

    def kill_workers(self) -> None:
        """Kill every worker that there is at this moment."""
        for child in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

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
