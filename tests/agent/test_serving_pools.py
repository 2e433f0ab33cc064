"""Several workers answer for one deployment: together they keep what one alone promises."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psutil

from agent.serving.seat import RESTARTS_LIMIT, RESTARTS_WINDOW_S, Seat
from agent.serving.values import Happening
from agent.workers.pool import Worker, start_worker
from tests.agent.packages import Package
from tests.agent.served import Device, descriptors, device, happens, until


async def started(package: Package, count: int, **changes: float) -> list[Worker]:
    return [await start_worker(package.launch(**changes)) for _ in range(count)]


@asynccontextmanager
async def pool(package: Package, **changes: float) -> AsyncIterator[tuple[Device, list[Worker]]]:
    """Serve `digits` by two workers."""
    async with device() as made:
        workers = await started(package, 2, **changes)
        await made.board.install(workers[0], "digits", *workers[1:])
        yield made, workers


async def test_a_request_goes_to_whoever_is_least_busy(dense: Package) -> None:
    """While one worker is at a request, the others are answered by the other worker."""
    (array,) = dense.inputs(1, seed=1)
    expected = dense.raw()(array).tobytes()
    async with pool(dense) as (made, (first, second)), asyncio.TaskGroup() as group:
        os.kill(first.pid, signal.SIGSTOP)
        long = group.create_task(made.infer(array), name="long")
        await until(lambda: first.line == 1)
        for _ in range(5):
            assert (200, expected) == await made.infer(array)
        assert (1, 0, False) == (first.line, second.line, long.done())
        os.kill(first.pid, signal.SIGCONT)
        assert (200, expected) == await long
        assert [] == made.events


async def test_one_that_is_killed_takes_only_its_request(dense: Package) -> None:
    """Those in its line, and all others, are answered by the other worker at once."""
    (array,) = dense.inputs(1, seed=1)
    expected = dense.raw()(array).tobytes()
    async with pool(dense) as (made, (first, second)):
        os.kill(first.pid, signal.SIGSTOP)
        os.kill(second.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(made.infer(array), name="ask") for _ in range(6)]
            await until(lambda: (3, 3) == (first.line, second.line))
            os.kill(second.pid, signal.SIGCONT)
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: first.gone)
            assert made.board.ready
            assert 200 == (await made.http("GET", "/v2/models/digits/ready"))[0]
        await happens(made, Happening.RESTARTED)
        (counts,) = made.board.take_counts()

        answers = sorted(task.result() for task in asked)
        assert [(200, expected)] * 5 == answers[:5]
        assert "killed by SIGKILL" in json.loads(answers[5][1])["error"]
        assert (6, 1, 1) == (counts.requests, counts.errors, counts.restarts)
        assert [Happening.CRASHED, Happening.RESTARTED] == made.happened()
        assert 2 == made.board.strength("digits") == len(psutil.Process().children())


async def test_one_that_hangs_is_killed_and_only_its_request_fails(dense: Package) -> None:
    """504 at the deadline for the one; those behind it go to the other worker."""
    (array,) = dense.inputs(1, seed=1)
    async with pool(dense, timeout_s=1.0) as (made, (first, second)):
        os.kill(first.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            stuck = group.create_task(made.infer(array), name="stuck")
            await until(lambda: first.line == 1)
            os.kill(second.pid, signal.SIGSTOP)
            asked = [group.create_task(made.infer(array), name="ask") for _ in range(3)]
            await until(lambda: (2, 2) == (first.line, second.line))
            os.kill(second.pid, signal.SIGCONT)
        await happens(made, Happening.RESTARTED)

        assert 504 == stuck.result()[0]
        assert [200] * 3 == [task.result()[0] for task in asked]
        assert [Happening.STUCK, Happening.RESTARTED] == made.happened()


async def test_kills_under_load_are_hardly_noticed(dense: Package) -> None:
    """At random moments, one worker or the other: never more failures than deaths."""
    (array,) = dense.inputs(1, seed=3)
    expected = dense.raw()(array).tobytes()
    dice = random.Random(7)  # noqa: S311  # moments, not secrets
    statuses: list[int] = []
    async with pool(dense) as (made, _):
        running = True

        async def client() -> None:
            while running:
                status, answer = await made.infer(array)
                statuses.append(status)
                assert (200, expected) == (status, answer) or status == 500

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(client(), name=f"client {number}")
            for death in range(RESTARTS_LIMIT - 1):
                await asyncio.sleep(dice.uniform(0, 0.2))
                one = made.board.current("digits")
                assert one is not None  # the other lives
                os.kill(one.pid, signal.SIGKILL)
                await happens(made, Happening.RESTARTED, times=death + 1)
            running = False

        assert statuses.count(500) <= RESTARTS_LIMIT - 1
        assert {200, 500} >= set(statuses)


async def test_a_switch_under_load_replaces_the_whole_pool(dense: Package) -> None:
    """From two to three, to one, to two: no request fails, and nobody of the old ones is left."""
    raw, arrays = dense.raw(), dense.inputs(4, seed=3)
    expected = [raw(array).tobytes() for array in arrays]
    answered = 0
    async with pool(dense) as (made, _):
        running = True

        async def client(number: int) -> None:
            nonlocal answered
            while running:
                assert (200, expected[number]) == await made.infer(arrays[number])
                answered += 1

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(client(number), name=f"client {number}")
            for revision, count in ((2, 3), (3, 1), (4, 2)):
                fresh = await started(dense, count, revision=revision)
                await made.board.install(fresh[0], "digits", *fresh[1:])
                assert {each.pid for each in fresh} == {
                    child.pid for child in psutil.Process().children()
                }
            running = False
        rows = made.board.take_counts()

        assert [] == made.events
        assert {1, 2, 3, 4} == {counts.revision for counts in rows}
        assert answered == sum(counts.requests for counts in rows)


async def test_the_deaths_of_all_are_the_deployment_s(dense: Package) -> None:
    """Killed in turn, none may be revived for ever; the last one alive goes on until it dies."""
    (array,) = dense.inputs(1, seed=1)
    async with pool(dense) as (made, _):
        for death in range(RESTARTS_LIMIT):
            await happens(made, Happening.RESTARTED, times=death)
            one = made.board.current("digits")
            assert one is not None
            os.kill(one.pid, signal.SIGKILL)
            await happens(made, Happening.CRASHED, times=death + 1)
        await happens(made, Happening.GAVE_UP)

        assert 200 == (await made.infer(array))[0]
        last = made.board.current("digits")
        assert last is not None
        assert 1 == made.board.strength("digits")  # the dead are replaced no more
        os.kill(last.pid, signal.SIGKILL)
        await happens(made, Happening.CRASHED, times=RESTARTS_LIMIT + 1)
        status, body = await made.infer(array)
        assert 503 == status
        assert "it is not started again" in json.loads(body)["error"]
        assert not made.board.ready
        assert 1 == made.happened().count(Happening.GAVE_UP)
        assert RESTARTS_LIMIT - 1 == made.happened().count(Happening.RESTARTED)


def test_all_of_a_large_pool_may_die_at_once() -> None:
    """A machine out of memory ends eight of them: that once is not the content's doing."""
    seat = Seat("digits", pool=cast("Any", tuple(range(8))))

    assert [False] * 8 + [True] == [seat.died_too_often(1.0) for _ in range(9)]
    assert not seat.died_too_often(1.1 + RESTARTS_WINDOW_S)


