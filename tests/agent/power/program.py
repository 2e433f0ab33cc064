"""A device as a program, to be recorded and to be started again; a job on its standard input.

All of it is real but the way to the centre, which is in memory. It lives through
desired documents one after another, and writes into a file of marks what was
promised: a transaction of the ledger when it has returned (the ledger's whole
content, as a digest), and everything that was told to the centre. Where a mark is
among the writes of the disk says what must survive a power cut there.
"""

# ruff: noqa: ASYNC110  # what the agent has come to is looked at, not waited for

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import structlog

from agent import run
from agent.alone import alone
from agent.home import Home
from agent.identity import load
from agent.ledger import Ledger, open_ledger
from agent.ledger_file import Run
from agent.link.memory import MemoryBroker, MemoryLink
from agent.state import Machine
from agent.wire import codec, v1
from agent.wire.topics import Kind, Topic
from models import durable
from tests.agent.device.mortal import NAME, crash, say, serves, settled

TABLES = ("meta", "held", "deployment", "event", "quarantine", "past")


def content_of(database: sqlite3.Connection) -> str:
    """Return a digest of all that a ledger holds."""
    rows = [database.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in TABLES]  # noqa: S608  # ours
    return hashlib.sha256(repr(rows).encode()).hexdigest()


class Marks:
    """The file of marks, one line of JSON each, by one write each."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def put(self, **said: object) -> None:
        line = (json.dumps(said) + "\n").encode()
        assert os.write(self._descriptor, line) == len(line)


class Marked(Ledger):
    """Marks every transaction as soon as it has returned."""

    marks: Marks

    @contextmanager
    def _transaction(self, *, locked: bool = False) -> Iterator[Run]:
        with super()._transaction(locked=locked) as statements:
            yield statements
        if locked:
            self.marks.put(durable=content_of(self._database))


class Listening(MemoryBroker):
    """A centre that has all it is told: it acknowledges events, and marks what it heard."""

    def __init__(self, marks: Marks) -> None:
        super().__init__()
        self._marks = marks

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        super().take(topic, payload, retain=retain)
        match codec.decode(payload, v1.Event, v1.Birth, v1.Death, v1.Reported, v1.Health):
            case v1.Event() as event:
                self._marks.put(told="event", ledger=event.ledger, number=event.number)
                acked = v1.Acked(
                    fleet=event.fleet,
                    device=event.device,
                    ledger=event.ledger,
                    number=event.number,
                )
                to = str(Topic(event.fleet, event.device, Kind.ACKED))
                self.publish(to, codec.encode(acked), retain=True)
            case v1.Birth() as birth:
                self._marks.put(told="session", session=birth.session)
            case v1.Reported() as reported:
                self._marks.put(
                    told="reported",
                    generation=reported.observed.generation if reported.observed else 0,
                    deployments=[[each.revision, each.phase] for each in reported.deployments],
                )
            case _:
                pass  # nothing that it must remember


class Life:
    """An agent that has started."""

    def __init__(self, device: run._Device, ledger: Ledger, broker: MemoryBroker) -> None:
        self._device, self._ledger, self._broker = device, ledger, broker

    async def serves(self) -> str | None:
        return await serves(self._device)

    async def reach(self, envelope: bytes, revision: int, *, crashes: bool = False) -> str:
        """Obey a document until its revision is settled and told; return its phase."""
        answer = self._device._identity.answer
        async with asyncio.TaskGroup() as group:
            bad = revision if crashes else None
            crashing = group.create_task(crash(self._device, self._ledger, bad), name="crash")
            topic = str(Topic(answer.fleet, answer.device, Kind.DESIRED))
            self._broker.publish(topic, envelope, retain=True)
            while not settled(self._ledger, revision) or self._told_less_than_it_knows():
                await asyncio.sleep(0.01)
            crashing.cancel()
        return self._ledger.records[NAME].phase.value

    def _told_less_than_it_knows(self) -> bool:
        return isinstance(self._broker, Listening) and self._ledger.depth > 0


@asynccontextmanager
async def started(
    home: Home, machine: Machine, ledger: Ledger, broker: MemoryBroker
) -> AsyncIterator[Life]:
    """Start an agent, and stop it in order."""
    identity = load(home)
    answer = identity.answer
    settings = run.RunSettings(home=home.path, host="127.0.0.1", port=0)
    device = run._Device(settings, identity, machine, ledger, asyncio.Event())
    boot, booted = device._reconciler.boot, asyncio.Event()

    async def told_boot() -> None:
        await boot()
        booted.set()

    device._reconciler.boot = told_boot  # type: ignore[method-assign]
    link = MemoryLink(broker, fleet=answer.fleet, device=answer.device)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(device.run(link), name="device")
        await booted.wait()
        yield Life(device, ledger, broker)
        os.kill(os.getpid(), signal.SIGTERM)
        await running
    ledger.close()


async def live(job: dict[str, Any], envelopes: list[bytes]) -> None:
    """Live as often as the job says, each time through its documents."""
    marks = Marks(Path(job["marks"]))
    home, machine = Home(Path(job["home"])), _machine(job)
    answer = load(home).answer
    for revisions in job["lives"]:
        durable.make_directory(home.path, mode=0o700)
        with alone(home.lock):
            ledger = Marked(home.ledger, fleet=answer.fleet, device=answer.device)
            ledger.marks = marks
            marks.put(durable=content_of(ledger._database))
            async with started(home, machine, ledger, Listening(marks)) as life:
                for revision in revisions:
                    crashes = revision in job["crashes"]
                    came = await life.reach(envelopes[revision - 1], revision, crashes=crashes)
                    say(revision=revision, phase=came, serves=await life.serves())


async def start_again(job: dict[str, Any], envelope: bytes) -> None:
    """Start an agent on each of many homes; say what serves at once, and what once it obeyed."""
    for each in job["homes"]:
        home = Home(Path(each))
        answer = load(home).answer
        with alone(home.lock):
            ledger = open_ledger(home.ledger, fleet=answer.fleet, device=answer.device)
            aside = ledger.moved_aside is not None
            async with started(home, _machine(job), ledger, MemoryBroker()) as life:
                first = await life.serves()
                phase = await life.reach(envelope, job["revision"])
                say(home=each, aside=aside, first=first, phase=phase, last=await life.serves())


def _machine(job: dict[str, Any]) -> Machine:
    return Machine(**job["machine"])


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    told = json.load(sys.stdin)
    documents = [Path(each).read_bytes() for each in told["envelopes"]]
    asyncio.run(live(told, documents) if "lives" in told else start_again(told, *documents))
