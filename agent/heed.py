"""What somebody at the device wants or found: a hold, a quarantine lifted, a stick, rot.

They leave it in files (`agent.technician`), which are looked at when the agent
starts and whenever it is nudged. What could not be taken is tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

import structlog

from agent.clock import clock
from agent.home import Home
from agent.ledger import Ledger
from agent.ledger_file import LedgerError
from agent.ports import Arrived
from agent.state import hold_note, quarantine_note, text
from agent.technician import read_applied, read_hold, read_lifted, read_rotten
from agent.wire import v1
from agent.wire.topics import Kind

_LOOK_AGAIN_S = 5.0

_log = structlog.get_logger()


class Heed:
    """Looks at what a technician left. `changed` is called whenever there is something new.

    `judge` is asked about a desired document from a stick as about one that arrived; `brought`
    is called when one was judged: there may be bundles now that could not be fetched.
    `rotten` hears of bundles that are no longer whole in the store.
    """

    def __init__(
        self,
        ledger: Ledger,
        home: Home,
        changed: Callable[[], None],
        *,
        judge: Callable[[Arrived], Awaitable[bool]],
        brought: Callable[[], None],
        rotten: Callable[[Mapping[str, Collection[str]]], Awaitable[None]],
    ) -> None:
        self._ledger, self._home, self._changed = ledger, home, changed
        self._judge, self._brought, self._rotten = judge, brought, rotten

    async def run(self, nudged: asyncio.Event) -> None:
        """Look at once, and whenever nudged, until cancelled."""
        while True:
            nudged.clear()
            looked = await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if looked else _LOOK_AGAIN_S):
                    await nudged.wait()

    async def look(self) -> bool:
        """Take what is there into the ledger; return False when that has to be tried again."""
        try:
            await self._look_at_hold()
            await self._look_at_lifted()
            await self._look_at_rotten()
            return await self._look_at_applied()
        except (OSError, LedgerError) as error:
            await _log.awarning("can't look what is wanted here", message=text(error))
            return False

    async def _look_at_applied(self) -> bool:
        """Its files go once it is judged: what was refused is told as any refusal is."""
        envelope = await asyncio.to_thread(read_applied, self._home.applied)
        if envelope is None:
            return True
        arrived = Arrived(kind=Kind.DESIRED, payload=envelope, acknowledge=lambda: None)
        if not await self._judge(arrived):
            return False
        await asyncio.to_thread(self._home.expected.unlink, missing_ok=True)
        await asyncio.to_thread(self._home.applied.unlink, missing_ok=True)
        self._brought()
        return True

    async def _look_at_hold(self) -> None:
        found = await asyncio.to_thread(read_hold, self._home.hold)
        hold = None if found is None else v1.Hold(reason=found.reason, since=found.since)
        ended = self._ledger.owner_hold
        if hold != ended:
            note = hold_note(hold, ended)
            await asyncio.to_thread(self._ledger.heed, hold, note, at=clock())
            await _log.ainfo("held" if hold else "released", why=note.message)
            self._changed()

    async def _look_at_rotten(self) -> None:
        bundles = await asyncio.to_thread(read_rotten, self._home.rotten)
        if bundles is not None:
            await self._rotten(bundles)
            await asyncio.to_thread(self._home.rotten.unlink, missing_ok=True)

    async def _look_at_lifted(self) -> None:
        """The file goes once the ledger has it: killed in between, it is looked at once more."""
        lifted = await asyncio.to_thread(read_lifted, self._home.lifted)
        if lifted is None:
            return
        verdicts = [each for each in self._ledger.quarantined.values() if each.digest in lifted]
        if verdicts:
            digests = {each.digest for each in verdicts}
            records = list(self._ledger.records.values())
            notes = [quarantine_note(each, records, lifted=True) for each in verdicts]
            await asyncio.to_thread(self._ledger.forgive, digests, notes, at=clock())
            await _log.ainfo("quarantine lifted", digests=sorted(digests))
            self._changed()
        await asyncio.to_thread(self._home.lifted.unlink, missing_ok=True)
