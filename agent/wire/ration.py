"""How often one cause may be logged: the first lines of a minute, then only their number. Pure.

A device that can't reach its centre for a month says so in a few lines a
minute, and what else happened in that month is still in the log. The centre's log
keeps to the same, for ten thousand devices that do so at once.
"""

from dataclasses import dataclass

LINES = 20
"""Of one cause in one window: a burst is seen from its beginning."""
WINDOW_S = 60.0
CAUSES = 256
"""Kept apart at once; beyond that the one whose window began first makes room."""


@dataclass(slots=True)
class _Window:
    began: float
    lines: int = 0
    held_back: int = 0


class Ration:
    """Says which lines are let through, and what was held back meanwhile."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def admit(self, cause: str, now: float) -> bool:
        """Return whether one more line of a cause is let through at `now` (seconds, monotonic)."""
        window = self._windows.get(cause)
        if window is None or now - window.began >= WINDOW_S:
            if window is None and len(self._windows) >= CAUSES:
                self._windows.pop(min(self._windows, key=lambda each: self._windows[each].began))
            held_back = window.held_back if window else 0
            window = self._windows[cause] = _Window(now, held_back=held_back)
        if window.lines >= LINES:
            window.held_back += 1
            return False
        window.lines += 1
        return True

    def owed(self, now: float) -> dict[str, int]:
        """Return how many lines of which causes were held back in windows that are over, once."""
        found = {}
        for cause, window in self._windows.items():
            # A window that began anew has room again: what it owes is from the one before.
            if window.held_back and (now - window.began >= WINDOW_S or window.lines < LINES):
                found[cause] = window.held_back
                window.held_back = 0
        return found
