"""When what serves on this device may be changed: its maintenance windows, and who waits for one.

What waits is in the ledger (a candidate's problem), so that a device that starts again
in the middle of the day waits on without a word.
"""

import asyncio
from collections.abc import Callable, Mapping

from agent.patience import Patience
from agent.state import Record
from agent.windows import maintenance
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.windows import waits_for_window

_KEPT = frozenset({Phase.TESTING, Phase.ACTIVATING, Phase.PROBATION})


class Maintenance:
    """Looks at the clock for candidates that are ready; lets them go when a window opens."""

    def __init__(
        self,
        patience: Patience,
        *,
        desired: Callable[[], v1.Desired | None],
        clock: Callable[[], str],
    ) -> None:
        self._patience, self._desired, self._clock = patience, desired, clock
        self._shut = False

    def look(self, records: Mapping[str, Record]) -> tuple[v1.Problem | None, float | None]:
        """Return why nothing that serves may be changed now, and the loop time to look again.

        When something may be, what waited for that is let go, a little spread.
        """
        desired, now_s = self._desired(), asyncio.get_running_loop().time()
        if desired is None or not any(each.phase in _KEPT for each in records.values()):
            return None, None
        found = maintenance(desired.settings, desired.issued_at, self._clock())
        if found.shut is None and self._shut and desired.settings.maintenance_windows:
            for name, record in records.items():
                reason = record.problem.reason if record.problem else None
                if waits_for_window(record.phase, reason):
                    self._patience.released(name, now_s)
        self._shut = found.shut is not None
        return found.shut, None if found.look_again_s is None else now_s + found.look_again_s
