"""A pass over a large rollout, part by part, against one second; and the bytes that it writes.

Run it as `python -m tests.bench.bench_planner` from the repository; it takes a minute at
100,000 targets, and a number after it asks for another size. CPU seconds, because machines
have company. What the fleet is read from (`fleet.roll`) is not in it.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from agent.wire.phases import Phase
from agent.wire.v1 import Deployment
from fleet import kept
from fleet.clock import written
from fleet.kept import Memory
from fleet.rollouts.asking import due, look_again_at
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import plan
from fleet.rollouts.policy import CAREFUL
from fleet.rollouts.progress import Rollout, RolloutEvent, begin, cut_off
from fleet.rollouts.states import RolloutHappening
from fleet.selector import asked as selected
from fleet.store.engine import Store
from tests.fleet.deciding.paper import NOW, Paper

TARGETS = 100_000
BUDGET_S = 1.0
LATER = NOW + timedelta(hours=1)

ResultT = TypeVar("ResultT")


@dataclass
class Timed:
    """Parts of something and their CPU seconds, in the order in which they ran."""

    parts: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, work: Callable[[], ResultT]) -> ResultT:
        """Do it, and note how long that took."""
        begun = time.process_time()
        result = work()
        self.parts[name] = self.parts.get(name, 0.0) + time.process_time() - begun
        return result

    def total(self) -> float:
        """Return all of it."""
        return sum(self.parts.values())


@dataclass
class Lane:
    """A rollout in a store of its own, on a fleet on paper."""

    path: Path
    count: int
    paper: Paper = field(default_factory=Paper)

    def __post_init__(self) -> None:
        labels = [{"lane": "a" if number % 2 else "b"} for number in range(self.count)]
        targets = self.paper.targets(self.count)
        self.inventory = self.paper.inventory(
            *(replace(each, labels=held) for each, held in zip(targets, labels, strict=True))
        )
        self.request = self.paper.request(policy="careful", soak_s=0.0)
        self.cards = self.paper.cards(self.paper.bundle())
        made = plan(self.request, CAREFUL, self.inventory, self.cards, NOW)
        word = RolloutEvent(rollout=RolloutHappening.STARTED)
        self.store = Store.open(self.path)
        with self.store.write() as connection:
            begun = fold(begin(made, "r-1"), [word], NOW)
            kept.add(connection, begun, plan="{}", created_at=written(NOW))
        self.memory = Memory()

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def says(self, deployments: Mapping[str, Deployment], phase: Phase | None) -> None:
        """Write documents, and let those devices say how far they are; None: they say nothing."""
        if phase is None:
            self.inventory = self.paper.written(self.inventory, deployments)
            return
        self.inventory = replace(
            self.inventory,
            targets=tuple(
                self.paper.reported(target, phase) if target.device in deployments else target
                for target in self.inventory.targets
            ),
        )

    def a_pass(
        self, timed: Timed, *, cold: bool = False, now: datetime = LATER
    ) -> tuple[Rollout, dict[str, Deployment]]:
        """Read, look, decide and keep: as the executor does, but for documents and the log."""
        memory = Memory() if cold else self.memory
        with self.store.write() as connection:
            before = timed("read", lambda: memory.read(connection, "r-1"))
            known = timed("cut off", lambda: cut_off(before, now)) if cold else before
            events = timed("look", lambda: seen(known, self.inventory, now))
            after = timed("fold", lambda: fold(known, events, now))
            asked = timed("who is due", lambda: due(after, now))
            timed("when again", lambda: look_again_at(after, now))
            timed("keep", lambda: memory.keep(connection, before, after))
        self.memory = memory
        return after, {each.target: each.deployment for each in asked}

    def written_bytes(self) -> int:
        """Return how many bytes were written since this was last asked."""
        wal = self.path.with_name(self.path.name + "-wal")
        size = wal.stat().st_size if wal.exists() else 0
        with sqlite3.connect(self.path) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        return size

    def under_way(self) -> dict[str, Deployment]:
        """Bring the rollout to where half of its targets have their document, and said nothing."""
        _, canaries = self.a_pass(Timed())
        self.says(canaries, None)
        self.says(canaries, Phase.COMMITTED)
        _, asked = self.a_pass(Timed())
        self.says(asked, None)
        self.a_pass(Timed())
        return asked


def main(count: int = TARGETS) -> None:
    """Print each pass with its parts."""
    with tempfile.TemporaryDirectory() as folder:
        lane = Lane(Path(folder) / "store.db", count)
        asked = lane.under_way()
        lane.written_bytes()

        def show(name: str, timed: Timed) -> None:
            ratio = timed.total() / BUDGET_S
            print(  # noqa: T201  # what it is for
                f"{name}: {timed.total():.2f} s of CPU, x{ratio:.2f} of {BUDGET_S:g} s,"
                f" {lane.written_bytes():,} bytes written"
            )
            for part, seconds in timed.parts.items():
                print(f"  {part:12} {seconds * 1e3:8.0f} ms")  # noqa: T201  # what it is for

        print(f"{count:,} targets, {len(asked):,} of them asked")  # noqa: T201  # what it is for
        cold = Timed()
        lane.a_pass(cold, cold=True, now=LATER + timedelta(minutes=1))  # all times begin anew
        show("a pass, cold", cold)
        quiet = Timed()
        lane.a_pass(quiet)
        show("a pass, nothing changed", quiet)
        few = dict(list(asked.items())[:500])
        lane.says(few, Phase.FETCHING)
        some = Timed()
        lane.a_pass(some)
        show(f"a pass after {len(few):,} reports", some)
        lane.says(asked, Phase.COMMITTED)
        many = Timed()
        lane.a_pass(many)
        show(f"a pass after {len(asked):,} reports", many)
        again = Timed()
        request = replace(
            lane.request, bundle=lane.paper.bundle("2.0.0"), selector=selected("lane=a")
        )
        cards = lane.paper.cards(request.bundle)
        again("plan", lambda: plan(request, CAREFUL, lane.inventory, cards, LATER))
        show("a plan after the selector changed", again)
        lane.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
