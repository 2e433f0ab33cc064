"""Who has the centre's certificate but not its signing key, and who has both and lies."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.wire import codec, v1
from agent.wire.limits import DOCUMENT_LIMIT_BYTES, PACKET_LIMIT_BYTES
from agent.wire.reasons import Reason
from agent.wire.topics import Kind, Topic
from models import dsse, keys
from models.keys import SigningKey
from tests.conformance.peer import Peer
from tests.e2e.scene import Centre, Device, Load, Row, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

ISSUED = "2026-01-01T00:00:00Z"


def sealed(
    key: SigningKey,
    document: bytes | Row | v1.Desired | v1.SiteDesired | v1.Command,
    payload_type: str = dsse.DESIRED_PAYLOAD_TYPE,
) -> bytes:
    """Return a document as the centre would send it; bytes and plain JSON go as they are."""
    match document:
        case bytes():
            raw = document
        case dict():
            raw = json.dumps(document).encode()
        case _:
            raw = codec.encode(document)
    return dsse.render(key.sign(payload_type, raw))


def hostile(
    centre: Centre, held: v1.Desired, first: bytes, folder: Path
) -> list[tuple[bytes, Reason]]:
    """Return documents for the `desired` topic, and what is wrong with each."""
    key = centre.desired_key
    keys.generate(folder / "stranger.key", folder / "stranger.pub")
    stranger = SigningKey.load(folder / "stranger.key")
    empty = replace(held, deployments=())
    later = replace(empty, order=v1.Order(epoch=0, generation=held.order.generation + 10))
    good = codec.encode(later)
    signed = key.sign(dsse.DESIRED_PAYLOAD_TYPE, good)
    command = v1.Command(
        fleet=held.fleet, target=held.target, id="c-1", verb=v1.Verb.DOCTOR,
        issued_at=ISSUED, expires_at=ISSUED,
    )  # fmt: skip
    site = v1.SiteDesired(fleet=held.fleet, target="s-porto", order=later.order, issued_at=ISSUED)
    fields = json.loads(good)
    secret = {**fields, "settings": {"values": {"password": "hunter2"}}}
    return [
        (sealed(key, replace(later, target="d-another")), Reason.WRONG_TARGET),
        (sealed(key, replace(later, fleet="another")), Reason.WRONG_FLEET),
        (sealed(key, command, dsse.COMMAND_PAYLOAD_TYPE), Reason.WRONG_KIND),
        (sealed(key, site, dsse.SITE_DESIRED_PAYLOAD_TYPE), Reason.WRONG_KIND),
        (sealed(key, command), Reason.UNKNOWN_SCHEMA),
        (first, Reason.STALE_GENERATION),
        (sealed(key, empty), Reason.CONFLICTING_GENERATION),
        (good, Reason.MALFORMED),
        (dsse.render(replace(signed, signatures=())), Reason.SIGNATURE_MISSING),
        (sealed(stranger, later), Reason.SIGNATURE_INVALID),
        (
            dsse.render(replace(signed, payload=good.replace(b"2026", b"2027"))),
            Reason.SIGNATURE_INVALID,
        ),
        (b"{", Reason.MALFORMED),
        (b"\xff\x00" * 500, Reason.MALFORMED),
        (b"[" * 8000, Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (sealed(key, b'{"schema": "skerry.desired/v1-draft", '), Reason.MALFORMED),
        (sealed(key, {**fields, "order": "first"}), Reason.MALFORMED),
        (sealed(key, {**fields, "schema": "skerry.desired/v9"}), Reason.UNKNOWN_SCHEMA),
        (sealed(key, secret), Reason.SECRET_IN_DOCUMENT),
        (sealed(key, {**fields, "pad": "x" * 5500}), Reason.TOO_LARGE),
        (b" " * (DOCUMENT_LIMIT_BYTES + 1), Reason.TOO_LARGE),
        (b"x" * (PACKET_LIMIT_BYTES - 200), Reason.TOO_LARGE),
    ]


def test_documents_that_must_not_be_obeyed(
    town: Centre, make_device: Callable[..., Device], tmp_path: Path, old: Model, new: Model
) -> None:
    """Each is refused with its reason, here and at the centre; nothing held or served moves."""
    device = make_device(town)
    device.start()
    town.deliver("1.0.0", device)
    first = bytes(device.held()["envelope"])
    town.deliver("2.0.0", device)
    held, workers = device.held(), device.workers()
    documents = hostile(town, codec.decode(held["payload"], v1.Desired), first, tmp_path)
    store = town.store("devices", "desired", "bundles", "rollouts", "tokens")
    registry = town.registry()
    topic = str(Topic("fleet", device.id, Kind.DESIRED))

    with Load(device, new) as load, town.paused():
        peer = town.peer().connect(ack=False)
        seen: list[str] = []
        for number, (document, reason) in enumerate(documents):
            assert peer.publish(topic, document, retain=True) < 0x80
            until(lambda: len(device.refusals()) > len(seen), what=f"refusal {number}, {reason}")  # noqa: B023  # it ends before the next
            seen = device.refusals()
            assert (number, reason) == (number, seen[-1])
            _reports(peer, device, reason)
        _others(peer, device)
        peer.publish(topic, bytes(held["envelope"]), retain=True)
        peer.leave()
        assert [reason for _, reason in documents] == device.refusals()[: len(documents)]
        assert device.answers(new)
    assert [] == load.failed == load.unanswered
    assert held == device.held()
    assert workers == device.workers()

    told = [reason for _, reason in documents]
    until(lambda: [each for each in town.reasons(device) if each in told][: len(told)] == told)
    until(lambda: town.device(device)["reported"]["observed"]["generation"] == held["generation"])
    assert store == town.store("devices", "desired", "bundles", "rollouts", "tokens")
    assert registry == town.registry()
    town.deliver("1.0.0", device)
    assert town.device(device)["reported"]["last_error"] is None
    assert device.answers(old)


def _reports(peer: Peer, device: Device, reason: Reason) -> None:
    """Wait until the device reports that reason, with what it obeyed before."""
    topic = str(Topic("fleet", device.id, Kind.REPORTED))

    def look() -> Row | None:
        told = [json.loads(each.payload) for each in peer.messages if each.topic == topic]
        return (
            told[-1]
            if told and (told[-1].get("last_error") or {}).get("reason") == reason
            else None
        )

    def pumped() -> Row | None:
        peer.pump_once()
        return look()

    told = until(pumped, what=f"a report of {reason}")
    assert device.held()["generation"] == told["observed"]["generation"]


def _others(peer: Peer, device: Device) -> None:
    """Say nonsense on the other topics a device reads; `acked` of somebody else clears nothing."""
    ledger, last = device.numbering()
    acked = v1.Acked(fleet="fleet", device=device.id, ledger=ledger, number=last)
    for document, reason in [
        (b"{", Reason.MALFORMED),
        (b"x" * (DOCUMENT_LIMIT_BYTES + 1), Reason.TOO_LARGE),
        (b'{"schema": "skerry.acked/v9"}', Reason.UNKNOWN_SCHEMA),
        (codec.encode(replace(acked, device="d-another")), Reason.WRONG_TARGET),
        (codec.encode(replace(acked, fleet="another")), Reason.WRONG_FLEET),
        (
            codec.encode(v1.Death(fleet="fleet", device=device.id, session=1)),
            Reason.UNKNOWN_SCHEMA,
        ),
    ]:
        before = len(device.refusals())
        peer.publish(str(Topic("fleet", device.id, Kind.ACKED)), document, retain=True)
        until(lambda: len(device.refusals()) > before, what=f"{reason} on acked")  # noqa: B023  # it ends before the next
        assert reason == device.refusals()[-1]
    waiting = device.ledger("SELECT number FROM event")
    assert waiting
    peer.publish(
        str(Topic("fleet", device.id, Kind.ACKED)),
        codec.encode(replace(acked, ledger="l-another")),
        retain=True,
    )
    for kind in (Kind.COMMAND, Kind.SITE_DESIRED):
        for document in (b"{", b"x" * (PACKET_LIMIT_BYTES - 200), device.held()["envelope"]):
            peer.publish(str(Topic("fleet", device.id, kind)), bytes(document))
    later = device.ledger("SELECT number FROM event")
    assert waiting == later[: len(waiting)]
