"""A worker answers only after its golden vectors agreed; whatever happens to it is told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.reasons import Reason
from agent.workers import frames
from agent.workers.frames import AnswerFrame, RequestFrame
from agent.workers.pool import QUEUE_LIMIT, Worker, WorkerError, WorkerGoneError, start_worker
from agent.workers.values import Encoding, Launch, ReadyReport, Verdict
from models.card import Tensor
from models.card_codec import render
from models.values import Datatype, digest_of
from tests.agent.packages import Array, Package, dense_net, largest_buffer, packaged

ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def ready(launch: Launch) -> AsyncIterator[Worker]:
    worker = await start_worker(launch)
    try:
        yield worker
    finally:
        await worker.close(5)


def as_json(array: Array, **more: str) -> bytes:
    given = {"name": "x", "datatype": "INT8", "shape": list(array.shape), "data": array.tolist()}
    return json.dumps({"inputs": [given], **more}).encode()


async def refused(launch: Launch, *, deadline_s: float = 30) -> WorkerError:
    before = descriptors()
    with pytest.raises(WorkerError) as caught:
        await start_worker(launch, deadline_s=deadline_s)
    assert before == descriptors()
    return caught.value


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def until(holds: Callable[[], bool], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in another process
            await asyncio.sleep(0.01)


async def test_a_worker_answers_the_raw_interpreter_s_bytes(dense: Package) -> None:
    """Through the region and back, as JSON and as binary, nothing changes."""
    raw = dense.raw()
    async with ready(dense.launch()) as worker:
        for array in dense.inputs(20, seed=11):
            expected = raw(array)
            plain = await worker.infer(as_json(array), None)
            binary = await worker.infer(array.tobytes(), 0)

            assert 200 == plain.status == binary.status
            assert expected.ravel().tolist() == json.loads(plain.body)["outputs"][0]["data"]
            assert expected.tobytes() == binary.body[binary.json_length :]
            assert plain.compute_ns > 0


async def test_a_ready_worker_says_what_it_is(dense: Package) -> None:
    """Runtime, version, how the golden vectors went, and how long it took."""
    async with ready(dense.launch()) as worker:
        report = worker.report

        assert "litert" == report.library
        assert report.library_version
        assert (8, 8) == (report.verdict.vectors, report.verdict.agreed)
        assert (0.0,) == report.verdict.largest
        assert "digits" == json.loads(report.metadata)["name"]
        assert 0 < report.start_s < 30
        assert psutil.pid_exists(worker.pid)


async def test_a_stateful_model_begins_fresh(jarvis: Package) -> None:
    """The golden vectors leave no trace: requests meet the state of a model just loaded."""
    raw = jarvis.raw()
    async with ready(jarvis.launch()) as worker:
        for array in jarvis.inputs(10, seed=4):
            answer = await worker.infer(array.tobytes(), 0)
            assert raw(array).tobytes() == answer.body[answer.json_length :]


async def test_a_dimension_that_varies_is_the_client_s_to_choose(tmp_path: Path) -> None:
    """Three rows, then one, then five: each answered as the raw interpreter does."""
    package = packaged(
        dense_net((8, 4), varies=True),
        tmp_path / "rows",
        inputs=(Tensor(name="x", datatype=Datatype.FP32, shape=(-1, 8)),),
        outputs=(Tensor(name="y", datatype=Datatype.FP32, shape=(-1, 4)),),
        largest=1e-4,
    )
    rng = np.random.default_rng(5)
    raw = package.raw()
    async with ready(package.launch()) as worker:
        for rows in (3, 1, 5, 5):
            array = rng.normal(0, 1, (rows, 8)).astype(np.float32)
            answer = await worker.infer(array.tobytes(), 0)
            header = json.loads(answer.body[: answer.json_length])

            assert [rows, 4] == header["outputs"][0]["shape"]
            assert raw(array).tobytes() == answer.body[answer.json_length :]


async def test_a_worker_ends_when_its_supervisor_says_so(dense: Package) -> None:
    """Not by a signal to the whole group: what is under way is answered first."""
    array = dense.inputs(1, seed=2)[0]
    async with ready(dense.launch()) as worker:
        os.kill(worker.pid, signal.SIGTERM)
        answer = await worker.infer(array.tobytes(), 0)
        assert 200 == answer.status
        pid = worker.pid

    assert not psutil.pid_exists(pid)


async def test_a_worker_holds_only_what_a_model_needs(dense: Package) -> None:
    """Own session, no new rights, no core dumps, few files, bounded memory, nothing inherited."""
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)  # noqa: FBT003  # the standard library's own
    os.environ["SKERRY_SECRET"] = "hush"
    try:
        async with ready(dense.launch(memory_bytes=2 << 30)) as worker:
            there = Path(f"/proc/{worker.pid}")
            status = (there / "status").read_text()
            limits = (there / "limits").read_text()
            opened = {str(link.readlink()) for link in (there / "fd").iterdir()}

            assert "NoNewPrivs:\t1" in status
            assert b"hush" not in (there / "environ").read_bytes()
            assert worker.pid == os.getsid(worker.pid)
            assert limit_of(limits, "Max core file size") == "0"
            assert limit_of(limits, "Max address space") == str(2 << 30)
            assert limit_of(limits, "Max open files") == "64"
            assert "/etc/hostname" not in opened
            assert "/" == str((there / "cwd").readlink())
    finally:
        os.close(secret)
        del os.environ["SKERRY_SECRET"]


def limit_of(limits: str, name: str) -> str:
    (line,) = [line for line in limits.splitlines() if line.startswith(name)]
    return line[len(name) :].split()[0]


async def test_a_wrong_request_leaves_the_worker_as_it_was(dense: Package) -> None:
    """A refusal is an answer: the next request is served by the same process."""
    (array,) = dense.inputs(1, seed=2)
    async with ready(dense.launch()) as worker:
        pid = worker.pid
        bad = await worker.infer(b'{"inputs": [', None)
        bomb = await worker.infer(b"\x1f\x8b", None, encoding=Encoding.GZIP)
        good = await worker.infer(as_json(array), None)

        assert (400, 400, 200) == (bad.status, bomb.status, good.status)
        assert "not JSON" in json.loads(bad.body)["error"]
        assert pid == worker.pid
        assert not worker.gone


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"library": "tflite"}, Reason.RUNTIME_MISSING),
        ({"library": "abacus"}, Reason.RUNTIME_MISSING),
        ({"variant": "sha256:" + "0" * 64}, Reason.DIGEST_MISMATCH),
        ({"model": Path("/nowhere/model.tflite")}, Reason.BUNDLE_INCOMPLETE),
        ({"threads": 0}, Reason.LOAD_FAILED),
        ({"memory_bytes": 120 << 20}, Reason.OUT_OF_MEMORY),
    ],
)
async def test_what_can_t_be_served_is_refused_with_its_reason(
    dense: Package, spoil: dict[str, Any], reason: Reason
) -> None:
    """Each cause has its own code, and nothing is left behind."""
    error = await refused(dense.launch(**spoil))

    assert (reason, True) == (error.reason, bool(error.message))


async def test_a_file_that_changed_on_disk_is_refused(dense: Package) -> None:
    """One flipped bit after verification is seen before the runtime reads a byte."""
    launch = dense.launch()
    content = bytearray(launch.model.read_bytes())
    content[len(content) // 2] ^= 1
    launch.model.write_bytes(content)

    assert Reason.DIGEST_MISMATCH == (await refused(launch)).reason


async def test_golden_vectors_that_changed_on_disk_are_refused(dense: Package) -> None:
    """Golden vectors are as trusted as the model: by their digest."""
    launch = dense.launch()
    launch.golden.write_bytes(launch.golden.read_bytes()[:-1])

    assert Reason.DIGEST_MISMATCH == (await refused(launch)).reason


async def test_a_damaged_model_signed_again_is_refused_by_its_golden_vectors(
    dense: Package,
) -> None:
    """It loads, it answers, the digest is right, and it is wrong: only the vectors know."""
    damaged = bytearray(dense.content)
    weights = dense.content.index(largest_buffer(dense.content))
    for offset in range(0, 1024, 4):
        damaged[weights + offset] ^= 0x40
    launch = dense.launch()
    launch.model.write_bytes(damaged)

    error = await refused(replace(launch, variant=digest_of(bytes(damaged))))

    assert Reason.GOLDEN_MISMATCH == error.reason
    assert "golden vectors" in error.message


@pytest.mark.parametrize("content", [b"", b"\x18\0\0\0TFL3" + bytes(64), os.urandom(5000)])
async def test_a_file_that_is_no_model_is_refused(dense: Package, content: bytes) -> None:
    """Garbage with a right digest ends in the worker, as LOAD_FAILED or as its death."""
    launch = dense.launch()
    launch.model.write_bytes(content)

    error = await refused(replace(launch, variant=digest_of(content)))

    assert error.reason in {Reason.LOAD_FAILED, Reason.WORKER_CRASHED}


async def test_a_card_that_is_none_is_refused(dense: Package) -> None:
    """The card is parsed in the worker too."""
    launch = dense.launch()
    launch.card.write_text("{}")

    assert Reason.CARD_MALFORMED == (await refused(launch)).reason


async def test_a_card_of_another_model_is_refused(dense: Package, jarvis: Package) -> None:
    """A signature that differs from the loaded file's is seen before a request is taken."""
    launch = dense.launch(card=jarvis.launch().card, golden=jarvis.launch().golden)

    assert Reason.LOAD_FAILED == (await refused(launch)).reason


