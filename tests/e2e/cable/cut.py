"""A cable cut for ten real minutes while much happens, and what the centre knows afterwards.

    python -m tests.e2e.cable.cut --seconds 600      (make cable)

A centre with its broker and a device are real processes. Both of the first are killed
and stay dead for so long. Meanwhile a technician holds and releases the device, its
workers are killed in turn, and its agent twice; each time it is started again, as a
service manager would. Then the centre is back, and while it is told all this, the
broker and the agent are killed once more. A client asks all the time.

The ledger is read every half second beside the agent, so that each event is known as it
was written, before any is folded or acknowledged; at the end this book is compared with
the centre's store (`books`).
"""

import argparse
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from agent.home import Home
from agent.technician import hold, release
from agent.wire import codec, v1
from agent.wire.limits import OUTBOX_LIMIT_BYTES, TEXT_LIMIT
from models.layout import Layout
from tests.e2e.cable.books import Arrived, Verdict, compare
from tests.e2e.cable.client import Client, Failed, Harm, Span, clock, unexplained
from tests.e2e.scene import Centre, Device, pause, until
from tests.e2e.wares import Model, build, packed

NAMES = ("belt", "door", "gate")
VERSION = "1.0.0"
LEAST_PER_S = 5.0
_LOOK_S = 0.5
_WORKER_EVERY_S = 7.0
"""Each of three workers dies every 21 seconds: five deaths in a minute would be its last."""

_BEFORE_CENTRE_S = 3.0
"""How long a new broker is alone with the device: less than its window of events lasts."""

_WHY = "the belt is being changed; "
"""Why the device is held, padded to a reason's full length: the outbox fills the sooner."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cut:
    """How long, how fast, and how often the agent dies meanwhile."""

    seconds: float
    per_s: float = 20.0
    agent_kills: int = 2


@dataclass(slots=True)
class World:
    """A running centre, and a device that serves one model under three names."""

    centre: Centre
    device: Device
    model: Model


class Watch:
    """Reads a device's ledger beside the agent, and keeps every event it ever saw."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.seen: dict[int, bytes] = {}
        self.deepest = self.largest_bytes = self.waiting = 0
        self.gone = 0

    def look(self) -> int:
        """Return how many events wait."""
        newest = max(self.seen, default=0)
        found = self._device.ledger(
            f"SELECT number, body FROM event WHERE number > {newest} AND first = number"  # noqa: S608  # our own number
        )
        self.seen |= {row["number"]: bytes(row["body"]) for row in found}
        [size] = self._device.ledger(
            "SELECT count(*) AS depth, coalesce(sum(length(body)), 0) AS bytes,"
            " coalesce(min(first) - 1, (SELECT value - 1 FROM meta WHERE name = 'next')) AS gone"
            " FROM event"
        )
        self.waiting, self.gone = size["depth"], size["gone"]
        self.deepest = max(self.deepest, self.waiting)
        self.largest_bytes = max(self.largest_bytes, size["bytes"])
        return self.waiting


@dataclass(slots=True, kw_only=True)
class Report:
    """What was done, and what became of it."""

    seconds: float
    kinds: Counter[str]
    agent_kills: int
    worker_kills: int
    deepest: int
    largest_bytes: int
    replay_s: float
    verdict: Verdict
    answered: int
    longest_s: float
    failed: list[Failed]
    unexplained: list[Failed]
    forgotten: list[str] = field(default_factory=list)

    @property
    def transitions(self) -> int:
        """How many there were; health waits among them, and is none."""
        return self.kinds.total() - self.kinds[v1.EventKind.HEALTH]

    @property
    def per_s(self) -> float:
        """How many transitions there were in a second."""
        return self.transitions / self.seconds

    @property
    def complaints(self) -> dict[str, object]:
        """What is not as it should be."""
        found: dict[str, object] = dict(self.verdict.complaints)
        if self.unexplained:
            found["requests that failed"] = self.unexplained[:5]
        if self.forgotten:
            found["forgotten before it was acknowledged"] = self.forgotten[:5]
        return found

    def __str__(self) -> str:
        told = self.verdict
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        explained = [each for each in self.failed if each not in self.unexplained]
        under_worker = sum(each.status == 500 for each in explained)
        lines = {
            "cut": f"{self.seconds:.0f} s",
            "transitions": f"{self.transitions}: {kinds}",
            "a second": f"{self.per_s:.1f}",
            "killed": f"the agent {self.agent_kills} times, workers {self.worker_kills} times, "
            "the broker once",
            "outbox at most": f"{self.deepest} events, {self.largest_bytes} bytes "
            f"of {OUTBOX_LIMIT_BYTES}",
            "replay": f"{self.replay_s:.0f} s",
            "folded": f"{told.folded} events into {told.records} counted records",
            "arrived as they were": f"{told.whole}, and {told.moved} renumbered among the folded",
            "lost": f"{len(told.lost)}",
            "twice": f"{len(told.twice)}",
            "out of order": f"{len(told.disordered)}",
            "changed or miscounted": f"{len(told.changed) + len(told.miscounted)}",
            "requests answered": f"{self.answered}, the slowest in {self.longest_s:.2f} s",
            "requests failed": f"{under_worker} as their worker was killed under them, "
            f"{len(explained) - under_worker} while the agent was dead, "
            f"{len(self.unexplained)} others",
        }
        return "\n".join(f"{name:<22} {said}" for name, said in lines.items())


