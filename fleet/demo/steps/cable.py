"""The cable is cut: centre and broker are killed, and one device is killed too, twice.

What is claimed: every other device answers every request meanwhile; the killed
one serves again with nobody to ask; and when the centre is back, all that
happened on it arrives, in order, nothing lost, nothing twice. That is shown by
two books kept apart: the device's ledger, copied while it was alone, and the
centre's store.

Requests to the killed device while it was dead can't be answered; they are
counted apart, and each must have been under way in a time when we had killed it.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.wire import codec, v1
from fleet.demo.crew import ClaimError, offspring
from fleet.demo.ledger import Page, acknowledged, arrivals, read
from fleet.demo.load import Heard
from fleet.demo.stage import Agent, Stage
from fleet.demo.steps.rolling import answers_of, check_answers, enough, events_of
from fleet.demo.steps.setting import GOOD, open_centre, start_agent
from fleet.demo.wait import until

Found = TypeVar("Found")

_CLAIM = "cable"
_RECORDS = 200
"""At least so many must wait in the outbox."""

_BEFORE_DEATH = 60
_AT_ONCE = 5  # pairs of hold and release between two looks
_WORKER = "agent.workers.child"
_SOON_S = 0.02


@dataclass(slots=True, kw_only=True)
class Chronicle:
    """What a device's ledger was seen to hold, and when its agent or worker was dead.

    `acked` is what the centre had committed when the cable was cut: its word may still have
    been on the way then, and anything beyond it must wait.
    """

    agent: Agent
    ledger: str
    acked: int
    records: dict[int, bytes] = field(default_factory=dict)
    dead: list[tuple[float, float]] = field(default_factory=list)

    async def look(self) -> Page:
        """Copy what waits to be told.

        Raises:
            ClaimError: it is not what was there before: it was changed, or is another ledger.
        """
        page = await _read(self.agent)
        if page.ledger != self.ledger:
            raise ClaimError(_CLAIM, f"{self.agent.name} began a new ledger, {page.ledger}")
        for number, body in page.waiting.items():
            if self.records.setdefault(number, body) != body:
                raise ClaimError(_CLAIM, f"record {number} of {self.agent.name} was changed")
        if sorted(page.waiting) != list(range(page.told + 1 - len(page.waiting), page.told + 1)):
            raise ClaimError(_CLAIM, f"the outbox of {self.agent.name} has gaps")
        return page

    @asynccontextmanager
    async def death(self) -> AsyncIterator[None]:
        """Note the time within as one in which we had killed it, or a part of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        yield
        self.dead.append((began, loop.time()))


async def cable(stage: Stage) -> str:
    """Kill centre and broker for a while, and a device twice; compare the two books at the end."""
    loop = asyncio.get_running_loop()
    agent = stage.agents[0]
    cut = loop.time()
    await stage.crew.kill("centre")
    ledger = (await _read(agent)).ledger
    acked = await _from_store(acknowledged, stage, agent, ledger)
    chronicle = Chronicle(agent=agent, ledger=ledger, acked=acked)
    alone_s = await _live_alone(stage, chronicle)
    page = await chronicle.look()
    if _gone(page) > chronicle.acked:
        raise ClaimError(_CLAIM, f"{agent.name} forgot records that nobody had acknowledged")
    waiting = len(page.waiting)
    away_s = loop.time() - cut
    await open_centre(stage, _CLAIM)
    early = await _replay(stage, chronicle, start=_gone(page))
    arrived = await _compare(stage, chronicle)
    await enough(stage, _CLAIM, [each.name for each in stage.agents])
    heard = stage.load.take()
    spared = missed(chronicle, heard[agent.name])
    allowed = dict.fromkeys(heard, (GOOD,))
    count = check_answers(stage, _CLAIM, heard, allowed, forgiven=[agent.name])
    stage.spared += spared
    kinds = Counter(codec.decode(body, v1.Event).kind for body in chronicle.records.values())
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return (
        f"centre and broker dead for {away_s:.0f} s: {count:,} requests answered, 0 failed; "
        f"{agent.name}, killed meanwhile, served {GOOD} again after {alone_s:.1f} s with no "
        f"network ({spared} requests found it dead); its outbox of {waiting} records ({told}), "
        f"killed once more after {early} were acknowledged, arrived whole: {arrived} of {arrived} "
        "numbers, in order, none lost, none twice"
    )


async def _live_alone(stage: Stage, chronicle: Chronicle) -> float:
    """Make things happen on a device that nobody listens to.

    Returns how long it took from the start of the killed agent to an answer.
    """
    loop = asyncio.get_running_loop()
    await _kill_worker(stage, chronicle)
    await _hold_and_release(stage, chronicle, _BEFORE_DEATH)
    async with chronicle.death():
        await stage.crew.kill(chronicle.agent.name)
        await chronicle.look()
        began = loop.time()
        await start_agent(stage, chronicle.agent)
        await _answers_again(stage, chronicle.agent)
        took_s = loop.time() - began
    await _kill_worker(stage, chronicle)
    await _hold_and_release(stage, chronicle, _RECORDS)
    return took_s


async def _kill_worker(stage: Stage, chronicle: Chronicle) -> None:
    """Kill the process in which the model runs; wait until another one answers."""
    agent = stage.crew.children[chronicle.agent.name].process.pid
    old = {each.pid for each in offspring(agent, running=_WORKER)}
    async with chronicle.death():
        for each in offspring(agent, running=_WORKER):
            each.kill()

        async def replaced() -> bool | None:
            return bool({each.pid for each in offspring(agent, running=_WORKER)} - old) or None

        await until(stage, _CLAIM, replaced, "the killed worker was not replaced")
        await _answers_again(stage, chronicle.agent)


