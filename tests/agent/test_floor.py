"""Real workers on the floor: as many as were chosen, or as memory allows, each judged by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from agent.errors import StepError
from agent.perform.floor import WorkerFloor
from agent.pooling import MARGIN_BYTES
from agent.report import Self, reported
from agent.state import Installed, Machine, Record, Throughput
from agent.vitals import available_bytes
from agent.wire.phases import Phase
from agent.workers.pool import Worker
from models import bundle, tflite
from models.layout import Layout
from models.values import Digest, ModelRef
from tests.agent.device.world import deployment
from tests.agent.packages import Array, Package
from tests.agent.served import until

EACH_BYTES = 1 << 30
"""More than a worker takes."""


def staged(dense: Package, store: Path, *, version: str = "1.0.0", workers: int = 1) -> Installed:
    """Put a bundle into the store; return the way it serves."""
    found = tflite.read(dense.content)
    card = replace(
        dense.card, ref=ModelRef("dense", version), inputs=found.inputs, outputs=found.outputs
    )
    [variant] = card.variants
    made = bundle.write(Layout.create(store), card, {variant.digest: dense.content}, dense.golden)
    return Installed(
        deployment=deployment(made, int(version[0])),
        variant=variant.digest,
        runtime="litert",
        workers=workers,
    )


@asynccontextmanager
async def opened(
    store: Path, available: Callable[[], int] = available_bytes
) -> AsyncIterator[WorkerFloor]:
    machine = Machine(architecture="x", library="litert", library_version="2", cores=2)
    floor = WorkerFloor(store, machine, lambda _event: None, available=available)
    async with floor.board:
        yield floor


def children() -> int:
    return len(psutil.Process().children())


class Room:
    """The memory of a machine that has it for so many workers in all."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __call__(self) -> int:
        return MARGIN_BYTES + EACH_BYTES * (self.workers - children())


async def answers(floor: WorkerFloor, array: Array, expected: bytes) -> None:
    answer = await floor.board.infer("digits", array.tobytes(), 0)
    assert (200, expected) == (answer.status, answer.body[answer.json_length :])


async def test_as_many_start_as_were_chosen(dense: Package, tmp_path: Path) -> None:
    """At once where nothing serves, and each was judged by its golden vectors."""
    installed = staged(dense, tmp_path / "store", workers=2)
    async with opened(tmp_path / "store") as floor:
        await floor.activate(installed)

        serving = floor.serving()["digits"]
        assert (2, None, 2) == (serving.workers, serving.short, children())
        verdicts = {each.report.verdict.agreed for each in floor.board._seats["digits"].pool}
        assert {8} == verdicts
        await floor.close("digits")
        assert (0, {}) == (children(), floor.serving())


@pytest.mark.parametrize(("room", "together"), [(9, 4), (3, 3)])
async def test_a_switch_goes_from_pool_to_pool(
    dense: Package, tmp_path: Path, room: int, together: int
) -> None:
    """Under load; all before it, or, with no memory for both, one first and the rest afterwards."""
    old = staged(dense, tmp_path / "store", workers=2)
    new = staged(dense, tmp_path / "store", version="2.0.0", workers=2)
    (array,) = dense.inputs(1, seed=1)
    expected = dense.raw()(array).tobytes()
    async with opened(tmp_path / "store", Room(room)) as floor:
        await floor.activate(old)
        running = True

        async def client() -> None:
            while running:
                await answers(floor, array, expected)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(client(), name=f"client {number}")
            most = 0

            async def watch() -> None:
                nonlocal most
                while running:
                    most = max(most, children())
                    await asyncio.sleep(0.01)

            group.create_task(watch(), name="watch")
            await floor.activate(new)
            running = False

        serving = floor.serving()["digits"]
        assert (2, 2, None) == (serving.revision, serving.workers, serving.short)
        assert (together, 2) == (most, children())


