"""A candidate in the incumbent's shadow: compared on live requests, and never in their way."""

import asyncio
import gzip
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import shadow
from agent.serving.shadow import Shadow
from agent.state import Compared
from agent.wire import v1
from agent.wire.phases import Phase
from agent.workers.model import _sizes
from agent.workers.pool import Worker, WorkerError, start_worker
from models.card import Tensor
from models.card_codec import render
from models.values import Datatype
from tests.agent.looped import Device as Looped
from tests.agent.looped import World, deployment
from tests.agent.packages import (
    DENSE_OUTPUTS,
    Package,
    decides,
    dense_net,
    packaged,
    quantized,
)
from tests.agent.served import Device, digits, until

TEN = v1.ShadowSettings(requests=10, agreement=0.9)


@pytest.fixture(scope="module")
def narrow_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return quantized(dense_net((32, 10)), 32, tmp_path_factory.mktemp("narrow"))


@pytest.fixture
def narrow(narrow_content: bytes, tmp_path: Path) -> Package:
    """A net that takes another tensor."""
    inputs = (Tensor(name="x", datatype=Datatype.INT8, shape=(1, 32)),)
    return packaged(narrow_content, tmp_path / "narrow", inputs=inputs, outputs=DENSE_OUTPUTS)


@asynccontextmanager
async def beside(
    made: Device, candidate: Package, wanted: v1.ShadowSettings
) -> AsyncIterator[tuple[Shadow, Worker, "asyncio.Task[None]"]]:
    """Let a candidate shadow what serves, for as long as the block lasts."""
    worker = await start_worker(candidate.launch(shadow_tolerance=wanted.tolerance))
    following = Shadow(worker, wanted)
    try:
        with made.board.shadowed("digits", following):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(following.compare(), name="compare")
                yield following, worker, task
                task.cancel()
    finally:
        await worker.close(0)


async def asked(made: Device, package: Package, count: int, following: Shadow) -> None:
    """Ask, each once the one before was compared: none is left out because of another."""
    raw = package.raw()
    for array in package.inputs(count, seed=5):
        before = following.seen
        status, body = await made.infer(array)
        assert (200, raw(array).tobytes()) == (status, body)  # the incumbent's own, as ever
        if following.seen.requests + following.seen.apart < 10:
            await until(lambda before=before: following.seen is not before)  # type: ignore[misc]


async def test_a_candidate_that_answers_alike_agrees(dense: Package) -> None:
    """And who asks gets the incumbent's answers, byte for byte."""
    async with digits(dense) as made, beside(made, dense, TEN) as (following, _, task):
        await asked(made, dense, 10, following)
        await task
    assert Compared(requests=10, agreed=10) == following.seen
    assert shadow.verdict(TEN, following.seen)


async def test_a_candidate_that_decides_otherwise_is_found_out(
    dense: Package, another: Package
) -> None:
    """After as few requests as it takes to be sure; who asks never saw an answer of it."""
    wanted = replace(TEN, requests=1000)
    async with digits(decides(dense)) as made, beside(made, another, wanted) as (following, _, _):
        await asked(made, dense, 9, following)
    ours, theirs = dense.raw(), another.raw()
    alike = sum(
        bool(ours(each).argmax() == theirs(each).argmax()) for each in dense.inputs(9, seed=5)
    )
    assert Compared(requests=9, agreed=alike) == following.seen
    assert alike < 9


async def test_how_far_it_is_can_be_seen_meanwhile(dense: Package) -> None:
    """And no longer than it lasts."""
    async with digits(dense) as made:
        assert {} == made.board.compared()
        async with beside(made, dense, TEN) as (following, _, _):
            await asked(made, dense, 3, following)
            assert {"digits": Compared(requests=3, agreed=3)} == made.board.compared()
        assert {} == made.board.compared()


@pytest.mark.parametrize(
    ("inputs_mb", "outputs_mb", "fits"),
    [(1, 1, True), (30, 30, True), (63, 10, False), (80, 80, False)],
)
def test_what_is_too_large_to_be_compared_is_known_before(
    dense: Package, inputs_mb: int, outputs_mb: int, *, fits: bool
) -> None:
    """By the room that a worker makes for such a model."""

    def of(megabytes: int) -> tuple[Tensor, ...]:
        return (Tensor(name="x", datatype=Datatype.INT8, shape=(1, megabytes * 10**6)),)

    card = replace(dense.card, inputs=of(inputs_mb), outputs=of(outputs_mb))
    room_bytes, _ = _sizes(card)
    why = shadow.too_large(card, room_bytes)
    assert fits == (not why)
    assert fits or f"{inputs_mb + outputs_mb}.0 MB together" in why


