"""A candidate in the incumbent's shadow: it answers copies of live requests, for nobody.

What is live always goes first: copies are only taken while the candidate keeps
up, and its process gives way to every other. Nothing of a request or of its
answers is kept; counts are all that comes out.
"""

import asyncio
from dataclasses import replace

from agent import shadow
from agent.state import Compared
from agent.wire import v1
from agent.workers.pool import Worker
from agent.workers.values import Answer, Asked

_WAITING_LIMIT = 2
"""Copies that wait for the candidate: each may be megabytes of picture."""


class Shadow:
    """Counts how a candidate's answers compare with the incumbent's."""

    def __init__(self, candidate: Worker, wanted: v1.ShadowSettings) -> None:
        self.seen = Compared()
        self._candidate, self._wanted = candidate, wanted
        self._answered = 0
        self._waiting: asyncio.Queue[tuple[Asked, Answer]] = asyncio.Queue(_WAITING_LIMIT)

    def offer(self, asked: Asked, answer: Answer) -> None:
        """Take a copy of what the incumbent answered, where its turn has come. Never waits."""
        self._answered += 1
        if shadow.due(self._wanted, self._answered) and not self._waiting.full():
            self._waiting.put_nowait((asked, answer))

    async def compare(self) -> None:
        """Compare until it is known whether the candidate agrees, or for as long as may be.

        Raises:
            WorkerError: the candidate died.
        """
        self._candidate.step_back()
        try:
            async with asyncio.timeout(self._wanted.limit_s):
                while not shadow.ends(self._wanted, self.seen):
                    self._count(await self._candidate.agrees(*await self._waiting.get()))
        except TimeoutError:
            return

    def _count(self, agreed: bool | None) -> None:  # noqa: FBT001  # what it counts
        if agreed is None:
            self.seen = replace(self.seen, apart=self.seen.apart + 1)
        else:
            self.seen = replace(
                self.seen, requests=self.seen.requests + 1, agreed=self.seen.agreed + agreed
            )
