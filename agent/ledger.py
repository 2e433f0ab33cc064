"""What a device must not forget, in one SQLite file: what it obeys, what serves, what is to tell.

Rules:
- Every change is one transaction with `synchronous=FULL`: it survives a power
  cut whole or not at all. A deployment's row and the events that tell of it are
  written together.
- A row is only replaced by whoever read it as it is (`put` compares): a step
  that was overtaken by a newer desired document changes nothing.
- Events are numbered without gaps within the ledger's id, and deleted only by
  `acknowledge`, which keeps the last few transitions to be looked at. A ledger that came
  back from an older copy of the disk is another one, once the centre shows it. When they
  outgrow their bytes, the oldest health is dropped, then the oldest transitions
  are folded (`agent.folding`); never the first `WINDOW`, which may have been sent
  under their numbers.
- A digest is put into quarantine, or taken out, with the record that shows why.
- A ledger that is damaged is moved aside, never repaired and never deleted. What serves is
  kept a second time (`agent.keepsake`), so that the new one knows it.

Blocking: one row a transaction, but an fsync each; call it in a thread.
"""

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter, ValidationError

from agent import keepsake
from agent.folding import row_of
from agent.keepsake import HeldDocument, Keepsake
from agent.ledger_events import WINDOW, EventQueue, Pending
from agent.ledger_file import (
    IN_MEMORY,
    LedgerDamagedError,
    LedgerError,
    Run,
    connect,
    move_aside,
    new_id,
    translated,
)
from agent.state import Note, Quarantined, Record
from agent.wire import codec, v1
from agent.wire.limits import OUTBOX_LIMIT_BYTES
from agent.wire.order import Held
from agent.wire.reasons import Reason
from agent.wire.shed import shed_waiting


@cache
def _record_adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def read_record(body: str) -> Record:
    """Return a deployment's record as its row has it.

    Raises:
        ValueError: it is not what we wrote.
    """
    return _record_adapter().validate_json(body)


def open_ledger(path: Path, *, fleet: str, device: str) -> "Ledger":
    """Open a device's ledger, or make it.

    One that is damaged is moved aside and a new one started, which knows from the keepsake what
    served. Where the disk won't have one, the ledger is in memory and knows the same: `forgetful`
    says why, and nothing new is to be begun with it.

    Raises:
        LedgerError: a newer agent made it; or the disk won't have it, and there is no keepsake.
    """
    kept = keepsake.read(path.with_name(keepsake.NAME))
    try:
        try:
            return Ledger(path, fleet=fleet, device=device)
        except LedgerDamagedError:
            aside = move_aside(path)
        ledger = Ledger(path, fleet=fleet, device=device)
        ledger.moved_aside = aside
        if kept is not None:
            ledger.recall(kept)
    except (LedgerError, OSError) as error:
        if kept is None or getattr(error, "reason", None) == Reason.UNKNOWN_SCHEMA:
            raise
        ledger = Ledger(IN_MEMORY, fleet=fleet, device=device)
        ledger.recall(kept)
        ledger.forgetful = str(error)
    return ledger