@contextmanager
def world(folder: Path, model: Model) -> Iterator[World]:
    """Start a centre, and a device that serves."""
    centre = Centre(folder)
    device = None
    try:
        centre.start()
        layout = Layout.create(folder / "bundles")
        centre.publish(layout, packed(model, VERSION, layout, key=centre.key))
        device = centre.make_device()
        device.start()
        for name in NAMES:
            centre.deliver(VERSION, device, name=name)
        yield World(centre, device, model)
        for each in (device, centre):
            each.dismiss()
    finally:
        for program in (device, centre):
            if program is not None and program.alive():
                program.end(signal.SIGKILL)


def cut(world: World, how: Cut, tell: Tell) -> Report:
    """Cut the cable, let things happen, mend it, wait until all is told, and compare."""
    centre, device = world.centre, world.device
    watch, harm = Watch(device), Harm()
    until(lambda: not watch.look(), what="an empty outbox")
    before, _ = device.numbering()
    with Client(device, world.model, NAMES) as client:
        until(lambda: client.answered >= len(NAMES), what="answers")
        begun = clock()
        centre.end(signal.SIGKILL)
        watch.look()
        first = watch.gone + 1
        while_cut(world, how, watch, harm, tell)
        seconds = clock() - begun
        watch.look()
        _, last = device.numbering()
        centre.start()
        begun = clock()
        forgotten = replay(world, watch, harm, tell)
        replay_s = clock() - begun
        enough = client.answered + 10 * len(NAMES)
        until(lambda: client.answered >= enough, what="answers afterwards")
    ledger, told = device.numbering()
    events = centre.events(device)
    assert {before} == {ledger} | {each["ledger"] for each in events}, "there is another ledger"
    arrived = [Arrived(each["number"], bytes(each["document"])) for each in events]
    happened = [
        codec.decode(body, v1.Event)
        for number, body in watch.seen.items()
        if first <= number <= last
    ]
    return Report(
        seconds=seconds,
        kinds=Counter(each.kind.value for each in happened),
        agent_kills=len(harm.agents),
        worker_kills=len(harm.workers),
        deepest=watch.deepest,
        largest_bytes=watch.largest_bytes,
        replay_s=replay_s,
        verdict=compare(watch.seen, arrived, range(first, max(watch.seen) + 1)),
        answered=client.answered,
        longest_s=client.longest_s,
        failed=client.failed,
        unexplained=unexplained(client.failed, harm),
        forgotten=forgotten if told == acknowledged(world) else [*forgotten, f"{told} is not told"],
    )


