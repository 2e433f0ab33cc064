"""What an operator asks of a device is carried out once, in its time, and answered."""

import asyncio
import gzip
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent import asked, policy
from agent.answers import Answers, Done
from agent.errors import StepError
from agent.fetch.job import Credentials
from agent.link.memory import MemoryBroker, MemoryLink
from agent.ports import Greeting
from agent.upload import send_log
from agent.upload.__main__ import pack
from agent.upload.job import AnswerJob
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

    def __init__(self, folder: Path) -> None:
        self.now = AT
        self.policy = folder / "policy.json"
        self.path = folder / "asked.json"
        self.broker = MemoryBroker()
        self.link = MemoryLink(self.broker, fleet="f", device="d-1")
        self.did: list[Mapping[str, str]] = []
        self.error: BaseException | None = None
        self.done = Done(blob=BLOB)
        self.start()

    def start(self) -> None:
        """Let an agent begin, with what the one before it left."""
        self.answers = Answers(
            {v1.Verb.LOGS: self.work, v1.Verb.DOCTOR: self.work},
            path=self.path,
            policy=lambda: policy.read(self.policy),
            clock=lambda: self.now,
        )

    async def work(self, parameters: Mapping[str, str]) -> Done:
        self.did.append(parameters)
        if isinstance(self.error, asyncio.CancelledError):
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.done

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
async def test_what_is_asked_is_done_once_and_answered(tmp_path: Path) -> None:
    """However often it comes: a broker may say a thing twice."""
    world = World(tmp_path)
    for number in (1, 2, 1):
        await world.answers.take(command(number))
    results = await world.lives(10)

    assert [{"lines": "5"}] * 2 == world.did
    assert [("c-1", BLOB), ("c-2", BLOB)] == [(each.id, each.blob) for each in results]
    assert {v1.ResultStatus.DONE} == {each.status for each in results}


@pytest.mark.looptime
async def test_what_comes_too_late_is_not_done(tmp_path: Path) -> None:
    """The device says which time it has: its clock may be the reason."""
    world = World(tmp_path)
    world.now = UNTIL
    await world.answers.take(command())
    [result] = await world.lives(10)

    assert [] == world.did
    assert v1.ResultStatus.EXPIRED is result.status
    assert result.problem is not None
    assert "COMMAND_EXPIRED" == result.problem.reason
    assert f"it is {UNTIL} on this device" in result.problem.message


@pytest.mark.looptime
async def test_what_this_agent_does_not_know_is_refused(tmp_path: Path) -> None:
    """And the next command is carried out."""
    world = World(tmp_path)
    await world.answers.take(command(1, v1.Verb.BENCHMARK))
    await world.answers.take(command(2))
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
        (RuntimeError("a defect"), "INTERNAL"),
        (StepError("UPDATE_UNDER_WAY", "digits is testing"), "UPDATE_UNDER_WAY"),
    ],
)
async def test_what_fails_is_said_with_its_reason(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    """The agent goes on: the next command is carried out."""
    world = World(tmp_path)
    world.error = error
    await world.answers.take(command(1))
    [failed] = await world.lives(10)
    world.error = None
    await world.answers.take(command(2))
    _, done = await world.lives(10)

    refused = reason == "UPDATE_UNDER_WAY"
    assert (v1.ResultStatus.REFUSED if refused else v1.ResultStatus.FAILED) is failed.status
    assert failed.problem is not None
    assert reason == failed.problem.reason
    assert v1.ResultStatus.DONE is done.status


@pytest.mark.looptime
async def test_an_answer_waits_for_the_connection_while_it_is_of_use(tmp_path: Path) -> None:
    """What nobody can wait for any more is given up, and holds nothing up."""
    random.seed(7)
    world = World(tmp_path)
    world.broker.stop()
    await world.answers.take(command(1))
    assert [] == await world.lives(30)
    world.now = AFTER
    assert [] == await world.lives(30)

    world.now = AT
    world.broker.start()
    await world.answers.take(command(2))
    assert ["c-2"] == [each.id for each in await world.lives(30)]


@pytest.mark.looptime
async def test_what_the_owner_does_not_allow_is_refused(tmp_path: Path) -> None:
    """By the word as it stands when it is asked; nobody has to tell a running agent."""
    world = World(tmp_path)
    policy.change(world.policy, {v1.Verb.LOGS: False})
    await world.answers.take(command(1))
    await world.answers.take(command(2, v1.Verb.DOCTOR))
    refused, done = await world.lives(10)
    assert 1 == len(world.did)
    assert (v1.ResultStatus.REFUSED, v1.ResultStatus.DONE) == (refused.status, done.status)
    assert refused.problem is not None
    assert "COMMAND_NOT_ALLOWED" == refused.problem.reason
    assert "its owner does not allow logs: skerry-agent policy" == refused.problem.message

    policy.change(world.policy, {v1.Verb.LOGS: True})
    await world.answers.take(command(3))
    assert v1.ResultStatus.DONE is (await world.lives(10))[-1].status


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"logs": "no"}', b'{"logs": 0}', bytes(5000)]
)
def test_a_policy_that_can_not_be_read_allows_nothing(tmp_path: Path, content: bytes) -> None:
    """Whoever wrote it meant to keep something; and what is said next is heard."""
    path = tmp_path / "policy.json"
    path.write_bytes(content)
    found = policy.read(path)
    assert not any(map(found.allows, v1.Verb))
    assert str(path) in found.problem

    assert {v1.Verb.DOCTOR} == {
        verb for verb in v1.Verb if policy.change(path, {v1.Verb.DOCTOR: True}).allows(verb)
    }


