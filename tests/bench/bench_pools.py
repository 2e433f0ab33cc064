"""Two workers against one, asked by four clients at once; and what a device would choose here.

Run it as `python -m tests.bench.bench_pools` from the repository. Ratios may be
compared, figures may not: machines are noisy. Nothing is asserted.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psutil

from agent import pooling
from agent.perform import load
from agent.serving.switchboard import Switchboard
from agent.state import Installed, Measured
from agent.workers.pool import Worker, start_worker
from models.card import Tensor
from models.values import Datatype
from tests.agent.looped import deployment
from tests.agent.packages import Package, dense_net, packaged, quantized
from tests.bench.bench_agent import NETS
from tests.bench.nets import picture_net

WIDE = (8192, 8192, 10)
SECONDS, ROUNDS, CLIENTS = 0.5, 5, 4


def packages(folder: Path) -> dict[str, Package]:
    """Return nets that compute, and one whose weights come from memory all the time."""
    found = {name: picture_net(*how, folder / name) for name, how in NETS.items()}
    (folder / "wide").mkdir()
    found["wide"] = packaged(
        quantized(dense_net(WIDE), WIDE[0], folder / "wide"),
        folder / "wide" / "package",
        inputs=(Tensor(name="x", datatype=Datatype.INT8, shape=(1, WIDE[0])),),
        outputs=(Tensor(name="y", datatype=Datatype.INT8, shape=(1, WIDE[-1])),),
    )
    return found


async def rate(pool: list[Worker], body: bytes) -> float:
    """Return answers per second of a switchboard, without the way over HTTP."""
    board = Switchboard()
    loop = asyncio.get_running_loop()
    board.expect("digits")
    await board.install(pool[0], "digits", *pool[1:])
    begun, answered = loop.time(), 0

    async def client() -> None:
        nonlocal answered
        while loop.time() - begun < SECONDS:
            answer = await board.infer("digits", body, 0)
            if answer.status != 200:
                raise RuntimeError(answer.body)
            answered += 1

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(), name=f"client {number}")
    return answered / (loop.time() - begun)


async def row(name: str, package: Package) -> None:
    """Print what one net does."""
    (array,) = package.inputs(1, seed=1)
    body = array.tobytes()
    pool = [await start_worker(package.launch(examines=True)) for _ in range(2)]
    found = pool[0].report.examination
    took_s = found.latency_p50_s if found else 0.0
    alone, both = [], []
    for _ in range(ROUNDS):
        alone.append(await rate(pool[:1], body))
        both.append(await rate(pool, body))
    ratios = sorted(two / one for one, two in zip(alone, both, strict=True))
    say(
        f"{name:6} p50 {1000 * took_s:7.3f} ms  one {sorted(alone)[ROUNDS // 2]:7.0f}/s"
        f"  two {sorted(both)[ROUNDS // 2]:7.0f}/s"
        f"  ratio {ratios[0]:.2f} {ratios[ROUNDS // 2]:.2f} {ratios[-1]:.2f}"
    )
    begun = time.perf_counter()
    asked = load.requests(package.card, package.golden)
    seen = await load.throughput(pool, (1, 2), asked, took_s)
    measuring_s = time.perf_counter() - begun
    way = Installed(deployment=deployment(), variant="v", runtime="litert", measured=(_of(took_s),))
    counts, why = pooling.counts(way, cores=psutil.cpu_count() or 1, deployments=1)
    chosen = pooling.sized(way, seen) if len(counts) > 1 else None
    rss = psutil.Process(pool[0].pid).memory_info().rss >> 20
    choice = f"{chosen.workers}{chosen.why}" if chosen else why
    say(f"{name:6} measured in {measuring_s:.2f} s, {rss} MiB each; chosen here: {choice}")
    for worker in pool:
        await worker.close(0)


def _of(took_s: float) -> Measured:
    return Measured(variant="v", format="int8", accelerator="cpu", threads=1, latency_p50_s=took_s)


def say(line: str) -> None:
    """Print at once: a row takes seconds."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main() -> None:
    """Print two lines per net."""
    with tempfile.TemporaryDirectory() as text:
        for name, package in packages(Path(text)).items():
            await row(name, package)


if __name__ == "__main__":
    asyncio.run(main())
