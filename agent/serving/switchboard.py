"""draft of signatures

    async with Switchboard(on_event=note) as board:
        board.expect("digits")                 # named in the ledger, not loaded yet: 503, not 404; not ready
        await board.install(worker, "digits")  # switch, drain the incumbent, close it
        await board.install(None, "digits")    # remove
        for counts in board.take_counts(): ...
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from agent.wire.reasons import Reason
from agent.wire.v1.health import LatencySketch
from agent.workers.pool import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent:
    """Something happened to a deployment's worker. `kind`: crashed, stuck, restarted, gave-up."""

    kind: str
    deployment: str
    revision: int
    bundle_digest: str
    reason: Reason | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One (deployment, revision) since the last `take_counts`. `errors` are answers 500 and above."""

    deployment: str
    revision: int
    bundle_digest: str
    requests: int
    errors: int
    restarts: int
    latency: LatencySketch


class Switchboard:
    def __init__(self, *, on_event: Callable[[WorkerEvent], None] = lambda _event: None) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def expect(self, name: str) -> None: ...
    async def install(self, worker: Worker | None, name: str, *, drain_s: float = 10.0) -> None: ...
    def current(self, name: str) -> Worker | None: ...
    def names(self) -> tuple[str, ...]: ...
    def take_counts(self) -> tuple[Counts, ...]: ...
