"""Tells the centre what the ledger has for it: in order, and again until it is acknowledged.

A broker's receipt is not the centre's. What is not acknowledged within a while
is sent again, and after every reconnection; the centre knows the numbers it has.
"""

import asyncio

from agent.ledger import Ledger, Pending
from agent.ports import Link, LinkDownError, LinkRefusedError
from agent.wire.topics import Kind

AGAIN_S = 15.0
_AGAIN_CAP_S = 300.0
_AT_ONCE = 16
"""Events handed to the broker together; the window is the ledger's."""


class Outbox:
    """Sends events while there is a connection."""

    def __init__(self, ledger: Ledger, link: Link) -> None:
        self._ledger, self._link = ledger, link
        self._woken = asyncio.Event()
        self._sent = 0
        self._connections = 0
        self._again_s = AGAIN_S

    def wake(self) -> None:
        """Look again: there may be more to tell, or some of it was acknowledged."""
        self._woken.set()

    def start_over(self) -> None:
        """Send again what is not acknowledged: the connection is new."""
        self._sent = 0
        self._connections += 1
        self._again_s = AGAIN_S
        self.wake()

    async def run(self) -> None:
        """Send until cancelled."""
        oldest = 0
        while True:
            self._woken.clear()
            pending = await asyncio.to_thread(self._ledger.pending)
            if pending and pending[0].number != oldest:
                oldest, self._again_s = pending[0].number, AGAIN_S
            await self._send([each for each in pending if each.number > self._sent])
            try:
                async with asyncio.timeout(self._again_s if pending else None):
                    await self._woken.wait()
            except TimeoutError:
                self._sent = 0
                self._again_s = min(2 * self._again_s, _AGAIN_CAP_S)

    async def _send(self, events: list[Pending]) -> None:
        connections = self._connections
        for start in range(0, len(events), _AT_ONCE):
            batch = events[start : start + _AT_ONCE]
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._publish(each), name=f"event {each.number}")
                    for each in batch
                ]
            if connections != self._connections or not all(task.result() for task in tasks):
                return  # a new connection meanwhile: what went before is said again first
            self._sent = batch[-1].number

    async def _publish(self, event: Pending) -> bool:
        try:
            await self._link.publish(Kind.EVENT, event.body)
        except (LinkDownError, LinkRefusedError):
            return False
        return True
