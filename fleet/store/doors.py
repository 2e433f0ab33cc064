"""The store as the link and the registry need it: the `Inbox`, `Outgoing` and `Bundles` ports.

Each call runs in a thread, because the store blocks. Cancelled in the middle,
it has committed or it has not; the link asks again and gets the same answer.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.exc import OperationalError

from agent.wire import v1
from agent.wire.topics import Kind, Topic
from fleet.clock import written
from fleet.ports import FromDevice, InboxBusyError, Publication, Received, RefTakenError
from fleet.store import arrivals, audit, bundles, changes, commands, desired
from fleet.store.engine import Store
from fleet.store.errors import ConflictError
from models import card_codec
from models.bundle import Bundle

Clock = Callable[[], datetime]


class StoreInbox:
    """Commits what devices say. `committed` is called after each batch: the world has moved.

    `count` is told, in a thread, what was committed and how long that took.
    `heard` is told what was committed, in the thread that did it.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        committed: Callable[[], None],
        count: Callable[[Sequence[FromDevice], float], None] = lambda _documents, _took_s: None,
        *,
        heard: Callable[[Sequence[FromDevice]], None] = lambda _documents: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._committed = committed
        self._count = count
        self._heard = heard

    async def commit(self, batch: Sequence[Received]) -> Sequence[v1.Acked]:
        """Commit a batch in one transaction, and say what is acknowledged by it.

        Raises:
            InboxBusyError: nothing was committed.
        """
        acked = await asyncio.to_thread(self._commit, batch)
        self._committed()
        return acked

    def _commit(self, batch: Sequence[Received]) -> Sequence[v1.Acked]:
        documents = [received.document for received in batch]
        began = time.perf_counter()  # in a thread there is no loop whose time it could be
        try:
            with self._store.write() as connection:
                acked = arrivals.commit(connection, documents, now=written(self._clock()))
        except OperationalError as error:
            raise InboxBusyError("the store can't commit now") from error
        self._count(documents, time.perf_counter() - began)
        self._heard(documents)
        return acked


class StoreOutgoing:
    """What the store wants published."""

    def __init__(self, store: Store, fleet: str, clock: Clock) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        with store.read() as connection:
            self.store_id = changes.store_id(connection)

    async def head(self) -> int:
        """Return the position of the latest change."""
        return await asyncio.to_thread(self._head)

    async def after(self, position: int, limit: int) -> Sequence[Publication]:
        """Return what changed above a position, in the order of the changes."""
        return await asyncio.to_thread(self._after, position, limit)

    def _head(self) -> int:
        with self._store.read() as connection:
            return changes.head(connection)

    def _after(self, position: int, limit: int) -> Sequence[Publication]:
        now = self._clock()
        with self._store.read() as connection:
            wanted = desired.after(connection, position, limit=limit)
            asked = commands.outstanding(connection, position, now=written(now), limit=limit)
        found = [
            Publication(
                position=change.position,
                topic=Topic(self._fleet, change.document.target, Kind.DESIRED),
                payload=change.document.envelope,
            )
            for change in wanted
        ]
        found += [
            Publication(
                position=each.position,
                topic=Topic(self._fleet, each.device, Kind.COMMAND),
                payload=each.envelope,
                expiry_s=_left_s(each.expires_at, now),
            )
            for each in asked
        ]
        return sorted(found, key=lambda each: each.position)[:limit]


def _left_s(expires_at: str, now: datetime) -> int:
    return max(1, int((datetime.fromisoformat(expires_at) - now).total_seconds()))


class StoreBundles:
    """Remembers published bundles."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def admit(self, bundle: Bundle, *, by: str) -> None:
        """Remember a verified bundle.

        Raises:
            RefTakenError: its name and version stand for another digest.
        """
        await asyncio.to_thread(self._admit, bundle, by)

    def _admit(self, bundle: Bundle, by: str) -> None:
        now = written(self._clock())
        published = bundles.PublishedBundle(
            digest=bundle.digest,
            name=bundle.ref.name,
            version=bundle.ref.version,
            card=card_codec.render(bundle.card),
            published_at=now,
        )
        try:
            with self._store.write() as connection:
                if bundles.add(connection, published):
                    entry = audit.Entry(
                        at=now,
                        actor=by,
                        action="publish",
                        subject=str(bundle.ref),
                        after={"digest": bundle.digest},
                    )
                    audit.add(connection, entry)
        except ConflictError as error:
            raise RefTakenError(str(error)) from error