async def test_tensors_too_large_to_carry_are_refused(dense: Package) -> None:
    """A card that asks for gigabytes of shared memory gets none."""
    (tensor,) = dense.card.inputs
    card = replace(dense.card, inputs=(replace(tensor, shape=(1, 1 << 40)),))
    launch = dense.launch()
    launch.card.write_bytes(render(card))

    assert Reason.MODEL_UNSUPPORTED == (await refused(launch)).reason


async def test_a_worker_that_is_not_ready_in_time_is_killed(dense: Package) -> None:
    """A start that hangs ends at its deadline; no process is left."""
    before = set(psutil.Process().children())
    error = await refused(dense.launch(), deadline_s=0.02)

    assert Reason.WORKER_STUCK == error.reason
    assert before == set(psutil.Process().children())


async def test_a_start_that_is_cancelled_leaves_nothing(dense: Package) -> None:
    """Shutdown while a model loads: no process, no descriptor."""
    before = descriptors()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(start_worker(dense.launch()), name="start")
        await asyncio.sleep(0.05)
        task.cancel()

    assert before == descriptors()
    assert not psutil.Process().children()


async def test_a_worker_killed_over_a_request_is_told_to_its_client(dense: Package) -> None:
    """500 with how it died; those in line are told that they were not begun."""
    (array,) = dense.inputs(1, seed=2)
    async with ready(dense.launch()) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            begun = group.create_task(worker.infer(as_json(array), None), name="begun")
            await asyncio.sleep(0.05)
            waiting = group.create_task(gone(worker, as_json(array)), name="waiting")
            await asyncio.sleep(0.05)
            os.kill(worker.pid, signal.SIGKILL)
        answer = begun.result()

        assert 500 == answer.status
        assert "died over this request (killed by SIGKILL)" in json.loads(answer.body)["error"]
        assert waiting.result()
        assert worker.gone
        assert Reason.WORKER_CRASHED == (await worker.cause_of_death()).reason
        assert await gone(worker, b"")


