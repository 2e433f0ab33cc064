"""What is measured when somebody asks: bounded, behind an update, and truthful where it ended."""

import asyncio
from pathlib import Path

import pytest

from agent import diagnosis
from agent.answers import Done
from agent.diagnosis import Diagnosis, Subject
from agent.errors import StepError
from agent.fetch.job import Credentials
from agent.home import Home
from agent.plan import Action, Step
from agent.state import Examined, Installed, Measured, Record
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason

AT = "2026-01-02T03:04:05Z"
NOWHERE = {"answer_to": "https://127.0.0.1:1/answers/c-1"}


def record(name: str, phase: Phase = Phase.COMMITTED, *, serves: bool = True) -> Record:
    digest = "sha256:" + "1" * 64
    wanted = v1.Deployment(
        name=name, revision=1, bundle=v1.BundleRef(digest=digest, name=name, version="1.0.0")
    )
    current = Installed(deployment=wanted, variant=digest, runtime="litert 2.3.0", format="int8")
    return Record(wanted=wanted, phase=phase, since=AT, current=current if serves else None)


class World:
    """A device whose models answer as the test says; its way to the centre is cut."""

    def __init__(self, folder: Path, *records: Record) -> None:
        self.records = {each.name: each for each in records}
        self.did: list[str] = []
        self.wrong: dict[str, str] = {}
        self.steps: list[Step] = []
        self.stuck = asyncio.Event()
        files = Credentials(key="k", certificate="c", ca="a")
        subject = Subject(
            home=Home(folder), credentials=files, host="127.0.0.1", port=1, library=None,
            delegates=(),
        )  # fmt: skip
        self.diagnosis = Diagnosis(
            subject,
            records=lambda: self.records,
            steps=lambda: self.steps,
            examine=self.examine,
            clock=lambda: AT,
        )

    async def examine(self, way: Installed, measures: bool) -> Examined:  # noqa: FBT001  # as it is called
        name = way.deployment.name
        self.did.append(name)
        if name in self.wrong:
            if self.wrong[name] == "stuck":
                self.stuck.set()
                await asyncio.Event().wait()
            raise StepError(self.wrong[name], "so it is")
        took = Measured(variant="v", format="int8", accelerator="cpu", threads=1)
        took = took if not measures else Measured(
            variant="v", format="int8", accelerator="cpu", threads=1, latency_p50_s=0.0042
        )  # fmt: skip
        return Examined(
            vectors=8, agreed=8, largest=(0.5,), took_s=1.0, measured=took if measures else None
        )

    async def asks(self, verb: v1.Verb) -> Done:
        return await self.diagnosis.works()[verb](NOWHERE)


async def test_all_that_serves_is_examined_one_after_the_other(tmp_path: Path) -> None:
    """One that fails hides no other; what was measured is said though nobody can be sent it."""
    world = World(tmp_path, record("cat"), record("digits"), record("new", serves=False))
    tested = await world.asks(v1.Verb.SELF_TEST)
    world.wrong = {"cat": "GOLDEN_MISMATCH"}
    measured = await world.asks(v1.Verb.BENCHMARK)

    assert ["cat", "digits"] * 2 == world.did
    assert {
        "verdict": "ok",
        "summary": "cat: 8 of 8 golden vectors; digits: 8 of 8 golden vectors",
    } == tested.answer
    assert {
        "verdict": "wrong",
        "summary": "cat: GOLDEN_MISMATCH; digits: 4.2 ms",
    } == measured.answer
    assert measured.problem is not None
    assert measured.problem.reason in {Reason.CENTRE_UNREACHABLE, Reason.CENTRE_REFUSED}


async def test_an_update_that_begins_ends_it(tmp_path: Path) -> None:
    """At once, whatever was under way; and the rest is not begun."""
    world = World(tmp_path, record("cat"), record("digits"), record("word"))
    world.wrong = {"digits": "stuck"}
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(world.asks(v1.Verb.BENCHMARK), name="asked")
        await world.stuck.wait()
        world.records["new"] = record("new", Phase.FETCHING, serves=False)
        world.diagnosis.wake()
        await asyncio.sleep(0)
        assert not asked.done(), "what is only fetched is not disturbed"
        world.records["new"] = record("new", Phase.TESTING, serves=False)
        world.diagnosis.wake()
        world.diagnosis.wake()
    done = asked.result()

    assert "cat: 4.2 ms; digits: UPDATE_UNDER_WAY; word: UPDATE_UNDER_WAY" == done.answer["summary"]
    world.diagnosis.wake()  # nothing is under way any more