@pytest.mark.parametrize(("tolerance", "agreed"), [(255.0, 3), (0.0, 0)])
async def test_without_a_decision_outputs_must_be_near(
    dense: Package, another: Package, tolerance: float, agreed: int
) -> None:
    """As near as was said."""
    card = replace(another.card, golden=replace(another.card.golden, decision=None))
    (another.folder / "card.json").write_bytes(render(card))
    wanted = replace(TEN, requests=100, tolerance=tolerance)
    async with digits(dense) as made, beside(made, another, wanted) as (following, _, _):
        await asked(made, dense, 3, following)
    assert Compared(requests=3, agreed=agreed) == following.seen


def as_json(values: list[int]) -> bytes:
    tensor = {"name": "x", "shape": [1, 64], "datatype": "INT8", "data": values}
    return json.dumps({"inputs": [tensor]}).encode()


def as_binary_output(values: list[int]) -> bytes:
    document = json.loads(as_json(values))
    document["parameters"] = {"binary_data_output": True}
    return json.dumps(document).encode()


@pytest.mark.parametrize("write", [as_json, as_binary_output])
@pytest.mark.parametrize("packed", [False, True])
async def test_every_form_of_a_request_is_compared(
    dense: Package, write: Callable[[list[int]], bytes], *, packed: bool
) -> None:
    """JSON and binary, compressed or not."""
    async with digits(dense) as made, beside(made, dense, TEN) as (following, _, _):
        body = write(dense.inputs(1, seed=1)[0].ravel().tolist())
        headers = {"Content-Encoding": "gzip"} if packed else {}
        content = gzip.compress(body) if packed else body
        status, _, _ = await made.http("POST", "/v2/models/digits/infer", content, headers)
        assert 200 == status
        await until(lambda: following.seen.requests == 1)
    assert 1 == following.seen.agreed


async def test_models_of_other_tensors_cant_be_compared(dense: Package, narrow: Package) -> None:
    """It is counted as such, and ends as soon as it is as often as was to be compared."""
    async with digits(dense) as made, beside(made, narrow, TEN) as (following, _, task):
        await asked(made, dense, 10, following)
        await task
    assert Compared(apart=10) == following.seen
    reason, message, numbers = shadow.refusal(TEN, following.seen)
    assert "SHADOW_INCONCLUSIVE" == reason
    assert "10 could not be compared" in message
    assert ("0", "10") == (numbers["compared"], numbers["wanted"])


async def test_what_is_live_never_waits_for_the_shadow(dense: Package) -> None:
    """A candidate that stands still is left out; no more than a few copies are kept."""
    async with digits(dense) as made, beside(made, dense, TEN) as (following, worker, _):
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            for array in dense.inputs(30, seed=2):
                assert 200 == (await made.infer(array))[0]
            assert Compared() == following.seen
            assert following._waiting.full()
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        await until(lambda: following.seen.requests >= 3)


def niceness(worker: Worker) -> list[int]:
    """Return that of each of its threads."""
    threads = Path(f"/proc/{worker.pid}/task").iterdir()
    return [os.getpriority(os.PRIO_PROCESS, int(each.name)) for each in threads]


def autogroup(worker: Worker) -> str:
    """Return its session's niceness; empty where the kernel has none."""
    file = Path(f"/proc/{worker.pid}/autogroup")
    _, _, said = file.read_text().strip().partition(" ") if file.exists() else ("", "", "")
    return said


async def test_the_shadow_gives_way(dense: Package) -> None:
    """Its process is the last to get a core that others want, with all of its threads."""
    async with digits(dense) as made:
        worker = await start_worker(dense.launch(threads=3))
        try:
            assert [0, 0, 0] == niceness(worker)
            await Shadow(worker, replace(TEN, limit_s=0.1)).compare()
            assert [10, 10, 10] == niceness(worker)
            assert autogroup(worker) in {"", "nice 10"}
        finally:
            await worker.close(0)
        live = made.board.current("digits")
        assert live is not None
        assert 0 == os.getpriority(os.PRIO_PROCESS, live.pid)