async def test_where_memory_is_short_fewer_serve_and_it_is_said(
    dense: Package, tmp_path: Path
) -> None:
    """One at least, and the report has the number that answers, and why not more."""
    installed = staged(dense, tmp_path / "store", workers=4)
    async with opened(tmp_path / "store", Room(2)) as floor:
        await floor.activate(installed)
        record = Record(
            wanted=installed.deployment,
            phase=Phase.COMMITTED,
            since="2026-01-02T03:04:05Z",
            current=installed,
        )
        who = Self(fleet="f", device="d-1", agent_version="1")
        serving = floor.serving()
        [told] = reported(who, 1, None, {"digits": record}, None, serving=serving).deployments

        assert 2 == children() == serving["digits"].workers
        assert told.active is not None
        assert 2 == told.active.workers
        [condition] = told.conditions
        assert ("short", "OUT_OF_MEMORY") == (condition.type, condition.reason)
        assert "2 more workers have no memory" == condition.parameters["why"]


async def test_one_starts_without_any_memory_to_spare(dense: Package, tmp_path: Path) -> None:
    """The first is not refused by this: whether it fits was asked when it was staged."""
    installed = staged(dense, tmp_path / "store", workers=2)
    async with opened(tmp_path / "store", lambda: 0) as floor:
        await floor.activate(installed)
        assert 1 == children() == floor.serving()["digits"].workers


def pool_of(floor: WorkerFloor) -> tuple[Worker, ...]:
    return floor.board._seats["digits"].pool


async def test_one_that_died_comes_back_only_where_there_is_room(
    dense: Package, tmp_path: Path
) -> None:
    """Until then it does not count, and it is said why; a pool grows no device out of its memory.

    The pool was made when there was more.
    """
    room = Room(9)
    installed = staged(dense, tmp_path / "store", workers=2)
    async with opened(tmp_path / "store", room) as floor:
        await floor.activate(installed)
        first, second = pool_of(floor)
        room.workers = 1
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: floor.serving()["digits"].short is not None)

        serving = floor.serving()["digits"]
        assert (1, 1) == (serving.workers, children())
        assert serving.short is not None
        assert "OUT_OF_MEMORY" == serving.short.reason
        assert "is not replaced" in serving.short.message
        assert not second.gone
        room.workers = 9
        await until(lambda: floor.serving()["digits"].short is None)
        assert (2, 2) == (floor.serving()["digits"].workers, children())


async def test_the_first_comes_back_without_any_room(dense: Package, tmp_path: Path) -> None:
    """All of them died at once, of a machine out of memory: one is started again, and one only."""
    room = Room(9)
    installed = staged(dense, tmp_path / "store", workers=3)
    async with opened(tmp_path / "store", room) as floor:
        await floor.activate(installed)
        before = pool_of(floor)
        room.workers = 0
        for each in before:
            os.kill(each.pid, signal.SIGKILL)
        await until(lambda: len(floor.board._seats["digits"].missing) == 2)
        await until(lambda: any(not each.gone for each in pool_of(floor)))

        [alive] = [each for each in pool_of(floor) if not each.gone]
        assert alive not in before
        assert (1, 1) == (floor.serving()["digits"].workers, children())


async def test_one_whose_file_rotted_does_not_count(dense: Package, tmp_path: Path) -> None:
    """Memory is not all that may be in the way: those that live go on, and are all there is."""
    installed = staged(dense, tmp_path / "store", workers=2)
    async with opened(tmp_path / "store") as floor:
        await floor.activate(installed)
        first, _ = pool_of(floor)
        first.launch.model.write_bytes(b"rotten")
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: floor.serving()["digits"].short is not None)

        serving = floor.serving()["digits"]
        assert 1 == serving.workers
        assert serving.short is not None
        assert "DIGEST_MISMATCH" == serving.short.reason


@pytest.mark.parametrize("room", [2, 1])
async def test_workers_are_measured_together_and_leave_nothing(
    dense: Package, tmp_path: Path, room: int
) -> None:
    """By their golden inputs; a number that there is no memory for has no figure."""
    way = staged(dense, tmp_path / "store")
    async with opened(tmp_path / "store", Room(room)) as floor:
        found = await floor.pace(way, (1, 2))

        assert [1, 2] == [each.workers for each in found]
        assert [True, room == 2] == [bool(each.per_s) for each in found]
        assert (0, ()) == (children(), floor.board.names())
        assert found[1] == Throughput(workers=2) or room == 2