def while_cut(world: World, how: Cut, watch: Watch, harm: Harm, tell: Tell) -> None:
    """Let things happen on a device that nobody listens to."""
    begun = clock()
    home = Home(world.device.home)
    deaths = [how.seconds * (n + 1) / (how.agent_kills + 1) for n in range(how.agent_kills)]
    looked = said = 0.0
    worker = -_WORKER_EVERY_S  # one dies at once
    made = 0
    while (passed := clock() - begun) < how.seconds:
        if deaths and passed >= deaths[0]:
            deaths.pop(0)
            kill_agent(world, harm)
        elif passed >= worker + _WORKER_EVERY_S:
            worker = passed
            kill_worker(world.device, harm)
        if passed >= looked + _LOOK_S:
            looked = passed
            watch.look()
        if passed >= said + 60:
            said = passed
            tell(f"{passed:.0f} s: {watch.waiting} events wait, {max(watch.seen)} is the newest")
        made += 1
        if made % 2:
            why = f"{_WHY}{made:06}"
            hold(home, why.ljust(TEXT_LIMIT, "."), "2026-01-02T03:04:05Z")
        else:
            release(home)
        pause(max(0.0, min(1.0, begun + made / how.per_s - clock())))
    release(home)


def replay(world: World, watch: Watch, harm: Harm, tell: Tell) -> list[str]:
    """Wait until all is told, and kill broker and agent while it is; return what was forgotten."""
    forgotten: list[str] = []
    whole = watch.look()

    def told(share: float) -> bool:
        waiting = watch.look()
        if watch.gone > (committed := acknowledged(world)):
            forgotten.append(f"{watch.gone} is gone; {committed} is acknowledged")
        pause(0.1)
        return waiting <= whole * (1 - share)

    limit_s = 120 + whole / 5
    until(lambda: told(0.3), limit_s=limit_s, what="a third of the replay")
    tell(f"{watch.waiting} events wait: the broker is killed")
    kill_broker(world.centre)
    until(lambda: told(0.6), limit_s=limit_s, what="two thirds of the replay")
    tell(f"{watch.waiting} events wait: the agent is killed")
    kill_agent(world, harm)
    until(lambda: told(1.0), limit_s=limit_s, what="an empty outbox")
    return forgotten


def kill_broker(centre: Centre) -> None:
    """Kill the broker. The next one has forgotten who wants to hear, and has the device first."""
    mine = psutil.Process(centre.pid)
    before = set(mine.children())
    os.kill(centre.broker_pid, signal.SIGKILL)
    until(lambda: set(mine.children()) - before, what="another broker")
    with centre.paused():
        pause(_BEFORE_CENTRE_S)


def acknowledged(world: World) -> int:
    """Return up to which number the centre has committed all."""
    [row] = world.centre.store("acked")["acked"]
    return int(row["number"])


def kill_worker(device: Device, harm: Harm) -> None:
    """Kill the oldest worker: each dies in turn."""
    workers = [psutil.Process(pid) for pid in device.workers()]
    if len(workers) < len(NAMES):
        return  # one is being replaced
    oldest = min(workers, key=lambda each: each.create_time())
    begun = clock()
    oldest.kill()
    oldest.wait(10)  # until then it may still take a request, and die over it
    harm.workers.append(Span(begun, clock()))


def kill_agent(world: World, harm: Harm) -> None:
    """Kill the agent, start it again, and wait until every deployment answers."""
    begun = clock()
    world.device.end(signal.SIGKILL)
    world.device.start()
    probe = world.model.probes[0]
    for name in NAMES:
        until(lambda: world.device.infer(probe, name)[0] == 200, what=f"an answer of {name}")  # noqa: B023  # asked at once
    harm.agents.append(Span(begun, clock()))


def main() -> int:
    """Cut it; 0 when all that happened is known at the centre, once and in order."""
    parser = argparse.ArgumentParser(description="Cut a device off while much happens to it.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--per-second", type=float, default=20.0, help="transitions aimed at")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and leave no process behind

    def tell(line: str) -> None:
        print(line, flush=True)  # noqa: T201  # progress, for whoever waits

    model, _ = build()
    with tempfile.TemporaryDirectory() as name, world(Path(name), model) as made:
        how = Cut(arguments.seconds, arguments.per_second)
        report = cut(made, how, tell)
    tell(str(report))
    for what, found in report.complaints.items():
        tell(f"{what}: {str(found)[:2000]}")
    if report.per_s < LEAST_PER_S:
        tell(f"fewer than {LEAST_PER_S:g} transitions a second show too little")
    return 1 if report.complaints or report.per_s < LEAST_PER_S else 0


if __name__ == "__main__":
    sys.exit(main())
