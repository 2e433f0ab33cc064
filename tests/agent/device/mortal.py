"""An agent that kills itself at a chosen write: a program, with a job on its standard input.

All of it is real but the way to the centre, which is in memory: the ledger on
disk, fetching and verifying children, workers. It says in lines of JSON what
serves when it has started, and where it dies or that all is settled.
"""

# ruff: noqa: ASYNC110  # what the agent has come to is looked at, not waited for

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from agent import run
from agent.errors import PersonError
from agent.home import Home
from agent.identity import load
from agent.keepsake import HeldDocument
from agent.ledger import Ledger, open_ledger
from agent.link.memory import MemoryBroker, MemoryLink
from agent.state import Machine, Note, Quarantined, Record
from agent.wire.phases import Phase
from agent.wire.topics import Kind, Topic

NAME = "digits"


def say(**said: object) -> None:
    print(json.dumps(said), flush=True)  # noqa: T201  # the pipe to the test


class Mortal(Ledger):
    """Dies at its n-th moment: before each write of the walk is one, and after it."""

    moments_left = 0
    writing = False

    def moment(self, when: str, what: str) -> None:
        self.moments_left -= 1
        if self.moments_left == 0:
            say(dies=[when, what])
            os.kill(os.getpid(), signal.SIGKILL)

    def hold(self, kind: str, document: HeldDocument) -> None:
        what = f"desired {document.held.order.generation}"
        self.moment("before", what)
        super().hold(kind, document)
        self.moment("after", what)

    def put(
        self,
        name: str,
        old: Record | None,
        new: Record | None,
        notes: Sequence[Note] = (),
        *,
        at: str,
        verdicts: Mapping[str, Quarantined | None] = MappingProxyType({}),
    ) -> bool:
        assert new is not None
        what = f"{new.phase} {new.wanted.revision}"
        self.moment("before", what)
        self.writing = True  # what it holds is seen on the loop before this thread has died
        written = super().put(name, old, new, notes, at=at, verdicts=verdicts)
        self.moment("after", what)
        self.writing = False
        return written


async def live(job: dict[str, Any], envelope: bytes) -> None:
    home = Home(Path(job["home"]))
    identity = load(home)
    answer = identity.answer
    ledger: Ledger
    if job["moments"]:
        ledger = Mortal(home.ledger, fleet=answer.fleet, device=answer.device)
        ledger.moments_left = job["moments"]
    else:
        ledger = open_ledger(home.ledger, fleet=answer.fleet, device=answer.device)
    settings = run.RunSettings(home=home.path, host="127.0.0.1", port=0)
    machine = Machine(**job["machine"])
    device = run._Device(settings, identity, machine, ledger, asyncio.Event())
    boot = device._reconciler.boot

    booted = asyncio.Event()

    async def told_boot() -> None:
        await boot()
        say(starts=True, serves=await serves(device))
        booted.set()

    device._reconciler.boot = told_boot  # type: ignore[method-assign]
    broker = MemoryBroker()
    topic = str(Topic(answer.fleet, answer.device, Kind.DESIRED))
    broker.publish(topic, envelope, retain=True)
    link = MemoryLink(broker, fleet=answer.fleet, device=answer.device)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(device.run(link), name="device")
        await booted.wait()
        crashing = group.create_task(crash(device, ledger, job["crashes"]), name="crash")
        mortal = ledger if isinstance(ledger, Mortal) else None
        while not settled(ledger, job["revision"]) or (mortal and mortal.writing):
            await asyncio.sleep(0.01)
        say(ends=ledger.records[NAME].phase, serves=await serves(device))
        os.kill(os.getpid(), signal.SIGTERM)
        await running
        crashing.cancel()
    ledger.close()


HUNG, BUSY = 504, 503


async def serves(device: run._Device) -> str | None:
    """Return the version that answers a real request; None when none does.

    The request over which a worker hangs is told so, and so is who waited in line behind it for
    as long as anyone waits; the next one must be answered.
    """
    if device._floor.board.launched(NAME) is None:
        return None
    tensor = {"name": "x", "shape": [1, 64], "datatype": "INT8", "data": [0] * 64}
    body = json.dumps({"inputs": [tensor]}).encode()
    answer = await device._floor.board.infer(NAME, body, None)
    if answer.status in {HUNG, BUSY}:
        answer = await device._floor.board.infer(NAME, body, None)
    return str(json.loads(answer.body)["model_version"]) if answer.status == 200 else None


def settled(ledger: Ledger, revision: int) -> bool:
    record = ledger.records.get(NAME)
    return (
        record is not None
        and record.wanted.revision == revision
        and record.phase in {Phase.COMMITTED, Phase.ROLLED_BACK, Phase.REFUSED}
    )


async def crash(device: run._Device, ledger: Ledger, revision: int | None) -> None:
    """Kill the worker of a revision on trial, as often as it is replaced."""
    while True:
        await asyncio.sleep(0.01)
        record, worker = ledger.records.get(NAME), device._floor.board.current(NAME)
        on_trial = record is not None and record.phase is Phase.PROBATION
        if on_trial and worker is not None and worker.launch.revision == revision:
            os.kill(worker.pid, signal.SIGKILL)
            while not worker.gone:
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    told = json.load(sys.stdin)
    try:
        asyncio.run(live(told, Path(told["envelope"]).read_bytes()))
    except* PersonError as errors:
        print(errors.exceptions, file=sys.stderr)  # noqa: T201  # as the command line does
        sys.exit(1)