@pytest.mark.parametrize("name", ["self_test", "LOGS", "frames"])
def test_refusing_what_is_no_command_allows_nothing(tmp_path: Path, name: str) -> None:
    """It may be misspelt; what it names, and what there is, is said."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({name: False}))
    found = policy.read(path)

    assert not any(found.allows(verb) for verb in v1.Verb)
    assert f"'{name}' is no command; there are logs" in found.problem


@pytest.mark.parametrize("kept", ["[" * 4000, '[{"fleet": "f"}]', '[{"expires_at": null}]', "{}"])
def test_what_is_kept_of_commands_may_be_damaged(tmp_path: Path, kept: str) -> None:
    """Nothing was taken then; and a policy like that allows nothing."""
    path = tmp_path / "asked.json"
    path.write_text(kept)
    assert () == asked.read(path)
    open_for_ever = {"fleet": "f", "device": "d-1", "id": "c-1", "expires_at": None, "open": True}
    path.write_text(json.dumps([open_for_ever]))
    assert () == asked.read(path)
    path.write_text("[" * 4000)
    assert not any(policy.read(path).allows(verb) for verb in v1.Verb)


def test_what_the_owner_says_of_unknown_commands_is_kept(tmp_path: Path) -> None:
    """A newer agent's word outlives an older agent; what nobody spoke of is as by default."""
    path = tmp_path / "policy.json"
    path.write_text('{"frames": true, "logs": false}')
    found = policy.change(path, {v1.Verb.BENCHMARK: False})

    assert {"frames": True, "logs": False, "benchmark": False} == json.loads(path.read_text())
    assert {v1.Verb.DOCTOR, v1.Verb.SELF_TEST} == {each for each in v1.Verb if found.allows(each)}
    assert set(v1.Verb) == policy.ALLOWED.keys()


@pytest.mark.looptime
async def test_an_answer_that_can_not_be_sent_leaves_the_short_one(tmp_path: Path) -> None:
    """The doctor of a device whose way to the centre is cut says so by the other way."""
    world = World(tmp_path)
    problem = v1.Problem(reason="CENTRE_UNREACHABLE", message="no route")
    world.done = Done(answer={"verdict": "wrong", "summary": "registry"}, problem=problem)
    await world.answers.take(command())
    [result] = await world.lives(10)

    assert (v1.ResultStatus.FAILED, problem) == (result.status, result.problem)
    assert {"verdict": "wrong", "summary": "registry"} == dict(result.answer)


@pytest.mark.looptime
async def test_a_command_that_an_agent_ended_over_is_answered_by_the_next(tmp_path: Path) -> None:
    """Not begun again, whoever says it again; nor is one that waited, or that was answered."""
    world = World(tmp_path)
    await world.answers.take(command(1))
    await world.lives(10)
    world.error = asyncio.CancelledError()
    await world.answers.take(command(2))
    await world.answers.take(command(3))
    assert ["c-1"] == [each.id for each in await world.lives(10)]
    world.error = None
    world.start()
    for number in (1, 2, 3, 4):
        await world.answers.take(command(number))
    _, *results = await world.lives(10)

    assert 3 == len(world.did)
    reasons = [(each.id, each.problem and each.problem.reason) for each in results]
    assert [
        ("c-2", "COMMAND_INTERRUPTED"),
        ("c-3", "COMMAND_INTERRUPTED"),
        ("c-4", None),
    ] == reasons
    world.start()
    assert 4 == len(await world.lives(10)), "and it is said once"


@pytest.mark.looptime
async def test_what_nobody_waits_for_is_not_answered_later(tmp_path: Path) -> None:
    """By this device's clock: its time was over when the next agent came."""
    world = World(tmp_path)
    world.error = asyncio.CancelledError()
    await world.answers.take(command(1))
    await world.lives(10)
    world.now = UNTIL
    world.start()

    assert [] == await world.lives(10)


@pytest.mark.looptime
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"id": "c-1"}]'])
async def test_a_disk_that_keeps_nothing_stops_no_command(tmp_path: Path, content: bytes) -> None:
    """What was kept is damaged, and nothing can be kept: it may be asked about just that."""
    (tmp_path / "asked.json").write_bytes(content)
    world = World(tmp_path)
    world.path = tmp_path / "none" / "asked.json"
    world.start()
    await world.answers.take(command(1))

    assert v1.ResultStatus.DONE is (await world.lives(10))[0].status


@pytest.mark.looptime
async def test_what_was_taken_is_kept_within_a_bound(tmp_path: Path) -> None:
    """However much is asked in a year."""
    world = World(tmp_path)
    for number in range(3 * asked.REMEMBERED):
        await world.answers.take(command(number))
        await world.lives(1)

    assert asked.REMEMBERED == len(asked.read(world.path))
    assert 16 * 1024 > world.path.stat().st_size


@pytest.mark.looptime
async def test_too_many_at_once_fill_no_memory(tmp_path: Path) -> None:
    """The newest are answered; the others expire."""
    world = World(tmp_path)
    for number in range(100):
        await world.answers.take(command(number))
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
    job = AnswerJob(url="https://c/answers/c-1", folder="/l", lines=5, credentials=FILES)

    assert job == AnswerJob.from_json(json.dumps(job.to_json()).encode())