async def gone(worker: Worker, body: bytes) -> bool:
    try:
        await worker.infer(body, None)
    except WorkerGoneError:
        return True
    return False


async def test_a_worker_that_hangs_is_killed_at_the_deadline(dense: Package) -> None:
    """504 for the one who waited, and the process is dead: nothing gentler reaches it."""
    (array,) = dense.inputs(1, seed=2)
    async with ready(dense.launch(timeout_s=0.3)) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        begun = time.perf_counter()
        answer = await worker.infer(as_json(array), None)
        took_s = time.perf_counter() - begun
        await until(lambda: worker.gone)

        assert 504 == answer.status
        assert "did not answer within 0.3 s" in json.loads(answer.body)["error"]
        assert 0.3 <= took_s < 2
        assert Reason.WORKER_STUCK == (await worker.cause_of_death()).reason


async def test_a_line_that_is_full_refuses(dense: Package) -> None:
    """503 at once instead of an answer nobody waits for; those in line are answered."""
    (array,) = dense.inputs(1, seed=2)
    async with ready(dense.launch()) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            line = [
                group.create_task(worker.infer(as_json(array), None), name=f"request {number}")
                for number in range(QUEUE_LIMIT)
            ]
            await asyncio.sleep(0.05)
            surplus = await worker.infer(as_json(array), None)
            os.kill(worker.pid, signal.SIGCONT)

        assert 503 == surplus.status
        assert {200} == {request.result().status for request in line}


