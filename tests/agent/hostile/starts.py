"""A device's supervisor under a stream of models, as a program: launches in, outcomes out.

It runs in either virtual environment. One worker of a whole model serves all the
while and is asked again and again: its answer must stay what it was, and this
process must be as it was at the beginning, with no descriptor or child more.
"""

import asyncio
import collections
import json
import os
import sys
from pathlib import Path
from typing import Any

from agent.serving.switchboard import Switchboard
from agent.workers import frames
from agent.workers.pool import WorkerError, start_worker
from agent.workers.values import Launch

AT_ONCE = 2
DEADLINE_S = 10.0
ASKED_EVERY = 20


async def main() -> None:
    job = json.load(sys.stdin)
    whole = frames.parse_launch(json.dumps(job["whole"]).encode())
    body = bytes(job["body_bytes"])
    waiting = collections.deque(job["launches"])
    outcomes: list[tuple[str, str]] = []
    async with Switchboard() as board:
        await board.install(await start_worker(whole), whole.deployment)
        first = await answered(board, whole.deployment, body)
        before = standing()

        async def work() -> None:
            while waiting:
                name, launch = waiting.popleft()
                outcome = await tried(frames.parse_launch(json.dumps(launch).encode()))
                outcomes.append((name, outcome))
                if len(outcomes) % ASKED_EVERY == 0:
                    assert await answered(board, whole.deployment, body) == first
                    print(json.dumps({"tried": len(outcomes)}), flush=True)  # noqa: T201

        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(work(), name=f"hostile {number}")
        assert await answered(board, whole.deployment, body) == first
        after = standing()
    print(json.dumps({"outcomes": outcomes, "before": before, "after": after}))  # noqa: T201


async def tried(launch: Launch) -> str:
    """Return what became of a model: why it did not become ready, or how it answered then."""
    try:
        worker = await start_worker(launch, deadline_s=DEADLINE_S)
    except WorkerError as error:
        return str(error.reason)
    try:
        answer = await worker.infer(bytes(worker.report.body_limit_bytes // 1024), 0)
        return "ready" if answer.status < 500 else f"ready, then {answer.status}"
    finally:
        await worker.close(0)


async def answered(board: Switchboard, name: str, body: bytes) -> str:
    answer = await board.infer(name, body, 0)
    assert answer.status == 200, answer.body[:300]
    return answer.body[answer.json_length :].hex()


def standing() -> dict[str, Any]:
    """Return what this process holds."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {"descriptors": len(os.listdir("/proc/self/fd")), "children": len(children)}  # noqa: PTH208


asyncio.run(main())
