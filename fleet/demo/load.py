"""Clients that never stop asking: a thread for each device, and all that they were answered.

A request counts as failed when it is answered with anything but an inference of
the promised shape, or not at all. Failures carry the times at which they were
asked and failed: whether nobody could have answered then is for whoever reads
them to say.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import cycle

from fleet.demo.client import Answer, AnswerError, Endpoint, ask, connect
from fleet.demo.crew import ClaimError

_PAUSE_S = 0.05
_APART_S = 0.008
"""Between two requests of one client, and of all: light enough for two cores that do all else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A request that got no inference: when it was asked, when that was known, and what it got."""

    asked_at: float
    failed_at: float
    text: str


@dataclass(slots=True, kw_only=True)
class Heard:
    """What one client was answered since it was last looked at: answers by row."""

    answers: Counter[tuple[int, Answer]] = field(default_factory=Counter)
    failed: list[Failed] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many inferences."""
        return self.answers.total()


def check_no_failure(claim: str, name: str, failed: Sequence[Failed]) -> None:
    """Check that no request to a device failed.

    Raises:
        ClaimError: some did.
    """
    if failed:
        raise ClaimError(
            claim, f"{len(failed)} requests to {name} failed, the first with {failed[0].text}"
        )


class Load:
    """Asks every device for the same rows, over and over, until it is closed."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], rows: Sequence[bytes], clock: Callable[[], float]
    ) -> None:
        """Begin. `clock` gives the times of failed requests."""
        self._rows, self._clock = rows, clock
        self._lock = threading.Lock()
        self._heard = {name: Heard() for name in endpoints}
        self._pause_s = max(_PAUSE_S, _APART_S * len(endpoints))
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(name, endpoint), name=f"client of {name}")
            for name, endpoint in endpoints.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def count(self) -> dict[str, int]:
        """Return how many answers each device has given since they were last taken."""
        with self._lock:
            return {name: heard.answered for name, heard in self._heard.items()}

    def failures(self) -> dict[str, list[Failed]]:
        """Return the failed requests of each device since they were last taken."""
        with self._lock:
            return {name: list(heard.failed) for name, heard in self._heard.items()}

    def take(self) -> dict[str, Heard]:
        """Return what each device answered since the last call."""
        with self._lock:
            taken = self._heard
            self._heard = {name: Heard() for name in taken}
        return taken

    def _ask(self, name: str, endpoint: Endpoint) -> None:
        connection = connect(endpoint.port)
        for place, row in cycle(enumerate(self._rows)):
            if self._stop.wait(self._pause_s):
                break
            asked_at = self._clock()
            try:
                answer = ask(connection, endpoint, row)
            except (AnswerError, OSError, HTTPException) as error:
                connection.close()  # it opens again by itself
                failed = Failed(
                    asked_at=asked_at,
                    failed_at=self._clock(),
                    text=f"{type(error).__name__}: {error}",
                )
                with self._lock:
                    self._heard[name].failed.append(failed)
            else:
                with self._lock:
                    self._heard[name].answers[place, answer] += 1
        connection.close()
