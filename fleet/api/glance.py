"""The whole fleet at one look, shared by everybody who looks at the same time.

A look counts what has changed since the last one, so that it is short; it is kept while nothing
moves, and those who ask while one is being taken wait for one that began after they asked: however
many look, the fleet is counted by one. A look that took long is kept longer: a large fleet that
moves all the time leaves time for others.
"""

import threading
import time

from fleet.api.look import Look, look
from fleet.api.parts import Parts
from fleet.health.headcount import Headcount

KEPT_S = 5
"""For how long a look is kept where nothing was committed: only time has changed something."""

REST_LIMIT_S = 5.0
"""After a look as long again without one, but no longer than this. On a small fleet that is less
than `fleet.page.pulse.LEAST_S`, so that no beat is missed."""


class Glance:
    """Keeps the last look."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._headcount = Headcount()
        self._lock = threading.Lock()
        self._begun = 0
        self._key: tuple[int, int, bool] | None = None
        self._kept: Look | None = None
        self._rests_until = 0.0

    def look(self) -> Look:
        """Return a look that began after this was asked, or is as good as one. Blocking.

        Raises:
            RollUnreadError: the fleet is still being read for the first time.
        """
        self._parts.roll.call()  # all who ask meanwhile learn that, and nobody waits in a row
        asked = self._begun
        with self._lock:
            moment = int(self._parts.clock().timestamp()) // KEPT_S
            key = (self._parts.store.changes(), moment, self._parts.connected())
            began = time.perf_counter()  # in a thread there is no loop whose time it could be
            fresh = self._begun > asked or key == self._key or began < self._rests_until
            if self._kept is None or not fresh:
                self._begun += 1
                self._key, self._kept = key, look(self._parts, self._headcount)
                ended = time.perf_counter()
                self._rests_until = ended + min(REST_LIMIT_S, ended - began)
            return self._kept
