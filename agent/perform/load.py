"""How many requests workers answer, asked as clients would: each again as soon as it has answered.

The supervisor asks, as it does when it serves: what it takes to move the bytes is part
of what is measured, and the workers are confined as when they serve.
"""

import asyncio
import json
from collections.abc import Sequence
from itertools import cycle, islice

from agent.state import Throughput
from agent.workers.pool import Worker, WorkerGoneError
from models import golden
from models.card import Card

_ROUND_S = 0.1
_ROUNDS = 3
_FEW_S = 0.1
"""Calls above this are many milliseconds each: one round of them says as much."""

_PATIENCE_S = 5.0
"""For one answer: whoever takes longer is no gain."""

_Request = tuple[bytes, int]


async def throughput(
    pool: Sequence[Worker], counts: Sequence[int], requests: Sequence[_Request], took_s: float
) -> tuple[Throughput, ...]:
    """Return what so many of the workers answer together, for each count that there are enough for.

    The counts take turns, so that whatever else the machine does hits them alike, and the
    median counts. None of them is asked anything else meanwhile.
    """
    rounds = _ROUNDS if took_s < _FEW_S else 1
    found: dict[int, list[float]] = {count: [] for count in counts if count <= len(pool)}
    for _ in range(rounds):
        for count, rates in found.items():
            rates.append(await _rate(pool[:count], requests))
    return tuple(
        Throughput(workers=count, per_s=sorted(found[count])[rounds // 2])
        if count in found
        else Throughput(workers=count)
        for count in counts
    )


async def _rate(pool: Sequence[Worker], requests: Sequence[_Request]) -> float:
    """Return answers per second; 0 where one was none."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answered, failed = 0, False

    async def ask(worker: Worker, number: int) -> None:
        nonlocal answered, failed
        for body, json_length in islice(cycle(requests), number, None):
            try:
                limit_s = min(_PATIENCE_S, worker.launch.timeout_s)
                answer = await worker.infer(body, json_length, deadline_s=limit_s)
            except WorkerGoneError:
                failed = True
                return
            failed = failed or answer.status != 200  # noqa: PLR2004  # an answer
            answered += 1
            if failed or loop.time() - begun >= _ROUND_S:
                return

    async with asyncio.TaskGroup() as asking:
        for number, worker in enumerate(pool):
            asking.create_task(ask(worker, number), name=f"measure {worker.launch.deployment}")
    return 0.0 if failed else answered / (loop.time() - begun)


def requests(card: Card, blob: bytes) -> tuple[_Request, ...]:
    """Return the golden inputs as binary requests, each with the length of its JSON.

    Raises:
        RefusedError: the golden vectors are not as long as the card says.
    """
    return tuple(_request(card, vector) for vector in golden.read(card, blob))


def _request(card: Card, vector: golden.Vector) -> _Request:
    inputs = [
        {
            "name": tensor.name,
            "datatype": str(tensor.datatype),
            "shape": golden.shape_of(tensor),
            "parameters": {"binary_data_size": len(raw)},
        }
        for tensor, raw in zip(card.inputs, vector.inputs, strict=True)
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return b"".join((header, *vector.inputs)), len(header)
