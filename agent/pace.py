"""How long to wait after some bytes, so that no more of them come in a second than may. Pure."""

from dataclasses import dataclass, field

_CREDIT_S = 1.0
"""What was not used up to now may be made up for, of this much time: a line stutters."""


@dataclass(slots=True)
class Pace:
    """A bucket that fills with `rate_bytes_per_s`, and holds a second's worth; None: no bound."""

    rate_bytes_per_s: float | None
    _paid_until_s: float = field(default=float("-inf"), init=False)

    def owed_s(self, taken_bytes: int, now_s: float) -> float:
        """Take these bytes at `now_s` (seconds, monotonic); return how long to wait after them."""
        if self.rate_bytes_per_s is None:
            return 0.0
        begin_s = max(self._paid_until_s, now_s - _CREDIT_S)
        if self._paid_until_s == float("-inf"):
            begin_s = now_s  # nothing was saved before the first
        self._paid_until_s = begin_s + taken_bytes / self.rate_bytes_per_s
        return max(0.0, self._paid_until_s - now_s)
