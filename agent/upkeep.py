"""What a running agent does for its store now and then: reads all of it again.

Slowly, in a child, and so seldom that no card is worn and no core is kept busy.
What fails is done at the next turn: nothing that serves depends on it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from agent.errors import StepError
from agent.ledger_file import LedgerError
from agent.scrub import Found
from agent.state import text

FIRST_S = 3600.0
"""After the start, which has work of its own; what restarts every night is scrubbed, too."""

PERIOD_S = 7 * 86400.0

_log = structlog.get_logger()


class Upkeep:
    """Scrubs the store once a week. `scrub` reads it; `rotten` hears what was found, always."""

    def __init__(
        self,
        scrub: Callable[[], Awaitable[Found]],
        rotten: Callable[[Mapping[str, Collection[str]]], Awaitable[None]],
    ) -> None:
        self._scrub, self._rotten = scrub, rotten

    async def run(self) -> None:
        """Scrub whenever it is time, until cancelled."""
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                found = await self._scrub()
                await _log.ainfo("scrubbed", read_bytes=found.read_bytes, rotten=len(found.bundles))
                await self._rotten(found.bundles)
            except (StepError, LedgerError, OSError) as error:
                await _log.awarning("not scrubbed", message=text(error))
            await asyncio.sleep(PERIOD_S)
