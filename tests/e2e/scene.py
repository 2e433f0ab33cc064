"""A centre and devices as processes, started by the commands a person would type."""

import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from fleet.broker.address import Address
from fleet.cli.upload import upload
from models.bundle import Bundle
from models.keys import SigningKey
from models.layout import Layout
from tests.conformance.peer import Peer
from tests.e2e.wares import OUTPUT_BYTES, Model

SKERRY = Path(sys.executable).with_name("skerry")
AGENT = (sys.executable, "-P", "-m", "agent")
LIMIT_S = 90.0
"""For what takes two seconds on a quiet machine."""

Found = TypeVar("Found")
Row = dict[str, Any]

_STACK = re.compile(r"Traceback|\"exc_type\"")


def until(look: Callable[[], Found | None], *, limit_s: float = LIMIT_S, what: str = "it") -> Found:
    """Look again and again until what is found is true, and return it."""
    deadline = time.monotonic() + limit_s  # noqa: TID251  # other processes, real time
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen within {limit_s:g} s"  # noqa: TID251  # as above
        time.sleep(0.03)  # noqa: TID251  # as above
    return found


def pause(seconds: float) -> None:
    """Let other processes go on for a while: the moment that follows is a random one."""
    time.sleep(seconds)  # noqa: TID251  # as above


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(*words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command to its end, as a person would; nobody is shown a stack trace."""
    ended = subprocess.run(
        [str(word) for word in words],
        check=False,
        capture_output=True,
        text=True,
        input=given,
        timeout=LIMIT_S,
    )
    assert not _STACK.search(ended.stdout + ended.stderr), ended.stdout + ended.stderr
    return ended


def rows(path: Path, query: str) -> list[Row]:
    """Ask a database that others write, changing nothing."""
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query)]
    finally:
        database.close()


class Program:
    """One long-lived process of ours; what it says goes to a log that is read at the end."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._read_to = 0

    def start_as(self, *words: str | Path) -> None:
        assert self.process is None
        with self.log.open("ab") as log:
            self._began = log.tell()
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def said(self) -> list[Row]:
        """Return what it has said since its last start, as far as that is JSON."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(self._began)
            lines = log.read().splitlines()
        return [json.loads(line) for line in lines if line[:1] == b"{" and line[-1:] == b"}"]

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and return its exit status once it and its children are gone."""
        assert self.process is not None
        children = psutil.Process(self.pid).children(recursive=True) if self.alive() else []
        self.process.send_signal(number)
        status = self.process.wait(LIMIT_S)
        self.process = None
        _, left = psutil.wait_procs(children, timeout=10)
        assert not left, f"{self.log.stem} left {left}"
        return status

    def dismiss(self) -> None:
        """End it if it runs. Nothing it ever said was a stack trace."""
        if self.alive():
            assert self.end() == 0, self.tail()
        self.process = None
        self.check_log()

    def check_log(self) -> None:
        if self.log.exists():
            said = self.log.read_text(errors="replace")[self._read_to :]
            self._read_to += len(said)
            assert not _STACK.search(said), said[-6000:]

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


class Centre(Program):
    """A centre on a home of its own, with the broker it supervises."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "centre.log")
        self.folder = folder
        self.home = folder / "centre"
        self.broker_port = free_port()
        self.port, self.plain_port = free_port(), free_port()
        made = run(SKERRY, "trust", "init", "--home", self.home)
        assert made.returncode == 0, made.stderr
        self.key = SigningKey.load(self.home / "trust" / "bundle.key")
        self.desired_key = SigningKey.load(self.home / "trust" / "desired.key")
        self.where: Mapping[str, Any] = {}
        self._devices = 0

    def start(self) -> None:
        self.start_as(*self.command())
        self.where = until(self._ready, what="the centre's readiness")

    def command(self) -> list[str | Path]:
        return [
            *(SKERRY, "up", "--home", self.home, "-o", "json"),
            *("--listen", f"127.0.0.1:{self.port}", "--plain", f"127.0.0.1:{self.plain_port}"),
            *("--broker-port", str(self.broker_port)),
        ]

    def _ready(self) -> Row | None:
        assert self.alive(), self.tail()
        return next((line for line in self.said() if "plain_url" in line), None)

    @property
    def broker_pid(self) -> int:
        """The broker that runs now."""
        found = [line["pid"] for line in self.said() if line.get("event") == "broker up"]
        return int(found[-1])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let somebody else be the centre for a while: the broker runs, and we don't come back."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    # What an operator does

    def skerry(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return run(SKERRY, *words, "--home", self.home)

    def ask(self, method: str, path: str, body: Row | None = None) -> Row:
        status, answer = self.http(method, path, json.dumps(body).encode() if body else b"")
        assert status < 300, answer
        found: Row = json.loads(answer)
        return found

    def http(
        self, method: str, path: str, body: bytes = b"", more: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.plain_port, timeout=20)
        token = (self.home / "operator.token").read_text().strip()
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request(method, path, body, {**headers, **(more or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def token(self, *words: str) -> str:
        made = self.skerry("token", "create", *words)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def publish(self, layout: Layout, bundle: Bundle) -> None:
        upload(
            layout,
            bundle,
            url=str(self.where["plain_url"]),
            token_file=self.home / "operator.token",
            ca=None,
            home=self.home,
        )

    def roll(self, version: str, device: "Device", *, name: str = "digits") -> str:
        """Start a rollout of `digits:VERSION` to one device; return its id."""
        wish = {"bundle": f"digits:{version}", "deployment": name, "targets": [device.id]}
        return str(self.ask("POST", "/api/v1/rollouts", {**wish, "policy": "all-at-once"})["id"])

    def deliver(self, version: str, device: "Device", *, name: str = "digits") -> Row:
        """Roll a version out to one device, and wait until that is over on both sides."""
        rollout = self.roll(version, device, name=name)
        told = self.settled(device, version, name=name)
        path = f"/api/v1/rollouts/{rollout}"
        until(lambda: self.ask("GET", path)["state"] == "done", what=f"the end of {rollout}")
        return told

    # What it knows

    def device(self, device: "Device") -> Row:
        return self.ask("GET", f"/api/v1/devices/{device.id}")

    def deployment(self, device: "Device", name: str = "digits") -> Row:
        """Return one deployment as the device last reported it, or an empty one."""
        found = self.device(device)["deployments"]
        return next((each for each in found if each["name"] == name), {})

    def settled(self, device: "Device", version: str, *, name: str = "digits") -> Row:
        """Wait until a version serves and is committed."""

        def look() -> Row | None:
            assert device.alive(), device.tail()
            told = self.deployment(device, name)
            active = told.get("active") or {"bundle": {"version": ""}}
            done = told.get("phase") == "committed" and active["bundle"]["version"] == version
            return told if done else None

        return until(look, what=f"{version} on {device.name}")

    def events(self, device: "Device") -> list[Row]:
        """Return all events of a device in the order in which they were committed."""
        found = rows(
            self.home / "store.db",
            f"SELECT * FROM events WHERE device = '{device.id}' ORDER BY rowid",  # noqa: S608  # our own id
        )
        return [{**row, **json.loads(row["document"])} for row in found]

    def reasons(self, device: "Device") -> list[str]:
        return [each["reason"] for each in self.events(device) if each.get("reason")]

    def store(self, *tables: str) -> dict[str, list[Row]]:
        return {
            table: rows(self.home / "store.db", f"SELECT * FROM {table}")  # noqa: S608  # as above
            for table in tables
        }

    def registry(self) -> dict[str, str]:
        """Return every file of the registry with its digest."""
        folder = self.home / "registry"
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def peer(self) -> Peer:
        """Return a client with the centre's own certificate. It takes the centre's session over."""
        trust = self.home / "trust"
        context = ssl.create_default_context(cafile=trust / "ca.pem")
        context.load_cert_chain(trust / "centre.pem", trust / "centre.key")
        return Peer(Address.parse(str(self.where["broker_url"])), "centre", tls=context)

    def make_device(self, *, join: bool = True, home: Path | None = None) -> "Device":
        self._devices += 1
        name = f"device-{os.urandom(3).hex()}"
        device = Device(self, name, home or self.folder / name)
        if join:
            joined = device.join(self.token())
            assert joined.returncode == 0, joined.stderr
        return device


class Device(Program):
    """One agent."""

    def __init__(self, centre: Centre, name: str, home: Path) -> None:
        super().__init__(centre.folder / f"{name}.log")
        self.centre, self.name, self.home = centre, name, home
        self.port = free_port()

    def join(self, token: str, *words: str) -> subprocess.CompletedProcess[str]:
        url = str(self.centre.where["url"])
        return run(
            *(*AGENT, "join", url, "--token", token, "--name", self.name, "--home", self.home),
            *words,
        )

    @property
    def id(self) -> str:
        return str(json.loads((self.home / "identity" / "join.json").read_text())["device"])

    def start(self, *, ready: bool = True) -> None:
        self.start_as(*AGENT, "run", *("--home", self.home, "--listen", f"127.0.0.1:{self.port}"))
        if ready:
            until(self._listening, what=f"{self.name} listening")

    def _listening(self) -> bool:
        assert self.alive(), self.tail()
        return any(line.get("event") == "serving" for line in self.said())

    def online(self) -> None:
        until(lambda: self.centre.device(self)["online"], what=f"{self.name} online")

    def workers(self) -> set[int]:
        """Return the processes in which models serve."""
        found = set()
        for child in psutil.Process(self.pid).children(recursive=True):
            try:
                if "agent.workers.child" in child.cmdline():
                    found.add(child.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    def refusals(self) -> list[str]:
        """Return the reasons of the documents it has refused since it started."""
        return [line["reason"] for line in self.said() if line.get("event") == "refused"]

    # Its ledger

    def ledger(self, query: str) -> list[Row]:
        return rows(self.home / "ledger.db", query)

    def held(self) -> Row:
        """Return the desired document it obeys."""
        (row,) = self.ledger("SELECT * FROM held WHERE kind = 'desired'")
        return row

    def numbering(self) -> tuple[str, int]:
        """Return the ledger's id and the number of the last event it has told."""
        meta = {row["name"]: row["value"] for row in self.ledger("SELECT * FROM meta")}
        return meta["id"], int(meta["next"]) - 1

    # Its clients

    def infer(self, row: bytes, name: str = "digits") -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            return _infer(connection, name, row)
        finally:
            connection.close()

    def answers(self, model: Model, name: str = "digits") -> bool:
        """Say whether every probe is answered with exactly a model's bytes."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            given = [_infer(connection, name, probe) for probe in model.probes]
        finally:
            connection.close()
        return given == [(200, answer) for answer in model.answers]

    def peer(self) -> Peer:
        """Return a client with this device's certificate."""
        identity = self.home / "identity"
        context = ssl.create_default_context(cafile=identity / "ca.pem")
        context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
        return Peer(Address.parse(str(self.centre.where["broker_url"])), self.id, tls=context)


def _infer(connection: HTTPConnection, name: str, row: bytes) -> tuple[int, bytes]:
    connection.request(
        "POST", f"/v2/models/{name}/infer", row, {"Inference-Header-Content-Length": "0"}
    )
    answer = connection.getresponse()
    body = answer.read()
    return answer.status, body[-OUTPUT_BYTES:] if answer.status == 200 else body


class Asking(ABC):
    """A client that asks, in a thread of its own, as long as the block lasts."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="client")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LIMIT_S)

    @abstractmethod
    def _ask(self) -> None:
        """Ask until told to stop."""


class Load(Asking):
    """A client that never stops asking; every answer must be one of the models' own."""

    def __init__(self, device: Device, *models: Model, name: str = "digits") -> None:
        super().__init__()
        self._port, self._name, self._models = device.port, name, models
        self.counts = [0 for _ in models]
        self.failed: list[str] = []
        self.unanswered: list[str] = []

    @property
    def total(self) -> int:
        return sum(self.counts)

    def more(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        enough = self.total + count
        until(lambda: self.total >= enough or self.failed, what="answers")

    def _ask(self) -> None:
        probes = self._models[0].probes
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        for place in cycle(range(len(probes))):
            if self._stop.wait(0.002):
                break
            try:
                status, answer = _infer(connection, self._name, probes[place])
            except (OSError, HTTPException) as error:
                self.unanswered.append(f"{type(error).__name__}: {error}")
                connection.close()
                self._stop.wait(0.02)
                continue
            owners = [
                each for each, model in enumerate(self._models) if model.answers[place] == answer
            ]
            if status == 200 and owners:
                self.counts[owners[0]] += 1
            else:
                self.failed.append(f"{status} {answer[:200]!r}")
        connection.close()
