"""What it costs that each request's bins are found, beside the whole request through a worker.

    python -m tests.bench.bench_drift

After each request to a worker its bins are found here, by the lines that a worker with a drift
reference runs, on the same tensors: so noise hits both alike, and neither has warm caches of its
own. The share of the two medians may be compared, figures may not: machines are noisy.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.workers.pool import start_worker
from models.card import Card, DriftReference
from models.drift import Bins, subjects
from models.golden import shape_of
from tests.agent.packages import Package
from tests.bench.bench_agent import NETS, WrongAnswerError
from tests.bench.nets import picture_net


def references(card: Card) -> Sequence[DriftReference]:
    """Return a reference of ten bins for all that is watched of a model."""
    return [
        DriftReference(
            subject=str(subject),
            edges=tuple(float(place) for place in range(9)),
            shares=(0.1,) * 10,
            samples=100,
        )
        for subject in subjects(card.inputs, card.outputs, 0)
    ]


async def measured(package: Package, calls: int) -> tuple[float, float]:
    """Return the medians of a request to a worker, and of finding its bins, in seconds."""
    card = package.card
    bins = Bins(card.inputs, card.outputs, references(card))
    shape = shape_of(card.outputs[0])
    requests, sorts = [], []
    worker = await start_worker(package.launch())
    try:
        for array in package.inputs(calls, seed=11):
            given = array.tobytes()
            begun = time.perf_counter()
            answer = await worker.infer(given, 0)
            answered = time.perf_counter()
            if answer.status != 200 or answer.json_length is None:
                raise WrongAnswerError(answer.body.decode(errors="replace"))
            raw = np.frombuffer(answer.body, np.int8, offset=answer.json_length).reshape(shape)
            asked = time.perf_counter()
            bins.sort([array], [raw])
            sorts.append(time.perf_counter() - asked)
            requests.append(answered - begun)
    finally:
        await worker.close()
    return statistics.median(requests), statistics.median(sorts)


def main() -> None:
    """Print a line a model."""
    parser = argparse.ArgumentParser(description="Measure what counting drift costs.")
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()
    sys.stdout.write("model  request us  bins us  share\n")
    with tempfile.TemporaryDirectory() as text:
        for name, net in NETS.items():
            package = picture_net(*net, Path(text) / name)
            request_s, bins_s = asyncio.run(measured(package, arguments.calls))
            share = bins_s / request_s
            sys.stdout.write(
                f"{name:<6} {1e6 * request_s:10.0f} {1e6 * bins_s:8.1f} {share:6.1%}\n"
            )


if __name__ == "__main__":
    main()