async def test_what_an_update_cut_off_says_so_though_it_is_over(tmp_path: Path) -> None:
    """It was shorter than what it ended: no time limit is blamed, and the rest is measured."""
    world = World(tmp_path, record("cat"), record("digits"))
    world.wrong = {"cat": "stuck"}
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(world.asks(v1.Verb.BENCHMARK), name="asked")
        await world.stuck.wait()
        world.records["new"] = record("new", Phase.TESTING, serves=False)
        world.diagnosis.wake()
        world.records["new"] = record("new", Phase.COMMITTED)
        world.diagnosis.wake()

    assert "cat: UPDATE_UNDER_WAY; digits: 4.2 ms" == asked.result().answer["summary"]


@pytest.mark.parametrize(
    ("action", "words"),
    [(Action.RESTORE, "started again"), (Action.CHOOSE_AGAIN, "chosen again")],
)
async def test_what_is_started_or_chosen_again_is_not_measured_beside(
    tmp_path: Path, action: Action, words: str
) -> None:
    """No revision moves, and still both measurements would be wrong: refused, and cut off."""
    world = World(tmp_path, record("cat"), record("digits"))
    world.steps = [Step(deployment="digits", action=action, reason="so it is")]
    with pytest.raises(StepError) as told:
        await world.asks(v1.Verb.BENCHMARK)
    assert (Reason.UPDATE_UNDER_WAY, f"digits is {words} here") == (
        told.value.reason,
        str(told.value),
    )
    world.steps, world.wrong = [], {"cat": "stuck"}
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(world.asks(v1.Verb.BENCHMARK), name="asked")
        await world.stuck.wait()
        world.steps = [Step(deployment="digits", action=Action.MEND, reason="so it is")]
        world.diagnosis.wake()
        await asyncio.sleep(0)
        assert not asked.done(), "what is only fetched again is not disturbed"
        world.steps = [Step(deployment="digits", action=action, reason="so it is")]
        world.diagnosis.wake()

    summary = asked.result().answer["summary"]
    assert "cat: UPDATE_UNDER_WAY; digits: UPDATE_UNDER_WAY" == summary


async def test_each_is_measured_the_way_it_serves_when_its_turn_comes(tmp_path: Path) -> None:
    """One that was retired meanwhile is none of them."""
    world = World(tmp_path, record("cat"), record("digits"))

    async def examine(way: Installed, measures: bool) -> Examined:  # noqa: FBT001  # as it is called
        del world.records["digits"]
        return await World.examine(world, way, measures)

    world.diagnosis._examine = examine
    done = await world.asks(v1.Verb.SELF_TEST)

    assert (["cat"], "cat: 8 of 8 golden vectors") == (world.did, done.answer["summary"])


@pytest.mark.parametrize("phase", sorted(diagnosis.TRYING))
async def test_nothing_begins_beside_an_update(tmp_path: Path, phase: Phase) -> None:
    """It is refused with the reason, and no process is started; there must be something, too."""
    world = World(tmp_path, record("cat"), record("digits", phase))
    with pytest.raises(StepError) as told:
        await world.asks(v1.Verb.SELF_TEST)
    with pytest.raises(StepError) as empty:
        await World(tmp_path).asks(v1.Verb.BENCHMARK)

    assert (Reason.UPDATE_UNDER_WAY, Reason.NOT_FOUND) == (told.value.reason, empty.value.reason)
    assert [] == world.did


async def test_it_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes for ever leaves nothing for the others, and all of that is said."""
    monkeypatch.setattr(diagnosis, "LIMIT_S", 0.05)
    world = World(tmp_path, record("cat"), record("digits"), record("word"))
    world.wrong = {"digits": "stuck"}
    done = await world.asks(v1.Verb.SELF_TEST)

    assert {
        "verdict": "wrong",
        "summary": "cat: 8 of 8 golden vectors; digits: TIMED_OUT; word: TIMED_OUT",
    } == done.answer


@pytest.mark.parametrize("verb", sorted(set(v1.Verb) - {v1.Verb.LOGS}))
async def test_a_question_without_an_address_starts_nothing(tmp_path: Path, verb: v1.Verb) -> None:
    """An answer goes to an https URL, or nowhere."""
    world = World(tmp_path, record("cat"))
    for parameters in ({}, {"answer_to": "http://c/answers/c-1"}):
        with pytest.raises(StepError) as told:
            await world.diagnosis.works()[verb](parameters)
        assert Reason.MALFORMED == told.value.reason

    assert [] == world.did
