"""When each deployment is tried again: how often it failed, and how long it waits. Loop time.

Three lines of waiting a deployment: its candidate's next step, the next attempt
to start what should be serving, and the next to mend it. They know nothing of each other.
"""

import random

from agent.backoff import full_jitter_s

_BASE_S = 2.0
_CAP_S = 300.0
_BETTER_CAP_S = 3600.0
"""Of what serves all the same: each try reads all of it, or measures it."""

_SPREAD_S = 60.0

LIVED_S = 600.0
"""What died too often counts as well again when it has lived that long."""


class Patience:
    """The waits of one process; a restart of the agent begins with none."""

    def __init__(self) -> None:
        self.waits: dict[str, float] = {}
        self.restore_waits: dict[str, float] = {}
        self.mend_waits: dict[str, float] = {}
        self.recoveries: dict[str, float] = {}
        self._attempts: dict[str, int] = {}
        self._restore_attempts: dict[str, int] = {}
        self._mend_attempts: dict[str, int] = {}
        self._relapses: dict[str, int] = {}

    def failed(self, name: str, now_s: float) -> tuple[int, float]:
        """Put off a candidate's step; return how often it failed, and how long it waits."""
        return _put_off(name, now_s, self._attempts, self.waits)

    def mend_failed(self, name: str, now_s: float) -> tuple[int, float]:
        """Put off mending what serves all the same; return the same."""
        return _put_off(name, now_s, self._mend_attempts, self.mend_waits, cap_s=_BETTER_CAP_S)

    def choice_failed(self, name: str, now_s: float) -> tuple[int, float]:
        """Put off choosing again how to serve what serves all the same; return the same."""
        return _put_off(name, now_s, self._attempts, self.waits, cap_s=_BETTER_CAP_S)

    def attempts(self, name: str) -> int:
        """Return how often a candidate's step has failed so far."""
        return self._attempts.get(name, 0)

    def restore_failed(self, name: str, now_s: float) -> tuple[int, float]:
        """Put off starting what should serve; return the same."""
        return _put_off(name, now_s, self._restore_attempts, self.restore_waits)

    def relapsed(self, name: str, now_s: float) -> None:
        """Put off starting again what died too often, and has nothing before it."""
        self.recoveries.pop(name, None)
        _put_off(name, now_s, self._relapses, self.restore_waits)

    def restored(self, name: str, now_s: float, *, ailing: bool) -> None:
        """What should serve was started; `ailing`: there is a complaint to take back one day."""
        self.restore_waits.pop(name, None)
        self._restore_attempts.pop(name, None)
        if ailing or name in self._relapses:
            self.recoveries[name] = now_s + LIVED_S

    def recovered(self, name: str) -> None:
        """It has lived long enough."""
        self.recoveries.pop(name, None)
        self._relapses.pop(name, None)

    def moved_on(self, name: str) -> None:
        """A candidate came further, or gave way to another: it waits for nothing."""
        self.waits.pop(name, None)
        self._attempts.pop(name, None)

    def mended(self, name: str) -> None:
        """It is whole again, or something else is needed."""
        self.mend_waits.pop(name, None)
        self._mend_attempts.pop(name, None)

    def replaced(self, name: str) -> None:
        """Something else serves from now on, or nothing: all is forgotten."""
        self.moved_on(name)
        self.mended(name)
        self.recovered(name)
        self.restore_waits.pop(name, None)
        self._restore_attempts.pop(name, None)

    def released(self, name: str, now_s: float) -> None:
        """What many waited for has come: try again soon, not all of them in the same second."""
        soon = now_s + _SPREAD_S * random.random()  # noqa: S311  # not a secret
        self.waits[name] = self.mend_waits[name] = soon

    def hurry(self, name: str, now_s: float) -> None:
        """Try again soon what waits for the network, a little spread: it may be back."""
        soon = now_s + full_jitter_s(1, random.random(), base_s=_BASE_S)  # noqa: S311  # not a secret
        for waits in (self.waits, self.mend_waits):
            waits[name] = min(waits.get(name, now_s), soon)


def _put_off(
    name: str,
    now_s: float,
    attempts: dict[str, int],
    waits: dict[str, float],
    *,
    cap_s: float = _CAP_S,
) -> tuple[int, float]:
    attempt = attempts.get(name, 0)
    attempts[name] = attempt + 1
    wait_s = full_jitter_s(attempt, random.random(), base_s=_BASE_S, cap_s=cap_s)  # noqa: S311  # not a secret
    waits[name] = now_s + wait_s
    return attempt + 1, wait_s
