"""Tells receivers what they have not taken yet: each by itself, again and again until it has.

Rules:
- Each receiver is served by a task of its own: one that hangs holds up nobody else.
- A message counts as told once it was taken. A crash between the two tells it twice, with the
  same id.
- Of several centres on one store, one tells each message: who has claimed it there.
- A receiver that fails is tried again after a time that doubles, and its failure is shown.
"""

import asyncio
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy.exc import OperationalError

from fleet.alerts.alert import Alert, Silence
from fleet.alerts.messages import probe
from fleet.alerts.telling import LATE, due, firing
from fleet.clock import written
from fleet.identity.join import new_id
from fleet.receivers.configured import (
    RECEIVERS_LIMIT,
    Alertmanager,
    Receiver,
    ReceiverError,
    read,
)
from fleet.receivers.ways import Publish, Ways
from fleet.store import alerts, audit
from fleet.store.engine import Store
from fleet.store.errors import NotFoundError

LOOK_S = 2.0
AGAIN_S = 60.0
"""Without news: a silence may have ended, and an Alertmanager forgets what it doesn't hear of."""

FIRST_S = 5.0
CAP_S = 600.0

log = structlog.get_logger("fleet.receivers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How it goes with one receiver. `news` is what it was looked at for; `next_at` loop time."""

    news: int = -1
    attempts: int = 0
    failing_since: datetime | None = None
    error: str = ""
    next_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One receiver, and how it goes with it. `waiting` alerts are yet to be told to it."""

    receiver: Receiver
    standing: Standing
    taken_at: datetime | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """All receivers. `error`: the file can't be read; the ones from before are used."""

    shown: Sequence[Shown] = field(default=())
    error: str = ""


class Delivery:
    """`run()` until cancelled; `wake()` when there may be something to tell."""

    def __init__(
        self,
        *,
        fleet: str,
        store: Store,
        clock: Callable[[], datetime],
        file: Path,
        publish: Publish,
    ) -> None:
        self._store = store
        self._clock = clock
        self._file = file
        self._me = new_id("c-")
        # Of its own: a mail server that hangs takes no thread that somebody else waits for.
        self._threads = ThreadPoolExecutor(RECEIVERS_LIMIT, thread_name_prefix="mail")
        self._ways = Ways(fleet=fleet, clock=clock, publish=publish, threads=self._threads)
        self._known: tuple[Receiver, ...] = ()
        self._error = ""
        self._standing: dict[str, Standing] = {}
        self._taken_at: dict[str, datetime] = {}
        self._busy: set[str] = set()
        self._woken = asyncio.Event()
        self._news = 0

    def wake(self) -> None:
        """Look now. Call it on the loop's thread."""
        self._news += 1
        self._woken.set()

    async def run(self) -> None:
        """Tell whoever is to be told, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._woken.clear()
                    for receiver in await asyncio.to_thread(self._configured):
                        standing = self._standing.get(receiver.name, Standing())
                        fresh = standing.news != self._news and not standing.attempts
                        if receiver.name in self._busy or not (
                            fresh or loop.time() >= standing.next_at
                        ):
                            continue
                        self._busy.add(receiver.name)
                        tasks.create_task(self._serve(receiver), name=f"tell {receiver.name}")
                    try:
                        async with asyncio.timeout(LOOK_S):
                            await self._woken.wait()
                    except TimeoutError:
                        continue
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def test(self, name: str, *, actor: str) -> str:
        """Send a test to one receiver; return why it was not taken, or nothing.

        Raises:
            NotFoundError: there is no such receiver.
        """
        known = {each.name: each for each in await asyncio.to_thread(self._configured)}
        if name not in known and self._error:
            return self._error  # it may be in there: nobody can say
        if name not in known:
            raise NotFoundError("receiver", name)
        error = ""
        try:
            await self._ways.tell(known[name], probe(self._clock(), new_id("a-test-")))
        except ReceiverError as refused:
            error = str(refused)
        except Exception as fault:  # noqa: BLE001  # whoever asks is told what happened, whatever it was
            error = _fault(name, fault)
        await asyncio.to_thread(self._tested, name, actor, error)
        return error

    def failing(self) -> list[str]:
        """Return the names of the receivers that do not take what they are told."""
        names = [each.name for each in self._known]
        bad = [name for name in names if name in self._standing and self._standing[name].attempts]
        return [*bad, *(["receivers.toml"] if self._error else [])]

    def receivers(self) -> Receivers:
        """Return all receivers, and how it goes with them. Blocking."""
        known = self._configured()
        return Receivers(
            shown=[
                Shown(
                    receiver=each,
                    standing=self._standing.get(each.name, Standing()),
                    taken_at=self._taken_at.get(each.name),
                    waiting=len(self._due(each)[1]),
                )
                for each in known
            ],
            error=self._error,
        )

    def _configured(self) -> tuple[Receiver, ...]:
        try:
            self._known, self._error = read(self._file), ""
        except ReceiverError as error:
            if self._error != str(error):
                log.warning("receivers can't be read", why=str(error))
            self._error = str(error)
        return self._known

    async def _serve(self, receiver: Receiver) -> None:
        """Tell one receiver all that is due, until it takes one no more."""
        news = self._news
        try:
            all_told = await self._tell(receiver)
        except ReceiverError as error:
            self._failed(receiver, str(error))
        except OperationalError as error:
            log.warning("the store can't be used now", why=str(error.orig))
        except Exception as error:  # noqa: BLE001  # one receiver's trouble ends neither the others nor the centre
            self._failed(receiver, _fault(receiver.name, error))
        else:
            self._took(receiver, news, AGAIN_S if all_told else FIRST_S)
        finally:
            self._busy.discard(receiver.name)

    async def _tell(self, receiver: Receiver) -> bool:
        """Tell a receiver what is due; return False where another centre tells some of it."""
        every, waiting = await asyncio.to_thread(self._due, receiver)
        if isinstance(receiver.way, Alertmanager):
            await self._ways.tell_all(receiver.way, every)
        told = 0
        for alert in waiting:
            if not await asyncio.to_thread(self._claim, receiver, alert):
                continue
            was_taken = False
            try:
                await self._ways.tell(receiver, alert)
                was_taken = True
            finally:
                await asyncio.to_thread(self._settle, receiver, alert, was_taken=was_taken)
            self._taken_at[receiver.name] = self._clock()
            told += 1
        return told == len(waiting)

    def _due(self, receiver: Receiver) -> tuple[list[Alert], list[Alert]]:
        """Return what is open to a receiver, and what it has yet to be told. Blocking."""
        now = self._clock()
        with self._store.read() as connection:
            since = alerts.since(connection, receiver.name)
            taken = alerts.taken(connection, receiver.name)
            every = alerts.every_told(connection)
            silences: Sequence[Silence] = alerts.silences_after(connection, written(now - LATE))
        if isinstance(receiver.way, Alertmanager):
            return firing(every, least=receiver.least, silences=silences, now=now), []
        if since is None:
            with self._store.write() as connection:
                since = alerts.meet(connection, receiver.name)
        waiting = due(
            every,
            taken=taken,
            since=since,
            least=receiver.least,
            silences=silences,
            now=now,
        )
        return [], waiting

    def _claim(self, receiver: Receiver, alert: Alert) -> bool:
        with self._store.write() as connection:
            return alerts.claim(
                connection, receiver.name, alert, holder=self._me, now=self._clock()
            )

    def _settle(self, receiver: Receiver, alert: Alert, *, was_taken: bool) -> None:
        with self._store.write() as connection:
            alerts.settle(connection, receiver.name, alert, holder=self._me, was_taken=was_taken)

    def _took(self, receiver: Receiver, news: int, again_s: float) -> None:
        before = self._standing.get(receiver.name, Standing())
        next_at = asyncio.get_running_loop().time() + again_s
        self._standing[receiver.name] = Standing(news=news, next_at=next_at)
        if before.failing_since is not None:
            log.info("receiver answers again", receiver=receiver.name)

    def _failed(self, receiver: Receiver, error: str) -> None:
        before = self._standing.get(receiver.name, Standing())
        wait_s = min(CAP_S, FIRST_S * 2.0 ** min(before.attempts, 16))
        loop = asyncio.get_running_loop()
        self._standing[receiver.name] = replace(
            before,
            attempts=before.attempts + 1,
            failing_since=before.failing_since or self._clock(),
            error=error,
            next_at=loop.time() + wait_s,
        )
        if before.failing_since is None:
            log.warning("receiver does not take alerts", receiver=receiver.name, why=error)

    def _tested(self, name: str, actor: str, error: str) -> None:
        with self._store.write() as connection:
            entry = audit.Entry(
                at=written(self._clock()),
                actor=actor,
                action="alert.test",
                subject=name,
                after={"error": error},
            )
            audit.add(connection, entry)


def _fault(name: str, error: Exception) -> str:
    """Write down what nobody thought of; return it in words."""
    why = f"it could not be told: {error!r}"[:300]
    at = traceback.format_tb(error.__traceback__)[-1].strip()  # locals may hold a secret
    log.error("a fault of Skerry's own: report it", receiver=name, why=why, at=at)
    return why
