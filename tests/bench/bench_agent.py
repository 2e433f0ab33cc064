"""What it costs that a model answers in a process of its own: the same model asked in three ways.

    python -m tests.bench.bench_agent      (make bench-agent)

- in-process: `models.runtime`, in this very process. What the others are compared with.
- worker: `agent.workers.pool.Worker.infer`, a process away, tensors in shared memory.
- HTTP: the listener of a whole agent, which a centre has told what to serve; raw bodies.

One client, one request at a time, one thread for the model everywhere. The ways take
turns within each round, so that noise hits all alike; a ratio is of one round, and the
median over rounds is shown with the least and the most. The inputs are random and asked
once each before any comes again. Every fiftieth answer must be, byte for byte, the one
that the runtime gives in this process; one that is not ends the run. Ratios may be
compared, figures may not: machines are noisy.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path

import numpy as np

from agent.workers.pool import Worker, start_worker
from models import bundle as bundles
from models.layout import Layout
from models.runtime import Opened, open_model
from models.values import ModelRef
from tests.agent.packages import Package
from tests.bench.http_client import HttpClient
from tests.bench.nets import picture_net
from tests.e2e.scene import Centre, Device, until

NETS = {
    "tiny": (32, (32, *(64,) * 8, 10)),
    "small": (96, (32, *(64,) * 10, 10)),
    "large": (224, (32, *(64,) * 11, 10)),
}
"""Side of the picture, and channels of each convolution: some 0.1, 1 and 6 ms on a fast core."""

COMPARED_EVERY = 50
INPUTS = 1000
BASE = "in-process"

Ask = Callable[[bytes], Awaitable[bytes]]


class WrongAnswerError(Exception):
    """A way answered something else than the runtime does in this process."""


@dataclass(frozen=True, slots=True)
class Round:
    """One way's turn."""

    latencies_s: tuple[float, ...]

    def percentile_s(self, share: float) -> float:
        """Return the latency that so large a share stays below."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def per_s(self) -> float:
        """How many were answered in a second."""
        return len(self.latencies_s) / sum(self.latencies_s)


@dataclass(slots=True)
class Bench:
    """One model: its inputs, its right answers, and what each way took, round by round."""

    model: Opened
    inputs: Sequence[bytes]
    ways: Mapping[str, Ask]
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    compared: int = 0

    async def run(self, rounds: int, calls: int) -> None:
        """Let the ways take turns.

        Raises:
            WrongAnswerError: one of them answers wrongly.
        """
        names = list(self.ways)
        places = {name: count() for name in names}
        for number in range(rounds):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                made = await self._turn(name, islice(places[name], calls))
                self.rounds.setdefault(name, []).append(made)

    async def _turn(self, name: str, places: Iterator[int]) -> Round:
        ask, latencies = self.ways[name], []
        for place in places:
            given = self.inputs[place % len(self.inputs)]
            begun = time.perf_counter()
            answer = await ask(given)
            latencies.append(time.perf_counter() - begun)
            if place % COMPARED_EVERY == 0:
                self._compare(name, place, given, answer)
        return Round(tuple(latencies))

    def _compare(self, name: str, place: int, given: bytes, answer: bytes) -> None:
        self.compared += 1
        if answer != run(self.model, given):
            raise WrongAnswerError(f"{name} answers input {place} otherwise than the runtime")

    def rows(self) -> Iterator[str]:
        """Yield a line a way."""
        for name, made in self.rounds.items():
            columns = [_columns(each) for each in (made, self.rounds[BASE])]
            p50, p99, per_s = (statistics.median(column) for column in columns[0])
            ratios = [_ratio(mine, base) for mine, base in zip(*columns, strict=True)]
            yield (
                f"{name:<10} {1000 * p50:9.3f} {1000 * p99:9.3f} {per_s:8.0f}  {'  '.join(ratios)}"
            ).rstrip()


HEAD = (
    f"{'model':<6} {'way':<10} {'p50 ms':>9} {'p99 ms':>9} {'a second':>8}"
    f"  {'p50 ratio':^16}  {'p99 ratio':^16}  {'rate ratio':^16}"
)


def _columns(made: Sequence[Round]) -> tuple[list[float], list[float], list[float]]:
    """Return median, 99th percentile and rate of each round."""
    return (
        [each.percentile_s(0.5) for each in made],
        [each.percentile_s(0.99) for each in made],
        [each.per_s for each in made],
    )


def _ratio(mine: Sequence[float], base: Sequence[float]) -> str:
    found = [each / other for each, other in zip(mine, base, strict=True)]
    return f"{statistics.median(found):5.2f} ({min(found):.2f}-{max(found):.2f})".ljust(16)


def run(model: Opened, given: bytes) -> bytes:
    """Return the runtime's answer: bytes in, bytes out, as for the others."""
    (slot,) = model.inputs
    (answer,) = model.run([np.frombuffer(given, slot.dtype).reshape(slot.shape)])
    return answer.tobytes()


