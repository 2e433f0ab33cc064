"""One deployment's place: the workers that answer there, and how often one of them died."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agent.serving.shadow import Shadow
from agent.workers.pool import Worker, WorkerError

RESTARTS_LIMIT = 5
RESTARTS_WINDOW_S = 60.0
"""Five deaths in a minute are a model that can't live here; Frigate's watchdog counts alike."""


@dataclass(slots=True, eq=False)
class Seat:
    """Workers of one launch, any of which may take a request.

    A dead one stays in `pool` until another takes its place, or the whole is replaced.
    `missing` are those dead ones beside which others live, and whose place could not be
    filled so far, with why; each is still tried. One revival has its turn at a time.
    `shadow` is a candidate that gets copies of what is answered here.
    `answering` is set while one lives, or none is started again (`given_up` says why).
    """

    name: str
    pool: tuple[Worker, ...] = ()
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    deaths: deque[float] = field(default_factory=deque)
    missing: dict[Worker, WorkerError] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    given_up: str | None = None
    shadow: Shadow | None = None

    @property
    def least_busy(self) -> Worker | None:
        """The living worker with the shortest line; None when there is none now."""
        living = (each for each in self.pool if not each.gone)
        return min(living, key=lambda each: each.line, default=None)

    @property
    def launched(self) -> Worker | None:
        """A worker even when all are dead and being replaced; None: nothing was installed."""
        return self.least_busy or next(iter(self.pool), None)

    def refill(self, pool: Sequence[Worker]) -> tuple[Worker, ...]:
        """Begin anew with other workers, by one reference; return those that answer no more."""
        incumbents, self.pool = self.pool, tuple(pool)
        self.deaths.clear()
        self.missing.clear()
        self.given_up = None
        self.answering.set()
        return tuple(each for each in incumbents if each not in self.pool)

    def replace(self, dead: Worker, fresh: Worker) -> None:
        """Let `fresh` answer where `dead` did, under the number it has by now."""
        fresh.launch = dead.launch
        self.missing.pop(dead, None)
        self.pool = tuple(fresh if each is dead else each for each in self.pool)
        self.answering.set()

    def renumber(self, revision: int) -> None:
        """Let all, and whoever replaces them, go on under another revision."""
        for each in self.pool:
            each.launch = replace(each.launch, revision=revision)

    def died_too_often(self, now_s: float) -> bool:
        """Note a death; tell whether it was one too many.

        It is the content that dies, whichever worker it is in. But all of a large
        pool may die at once by the machine's doing, and that once is not too often.
        """
        self.deaths.append(now_s)
        while self.deaths[0] < now_s - RESTARTS_WINDOW_S:
            self.deaths.popleft()
        return len(self.deaths) >= max(RESTARTS_LIMIT, len(self.pool) + 1)
