"""Workers die, hang and are switched under load: only what a worker died over fails."""

import asyncio
import json
import os
import random
import signal
import time
from dataclasses import replace

import psutil

from agent.serving.seat import RESTARTS_LIMIT
from agent.serving.values import Counts, Happening
from agent.wire.reasons import Reason
from agent.workers.pool import Worker, start_worker
from models.card_codec import render
from models.values import digest_of
from tests.agent.packages import Package
from tests.agent.served import current, descriptors, digits, happens, until


def soon(worker: Worker) -> float:
    """Return a second, or twice what a start has just taken where others share the processors."""
    return max(1.0, 2 * worker.report.start_s)


async def test_a_worker_killed_over_a_request_is_replaced_within_a_second(dense: Package) -> None:
    """Its client gets an error that says so; the next is served; it is told and counted."""
    (array,) = dense.inputs(1, seed=1)
    expected = dense.raw()(array).tobytes()
    async with digits(dense) as made:
        worker = current(made)
        os.kill(worker.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            hit = group.create_task(made.infer(array), name="hit")
            await asyncio.sleep(0.1)
            waiting = group.create_task(made.infer(array), name="waiting")
            await asyncio.sleep(0.1)
            os.kill(worker.pid, signal.SIGKILL)
        begun = time.perf_counter()
        following = await made.infer(array)
        took_s = time.perf_counter() - begun
        (counts,) = made.board.take_counts()

        assert 500 == hit.result()[0]
        assert "killed by SIGKILL" in json.loads(hit.result()[1])["error"]
        assert (200, expected) == waiting.result() == following
        assert took_s < soon(worker)
        assert [Happening.CRASHED, Happening.RESTARTED] == made.happened()
        assert (3, 1, 1) == (counts.requests, counts.errors, counts.restarts)


async def test_a_worker_that_dies_while_idle_is_replaced(dense: Package) -> None:
    """No request notices more than a short wait."""
    (array,) = dense.inputs(1, seed=1)
    async with digits(dense) as made:
        worker = current(made)
        os.kill(worker.pid, signal.SIGSEGV)
        await until(lambda: worker.gone)

        assert 200 == (await made.infer(array))[0]
        assert "killed by SIGSEGV" in made.events[0].message
        assert Reason.WORKER_CRASHED == made.events[0].reason


async def test_a_stuck_call_is_ended_and_the_next_is_served(dense: Package) -> None:
    """504 at the deadline; then a new worker."""
    (array,) = dense.inputs(1, seed=1)
    async with digits(dense, timeout_s=5.0) as made:  # so long the next one waits for a worker
        worker = current(made)
        os.kill(worker.pid, signal.SIGSTOP)
        stuck = await made.infer(array)
        begun = time.perf_counter()
        following = await made.infer(array)
        took_s = time.perf_counter() - begun

        assert 504 == stuck[0]
        assert "did not answer within 5 s" in json.loads(stuck[1])["error"]
        assert 200 == following[0]
        assert took_s < soon(worker)
        assert [Happening.STUCK, Happening.RESTARTED] == made.happened()
        assert Reason.WORKER_STUCK == made.events[0].reason


async def test_a_model_that_keeps_dying_is_given_up(dense: Package) -> None:
    """A bounded number of restarts, then silence that says why; installing again begins anew."""
    (array,) = dense.inputs(1, seed=1)
    async with digits(dense) as made:
        for death in range(RESTARTS_LIMIT):
            await until(lambda: made.board.current("digits") is not None)
            os.kill(current(made).pid, signal.SIGKILL)
            await happens(made, Happening.CRASHED, times=death + 1)
        await happens(made, Happening.GAVE_UP)
        status, body = await made.infer(array)

        assert 503 == status
        assert "it is not started again" in json.loads(body)["error"]
        assert 503 == (await made.http("GET", "/v2/models/digits/ready"))[0]
        assert RESTARTS_LIMIT - 1 == made.happened().count(Happening.RESTARTED)
        await made.board.install(await start_worker(dense.launch()), "digits")
        assert 200 == (await made.infer(array))[0]


async def test_a_restart_that_fails_says_why(dense: Package) -> None:
    """The file is gone when the worker dies: told as what it is, and given up in the end."""
    launch = dense.launch()
    async with digits(dense) as made:
        worker = current(made)
        launch.model.unlink()
        os.kill(worker.pid, signal.SIGKILL)
        await happens(made, Happening.GAVE_UP)

        assert [Reason.WORKER_CRASHED] + [Reason.BUNDLE_INCOMPLETE] * (RESTARTS_LIMIT - 1) == [
            event.reason for event in made.events[:-1]
        ]


async def test_a_switch_under_load_fails_no_request(dense: Package) -> None:
    """Clients infer all the time while workers come and go; every answer is right."""
    raw, arrays = dense.raw(), dense.inputs(4, seed=3)
    expected = [raw(array).tobytes() for array in arrays]
    statuses: list[int] = []
    async with digits(dense) as made:
        running = True

        async def client(number: int) -> None:
            while running:
                status, answer = await made.infer(arrays[number])
                statuses.append(status)
                assert (200, expected[number]) == (status, answer)

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(client(number), name=f"client {number}")
            for revision in range(2, 7):
                fresh = await start_worker(dense.launch(revision=revision))
                await made.board.install(fresh, "digits")
            running = False
        rows = {counts.revision: counts for counts in made.board.take_counts()}

        assert len(statuses) > 20
        assert {200} == set(statuses)
        assert [] == made.events
        assert len(statuses) == sum(counts.requests for counts in rows.values())
        assert len(statuses) == sum(counts.latency.count for counts in rows.values())
        assert 1 == len(psutil.Process().children())


async def test_golden_vectors_are_asked_again_in_the_worker_that_replaces_a_crashed_one(
    dense: Package,
) -> None:
    """What was right when it was started may be wrong now: it answers nothing, and says why."""
    (array,) = dense.inputs(1, seed=1)
    launch = dense.launch()
    async with digits(dense, timeout_s=1.0) as made:
        assert (await made.infer(array))[0] == 200
        wrong = bytes(each ^ 0x40 for each in dense.golden)
        golden = replace(dense.card.golden, digest=digest_of(wrong))
        launch.golden.write_bytes(wrong)
        launch.card.write_bytes(render(replace(dense.card, golden=golden)))
        os.kill(current(made).pid, signal.SIGKILL)
        await happens(made, Happening.CRASHED, times=2)

        assert [Reason.WORKER_CRASHED, Reason.GOLDEN_MISMATCH] == [
            event.reason for event in made.events[:2]
        ]
        assert 503 == (await made.infer(array))[0]
        assert Happening.RESTARTED not in made.happened()


async def test_kills_under_load_hit_only_what_was_begun(dense: Package) -> None:
    """At random moments, a few times: every answer is right or says that its worker died."""
    raw = dense.raw()
    (array,) = dense.inputs(1, seed=3)
    expected = raw(array).tobytes()
    dice = random.Random(7)  # noqa: S311  # moments, not secrets
    async with digits(dense) as made:
        running, failed = True, 0

        async def client() -> None:
            nonlocal failed
            while running:
                status, answer = await made.infer(array)
                failed += status == 500
                assert (200, expected) == (status, answer) or status == 500

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(client(), name=f"client {number}")
            for death in range(RESTARTS_LIMIT - 1):
                await asyncio.sleep(dice.uniform(0, 0.2))
                await until(lambda: made.board.current("digits") is not None)
                os.kill(current(made).pid, signal.SIGKILL)
                await happens(made, Happening.RESTARTED, times=death + 1)
            running = False

        assert failed <= RESTARTS_LIMIT - 1


async def test_counts_begin_anew_when_taken(dense: Package) -> None:
    """A client's mistakes are requests, not errors; latency is of good answers."""
    (array,) = dense.inputs(1, seed=1)
    async with digits(dense) as made:
        await made.infer(array)
        await made.http("POST", "/v2/models/digits/infer", b"{")
        (counts,) = made.board.take_counts()

        assert Counts(
            deployment="digits",
            revision=1,
            bundle_digest=dense.launch().bundle.digest,
            requests=2,
            errors=0,
            restarts=0,
            latency=counts.latency,
        ) == counts  # fmt: skip
        assert 1 == counts.latency.count
        assert () == made.board.take_counts()


async def test_nothing_is_left_when_it_ends(dense: Package, jarvis: Package) -> None:
    """No process, no zombie, no descriptor, whatever was in progress."""
    (array,) = dense.inputs(1, seed=1)
    before = descriptors()
    async with digits(dense) as made:
        await made.board.install(await start_worker(jarvis.launch()), "jarvis")
        await made.infer(array)
        os.kill(current(made, "jarvis").pid, signal.SIGKILL)
        await asyncio.sleep(0)

    assert [] == psutil.Process().children()
    assert before == descriptors()
