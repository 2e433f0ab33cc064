"""A token bucket: how often something may be done, or how many bytes may come. Pure.

Time is an argument (seconds, monotonic). Nothing here is ever refused: whoever has something to
say waits before it, and says the latest of it then; whoever reads waits after it.
"""


class Bucket:
    """Holds up to `burst` tokens, and gets `per_s` of them a second; full to begin with."""

    def __init__(self, *, per_s: float, burst: float) -> None:
        self._each_s, self._burst = 1 / per_s, burst
        self._full_at = float("-inf")

    def wait_s(self, now: float, count: int = 1) -> float:
        """Return in how long there are `count` tokens, at most a burst; 0: none are owed."""
        return max(0.0, self._full_at - (self._burst - count) * self._each_s - now)

    def take(self, now: float, count: int = 1) -> None:
        """Take tokens; whoever did not wait for them makes the next wait longer."""
        self._full_at = max(self._full_at, now) + count * self._each_s
