"""The table of attacks on a worker's sandbox, filled for real.

python -m tests.agent.delegate.attacks
"""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from agent.workers.pool import WorkerError, start_worker
from agent.workers.values import Launch
from tests.agent.delegate.stub import build, stub
from tests.agent.packages import DENSE_INPUTS, DENSE_OUTPUTS, dense_net, packaged, quantized

ROOT = Path(__file__).parents[3]

ATTACKS = {
    "internet-socket": "", "unix-socket": "", "netlink-socket": "", "read-a-key": "a file",
    "write-the-ledger": "a file", "write-outside": "a new file", "delete-a-file": "a file",
    "fork": "", "exec": "", "memory": "", "lift-the-limit": "", "hidden-memory": "", "disk": "",
    "kill-the-parent": "the parent", "signal-by-descriptor": "the parent",
    "outlive-the-parent": "", "trace-the-parent": "the parent",
    "memory-of-the-parent": "the parent", "tensors-of-another": "a worker", "new-namespace": "",
}  # fmt: skip
"""Each attack, and at what it aims."""

BY_A_DRIVER_TOO = frozenset({"netlink-socket"})
"""What a worker with a driver may: how libusb hears of devices."""


def made_in(folder: Path) -> Launch:
    """Return the launch of a small model that a driver can take a part of."""
    folder.mkdir()
    content = quantized(dense_net((64, 32, 10), reshapes=True), 64, folder)
    package = packaged(content, folder / "p", inputs=DENSE_INPUTS, outputs=DENSE_OUTPUTS, largest=4)
    return package.launch(memory_bytes=8 << 30)


async def attacked(launch: Launch, folder: Path) -> dict[str, dict[str, str]]:
    """Return what each attack came to, by what confined it; `a worker` is the real thing."""
    library = build(folder)
    other = await start_worker(launch)
    try:
        aims = {name: _aim(folder, aim, other.pid) for name, aim in ATTACKS.items()}
        done = await asyncio.to_thread(_alone, library, aims)
        done["a worker"] = {}
        for name, aim in ATTACKS.items():
            path, process = _aim(folder, aim, other.pid)
            driver = stub(library, "attack", attack=name, path=path, process=str(process))
            try:
                worker = await start_worker(replace(launch, delegate=driver))
            except WorkerError as error:
                done["a worker"][name] = error.message.rpartition(": ")[2].partition("Node")[0]
            else:
                await worker.close(0)
                done["a worker"][name] = "became ready"
        answer = await other.infer(bytes(64), 0)
        assert 200 == answer.status  # whoever was aimed at goes on
    finally:
        await other.close(0)
    return done


def _aim(folder: Path, aim: str, worker: int) -> tuple[str, int]:
    path = folder / "target"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    if aim == "a new file":
        (folder / "new").unlink(missing_ok=True)
        path = folder / "new"
    return str(path), worker if aim == "a worker" else os.getpid()


def _alone(library: Path, aims: dict[str, tuple[str, int]]) -> dict[str, dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.delegate.attacker"],
        check=True,
        input=json.dumps({"library": str(library), "attacks": aims}).encode(),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=120,
    )
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(done: dict[str, dict[str, str]]) -> str:
    """Return it as Markdown: an attack a row, a mechanism a column."""
    head = ["attack", *done]
    rows = [[name, *(done[column][name] for column in done)] for name in ATTACKS]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        launch = made_in(Path(name) / "model")
        found = asyncio.run(attacked(launch, Path(name)))
    print(f"Linux {platform.release()} on {platform.machine()}, as user {os.getuid()}\n")  # noqa: T201
    print(table(found))  # noqa: T201