async def test_an_activation_that_is_cut_off_leaves_nobody_behind(
    dense: Package, tmp_path: Path
) -> None:
    """While the second of the new ones was starting: the old one goes on, alone."""
    old = staged(dense, tmp_path / "store")
    new = staged(dense, tmp_path / "store", version="2.0.0", workers=2)
    async with opened(tmp_path / "store") as floor:
        await floor.activate(old)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(floor.activate(new), name="activate")
            await until(lambda: children() == 3)
            task.cancel()

        assert 1 == children()
        assert 1 == floor.serving()["digits"].revision


async def test_a_worker_that_cannot_be_replaced_costs_the_others_nothing(
    dense: Package, tmp_path: Path
) -> None:
    """Its file rotted, say: who lives answers from memory, and is given up only with the last."""
    installed = staged(dense, tmp_path / "store", workers=2)
    [array] = dense.inputs(1, seed=1)
    expected = dense.raw()(array).tobytes()
    async with opened(tmp_path / "store") as floor:
        await floor.activate(installed)
        first, second = floor.board._seats["digits"].pool
        first.launch.model.write_bytes(b"rotten")
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: first.gone)
        begun = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begun + 6:  # five starts took less
            await answers(floor, array, expected)
            assert {} == floor.given_up()
            await asyncio.sleep(0.1)
        assert "digits" in floor.serving()

        os.kill(second.pid, signal.SIGKILL)
        await until(lambda: "digits" in floor.given_up(), within_s=20)


async def test_what_serves_is_examined_beside_itself(dense: Package, tmp_path: Path) -> None:
    """Behind every other process, confined as it is; it serves on, and nothing is left."""
    installed = staged(dense, tmp_path / "store")
    (array,) = dense.inputs(1, seed=1)
    async with opened(tmp_path / "store") as floor:
        await floor.activate(installed)
        serves = {each.pid for each in psutil.Process().children()}
        nice: set[int] = set()

        async def watch() -> None:
            while True:
                for each in psutil.Process().children():
                    if each.pid not in serves:
                        nice.update({each.nice()})
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(), name="watch")
            tested = await floor.examine(installed, measures=False)
            measured = await floor.examine(installed, measures=True)
            watching.cancel()

        assert 10 in nice
        assert (8, 8, None) == (tested.vectors, tested.agreed, tested.measured)
        assert measured.measured is not None
        assert measured.measured.latency_p50_s
        assert measured.cpu_s
        assert measured.took_s > 0
        await answers(floor, array, dense.raw()(array).tobytes())
        assert serves == {each.pid for each in psutil.Process().children()}


async def test_an_examination_finds_what_rotted_and_takes_no_memory_that_is_needed(
    dense: Package, tmp_path: Path
) -> None:
    """What serves was loaded before; a worker that would be started now is not the same."""
    installed = staged(dense, tmp_path / "store")
    (array,) = dense.inputs(1, seed=1)
    room = 9  # in gigabytes: more than a worker takes, and what is left to all else
    async with opened(tmp_path / "store", lambda: EACH_BYTES * room) as floor:
        await floor.activate(installed)
        room = 0
        with pytest.raises(StepError) as short:
            await floor.examine(installed, measures=False)
        room = 9
        blob = Layout(tmp_path / "store").blob_path(Digest(installed.variant))
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 1
        blob.unlink()  # what serves may have it mapped
        blob.write_bytes(content)
        with pytest.raises(StepError) as rotten:
            await floor.examine(installed, measures=True)

        assert ("OUT_OF_MEMORY", "DIGEST_MISMATCH") == (short.value.reason, rotten.value.reason)
        await answers(floor, array, dense.raw()(array).tobytes())
        assert 1 == children()
