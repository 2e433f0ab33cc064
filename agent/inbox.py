"""What arrives from the centre: judged, made durable, then acknowledged. In that order.

A desired document is obeyed only when a trusted key signed exactly these bytes
as that kind, they name this fleet and this device, and they are newer than what
is held. Anything else is refused with its reason, in `reported` and as an
event, and what is held does not move. What could not be judged (no process, no
disk) is tried again, not refused.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable

import structlog

from agent.admission import UnwantedError, check_address, judge
from agent.backoff import full_jitter_s
from agent.errors import StepError
from agent.keepsake import HeldDocument
from agent.ledger import Ledger
from agent.ledger_file import LedgerError
from agent.ports import Arrived
from agent.state import Note, text
from agent.wire import codec, v1
from agent.wire.codec import WireError
from agent.wire.limits import DOCUMENT_LIMIT_BYTES
from agent.wire.reasons import Reason
from agent.wire.topics import Kind
from models.dsse import COMMAND_PAYLOAD_TYPE, DESIRED_PAYLOAD_TYPE

Verify = Callable[[str, bytes], Awaitable[bytes]]
"""Returns the payload, of a type, of an envelope that a trusted key signed; or `StepError`."""

_TRY_AGAIN = frozenset({Reason.INTERNAL, Reason.TIMED_OUT})

_log = structlog.get_logger()


class Inbox:
    """Judges what arrives. `changed` is called when what is held or refused changed.

    A command that is ours goes to `asked`; whether it is carried out is decided there.
    """

    def __init__(
        self,
        ledger: Ledger,
        verify: Verify,
        *,
        fleet: str,
        device: str,
        clock: Callable[[], str],
        changed: Callable[[], None],
        asked: Callable[[v1.Command], Awaitable[None]],
    ) -> None:
        self._ledger, self._verify = ledger, verify
        self._fleet, self._device = fleet, device
        self._clock, self._changed, self._asked = clock, changed, asked
        self.last_error: v1.Problem | None = None
        self._refused = b""
        self._judging = asyncio.Lock()
        self._desired = self._decode_held()

    @property
    def desired(self) -> v1.Desired | None:
        """The document this device obeys."""
        return self._desired

    async def take(self, arrived: Arrived) -> None:
        """Judge one message until that is done, then acknowledge it."""
        attempt = 0
        while not await self.judge(arrived):
            wait_s = full_jitter_s(attempt, random.random())  # noqa: S311  # not a secret
            attempt += 1
            await asyncio.sleep(wait_s)
        arrived.acknowledge()

    async def judge(self, arrived: Arrived) -> bool:
        """Judge one message; return False when it could not be judged now.

        One after the other: what is newer is said against what is held when it is written.
        """
        async with self._judging:
            return await self._judge(arrived)

    async def _judge(self, arrived: Arrived) -> bool:
        try:
            if arrived.kind is Kind.ACKED:
                await self._acked(arrived.payload)
            elif arrived.kind is Kind.DESIRED:
                await self._accept(arrived.payload)
            elif arrived.kind is Kind.COMMAND:
                await self._ask(arrived.payload)
        except (UnwantedError, WireError, StepError) as error:
            if error.reason in _TRY_AGAIN:
                await _log.awarning("can't judge now", kind=arrived.kind, message=text(error))
                return False
            return await self._refuse(arrived, error.reason, error)
        except (LedgerError, OSError) as error:
            await _log.awarning("can't judge now", kind=arrived.kind, message=text(error))
            return False
        return True

    async def _acked(self, payload: bytes) -> None:
        acked = codec.decode(payload, v1.Acked)
        check_address(acked, self._fleet, self._device)
        before = self._ledger.id
        gone = await asyncio.to_thread(self._ledger.acknowledge, acked)
        if self._ledger.id != before:
            await _log.awarning(
                "the ledger is an older copy, and another one from now on",
                was=before,
                heard=acked.number,
            )
        if gone:
            self._changed()

    async def _accept(self, envelope: bytes) -> None:
        held = self._ledger.held(Kind.DESIRED)
        if held is not None and held.envelope == envelope:
            return  # as at every reconnection
        payload = await self._open(DESIRED_PAYLOAD_TYPE, envelope)
        desired, new, newer = judge(
            payload, held.held if held else None, fleet=self._fleet, device=self._device
        )
        if newer:
            before = self._desired
            document = HeldDocument(held=new, payload=payload, envelope=envelope)
            await asyncio.to_thread(self._ledger.hold, Kind.DESIRED, document)
            self._desired = desired
            await _log.ainfo("desired accepted", order=str(desired.order), **_new(before, desired))
        self.last_error = None
        self._changed()

    async def _ask(self, envelope: bytes) -> None:
        command = codec.decode(await self._open(COMMAND_PAYLOAD_TYPE, envelope), v1.Command)
        check_address(command, self._fleet, self._device)
        await self._asked(command)

    async def _open(self, payload_type: str, envelope: bytes) -> bytes:
        if len(envelope) > DOCUMENT_LIMIT_BYTES:
            raise UnwantedError(Reason.TOO_LARGE, f"an envelope of {len(envelope)} bytes")
        return await self._verify(payload_type, envelope)

    async def _refuse(self, arrived: Arrived, reason: str, error: Exception) -> bool:
        """Say why, once for the same bytes: a retained document comes again at every connection."""
        digest = hashlib.sha256(arrived.payload).digest()
        self.last_error = v1.Problem(
            reason=reason, message=text(error), parameters={"kind": arrived.kind}
        )
        if digest != self._refused:
            await _log.awarning("refused", kind=arrived.kind, reason=reason, message=text(error))
            note = Note(
                kind=v1.EventKind.REFUSED,
                reason=reason,
                message=text(error),
                parameters={"kind": arrived.kind},
            )
            try:
                await asyncio.to_thread(self._ledger.tell, note, at=self._clock())
            except LedgerError as failed:
                await _log.awarning("can't judge now", kind=arrived.kind, message=text(failed))
                return False
            self._refused = digest
        self._changed()
        return True

    def _decode_held(self) -> v1.Desired | None:
        held = self._ledger.held(Kind.DESIRED)
        return codec.decode(held.payload, v1.Desired) if held else None


def _new(before: v1.Desired | None, now: v1.Desired) -> dict[str, list[str]]:
    """Return the traces that came with a document: of the rollouts that it is about."""
    known = {each.trace_id for each in before.deployments} if before else set()
    found = {each.trace_id for each in now.deployments if each.trace_id} - known
    return {"trace_ids": sorted(found)} if found else {}