@pytest.mark.parametrize("how", ["killed", "hangs"])
async def test_a_candidate_that_dies_in_the_shadow_harms_nobody(dense: Package, how: str) -> None:
    """It is said why; not one live request fails."""
    async with digits(dense) as made:
        worker = await start_worker(dense.launch(timeout_s=0.5))
        following = Shadow(worker, TEN)
        with made.board.shadowed("digits", following):
            async with asyncio.TaskGroup() as group:
                comparing = group.create_task(_end(following), name="compare")
                os.kill(worker.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
                for array in dense.inputs(20, seed=3):
                    assert 200 == (await made.infer(array))[0]
            error = comparing.result()
        await worker.close(0)
    assert ("WORKER_CRASHED" if how == "killed" else "WORKER_STUCK") == error.reason
    assert Compared() == following.seen
    assert [] == made.events  # of what serves


async def _end(following: Shadow) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await following.compare()
    return caught.value


async def test_a_shadow_without_traffic_ends(dense: Package) -> None:
    """At its limit, with nothing known."""
    async with (
        digits(dense) as made,
        beside(made, dense, replace(TEN, limit_s=0.2)) as (
            following,
            _,
            task,
        ),
    ):
        await task
    assert Compared() == following.seen
    assert shadow.verdict(TEN, following.seen) is None


# The rule


@given(
    st.integers(1, 300), st.integers(1, 100), st.lists(st.booleans(), min_size=300, max_size=300)
)
def test_the_verdict_is_what_the_whole_would_have_said(
    requests: int, percent: int, answers: list[bool]
) -> None:
    """However early it ends: never through with fewer agreeing than asked, never out with more."""
    wanted = v1.ShadowSettings(requests=requests, agreement=percent / 100)
    seen, verdict = Compared(), None
    for agreed in answers:
        seen = Compared(requests=seen.requests + 1, agreed=seen.agreed + agreed)
        verdict = shadow.verdict(wanted, seen)
        if verdict is not None:
            break
    enough = 100 * sum(answers[:requests]) >= percent * requests
    assert enough == verdict


@given(st.floats(0.001, 1), st.integers(1, 2000))
def test_a_share_of_the_requests_is_compared(share: float, answered: int) -> None:
    """As many as that, to within one, at any time, and not all at its end."""
    wanted = v1.ShadowSettings(share=share)
    copies = sum(shadow.due(wanted, number) for number in range(1, answered + 1))
    assert abs(copies - share * answered) <= 1


# The step


def shadowed(revision: int = 2) -> v1.Deployment:
    wanted = deployment(revision=revision)
    return replace(wanted, settings=replace(wanted.settings, shadow=TEN))


async def test_a_candidate_is_compared_before_it_serves(device: Looped, world: World) -> None:
    """And the numbers are told. A first revision has nobody to be compared with."""
    async with device.running():
        device.want(1, shadowed(1))
        await device.reaches("digits", Phase.COMMITTED)
        assert "shadow digits 1" not in world.did
        device.want(2, shadowed())
        await device.reaches("digits", Phase.COMMITTED, 2)
    steps = ["test digits 2", "shadow digits 2", "activate digits 2"]
    assert steps == [each for each in world.did if each in steps]
    current = device.ledger.records["digits"].current
    assert current is not None
    assert Compared(requests=10, agreed=10) == current.compared
    phases = [phase for phase, revision, _ in device.told() if revision == 2]
    assert phases[phases.index("testing") :] == [
        "testing", "shadowing", "activating", "probation", "committed",
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["SHADOW_DISAGREED", "SHADOW_INCONCLUSIVE"])
async def test_a_candidate_that_does_not_agree_is_refused(
    device: Looped, world: World, reason: str
) -> None:
    """It never served, and its content is not condemned: which of the two is right is not known."""
    world.wrong[("shadow", 2)] = reason
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, shadowed())
        await device.reaches("digits", Phase.REFUSED, 2)
    assert 1 == world.seats["digits"].revision
    assert ("refused", 2, reason) == device.told()[-1]
    assert not device.ledger.quarantined


