"""A client that never stops asking, and knows when each request that failed was under way."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import cycle

from tests.e2e.scene import Asking, Device
from tests.e2e.wares import Model

_PAUSE_S = 0.01
_AFTER_FAILURE_S = 0.05


def clock() -> float:
    """Return this process's own time, by which its events are compared."""
    return time.monotonic()  # noqa: TID251  # other processes, real time


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something was so."""

    begun: float
    ended: float

    def meets(self, other: "Span") -> bool:
        return self.begun <= other.ended and other.begun <= self.ended


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that was not answered as it should be."""

    under_way: Span
    status: int | None
    said: str


@dataclass(slots=True)
class Harm:
    """When we killed what answers: a worker in a moment, an agent until all answered again."""

    workers: list[Span] = field(default_factory=list)
    agents: list[Span] = field(default_factory=list)


class Client(Asking):
    """Asks every deployment in turn, one request at a time; each answer must be the model's own."""

    def __init__(self, device: Device, model: Model, names: Sequence[str]) -> None:
        super().__init__()
        self._device, self._model, self._names = device, model, names
        self.answered = 0
        self.failed: list[Failed] = []
        self.longest_s = 0.0

    def _ask(self) -> None:
        names, probes = (
            cycle(self._names),
            cycle(zip(self._model.probes, self._model.answers, strict=True)),
        )
        for name, (probe, wanted) in zip(names, probes, strict=False):
            if self._stop.wait(_PAUSE_S):
                return
            begun = clock()
            status: int | None
            try:
                status, answer = self._device.infer(probe, name)
            except (OSError, HTTPException) as error:
                status, answer = None, f"{type(error).__name__}: {error}".encode()
            span = Span(begun, clock())
            if status == 200 and answer == wanted:
                self.answered += 1
                self.longest_s = max(self.longest_s, span.ended - span.begun)
            else:
                said = answer.decode(errors="replace")[:300]
                self.failed.append(Failed(span, status, said))
                self._stop.wait(_AFTER_FAILURE_S)


def unexplained(failed: Sequence[Failed], harm: Harm) -> list[Failed]:
    """Return the failures that no kill explains.

    A worker's death explains one: the request that was under way in it, which is told so. While
    we had killed the agent, nobody could answer.
    """
    deaths = list(harm.workers)
    left = []
    for each in failed:
        if any(each.under_way.meets(span) for span in harm.agents):
            continue
        over = next((span for span in deaths if each.under_way.meets(span)), None)
        if over is None or each.status != 500 or "died over this request" not in each.said:
            left.append(each)
        else:
            deaths.remove(over)
    return left