def in_process(model: Opened) -> Ask:
    """Return the way that has nothing between."""

    async def ask(given: bytes) -> bytes:
        return run(model, given)

    return ask


def by_worker(worker: Worker) -> Ask:
    """Return the way through a process of its own."""

    async def ask(given: bytes) -> bytes:
        answer = await worker.infer(given, 0)
        if answer.status != 200 or answer.json_length is None:
            raise WrongAnswerError(answer.body.decode(errors="replace"))
        return answer.body[answer.json_length :]

    return ask


def by_http(client: HttpClient, name: str) -> Ask:
    """Return the way through a whole agent's listener."""

    async def ask(given: bytes) -> bytes:
        return client.infer(name, given)

    return ask


@contextmanager
def agent(folder: Path, packages: Mapping[str, Package]) -> Iterator[Device]:
    """Let a centre deploy the models to an agent, each under its name, with one thread."""
    centre = Centre(folder)
    device = None
    try:
        centre.start()
        layout = Layout.create(folder / "bundles")
        device = centre.make_device()
        device.start()
        for name, package in packages.items():
            card = replace(package.card, ref=ModelRef(name, "1.0.0"))
            files = {card.variants[0].digest: package.content}
            made = bundles.write(layout, card, files, package.golden)
            bundles.sign(layout, made, centre.key)
            centre.publish(layout, made)
            wish = {"bundle": f"{name}:1.0.0", "deployment": name, "targets": [device.id]}
            one = {"policy": "all-at-once", "settings": {"threads": 1}}
            rollout = centre.ask("POST", "/api/v1/rollouts", {**wish, **one})["id"]
            centre.settled(device, "1.0.0", name=name)
            path = f"/api/v1/rollouts/{rollout}"
            until(lambda: centre.ask("GET", path)["state"] == "done", what=f"the end of {rollout}")  # noqa: B023  # asked at once
        yield device
    finally:
        for each in (device, centre):
            if each is not None:
                each.dismiss()


def nets(folder: Path, *names: str) -> dict[str, Package]:
    """Make the models."""
    return {name: picture_net(*NETS[name], folder / name) for name in names or NETS}


async def bench(
    packages: Mapping[str, Package],
    folder: Path,
    *,
    rounds: int,
    calls: Mapping[str, int],
    say: Callable[[str], None],
) -> None:
    """Measure each model in each way, and print a row for each.

    Raises:
        WrongAnswerError: an answer was not the runtime's.
    """
    with agent(folder, packages) as device:
        say(HEAD)
        for name, package in packages.items():
            worker = await start_worker(package.launch(deployment=name))
            try:
                with HttpClient(device.port) as client:
                    made = measured(package, worker, client, name)
                    await made.run(rounds, calls[name])
            finally:
                await worker.close()
            for row in made.rows():
                say(f"{name:<6} {row}")
            total = sum(len(each.latencies_s) for way in made.rounds.values() for each in way)
            say(f"{name:<6} {made.compared} of {total} answers compared, all the same bytes")


def measured(package: Package, worker: Worker, client: HttpClient, name: str) -> Bench:
    """Return the three ways of asking a model, and what to ask."""
    model = open_model(package.content, library="litert", threads=1)
    inputs = [array.tobytes() for array in package.inputs(INPUTS, seed=11)]
    if len(set(inputs)) != INPUTS:
        raise ValueError("two inputs are the same")
    ways = {
        BASE: in_process(open_model(package.content, library="litert", threads=1)),
        "worker": by_worker(worker),
        "HTTP": by_http(client, name),
    }
    return Bench(model, inputs, ways)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure what a model's isolation costs.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer calls a round")
    arguments = parser.parse_args()
    calls = {"tiny": 2000, "small": 600, "large": 200}
    scaled = {name: max(1, round(each * arguments.scale)) for name, each in calls.items()}

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as text:
        made = nets(Path(text))
        asyncio.run(bench(made, Path(text), rounds=arguments.rounds, calls=scaled, say=say))


if __name__ == "__main__":
    main()