async def _hold_and_release(stage: Stage, chronicle: Chronicle, enough_records: int) -> None:
    """Hold the device and release it, again and again, until so much waits to be told."""
    hold = chronicle.agent.command("hold", "--reason", "the belt is being changed")
    release = chronicle.agent.command("release")
    for _ in range(enough_records):
        if len((await chronicle.look()).waiting) >= enough_records:
            return
        for _ in range(_AT_ONCE):
            await stage.crew.run(_CLAIM, hold)
            await stage.crew.run(_CLAIM, release)
    raise ClaimError(_CLAIM, f"holding and releasing left fewer than {enough_records} records")


async def _replay(stage: Stage, chronicle: Chronicle, *, start: int) -> int:
    """Let the outbox be told, and kill its agent in the middle of it; wait until it is empty.

    `start` is the last record that was gone from it before.

    Returns how many records were acknowledged when it was killed.
    """

    async def under_way() -> int | None:
        gone = _gone(await chronicle.look())
        return gone - start if gone > start else None

    early = await until(stage, _CLAIM, under_way, "nothing was acknowledged", every_s=_SOON_S)
    async with chronicle.death():
        await stage.crew.kill(chronicle.agent.name)
        page = await chronicle.look()
        if not page.waiting:
            raise ClaimError(_CLAIM, "the outbox was empty before its agent could be killed")
        await start_agent(stage, chronicle.agent)
        await _answers_again(stage, chronicle.agent)

    async def empty() -> bool | None:
        """Only what the centre has acknowledged may be gone: so look at the ledger first."""
        page = await chronicle.look()
        where = (chronicle.agent, chronicle.ledger)
        _, acked = await events_of(stage, _CLAIM, *where, beyond=page.told)
        if _gone(page) > acked:
            raise ClaimError(_CLAIM, f"record {_gone(page)} is gone; acknowledged are {acked}")
        return (not page.waiting and acked == page.told) or None

    await until(stage, _CLAIM, empty, f"{chronicle.agent.name} could not tell all it had to")
    return early


async def _compare(stage: Stage, chronicle: Chronicle) -> int:
    """Compare ledger and store, number by number and byte by byte; return how many there are.

    Raises:
        ClaimError: something was lost, came twice, in another order, or as something else.
    """
    before = (await chronicle.look()).told

    async def told_by_now() -> list[dict[str, Any]] | None:
        found, acked = await events_of(stage, _CLAIM, chronicle.agent, chronicle.ledger)
        return found if acked >= before else None

    told = await until(stage, _CLAIM, told_by_now, f"record {before} did not arrive")
    arrived = await _from_store(arrivals, stage, chronicle.agent, chronicle.ledger)
    after = (await chronicle.look()).told
    for numbers in ([event["number"] for event in told], [number for number, _ in arrived]):
        check_same(numbers, at_least=before, at_most=after)
    stored = dict(arrived)
    for number, body in chronicle.records.items():
        if number in stored and stored[number] != body:
            raise ClaimError(_CLAIM, f"record {number} is another one in the store")
    return len(arrived)


def _gone(page: Page) -> int:
    """Return the highest number that waits no more: the outbox goes from its front."""
    return page.told - len(page.waiting)


async def _from_store(
    look: Callable[[Path, str, str], Found], stage: Stage, agent: Agent, ledger: str
) -> Found:
    store, device = stage.centre_home / "store.db", stage.ids[agent.name]
    try:
        return await asyncio.to_thread(look, store, device, ledger)
    except sqlite3.Error as error:
        raise ClaimError(_CLAIM, f"the centre's store can't be read: {error}") from error


async def _read(agent: Agent) -> Page:
    try:
        return await asyncio.to_thread(read, agent.home)
    except sqlite3.Error as error:
        raise ClaimError(_CLAIM, f"the ledger of {agent.name} can't be read: {error}") from error


def check_same(found: Sequence[int], *, at_least: int, at_most: int) -> None:
    """Compare the numbers that arrived with those that were given: all from 1, in order.

    The device goes on telling how it is: one more may have come since its ledger was first read.

    Raises:
        ClaimError: some were lost, came twice, or in another order.
    """
    newest = min(max(at_least, *found), at_most)
    wanted = list(range(1, newest + 1))
    lost, twice = sorted(set(wanted) - set(found)), len(found) - len(set(found))
    if lost:
        raise ClaimError(_CLAIM, f"{len(lost)} records were lost; the first is {lost[0]}")
    if twice:
        raise ClaimError(_CLAIM, f"{twice} records came twice")
    if list(found) != list(wanted):
        raise ClaimError(_CLAIM, "the records came in another order, or some that nobody told")


def missed(chronicle: Chronicle, heard: Heard) -> int:
    """Count the requests to the killed device that nobody could answer.

    Raises:
        ClaimError: one of them was asked and failed while nothing was dead.
    """
    for each in heard.failed:
        if not any(
            began <= each.failed_at and each.asked_at <= ended for began, ended in chronicle.dead
        ):
            raise ClaimError(_CLAIM, f"a request to {chronicle.agent.name} failed: {each.text}")
    return len(heard.failed)


async def _answers_again(stage: Stage, agent: Agent) -> None:
    """Wait until a device answers as it always did."""

    async def answers() -> bool | None:
        try:
            given = await answers_of(stage, _CLAIM, agent)
        except ClaimError:
            return None
        stage.given += len(given)
        return given == stage.answers[GOOD][agent.name] or None

    await until(stage, _CLAIM, answers, f"{agent.name} does not serve {GOOD} again")
