"""A device as a process that is done to from outside: started, watched, killed, looked at.

The process is `tests.agent.device.mortal`, an agent whose only unreal part is the way
to the centre; it knows nothing of what is done to it. Its steps are read off the
agent's own log, its state off its ledger, by readers that change nothing.
"""

import asyncio
import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from agent import facts
from agent.ledger import open_ledger
from agent.wire import codec, v1
from models import keys
from models.bundle import Bundle
from tests.agent.device.mortal import NAME
from tests.agent.device.world import (
    DEVICE,
    FLEET,
    Home,
    deployment,
    make_home,
    publisher,
    serving_registry,
)
from tests.agent.packages import (
    DENSE_INPUTS,
    DENSE_OUTPUTS,
    Package,
    dense_net,
    packaged,
    quantized,
)

ROOT = Path(__file__).parents[3]
PROBATION_S = 0.3


@dataclass
class Life:
    """One life of the process, from its start to its end."""

    process: subprocess.Popen[str]
    steps: "queue.SimpleQueue[dict[str, Any]]"
    said: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    port: int | None = None
    started: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def watch(self) -> None:
        """Read what it says and logs, until it is dead."""
        for read in (self._words, self._log):
            thread = threading.Thread(target=read)
            thread.start()
            self._threads.append(thread)

    def _words(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            self.started.set()
        self.started.set()  # nothing more will be said

    def _log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            with suppress(ValueError):
                told = json.loads(line)
                if told.get("event") == "step":
                    self.steps.put(told)
                elif told.get("event") == "serving":
                    self.port = int(str(told["addresses"][0]).rpartition(":")[2])

    def kill(self) -> None:
        """End it as nothing announces; its children must follow it by themselves."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def end(self, within_s: float) -> int:
        """Wait for its end, and for all it said; return its status."""
        try:
            status = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self.process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return status

    def children(self, module: str) -> list[psutil.Process]:
        """Return its children that run a module of ours."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [each for each in found if module in _words_of(each)]

    @property
    def served(self) -> list[str | None]:
        """What answered when it had started, and at its end where it came to one."""
        return [each["serves"] for each in self.said if "serves" in each]

    @property
    def ended(self) -> str | None:
        """The phase in which the wanted revision settled, where it did."""
        return next((each["ends"] for each in self.said if "ends" in each), None)


def _words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@dataclass
class Subject:
    """A device with a home, a registry that has four versions, and revisions that want them."""

    home: Home
    machine: dict[str, Any]
    versions: dict[str, Bundle]
    folder: Path
    revision: int = 0
    wanted: str = ""
    crashes: bool = False

    def want(self, version: str, *, crashes: bool = False) -> None:
        """Let a version be desired as the next revision; `crashes`: its worker dies on trial."""
        self.revision += 1
        self.wanted, self.crashes = version, crashes
        made = deployment(
            self.versions[version], self.revision, probation_s=60.0 if crashes else PROBATION_S
        )
        (self.folder / "envelope").write_bytes(self.home.envelope(self.revision, made))

    def lift(self) -> None:
        """Let content in quarantine be tried again, as a technician does who knows why."""
        ledger = open_ledger(self.home.path / "ledger.db", fleet=FLEET, device=DEVICE)
        ledger.forgive(set(ledger.quarantined), [], at="2026-01-02T03:04:05Z")
        ledger.close()

    def start(self) -> Life:
        """Start it."""
        job = {
            "home": str(self.home.path),
            "machine": self.machine,
            "envelope": str(self.folder / "envelope"),
            "revision": self.revision,
            "moments": 0,
            "crashes": self.revision if self.crashes else None,
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.agent.device.mortal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        life = Life(process, queue.SimpleQueue())
        life.watch()
        return life

    def phase(self) -> str:
        """Return where its ledger says it is; `-` where it says nothing."""
        path = self.home.path / "ledger.db"
        if not path.exists():
            return "-"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            try:
                row = database.execute(
                    "SELECT revision, phase FROM deployment WHERE name = ?", (NAME,)
                ).fetchone()
            except sqlite3.OperationalError:
                return "-"
        if row is None or row[0] != self.revision:
            return "before it is wanted"
        return str(row[1])

    def events(self) -> list[v1.Event]:
        """Return what it has to tell the centre, from its ledger."""
        path = self.home.path / "ledger.db"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            rows = database.execute("SELECT body FROM event ORDER BY number").fetchall()
        return [codec.decode(body, v1.Event) for (body,) in rows]


@contextmanager
def subject(folder: Path, home: Path | None = None) -> Iterator[Subject]:
    """Make a device that has joined; `home`: where its home is to be."""
    keys.generate(folder / "bundle.key", folder / "bundle.pub")
    key = keys.SigningKey.load(folder / "bundle.key")
    found = asyncio.run(facts.machine(None))
    machine = {"architecture": found.architecture, "library": found.library}
    machine["library_version"] = found.library_version
    with serving_registry(folder / "registry") as registry:
        made = make_home(home or folder, registry.url, key, broker_port=1)
        versions = {}
        for number in (1, 2, 3, 4):
            version = f"{number}.0.0"
            put = publisher(registry.layout, key, _model(folder / version, number))
            versions[version] = put(version, padding=200_000)
        yield Subject(made, machine, versions, folder)


def _model(folder: Path, seed: int) -> Package:
    folder.mkdir()
    content = quantized(dense_net((64, 32, 10), seed=seed), 64, folder)
    return packaged(content, folder, inputs=DENSE_INPUTS, outputs=DENSE_OUTPUTS)


Progress = Callable[[str], None]
