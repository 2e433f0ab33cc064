"""Requests per second over HTTP against the raw interpreter's loop, in the same run.

Run it as `python -m tests.bench.bench_serving` from the repository. Ratios may be
compared, figures may not: machines are noisy. Nothing is asserted.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from agent.workers.frames import render_launch
from models.card import Tensor
from models.values import Datatype
from tests.agent.packages import Package, dense_net, packaged, quantized
from tests.bench.http_client import HttpClient

WIDTHS = {"tiny": (64, 32, 10), "small": (1024, 512, 512, 10), "wide": (150528, 64, 10)}
SECONDS = 2.0
ROUNDS = 3

SERVE = """
import asyncio, sys
from pathlib import Path
from agent.serving.oip import OipApplication
from agent.serving.server import serve
from agent.serving.switchboard import Switchboard
from agent.workers.frames import parse_launch
from agent.workers.pool import start_worker

async def main():
    launch = parse_launch(Path(sys.argv[1]).read_bytes())
    async with Switchboard() as board, asyncio.TaskGroup() as group:
        worker = await start_worker(launch)
        await board.install(worker, launch.deployment)
        def listening(addresses):
            print(addresses[0].rpartition(":")[2], worker.pid, flush=True)
        serving = group.create_task(
            serve(
                OipApplication(board, version="0"),
                host="127.0.0.1", port=0, on_listening=listening,
            )
        )
        await asyncio.to_thread(sys.stdin.read)
        serving.cancel()

asyncio.run(main())
"""


def package(widths: tuple[int, ...], folder: Path) -> Package:
    """Return an int8 net of these widths."""
    return packaged(
        quantized(dense_net(widths), widths[0], folder),
        folder / "package",
        inputs=(Tensor(name="x", datatype=Datatype.INT8, shape=(1, widths[0])),),
        outputs=(Tensor(name="y", datatype=Datatype.INT8, shape=(1, widths[-1])),),
    )


def raw_rate(made: Package) -> float:
    """Return calls per second of the raw interpreter."""
    ask, (array,) = made.raw(), made.inputs(1, seed=1)
    begun, calls = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        ask(array)
        calls += 1
    return calls / (time.perf_counter() - begun)


def http_rate(port: int, body: bytes) -> float:
    """Return requests per second over one connection, one at a time, raw bodies."""
    with HttpClient(port) as client:
        begun, calls = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            client.infer("digits", body)
            calls += 1
        return calls / (time.perf_counter() - begun)


def say(line: str) -> None:
    """Print at once: a row takes seconds."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print a row per model and round."""
    for name, widths in WIDTHS.items():
        with tempfile.TemporaryDirectory() as text:
            made = package(widths, Path(text))
            launch = Path(text) / "launch.json"
            launch.write_bytes(render_launch(made.launch()))
            with subprocess.Popen(
                [sys.executable, "-c", SERVE, launch],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as process:
                assert process.stdout is not None
                port, worker = (int(word) for word in process.stdout.readline().split())
                (array,) = made.inputs(1, seed=1)
                for _ in range(ROUNDS):
                    raw, http = raw_rate(made), http_rate(port, array.tobytes())
                    say(f"{name:6} raw {raw:9.0f}/s  http {http:7.0f}/s  ratio {http / raw:.3f}")
                rss = [psutil.Process(pid).memory_info().rss >> 20 for pid in (process.pid, worker)]
                say(f"{name:6} supervisor {rss[0]} MiB, worker {rss[1]} MiB")


if __name__ == "__main__":
    main()