async def test_all_go_on_under_another_number(dense: Package) -> None:
    """Also the one that takes the place of a dead one; counts add up over all of them."""
    (array,) = dense.inputs(1, seed=1)
    async with pool(dense) as (made, (first, second)):
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: first.gone)
        made.board.renumber("digits", 7)
        await happens(made, Happening.RESTARTED)
        os.kill(second.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(made.infer(array), name="ask") for _ in range(2)]
            await until(lambda: any(task.done() for task in asked))
            os.kill(second.pid, signal.SIGCONT)
        await made.infer(array)
        counts = {each.revision: each for each in made.board.take_counts()}

        assert (3, 1) == (counts[7].requests, counts[7].restarts)
        assert 3 == counts[7].latency.count


async def test_more_join_those_that_answer(dense: Package) -> None:
    """But nobody where nothing was installed: they are closed."""
    async with device() as made:
        first, second, third = await started(dense, 3)
        await made.board.install(first, "digits")
        await made.board.reinforce("digits", second)
        await made.board.reinforce("other", third)

        assert (2, 0) == (made.board.strength("digits"), made.board.strength("other"))
        assert {first.pid, second.pid} == {child.pid for child in psutil.Process().children()}
        os.kill(second.pid, signal.SIGKILL)
        await happens(made, Happening.RESTARTED)
        assert 2 == made.board.strength("digits")


async def test_nothing_is_left_of_a_pool(dense: Package) -> None:
    """No process and no descriptor, though one of them was just dying."""
    before = descriptors()
    async with pool(dense) as (_, (first, _second)):
        os.kill(first.pid, signal.SIGKILL)
        await asyncio.sleep(0)

    assert [] == psutil.Process().children()
    assert before == descriptors()
