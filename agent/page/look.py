"""Looks at the device whenever somebody asks for the page, and changes nothing of it."""

import asyncio
import platform
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from agent import policy
from agent.home import Home
from agent.ledger import Ledger
from agent.ledger_file import LedgerDamagedError, LedgerError
from agent.meter import Meter
from agent.page.seen import Line, Seen, Work
from agent.perform.floor import WorkerFloor
from agent.serving.switchboard import Switchboard
from agent.state import Machine, Vitals
from agent.vitals import vitals
from agent.wire import v1

READ_LIMIT_S = 2.0
"""How long to wait for what must be read: a person waits no longer either."""

Read = TypeVar("Read")


class Reading(Generic[Read]):
    """Reads in a thread what may hang. One read at a time, however often it is asked for."""

    def __init__(self, read: Callable[[], Read]) -> None:
        self._read = read
        self._under_way: asyncio.Future[Read] | None = None

    def begin(self) -> None:
        """Read, if nobody does already."""
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().run_in_executor(None, self._read)

    async def by(self, deadline: float) -> Read | None:
        """Return what was read by a moment in loop time; None: later. The next one may get it."""
        self.begin()
        assert self._under_way is not None  # noqa: S101  # for the type checker: it has begun
        limit_s = max(0.0, deadline - asyncio.get_running_loop().time())
        done, _ = await asyncio.wait([self._under_way], timeout=limit_s)
        if not done:
            return None
        read, self._under_way = self._under_way, None
        return read.result()


def working(meter: Meter, board: Switchboard, names: Collection[str]) -> Mapping[str, Work]:
    """Return what each of these deployments did, and what waits there now."""
    return {
        name: Work(
            requests=total.requests,
            errors=total.errors,
            restarts=total.restarts,
            bins=total.bins,
            seconds=total.seconds,
            workers=board.strength(name),
            queue=board.queue(name),
        )
        for name, total in sorted(meter.totals(names).items())
    }


class Onlooker:
    """Looks, and hears of the connection meanwhile.

    What is asked of the rest of the agent is in memory; nothing is asked of a model's process.
    """

    def __init__(
        self,
        machine: Machine,
        ledger: Ledger,
        floor: WorkerFloor,
        *,
        home: Path,
        clock: Callable[[], str],
        reported: Callable[[], v1.Reported],
        health: Callable[[], v1.Health | None],
    ) -> None:
        self._machine, self._ledger, self._floor = machine, ledger, floor
        self._home, self._clock = home, clock
        self._reported, self._health = reported, health
        self._started = clock()
        self._line = Line(connected=False, since=self._started)
        self._vitals = Reading(self._measure)
        self._past = Reading(self._remember)
        self._policy = Reading(lambda: policy.read(Home(home).policy).words())

    def connected(self) -> None:
        """A connection to the centre stands."""
        self._line = Line(connected=True, since=self._clock())

    def lost(self, why: str) -> None:
        """It is gone."""
        self._line = Line(connected=False, since=self._clock(), why=why)

    async def look(self) -> Seen:
        """Return how the device is now."""
        deadline = asyncio.get_running_loop().time() + READ_LIMIT_S
        self._past.begin()
        self._policy.begin()
        now = await self._vitals.by(deadline)
        past = await self._past.by(deadline)
        records = dict(self._ledger.records)
        current = self._floor.board.current
        return Seen(
            at=self._clock(),
            started=self._started,
            host=platform.node(),
            reported=self._reported(),
            records=records,
            answering=frozenset(name for name in records if current(name) is not None),
            given_up=self._floor.given_up(),
            serving=self._floor.serving(),
            compared=self._floor.compared(),
            health=self._health(),
            vitals=now,
            past=past,
            line=self._line,
            machine=self._machine,
            outbox=self._ledger.depth,
            outbox_bytes=self._ledger.outbox_bytes,
            may_ask=await self._policy.by(deadline),
        )

    def _measure(self) -> Vitals | None:
        with suppress(OSError):
            return vitals(self._home)
        return None

    def _remember(self) -> tuple[v1.Event, ...] | None:
        # Whoever writes the ledger next says what is wrong with it, and acts.
        with suppress(LedgerError, LedgerDamagedError):
            return self._ledger.latest()
        return None