async def test_a_model_that_remembers_is_not_compared_on_some_of_its_requests(
    device: Looped, world: World
) -> None:
    """It would differ by what it has not seen: that is said at once, and nothing is tried."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        world.stateful = True
        device.want(2, shadowed())
        await device.reaches("digits", Phase.REFUSED, 2)
    assert "shadow digits 2" not in world.did
    problem = device.ledger.records["digits"].problem
    assert problem is not None
    assert ("SHADOW_INCONCLUSIVE", "0") == (problem.reason, problem.parameters["compared"])
    assert "it remembers" in problem.message


async def test_the_way_back_needs_no_shadow(device: Looped, world: World) -> None:
    """What was committed here before is not judged by what is to be replaced."""
    async with device.running():
        device.want(1, shadowed(1))
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, shadowed())
        await device.reaches("digits", Phase.COMMITTED, 2)
        world.did.clear()
        device.want(3, replace(shadowed(1), revision=3))
        await device.reaches("digits", Phase.COMMITTED, 3)
    assert "activate digits 3" in world.did
    assert not [each for each in world.did if each.startswith("shadow")]
    current = device.ledger.records["digits"].current
    assert current is not None
    assert current.why.endswith("; not compared: it has served here before")  # and told with it


async def test_a_restart_in_the_shadow_begins_it_again(device: Looped, world: World) -> None:
    """The incumbent first; its counts were of a process that is gone."""
    world.wrong[("shadow", 2)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, shadowed())
        await device.reaches("digits", Phase.SHADOWING, 2)
        await until(lambda: "shadow digits 2" in world.did)
        device.reconciler._under["digits"].end()
    world.did.clear()
    world.seats.clear()
    world.wrong.clear()
    async with device.running():
        await device.reaches("digits", Phase.COMMITTED, 2)
    assert ["activate digits 1", "shadow digits 2", "activate digits 2"] == world.did


@pytest.mark.parametrize("what", ["newer", "hold", "trouble"])
async def test_what_matters_more_ends_the_shadow(device: Looped, world: World, what: str) -> None:
    """A newer document, a technician's hold, or an incumbent that has to be started again."""
    world.wrong[("shadow", 2)] = asyncio.Event()
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, shadowed())
        await until(lambda: "shadow digits 2" in world.did)
        if what == "newer":
            device.want(3, deployment(revision=3))
            await device.reaches("digits", Phase.COMMITTED, 3)
        elif what == "hold":
            hold = v1.Hold(reason="maintenance", since="2026-01-02T03:04:05Z")
            device.ledger.heed(hold, at="2026-01-02T03:04:05Z")
            device.reconciler.wake()
            await until(lambda: "digits" not in device.reconciler._under)
            assert Phase.SHADOWING is device.ledger.records["digits"].phase
        else:
            world.seats.clear()
            device.reconciler.wake()
            await until(lambda: world.did.count("activate digits 1") == 2)
            await until(lambda: world.did.count("shadow digits 2") == 2)
            device.reconciler._under["digits"].end()


@pytest.mark.looptime
@pytest.mark.parametrize("under", ["test", "shadow"])
async def test_what_cannot_be_started_again_does_not_keep_its_successor_away(
    device: Looped, world: World, under: str
) -> None:
    """It is tried every few minutes for ever; what takes longer than that must come to its end."""
    async with device.running():
        device.want(1, deployment())
        await device.reaches("digits", Phase.COMMITTED)
        device.want(2, deployment(revision=2))
        await device.reaches("digits", Phase.COMMITTED, 2)
    world.seats.clear()
    world.wrong[("activate", 2)] = "OUT_OF_MEMORY"
    if under == "test":
        world.wrong[("activate", 1)] = "OUT_OF_MEMORY"  # nothing serves
    do = world._do

    async def slowly(what: str, one: v1.Deployment | v1.BundleRef, revision: int) -> None:
        await do(what, one, revision)
        if (what, revision) == (under, 3):
            await asyncio.sleep(1000)

    world._do = slowly  # type: ignore[method-assign]
    async with device.running():
        device.want(3, shadowed(3))
        await device.reaches("digits", Phase.COMMITTED, 3)
    assert 1 == world.did.count(f"{under} digits 3")
    assert 3 == world.seats["digits"].revision