class Ledger:
    """An open ledger. Reads come from memory, writes are durable when they return.

    `moved_aside` is where the damaged one went that this one replaced. `forgetful` says why it is
    in memory only; empty where it is on the disk.
    """

    def __init__(self, path: Path, *, fleet: str, device: str) -> None:
        self._fleet, self._device = fleet, device
        self._lock = threading.Lock()
        self._keepsake = path.with_name(keepsake.NAME)
        self.moved_aside: Path | None = None
        self.forgetful = ""
        self._database = connect(path)
        try:
            with translated():
                self._read()
        except BaseException:
            self._database.close()
            raise

    def _read(self) -> None:
        run = self._database.execute
        rows = run("SELECT name, value FROM meta").fetchall()
        meta: dict[str, str] = dict(rows)
        try:
            self.id = meta["id"]
            self._session = int(meta["session"])
            self._next = int(meta["next"])
            self._records = {
                record.name: record
                for (body,) in run("SELECT body FROM deployment")
                for record in [read_record(body)]
            }
            self._owner_hold = _owner_hold(meta.get("hold"))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise LedgerDamagedError from error
        self._quarantined = {
            row[0]: Quarantined(
                digest=row[0], reason=row[1], since=row[2], message=row[3], runtime=row[4]
            )
            for row in run(
                "SELECT digest, reason, since, message, runtime FROM quarantine ORDER BY rowid"
            )
        }
        self._held = {
            kind: HeldDocument(
                held=Held(
                    order=v1.Order(epoch=epoch, generation=generation), payload_digest=digest
                ),
                payload=payload,
                envelope=envelope,
            )
            for kind, epoch, generation, digest, payload, envelope in run("SELECT * FROM held")
        }
        self._events = EventQueue(run)

    def close(self) -> None:
        """Close the file; what was written stays."""
        with self._lock:
            self._database.close()

    def recall(self, kept: Keepsake) -> None:
        """Begin with what served before this ledger was.

        Raises:
            LedgerError: it could not be written; nothing changed.
        """
        with self._transaction() as run:
            for kind, document in kept.held.items():
                _hold(run, kind, document)
            for record in kept.records().values():
                _put(run, record)
        self._held = dict(kept.held)
        self._records = kept.records()

    def _keep(self) -> None:
        """Keep a copy of what serves and is obeyed; without it, too, the ledger is the truth."""
        if not self.forgetful:
            with suppress(OSError):
                keepsake.write(
                    self._keepsake, keepsake.keepsake(self._records.values(), self._held)
                )

    # What the device obeys

    def held(self, kind: str) -> HeldDocument | None:
        """Return the document of a kind that was accepted last."""
        return self._held.get(kind)

    def hold(self, kind: str, document: HeldDocument) -> None:
        """Obey a document from now on.

        Raises:
            LedgerError: it could not be written; the old one holds.
        """
        with self._transaction() as run:
            _hold(run, kind, document)
        self._held = {**self._held, kind: document}
        self._keep()

    # What serves, and what is under way

    @property
    def records(self) -> Mapping[str, Record]:
        """Every deployment's record, as last committed."""
        return MappingProxyType(self._records)

    def put(
        self,
        name: str,
        old: Record | None,
        new: Record | None,
        notes: Sequence[Note] = (),
        *,
        at: str,
        verdicts: Mapping[str, Quarantined | None] = MappingProxyType({}),
    ) -> bool:
        """Replace a deployment's record by the next (None: forget it) and tell of it, at once.

        `verdicts` says of a digest that it is in quarantine from now on, or (None) no longer.
        Returns False and changes nothing when the record is no longer `old`.

        Raises:
            LedgerError: it could not be written; nothing changed.
        """
        with self._lock:
            if self._records.get(name) != old:
                return False
            with self._transaction(locked=True) as run:
                if new is None:
                    run("DELETE FROM deployment WHERE name = ?", (name,))
                else:
                    _put(run, new)
                for digest, verdict in verdicts.items():
                    _judge(run, digest, verdict)
                self._append(run, notes, at)
            self._quarantined = {
                key: verdict
                for key, verdict in {**self._quarantined, **verdicts}.items()
                if verdict is not None
            }
            rest = {key: value for key, value in self._records.items() if key != name}
            self._records = rest if new is None else {**rest, name: new}
            if _serves(old) != _serves(new):
                self._keep()
            return True

    @property
    def quarantined(self) -> Mapping[str, Quarantined]:
        """What is not to be tried again on this device, by digest."""
        return MappingProxyType(self._quarantined)

    def forgive(self, digests: Collection[str], notes: Sequence[Note], *, at: str) -> None:
        """Take digests out of quarantine, and tell of it, at once.

        Raises:
            LedgerError: it could not be written; nothing changed.
        """
        with self._transaction() as run:
            for digest in digests:
                _judge(run, digest, None)
            self._append(run, notes, at)
        self._quarantined = {
            digest: verdict
            for digest, verdict in self._quarantined.items()
            if digest not in digests
        }

    # What a technician wants

    @property
    def owner_hold(self) -> v1.Hold | None:
        """The hold that this device knows of."""
        return self._owner_hold

    def heed(self, hold: v1.Hold | None, *notes: Note, at: str) -> None:
        """Know of a hold, or of its end, and tell of it, at once.

        Raises:
            LedgerError: it could not be written; what was known holds.
        """
        with self._transaction() as run:
            if hold is None:
                run("DELETE FROM meta WHERE name = 'hold'")
            else:
                said = json.dumps({"reason": hold.reason, "since": hold.since})
                run("INSERT OR REPLACE INTO meta VALUES ('hold', ?)", (said,))
            self._append(run, notes, at)
        self._owner_hold = hold

    # Connections

    def next_session(self) -> int:
        """Count a connection; the number only rises within this ledger."""
        with self._transaction() as run:
            run("UPDATE meta SET value = ? WHERE name = 'session'", (str(self._session + 1),))
        self._session += 1
        return self._session

    @property
    def session(self) -> int:
        """The number of the latest connection; 0 before the first."""
        return self._session

    # What there is to tell

    def tell(self, *notes: Note, at: str) -> None:
        """Remember transitions until the centre has them.

        Raises:
            LedgerError: they could not be written.
        """
        with self._transaction() as run:
            self._append(run, notes, at)

    def pending(self, limit: int = WINDOW) -> tuple[Pending, ...]:
        """Return the oldest events not acknowledged, in order."""
        with self._lock, translated():
            return self._events.pending(self._database.execute, limit)

    def latest(self) -> tuple[v1.Event, ...]:
        """Return the last few transitions, told or not, the newest first.

        Raises:
            LedgerError: they can't be read now.
            LedgerDamagedError: they are not what we wrote.
        """
        with self._lock, translated():
            bodies = self._events.latest(self._database.execute)
        try:
            return tuple(codec.decode(body, v1.Event) for body in bodies)
        except codec.WireError as error:
            raise LedgerDamagedError(str(error)) from error

    @property
    def depth(self) -> int:
        """How many events wait."""
        return self._events.size.count

    @property
    def outbox_bytes(self) -> int:
        """How many bytes they have."""
        return self._events.size.bytes

    @property
    def told(self) -> int:
        """The highest number given to an event so far; 0 in a new ledger."""
        return self._next - 1

    def acknowledge(self, acked: v1.Acked) -> int:
        """Forget what the centre has committed, if it is of this ledger; return how many.

        Where the centre has heard more than this ledger can have sent, this is an older copy of
        it, and the numbers it has given since mean something else there. It is another ledger
        from then on, with an id of its own, and tells all that waits under that: some of it
        twice, and none of it is taken for known.
        """
        if acked.ledger != self.id or not (self.depth or acked.number > self.told):
            return 0
        with self._transaction() as run:
            if acked.number <= min(self._events.sendable(run) or self.told, self.told):
                return self._events.forget(run, acked.number)
            self.id = new_id()
            self._next = self._events.renumber(run, self.id)
            run("UPDATE meta SET value = ? WHERE name = 'id'", (self.id,))
            run("UPDATE meta SET value = ? WHERE name = 'next'", (str(self._next),))
        return 0

    def _append(self, run: Run, notes: Sequence[Note], at: str) -> None:
        for note in notes:
            event = v1.Event(
                fleet=self._fleet,
                device=self._device,
                ledger=self.id,
                number=self._next,
                kind=note.kind,
                at=at,
                deployment=note.deployment,
                revision=note.revision,
                digest=note.digest,
                phase=note.phase,
                reason=note.reason,
                message=note.message,
                parameters=note.parameters,
                session=self._session,
                health=note.health,
                trace_id=note.trace_id,
            )
            self._events.add(run, row_of(shed_waiting(event) if note.health else event))
            self._next += 1
        if notes:
            run("UPDATE meta SET value = ? WHERE name = 'next'", (str(self._next),))
            self._events.shrink(run, OUTBOX_LIMIT_BYTES)

    @contextmanager
    def _transaction(self, *, locked: bool = False) -> Iterator[Run]:
        """Run statements in one transaction; memory goes back with it when it fails."""
        if not locked:
            with self._lock, self._transaction(locked=True) as run:
                yield run
            return
        remembered = self._events.size, self._next, self.id
        with translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database.execute
                self._database.execute("COMMIT")
            except BaseException:
                self._events.size, self._next, self.id = remembered
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def _owner_hold(said: str | None) -> v1.Hold | None:
    return None if said is None else v1.Hold(**json.loads(said))


def _serves(record: Record | None) -> tuple[object, ...]:
    return (None,) if record is None else (record.current, record.previous, record.proven)


def _hold(run: Run, kind: str, document: HeldDocument) -> None:
    order = document.held.order
    run(
        "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(kind, order.epoch, order.generation, document.held.payload_digest),
            *(document.payload, document.envelope),
        ),
    )


def _put(run: Run, record: Record) -> None:
    body = _record_adapter().dump_json(record).decode()
    run(
        "INSERT OR REPLACE INTO deployment VALUES (?, ?, ?, ?)",
        (record.name, record.wanted.revision, record.phase.value, body),
    )


def _judge(run: Run, digest: str, verdict: Quarantined | None) -> None:
    if verdict is None:
        run("DELETE FROM quarantine WHERE digest = ?", (digest,))
        return
    run(
        "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?)",
        (digest, verdict.reason, verdict.since, verdict.message, verdict.runtime),
    )
