"""Tells the centre what the ledger has for it: in order, and again until it is acknowledged.

Rules:
- A broker's receipt is not the centre's. What is not acknowledged within a while
  is sent again, and after every reconnection; the centre knows the numbers it has.
- A broker that has forgotten the centre takes messages that nobody hears, until the
  centre is back: later ones would arrive before earlier ones. So each connection
  begins with one event alone, and goes on when somebody is subscribed to it.
- `REPLAY_PER_S`, whatever wakes us and whether anybody hears it, so that a fleet which
  comes back together doesn't shut its centre down with what it has to tell. What happens
  meanwhile waits its turn: order is kept.
- Health goes out at once, and is not said again: what a cut cable swallows before
  anybody notices is lost. Where there is no connection it waits among the events.
"""

import asyncio
import random
from collections.abc import Sequence

import structlog

from agent.backoff import full_jitter_s
from agent.bucket import Bucket
from agent.ledger import Ledger
from agent.ledger_events import Pending
from agent.ledger_file import LedgerError
from agent.ports import Link, LinkDownError, LinkRefusedError
from agent.state import Note, text
from agent.wire import codec, v1
from agent.wire.codec import WireError
from agent.wire.limits import REPLAY_PER_S
from agent.wire.topics import Kind

AGAIN_S = 15.0
_AGAIN_CAP_S = 300.0
_UNHEARD_CAP_S = 30.0
"""How long to wait at most before somebody may be subscribed: the centre is coming back."""

_log = structlog.get_logger()


class Outbox:
    """Sends events while there is a connection."""

    def __init__(self, ledger: Ledger, link: Link) -> None:
        self._ledger, self._link = ledger, link
        self._woken = asyncio.Event()
        self._sent = 0
        self._connections = 0
        self._heard = False
        self._unheard = 0
        self._again_s = AGAIN_S
        self._bucket = Bucket(per_s=REPLAY_PER_S, burst=REPLAY_PER_S)

    def wake(self) -> None:
        """Look again: there may be more to tell, or some of it was acknowledged."""
        self._woken.set()

    def start_over(self) -> None:
        """Send again what is not acknowledged: the connection is new."""
        self._sent = 0
        self._connections += 1
        self._heard, self._unheard = False, 0
        self._again_s = AGAIN_S
        self.wake()

    async def say(self, health: v1.Health) -> None:
        """Say how the device feels now, or keep it until that can be told."""
        try:
            await self._link.publish(Kind.HEALTH, codec.encode(health))
        except LinkDownError:
            await self._keep(health)
        except (LinkRefusedError, WireError) as error:
            # As an event it would be as large, and refused for ever: nothing after it would go.
            await _log.adebug("health not taken", message=str(error))

    async def run(self) -> None:
        """Send until cancelled."""
        oldest = 0
        while True:
            self._woken.clear()
            pending = await asyncio.to_thread(self._ledger.pending)
            if pending and pending[0].number != oldest:
                oldest, self._again_s = pending[0].number, AGAIN_S
            await self._send([each for each in pending if each.number > self._sent])
            await self._rest(pending)

    async def _rest(self, pending: Sequence[Pending]) -> None:
        """Wait until there is something to send: new, or again."""
        wait_s = self._again_s if pending else None
        if pending and self._unheard:
            wait_s = full_jitter_s(self._unheard, random.random(), cap_s=_UNHEARD_CAP_S)  # noqa: S311  # not a secret
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            self._sent = 0
            if not self._unheard:
                self._again_s = min(2 * self._again_s, _AGAIN_CAP_S)

    async def _send(self, events: list[Pending]) -> None:
        loop = asyncio.get_running_loop()
        connections = self._connections
        while events:
            count = REPLAY_PER_S if self._heard else 1
            batch, events = events[:count], events[count:]
            await asyncio.sleep(self._bucket.wait_s(loop.time(), len(batch)))
            if connections != self._connections:
                return  # a new connection meanwhile: what went before is said again first
            self._bucket.take(loop.time(), len(batch))
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._publish(each), name=f"event {each.number}")
                    for each in batch
                ]
            self._heard = all(task.result() for task in tasks)
            if connections != self._connections or not self._heard:
                return
            self._sent = batch[-1].number

    async def _publish(self, event: Pending) -> bool:
        """Say an event; return whether somebody hears it."""
        try:
            heard = await self._link.publish(Kind.EVENT, event.body)
        except (LinkDownError, LinkRefusedError):
            return False
        self._unheard = 0 if heard else self._unheard + 1
        return heard

    async def _keep(self, health: v1.Health) -> None:
        note = Note(kind=v1.EventKind.HEALTH, health=health)
        try:
            await asyncio.to_thread(self._ledger.tell, note, at=health.at)
        except (LedgerError, WireError) as error:
            await _log.awarning("health not kept", message=text(error))
        self.wake()
