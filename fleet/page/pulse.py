"""Says that something moved: a number that rises, for pages that look again when it does.

Level-triggered: a beat carries no content, and whoever missed some needs only the last.
The store is watched for commits of anybody, and time passes too: a device that falls silent
writes nothing. While nobody listens, nothing is looked at.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator

from fleet.store.engine import Store

LOOK_S = 0.25
"""How soon a commit is noticed."""

LEAST_S = 1.0
"""Between two beats: a fleet that reports all the time is not looked at more often."""

TICK_S = 5.0
"""Without a commit: for what only time changes."""

PING_S = 15.0
"""A listener hears at least this often; who hears nothing for twice as long is not live."""

LISTENERS_LIMIT = 200
"""One a browser; each costs a connection."""


class Pulse:
    """`run()` until cancelled; `beats()` is what one listener hears."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._boot = secrets.token_hex(4)  # numbers of an earlier process say nothing here
        self._number = 0
        self._listeners = 0
        self._wanted = asyncio.Event()
        self._moved = asyncio.Condition()
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether no further listener is taken."""
        return self._listeners >= LISTENERS_LIMIT

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return self._listeners

    @property
    def position(self) -> str:
        """The number of the last beat."""
        return f"{self._boot}-{self._number}"

    async def run(self) -> None:
        """Beat when something was committed, and when time has passed."""
        loop = asyncio.get_running_loop()
        seen, last = -1, loop.time() - TICK_S
        while True:
            await self._wanted.wait()
            version, now = await asyncio.to_thread(self._store.changes), loop.time()
            due = version != seen and now - last >= LEAST_S
            if due or now - last >= TICK_S:
                seen, last = version, now
                self._number += 1
                async with self._moved:
                    self._moved.notify_all()
            await asyncio.sleep(LOOK_S)

    async def beats(self, heard: str | None) -> AsyncIterator[str | None]:
        """Yield the position whenever it is not what was `heard`; None: nothing moved for long."""
        self._listeners += 1
        self._wanted.set()
        try:
            while not self._closed:
                if await self._is_past(heard):
                    heard = self.position
                    yield heard
                elif not self._closed:
                    yield None
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._wanted.clear()

    async def _is_past(self, heard: str | None) -> bool:
        """Wait for a beat after the one that was heard; False: there was none for long."""
        try:
            async with asyncio.timeout(PING_S), self._moved:
                await self._moved.wait_for(lambda: self._closed or self.position != heard)
        except TimeoutError:
            return False
        return not self._closed

    async def close(self) -> None:
        """Let every listener go: the centre ends."""
        self._closed = True
        async with self._moved:
            self._moved.notify_all()
