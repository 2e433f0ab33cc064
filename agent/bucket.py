"""A token bucket: how often something may be done, with a burst now and then. Pure.

Time is an argument (seconds, monotonic). Whoever must wait keeps what it has to say and says the
latest of it then: nothing here is ever refused.
"""


class Bucket:
    """Holds up to `burst` tokens, and gets `per_s` of them a second; full to begin with."""

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._each_s, self._burst = 1 / per_s, burst
        self._full_at = float("-inf")

    def wait_s(self, now: float, count: int = 1) -> float:
        """Return in how long there are `count` tokens, at most a burst of them."""
        return max(0.0, self._full_at - (self._burst - count) * self._each_s - now)

    def take(self, now: float, count: int = 1) -> None:
        """Take tokens; whoever did not wait for them makes the next wait longer."""
        self._full_at = max(self._full_at, now) + count * self._each_s