async def test_an_abandoned_request_does_not_answer_the_next(dense: Package) -> None:
    """A client's task that is cancelled leaves its answer to nobody."""
    raw = dense.raw()
    first, second = dense.inputs(2, seed=2)
    async with ready(dense.launch()) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(worker.infer(first.tobytes(), 0), name="abandoned")
            await asyncio.sleep(0.05)
            task.cancel()
        os.kill(worker.pid, signal.SIGCONT)
        answer = await worker.infer(second.tobytes(), 0)

        assert raw(second).tobytes() == answer.body[answer.json_length :]


async def test_closing_answers_those_in_line_first(dense: Package) -> None:
    """A drain loses nobody; whoever comes after is told to go elsewhere."""
    arrays = dense.inputs(10, seed=2)
    worker = await start_worker(dense.launch())
    async with asyncio.TaskGroup() as group:
        line = [
            group.create_task(worker.infer(array.tobytes(), 0), name="request") for array in arrays
        ]
        await asyncio.sleep(0)
        closing = group.create_task(worker.close(5), name="close")
        await asyncio.sleep(0)
        late = group.create_task(gone(worker, b""), name="late")
    await worker.close()

    assert {200} == {request.result().status for request in line}
    assert late.result()
    assert closing.done()
    assert not psutil.pid_exists(worker.pid)


