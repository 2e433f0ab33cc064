"""A program that starts workers with drivers that misbehave, on its runtime: JSON in and out.

It runs in either virtual environment, so it needs nothing but the agent.
"""

import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

from agent.workers import frames
from agent.workers.pool import Worker, WorkerError, WorkerGoneError, start_worker
from models.delegate import Delegate


async def main() -> None:
    job = json.load(sys.stdin)
    launch = frames.parse_launch(json.dumps(job["launch"]).encode())
    found: dict[str, Any] = {}
    for name, case in job["cases"].items():
        delegate = case["delegate"] and Delegate.from_json(case["delegate"])
        tried = replace(launch, delegate=delegate, examines=case["examines"], timeout_s=1.0)
        try:
            worker = await start_worker(tried, deadline_s=5.0)
        except WorkerError as error:
            found[name] = {"reason": error.reason, "message": error.message}
            continue
        try:
            found[name] = await asked(worker, bytes(job["body_bytes"]))
        finally:
            await worker.close(0)
    print(json.dumps(found))  # noqa: T201  # the pipe to the test


async def asked(worker: Worker, body: bytes) -> dict[str, Any]:
    """Return how it answered, and what is left of it then."""
    answer = await worker.infer(body, 0)
    told: dict[str, Any] = {"status": answer.status, "sandbox": worker.report.sandbox}
    if answer.status != 200:
        told["error"] = json.loads(answer.body)["error"]
    else:
        told["answer"] = answer.body[answer.json_length :].hex()
    try:
        told["then"] = (await worker.infer(body, 0)).status
    except WorkerGoneError:
        told["then"] = "gone"
        told["cause"] = (await worker.cause_of_death()).reason
    if worker.report.examination is not None:
        told["reference"] = worker.report.examination.reference
        told["latency_p50_s"] = worker.report.examination.latency_p50_s
    return told


asyncio.run(main())
