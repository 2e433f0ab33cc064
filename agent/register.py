"""How a deployment's record gives way to the next: as it was read, told when it is news.

Each change is one write of the ledger, in a thread: the record, the events that
tell of it, and the verdict about its content that goes with it.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

from agent.errors import StepError
from agent.ledger import Ledger
from agent.plan import condemned
from agent.state import (
    Installed,
    Note,
    Quarantined,
    Record,
    accepted,
    choice_note,
    phase_note,
    quarantine_note,
)
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason

_NOTHING: Mapping[str, Quarantined | None] = MappingProxyType({})

MAY_DEFER = frozenset(
    {
        Phase.ACCEPTED,
        Phase.FETCHING,
        Phase.VERIFYING,
        Phase.STAGING,
        Phase.TESTING,
        Phase.SHADOWING,
        Phase.ACTIVATING,
    }
)
"""Phases of a candidate, which a passing cause puts back to the start of the line."""


class OvertakenError(StepError):
    """The record is no longer the one the step began with."""


class Register:
    """Writes records. `changed` is called after each, `clock` says the time for people."""

    def __init__(
        self, ledger: Ledger, clock: Callable[[], str], changed: Callable[[], None]
    ) -> None:
        self._ledger, self._clock, self._changed = ledger, clock, changed

    async def accept(self, old: Record | None, wanted: v1.Deployment) -> Record:
        """Want a revision, instead of the one before it where there is one.

        Raises:
            OvertakenError: the record has changed meanwhile.
            LedgerError: it could not be written; nothing changed.
        """
        at = self._clock()
        if old is None:
            return await self.put(None, accepted(wanted, at))
        new = old.superseded(wanted, at)
        dropped = () if old.settled else (_dropped(old, Reason.SUPERSEDED),)
        await self._write(old.name, old, new, *dropped, phase_note(new))
        return new

    async def put(
        self, old: Record | None, new: Record, verdict: Quarantined | None = None
    ) -> Record:
        """Replace a record, and put content into quarantine with it; return the new one.

        Raises:
            OvertakenError: the record has changed meanwhile.
            LedgerError: it could not be written; nothing changed.
        """
        notes: list[Note] = []
        verdicts: dict[str, Quarantined | None] = {}
        if verdict is not None:
            verdicts[verdict.digest] = verdict
            notes.append(quarantine_note(verdict, (new, *([old] if old else [])), new.name))
        notes += [phase_note(new)] if _is_news(old, new) else []
        await self._write(new.name, old, new, *notes, verdicts=verdicts)
        return new

    async def clear(self, old: Record, new: Record) -> Record:
        """Replace a record by one whose content serves well, whatever was thought of it before.

        Raises:
            OvertakenError: the record has changed meanwhile.
            LedgerError: it could not be written; nothing changed.
        """
        verdict = self._ledger.quarantined.get(new.current.digest) if new.current else None
        if verdict is None:
            return await self.put(old, new)
        notes = [phase_note(new)] if _is_news(old, new) else []
        notes.append(quarantine_note(verdict, (new,), new.name, lifted=True))
        await self._write(new.name, old, new, *notes, verdicts={verdict.digest: None})
        return new

    async def chosen_again(self, old: Record, chosen: Installed) -> Record:
        """Replace the way in which what is committed serves.

        Raises:
            OvertakenError: the record has changed meanwhile.
            LedgerError: it could not be written; nothing changed.
        """
        new = old.chosen_again(chosen)
        notes = [choice_note(new, chosen)] if chosen.measured or chosen.fallback else []
        await self._write(old.name, old, new, *notes)
        return new

    async def drop(self, old: Record) -> None:
        """Forget a deployment that is no longer wanted.

        Raises:
            OvertakenError: the record has changed meanwhile.
            LedgerError: it could not be written; nothing changed.
        """
        await self._write(old.name, old, None, _dropped(old, Reason.REMOVED))

    async def tell(self, note: Note) -> None:
        """Tell of something that changes no record.

        Raises:
            LedgerError: it could not be written.
        """
        await asyncio.to_thread(self._ledger.tell, note, at=self._clock())
        self._changed()

    async def forgive(self, runtime: str) -> None:
        """Lift verdicts of another runtime than the one there is now: it may do better.

        Raises:
            LedgerError: it could not be written; nothing changed.
        """
        others = [each for each in self._ledger.quarantined.values() if each.runtime != runtime]
        if others:
            digests = {each.digest for each in others}
            records = list(self._ledger.records.values())
            notes = [quarantine_note(each, records, lifted=True) for each in others]
            await asyncio.to_thread(self._ledger.forgive, digests, notes, at=self._clock())

    def verdict(self, digest: str, problem: v1.Problem, runtime: str) -> Quarantined | None:
        """Return what to remember of content that failed by itself; None: nothing new."""
        reason = condemned(problem)
        if reason is None or digest in self._ledger.quarantined:
            return None
        return Quarantined(
            digest=digest,
            reason=reason,
            since=self._clock(),
            message=problem.message,
            runtime=runtime,
        )

    async def _write(
        self,
        name: str,
        old: Record | None,
        new: Record | None,
        *notes: Note,
        verdicts: Mapping[str, Quarantined | None] = _NOTHING,
    ) -> None:
        written = await asyncio.to_thread(
            self._ledger.put, name, old, new, notes, at=self._clock(), verdicts=verdicts
        )
        if not written:
            raise OvertakenError(Reason.SUPERSEDED, "a newer revision is wanted")
        self._changed()


def _is_news(old: Record | None, new: Record) -> bool:
    """A retry of the same trouble is none: who is offline would fill the outbox with it."""
    if old is None:
        return True
    if new.problem is None or new.phase not in MAY_DEFER:
        return old.phase is not new.phase
    return old.problem is None or old.problem.reason != new.problem.reason


def _dropped(record: Record, reason: Reason) -> Note:
    return Note(
        kind=v1.EventKind.PHASE,
        deployment=record.name,
        revision=record.wanted.revision,
        digest=record.wanted.bundle.digest,
        phase=Phase.RETIRED,
        reason=reason,
        trace_id=record.wanted.trace_id,
    )
