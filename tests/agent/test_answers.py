"""What an operator asks of a device is carried out once, in its time, and answered."""

import asyncio
import gzip
import json
import random
from collections.abc import Mapping

import pytest

from agent.answers import Answers
from agent.errors import StepError
from agent.fetch.job import Credentials
from agent.link.memory import MemoryBroker, MemoryLink
from agent.ports import Greeting
from agent.upload import send_log
from agent.upload.__main__ import pack
from agent.upload.job import LogJob
from agent.wire import codec, v1
from agent.wire.topics import Kind, Topic

BEFORE, AT, UNTIL, AFTER = (f"2026-01-02T03:0{minute}:00Z" for minute in range(4))
BLOB = "sha256:" + "b" * 64
RESULTS = str(Topic("f", "d-1", Kind.RESULT))


def command(number: int = 1, verb: v1.Verb = v1.Verb.LOGS) -> v1.Command:
    return v1.Command(
        fleet="f",
        target="d-1",
        id=f"c-{number}",
        verb=verb,
        issued_at=BEFORE,
        expires_at=UNTIL,
        parameters={"lines": "5"},
    )


class World:
    """A device that answers over a link, at a time that the test says."""

    def __init__(self) -> None:
        self.now = AT
        self.broker = MemoryBroker()
        self.link = MemoryLink(self.broker, fleet="f", device="d-1")
        self.did: list[Mapping[str, str]] = []
        self.error: Exception | None = None
        self.answers = Answers({v1.Verb.LOGS: self.work}, clock=lambda: self.now)

    async def work(self, parameters: Mapping[str, str]) -> str:
        self.did.append(parameters)
        if self.error is not None:
            raise self.error
        return BLOB

    async def lives(self, seconds: float) -> list[v1.Result]:
        """Let it be for a while; return all results that the broker has taken."""

        async def greet() -> Greeting:
            return Greeting(birth=b"birth", death=b"death")

        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.link.run(greet), name="link"),
                tasks.create_task(self.answers.run(self.link), name="answers"),
            ]
            await asyncio.sleep(seconds)
            for task in running:
                task.cancel()
        return [codec.decode(raw, v1.Result) for topic, raw in self.broker.log if topic == RESULTS]


@pytest.mark.looptime
async def test_what_is_asked_is_done_once_and_answered() -> None:
    """However often it comes: a broker may say a thing twice."""
    world = World()
    for number in (1, 2, 1):
        world.answers.take(command(number))
    results = await world.lives(10)

    assert [{"lines": "5"}] * 2 == world.did
    assert [("c-1", BLOB), ("c-2", BLOB)] == [(each.id, each.blob) for each in results]
    assert {v1.ResultStatus.DONE} == {each.status for each in results}


@pytest.mark.looptime
async def test_what_comes_too_late_is_not_done() -> None:
    """The device says which time it has: its clock may be the reason."""
    world = World()
    world.now = UNTIL
    world.answers.take(command())
    [result] = await world.lives(10)

    assert [] == world.did
    assert v1.ResultStatus.EXPIRED is result.status
    assert result.problem is not None
    assert "COMMAND_EXPIRED" == result.problem.reason
    assert f"it is {UNTIL} on this device" in result.problem.message


@pytest.mark.looptime
async def test_what_this_agent_does_not_know_is_refused() -> None:
    """And the next command is carried out."""
    world = World()
    world.answers.take(command(1, v1.Verb.BENCHMARK))
    world.answers.take(command(2))
    refused, done = await world.lives(10)

    assert 1 == len(world.did)
    assert refused.problem is not None
    assert "COMMAND_NOT_ALLOWED" == refused.problem.reason
    assert [v1.ResultStatus.REFUSED, v1.ResultStatus.DONE] == [refused.status, done.status]


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StepError("CENTRE_UNREACHABLE", "no route"), "CENTRE_UNREACHABLE"),
        (OSError(12, "no memory for a process"), "INTERNAL"),
    ],
)
async def test_what_fails_is_said_with_its_reason(error: Exception, reason: str) -> None:
    """The agent goes on: the next command is carried out."""
    world = World()
    world.error = error
    world.answers.take(command(1))
    [failed] = await world.lives(10)
    world.error = None
    world.answers.take(command(2))
    _, done = await world.lives(10)

    assert v1.ResultStatus.FAILED is failed.status
    assert failed.problem is not None
    assert reason == failed.problem.reason
    assert v1.ResultStatus.DONE is done.status


@pytest.mark.looptime
async def test_an_answer_waits_for_the_connection_while_it_is_of_use() -> None:
    """What nobody can wait for any more is given up, and holds nothing up."""
    random.seed(7)
    world = World()
    world.broker.stop()
    world.answers.take(command(1))
    assert [] == await world.lives(30)
    world.now = AFTER
    assert [] == await world.lives(30)

    world.now = AT
    world.broker.start()
    world.answers.take(command(2))
    assert ["c-2"] == [each.id for each in await world.lives(30)]


@pytest.mark.looptime
async def test_too_many_at_once_fill_no_memory() -> None:
    """The newest are answered; the others expire."""
    world = World()
    for number in range(100):
        world.answers.take(command(number))
    results = await world.lives(10)

    assert [f"c-{number}" for number in range(84, 100)] == [each.id for each in results]


def test_what_is_too_long_is_cut_from_the_oldest() -> None:
    """To what may be sent; how much was left out stands in its first line."""
    random.seed(1)
    lines = [f"{number} {random.randbytes(40).hex()}\n" for number in range(2000)]  # noqa: S311  # not a secret
    packed = pack(lines, limit_bytes=40_000)
    cut, *kept = gzip.decompress(packed).decode().splitlines(keepends=True)

    assert 40_000 >= len(packed)
    assert lines[-len(kept) :] == kept
    assert len(kept) > 100
    assert f'{{"event": "older log lines left out", "count": {2000 - len(kept)}}}\n' == cut
    assert "".join(lines[:5]) == gzip.decompress(pack(lines[:5])).decode()


def test_one_line_that_is_too_long_leaves_only_the_cut() -> None:
    """It ends, whatever is in the log."""
    huge = random.Random(1).randbytes(100_000).hex() + "\n"  # noqa: S311  # not a secret
    (said,) = gzip.decompress(pack([huge], limit_bytes=1000)).decode().splitlines()

    assert '{"event": "older log lines left out", "count": 1}' == said


FILES = Credentials(key="k", certificate="c", ca="a")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"lines": "0", "answer_to": "https://c/answers/c-1"},
        {"lines": "-5", "answer_to": "https://c/answers/c-1"},
        {"lines": "9999999", "answer_to": "https://c/answers/c-1"},
        {"lines": "5", "answer_to": "http://c/answers/c-1"},
        {"lines": "5", "answer_to": "file:///etc/passwd"},
    ],
)
async def test_a_wish_that_makes_no_sense_starts_nothing(
    parameters: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No child, no connection: a clear word."""
    with pytest.raises(StepError) as told:
        await send_log(tmp_path_factory.mktemp("log"), FILES, parameters)

    assert "MALFORMED" == told.value.reason


def test_a_job_is_the_same_on_both_sides_of_the_pipe() -> None:
    """Through JSON and back."""
    job = LogJob(url="https://c/answers/c-1", folder="/l", lines=5, credentials=FILES)

    assert job == LogJob.from_json(json.dumps(job.to_json()).encode())