async def test_closing_gives_up_on_what_never_ends(dense: Package) -> None:
    """A drain is bounded: then the process is killed, and its client told."""
    (array,) = dense.inputs(1, seed=2)
    worker = await start_worker(dense.launch())
    os.kill(worker.pid, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        request = group.create_task(worker.infer(array.tobytes(), 0), name="request")
        await asyncio.sleep(0.05)
        await worker.close(0.1)

    assert 500 == request.result().status
    assert not psutil.pid_exists(worker.pid)


async def test_many_lives_leave_no_descriptor_and_no_zombie(dense: Package) -> None:
    """Starting and ending, by closing and by killing, gives everything back."""
    before = descriptors()
    for life in range(6):
        worker = await start_worker(dense.launch())
        if life % 2:
            os.kill(worker.pid, signal.SIGKILL)
        await worker.close()

    assert before == descriptors()
    assert [] == psutil.Process().children()


async def test_what_a_worker_prints_never_reaches_our_output(
    dense: Package, capfd: pytest.CaptureFixture[str]
) -> None:
    """Native libraries print what they like; it explains a death and nothing else."""
    async with ready(dense.launch()) as worker:
        os.kill(worker.pid, signal.SIGABRT)
        await until(lambda: worker.gone)
        cause = await worker.cause_of_death()

    assert "killed by SIGABRT" in cause.message
    assert ("", "") == capfd.readouterr()


def test_a_worker_dies_with_its_supervisor(dense: Package, tmp_path: Path) -> None:
    """Even when the supervisor is killed in the middle of everything."""
    script = tmp_path / "supervisor.py"
    launch = frames.render_launch(dense.launch()).decode()
    script.write_text(
        "import asyncio, sys\n"
        "from agent.workers.frames import parse_launch\n"
        "from agent.workers.pool import start_worker\n"
        "async def main():\n"
        f"    worker = await start_worker(parse_launch({launch!r}.encode()))\n"
        "    print(worker.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        worker = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()

    assert worker.wait(5) is None or not worker.is_running()


def test_the_supervisor_s_half_loads_no_heavy_library() -> None:
    """Neither numpy nor a runtime, a codec or cryptography: a model's crash can't be ours."""
    heavy = "numpy|tflite_runtime|ai_edge_litert|cryptography|pydantic|orjson|starlette"
    script = (
        "import sys\n"
        "import agent.workers.pool, agent.workers.values, agent.serving.switchboard\n"
        "import agent.serving.oip, agent.serving.server, agent.sketch\n"
        f"print([name for name in {heavy!r}.split('|') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert b"[]" == done.stdout.strip()


@given(st.binary(max_size=80), st.integers(0, 1 << 63))
def test_a_frame_that_is_none_is_seen(raw: bytes, region_bytes: int) -> None:
    """Whatever a worker sends is an answer within the region, or a ValueError."""
    try:
        frame = frames.parse_answer(raw, sequence=1, region_bytes=region_bytes)
    except ValueError:
        return
    assert 1 == frame.sequence
    assert frame.length <= region_bytes
    assert frame.json_length is None or frame.json_length <= frame.length


@pytest.mark.parametrize(
    "frame",
    [
        AnswerFrame(sequence=2, status=200, length=10),
        AnswerFrame(sequence=1, status=302, length=10),
        AnswerFrame(sequence=1, status=200, length=11),
        AnswerFrame(sequence=1, status=200, length=10, json_length=11),
    ],
)
def test_an_answer_that_does_not_add_up_is_refused(frame: AnswerFrame) -> None:
    """To another request, with a status no worker gives, or outside its region."""
    with pytest.raises(ValueError, match=r"."):
        frames.parse_answer(frames.render_answer(frame), sequence=1, region_bytes=10)


@pytest.mark.parametrize("bins", [b"\x03", b"\x03\x02", b"\x00\xff", b"\x00\x01\x01"])
def test_a_bin_that_a_subject_does_not_have_is_refused(bins: bytes) -> None:
    """A worker's word is what is counted, so it must add up."""
    drift = (("output-0-class", 3), ("input-0-mean", 2))
    wrong = frames.render_answer(AnswerFrame(sequence=1, status=200, length=1, bins=bins))
    with pytest.raises(ValueError, match=r"bins|an answer frame"):
        frames.parse_answer(wrong, sequence=1, region_bytes=10, drift=drift)
    right = AnswerFrame(sequence=1, status=200, length=1, bins=b"\x02\x01")
    raw = frames.render_answer(right)
    assert right == frames.parse_answer(raw, sequence=1, region_bytes=10, drift=drift)


@pytest.mark.parametrize(
    "drift",
    [
        [["output-0-class", 0]],
        [["output-0-class", 18]],
        [["Output 0", 3]],
        [["a" * 21, 3]],
        [["input-0-mean", 3], ["input-0-mean", 4]],
        [[f"input-{place}-mean", 3] for place in range(7)],
        [["input-0-mean"]],
        {"input-0-mean": 3},
        None,
    ],
)
def test_a_report_of_what_could_not_be_told_is_refused(drift: object) -> None:
    """What a worker names goes into the device's own documents."""
    report = ReadyReport(
        library="litert",
        library_version="2.3.0",
        verdict=Verdict(vectors=1, agreed=1, largest=(1.0,), mean=(0.5,)),
        metadata=b"{}",
        body_limit_bytes=9,
        sandbox=(),
        start_s=0.0,
        drift=(("input-0-mean", 11), ("output-0-class", 17)),
    )
    raw = frames.render_report(report)
    assert report == frames.parse_report(raw, start_s=0.0)
    with pytest.raises(ValueError, match=r"."):
        frames.parse_report(json.dumps({**json.loads(raw), "drift": drift}).encode(), start_s=0.0)


def test_frames_and_launches_come_back_as_they_went(dense: Package) -> None:
    """What one side writes the other reads."""
    request = RequestFrame(sequence=7, length=3, json_length=0, encoding=Encoding.GZIP)
    launch = dense.launch()

    assert request == frames.parse_request(frames.render_request(request))
    assert launch == frames.parse_launch(frames.render_launch(launch))
    assert np.int8 == dense.inputs(1, seed=1)[0].dtype


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"verdict": 1}', b"\xff"])
def test_a_report_that_is_none_is_a_value_error(raw: bytes) -> None:
    """A worker that answers nonsense is caught by name."""
    with pytest.raises(ValueError, match=r"."):
        frames.parse_report(raw, start_s=0)
    with pytest.raises(ValueError, match=r"."):
        frames.parse_failure(raw)
