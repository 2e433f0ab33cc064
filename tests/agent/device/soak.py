"""The soak: a device whose agent is killed at random moments of its changes, again and again.

    python -m tests.agent.device.soak --interruptions 1000      (make soak-agent)

A change is measured first. Then, for ever: a version is wanted, the agent is started,
and killed after a time drawn uniformly from 0 to 1.1 of a change, counted from its start
or from when it serves, or from 0 to twice as long as a step takes, counted from when its
log says that this step begins: some last a few milliseconds. It is started again until it
has settled. Every fifth change is
to a version whose worker dies on trial, which must lead back. At each start something
serves, and it is the old version or the new one; no event is numbered or told twice;
each change takes a bounded number of transitions. The histogram says in which phase
the kills found it.
"""

import argparse
import queue
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, pairwise
from pathlib import Path

from agent.wire import v1
from agent.wire.phases import Phase
from tests.agent.device.outside import Life, Progress, Subject, subject

STEPS = (
    Phase.FETCHING, Phase.VERIFYING, Phase.STAGING, Phase.TESTING, Phase.ACTIVATING,
    Phase.PROBATION, Phase.ROLLING_BACK,
)  # fmt: skip
"""The phases that a kill must have found the device in."""

TRANSITIONS_LIMIT = 30
"""Of one change, however often it is interrupted: a walk has at most ten, a kill repeats none."""

BAD_EVERY = 5

AIMED_AT = ("fetch", "stage", "test", "activate")
AIMED_SHARE = 0.3
"""Of the kills, so many are aimed at one of these steps: a share of time would miss the short."""


@dataclass
class Soak:
    """What was done, and what became of it."""

    interruptions: int = 0
    changes: int = 0
    cycle_s: float = 0.0
    steps_s: dict[str, float] = field(default_factory=dict)
    hit: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        most = max(self.hit.values(), default=1)
        takes = f"{self.cycle_s:.2f} s each when nobody interrupts"
        lines = [f"{self.interruptions} interruptions of {self.changes} changes ({takes})"]
        names = [*dict.fromkeys((*STEPS, *sorted(self.hit)))]
        for name in names:
            bar = "#" * round(40 * self.hit[name] / most)
            lines.append(f"{name:>20} {self.hit[name]:5} {bar}")
        return "\n".join(lines)

    @property
    def missed(self) -> list[str]:
        return [step for step in STEPS if not self.hit[step]]


def soak(device: Subject, interruptions: int, *, seed: int, tell: Progress) -> Soak:
    """Interrupt a device so often; raise AssertionError on the first thing that is not right."""
    rng = random.Random(seed)  # noqa: S311  # to be the same again
    made = Soak()
    serves = change(device, None, "1.0.0")
    device.want("2.0.0")
    life = device.start()
    life.started.wait(60)
    begun = time.monotonic()  # noqa: TID251  # a program of its own, without a loop
    assert life.end(60) == 0, life.log[-5:]
    made.cycle_s = time.monotonic() - begun  # noqa: TID251  # as above
    made.steps_s = durations(life)
    serves = "2.0.0"
    for number in count():
        bad = number % BAD_EVERY == BAD_EVERY - 1
        wanted = "3.0.0" if bad else "1.0.0" if serves == "2.0.0" else "2.0.0"
        device.want(wanted, crashes=bad)
        device.lift()
        made.changes += 1
        settled = False
        while not settled:
            if made.interruptions == interruptions:
                return made
            settled = interrupt(device, made, rng, {serves, wanted})
            if made.interruptions % 50 == 0:
                tell(f"{made.interruptions} of {interruptions} interruptions")
        check(device)
        serves = serves if bad else wanted
    return made


def change(device: Subject, serves: str | None, wanted: str) -> str:
    """Let a change come to its end."""
    device.want(wanted)
    life = device.start()
    assert life.end(60) == 0, life.log[-5:]
    assert life.served == [serves, wanted], life.said
    return wanted


def durations(life: Life) -> dict[str, float]:
    """Return how long each step of a change took that nobody interrupted."""
    begun: list[tuple[str, datetime]] = []
    while not life.steps.empty():
        told = life.steps.get()
        begun.append((told["action"], datetime.fromisoformat(told["timestamp"])))
    return {
        action: (ended - at).total_seconds()
        for (action, at), (_, ended) in pairwise(begun)
        if action in AIMED_AT
    }


def comes_to(life: Life, step: str, within_s: float) -> bool:
    """Wait until a step begins; False when it does not."""
    ends = time.monotonic() + within_s  # noqa: TID251  # a program of its own, without a loop
    while (left_s := ends - time.monotonic()) > 0:  # noqa: TID251  # as above
        with suppress(queue.Empty):
            if life.steps.get(timeout=left_s)["action"] == step:
                return True
    return False


def interrupt(device: Subject, made: Soak, rng: random.Random, may: set[str]) -> bool:
    """Start it and kill it after a while; return whether it had settled before."""
    life = device.start()
    if rng.random() < 0.8:  # most kills shall find it at a step, and not at its start
        life.started.wait(60)
    most_s = 1.1 * made.cycle_s
    if rng.random() < AIMED_SHARE:
        step = rng.choice(AIMED_AT)
        most_s = 2 * made.steps_s[step] if comes_to(life, step, most_s) else 0.0
    try:
        life.process.wait(rng.uniform(0, most_s))
    except subprocess.TimeoutExpired:
        life.kill()
    status = life.end(60)
    assert status in {0, -9}, life.log[-5:]
    assert all("Traceback" not in line for line in life.log), life.log[-30:]
    for served in life.served:
        assert served in may, (life.said, life.log[-10:])
    if status == 0:
        assert life.ended in {Phase.COMMITTED, Phase.ROLLED_BACK}, life.said
        return True
    made.interruptions += 1
    made.hit[device.phase() if life.said else "starting"] += 1
    return False


def check(device: Subject) -> None:
    """Look whether a change that has settled was told once, in order, in so many transitions."""
    events = device.events()
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers)), numbers
    mine = [
        event
        for event in events
        if event.kind is v1.EventKind.PHASE and event.revision == device.revision
    ]
    assert len(mine) <= TRANSITIONS_LIMIT, [(each.phase, each.reason) for each in mine]
    boots = [event for event in events if event.kind is v1.EventKind.BOOT]
    assert boots


def main() -> int:
    """Run the soak; 0 when every step was hit and everything held."""
    parser = argparse.ArgumentParser(description="Kill a device's agent again and again.")
    parser.add_argument("--interruptions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    def tell(line: str) -> None:
        print(line, flush=True)  # noqa: T201  # progress, for whoever waits

    with tempfile.TemporaryDirectory() as name, subject(Path(name)) as device:
        made = soak(device, arguments.interruptions, seed=arguments.seed, tell=tell)
    tell(str(made))
    if made.missed:
        tell(f"never hit: {', '.join(made.missed)}")
    return 1 if made.missed else 0


if __name__ == "__main__":
    sys.exit(main())
