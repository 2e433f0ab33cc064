"""What happens in rollouts, told as it happens: a line each in the log, and spans where asked for.

Every line about a rollout has its `trace_id`, which its devices put into their logs as
well: one search over both tells the story from the start to each device's commit.

Nothing is decided by what is told here, and nobody waits for who hears it: the log has
its ration, and a collector that can't be reached loses spans, not rollouts. What a device
went through is read back beside the inbox (`run`), a bounded queue later. Blocking, with an
async rim.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import structlog
from sqlalchemy.exc import OperationalError

from agent.wire import v1
from agent.wire.phases import SETTLED
from fleet.ports import FromDevice
from fleet.rollouts.moves import moves
from fleet.rollouts.progress import Rollout
from fleet.rollouts.spans import Span, ended, phases
from fleet.store import events
from fleet.store.engine import Store

_READ_BACK = 100
"""Transitions read to find all of one revision: it has a dozen, and more where it was put off."""

_WAITING = 1000
"""Revisions whose stories wait to be read back. A whole fleet's, all at once, lose some spans."""

log = structlog.get_logger("fleet.rollouts")


class Chronicle:
    """Tells of rollouts. `export` hears what has ended, as spans; None: nobody collects them."""

    def __init__(
        self, store: Store, *, export: Callable[[Iterable[Span]], None] | None = None
    ) -> None:
        self._store = store
        self._export = export
        self._settled: deque[v1.Event] = deque()
        self._woken = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many revisions' stories wait to be read back."""
        return len(self._settled)

    def wake(self) -> None:
        """Look soon whether there is something to read back. Call it on the loop's thread."""
        self._woken.set()

    async def run(self) -> None:
        """Read back and export what waits, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._settled:
                await asyncio.to_thread(self.read_back)

    def read_back(self) -> None:
        """Export what waits now: what devices went through with what they came to an end with."""
        while self._settled:
            event = self._settled.popleft()
            if self._export is None:
                continue
            try:
                self._export(phases(self._told(event)))
            except OperationalError as error:
                log.warning("the store can't be read now", why=str(error.orig))

    def started(self, rollout: Rollout) -> None:
        """Tell that a rollout was started."""
        _tell(None, rollout)

    def moved(self, before: Rollout, after: Rollout, now: datetime) -> None:
        """Tell what became otherwise of a rollout, once that is written."""
        if after is before:
            return
        _tell(before, after)
        if self._export is not None:
            self._export(ended(before, after, now))

    def heard(self, documents: Iterable[FromDevice]) -> None:
        """Tell what devices said of revisions that rollouts brought, once that is written."""
        for event in documents:
            if not isinstance(event, v1.Event) or event.trace_id is None:
                continue
            _tell_event(event)
            settled = event.kind is v1.EventKind.PHASE and event.phase in SETTLED
            if not settled or self._export is None:
                continue
            if len(self._settled) < _WAITING:
                self._settled.append(event)
            else:
                log.warning("spans are lost", device=event.device, trace_id=event.trace_id)

    def _told(self, last: v1.Event) -> Sequence[tuple[v1.Event, datetime]]:
        """Return what a device went through with a revision, up to the event that ended it."""
        with self._store.read() as connection:
            kept = events.before(
                connection, last.device, last.ledger, last.number, limit=_READ_BACK
            )
        return [
            (each.event, datetime.fromisoformat(each.received_at))
            for each in kept
            if each.event.kind is v1.EventKind.PHASE and _about(each.event) == _about(last)
        ]


def _about(event: v1.Event) -> tuple[object, ...]:
    return event.trace_id, event.deployment, event.revision


def _tell(before: Rollout | None, after: Rollout) -> None:
    for move in moves(before, after):
        log.info(move.what, **move.fields)


def _tell_event(event: v1.Event) -> None:
    known = {
        "trace_id": event.trace_id,
        "device": event.device,
        "deployment": event.deployment,
        "revision": event.revision,
        "phase": event.phase,
        "reason": event.reason,
        "what": event.parameters.get("what"),
        "device_at": event.at,
    }
    log.info(event.kind, **{name: value for name, value in known.items() if value is not None})
