"""What arrives is judged before it is obeyed; what is refused moves nothing and is told once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import StepError
from agent.inbox import Inbox
from agent.keepsake import HeldDocument
from agent.ledger import Ledger, open_ledger
from agent.ports import Arrived
from agent.wire import codec, v1
from agent.wire.topics import Kind
from models.dsse import COMMAND_PAYLOAD_TYPE

AT = "2026-01-02T03:04:05Z"


def document(
    generation: int,
    *,
    epoch: int = 0,
    fleet: str = "f",
    target: str = "d-1",
    health_s: float = 60.0,
) -> bytes:
    return codec.encode(
        v1.Desired(
            fleet=fleet,
            target=target,
            order=v1.Order(epoch=epoch, generation=generation),
            issued_at=AT,
            settings=v1.DeviceSettings(health_period_s=health_s),
        )
    )


class Box:
    """An inbox whose envelopes are `signed:` and the payload."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.verified = 0
        self.broken = 0
        self.acknowledged = 0
        self.commands: list[v1.Command] = []
        self.opened: list[str] = []
        self.inbox = Inbox(
            ledger,
            self.verify,
            fleet="f",
            device="d-1",
            clock=lambda: AT,
            changed=lambda: None,
            asked=self.asked,
        )

    async def asked(self, command: v1.Command) -> None:
        self.commands.append(command)

    async def verify(self, payload_type: str, envelope: bytes) -> bytes:
        self.verified += 1
        self.opened.append(payload_type)
        if self.broken:
            self.broken -= 1
            raise StepError("INTERNAL", "no process")
        signed, _, payload = envelope.partition(b":")
        if signed != b"signed":
            raise StepError("SIGNATURE_INVALID", "no trusted key signed this")
        return payload

    async def take(self, payload: bytes, kind: Kind = Kind.DESIRED) -> None:
        def acknowledge() -> None:
            self.acknowledged += 1

        await self.inbox.take(Arrived(kind=kind, payload=payload, acknowledge=acknowledge))

    def held(self) -> HeldDocument | None:
        return self.ledger.held(Kind.DESIRED)

    def refusals(self) -> list[str | None]:
        events = [codec.decode(each.body, v1.Event) for each in self.ledger.pending()]
        return [event.reason for event in events if event.kind is v1.EventKind.REFUSED]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    ledger = open_ledger(tmp_path / "ledger.db", fleet="f", device="d-1")
    yield Box(ledger)
    ledger.close()


async def test_a_newer_document_is_held_before_it_is_acknowledged(box: Box) -> None:
    """And the next one replaces it; the same again is neither judged nor told."""
    await box.take(b"signed:" + document(3))
    assert box.acknowledged == 1
    assert box.inbox.desired is not None
    assert box.inbox.desired.order.generation == 3
    await box.take(b"signed:" + document(3))
    assert box.verified == 1
    await box.take(b"signed:" + document(4))
    await box.take(b"signed:" + document(1, epoch=1))
    assert box.inbox.desired.order == v1.Order(epoch=1, generation=1)
    assert Box(box.ledger).inbox.desired == box.inbox.desired
    assert box.refusals() == []


BAD = {
    "MALFORMED": b"signed:{",
    "UNKNOWN_SCHEMA": b'signed:{"schema":"skerry.desired/v9"}',
    "SIGNATURE_INVALID": b"forged:" + document(9),
    "WRONG_FLEET": b"signed:" + document(9, fleet="other"),
    "WRONG_TARGET": b"signed:" + document(9, target="d-2"),
    "STALE_GENERATION": b"signed:" + document(4),
    "CONFLICTING_GENERATION": b"signed:" + document(5, health_s=30),
    "TOO_LARGE": b"signed:" + document(9) + b" " * 9000,
}


@pytest.mark.parametrize("reason", BAD)
async def test_what_is_not_to_be_obeyed_is_refused_with_its_reason(box: Box, reason: str) -> None:
    """What is held does not move; the reason is reported, and told once however often it comes."""
    await box.take(b"signed:" + document(5))
    before = box.held(), box.inbox.desired
    for _ in range(3):
        await box.take(BAD[reason])
    assert (box.held(), box.inbox.desired) == before
    assert box.inbox.last_error is not None
    assert box.inbox.last_error.reason == reason
    assert box.refusals() == [reason]
    assert box.acknowledged == 4
    await box.take(b"signed:" + document(6))
    assert box.inbox.last_error is None


def command(*, fleet: str = "f", target: str = "d-1") -> bytes:
    return codec.encode(
        v1.Command(
            fleet=fleet,
            target=target,
            id="c-1",
            verb=v1.Verb.LOGS,
            issued_at=AT,
            expires_at=AT,
            parameters={"lines": "9"},
        )
    )


async def test_a_command_that_is_signed_for_us_is_passed_on(box: Box) -> None:
    """Opened as a command, and as nothing else; what is desired stays as it is."""
    await box.take(b"signed:" + document(5))
    await box.take(b"signed:" + command(), Kind.COMMAND)
    assert [COMMAND_PAYLOAD_TYPE] == box.opened[1:]
    assert ["9"] == [each.parameters["lines"] for each in box.commands]
    assert (2, []) == (box.acknowledged, box.refusals())
    for bad in (
        b"forged:" + command(),
        b"signed:" + command(target="d-2"),
        b"signed:" + command(fleet="other"),
        b"signed:" + document(6),
        b"signed:" + command() + b" " * 9000,
    ):
        await box.take(bad, Kind.COMMAND)
    told = ["SIGNATURE_INVALID", "WRONG_TARGET", "WRONG_FLEET", "UNKNOWN_SCHEMA", "TOO_LARGE"]
    assert told == box.refusals()
    assert 1 == len(box.commands)
    assert box.inbox.desired is not None
    assert 5 == box.inbox.desired.order.generation


async def test_what_could_not_be_judged_is_tried_again(box: Box) -> None:
    """A machine with no room for a child for a moment refuses nothing."""
    box.broken = 2
    await box.take(b"signed:" + document(1))
    assert box.verified == 3
    assert box.inbox.desired is not None
    assert box.refusals() == []


async def test_only_an_acknowledgement_for_us_empties_the_outbox(box: Box) -> None:
    """Another device's, another fleet's, or none at all leaves it as it is."""
    await box.take(BAD["MALFORMED"])
    assert box.ledger.depth == 1

    def acked(fleet: str, device: str, ledger: str, number: int = 1) -> bytes:
        return codec.encode(v1.Acked(fleet=fleet, device=device, ledger=ledger, number=number))

    for payload in (
        acked("f", "d-2", box.ledger.id),
        acked("g", "d-1", box.ledger.id),
        acked("f", "d-1", "l-other"),
        b"nonsense",
    ):
        await box.take(payload, Kind.ACKED)
    depth = box.ledger.depth
    assert depth == 4
    await box.take(acked("f", "d-1", box.ledger.id, number=99), Kind.ACKED)  # never told
    assert box.ledger.depth == depth
    await box.take(acked("f", "d-1", box.ledger.id, number=depth), Kind.ACKED)
    assert box.ledger.depth == 0
