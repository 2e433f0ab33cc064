"""A device that lies: garbage with a good certificate. The centre goes on, and believes nothing."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.wire import codec, v1
from agent.wire.limits import DOCUMENT_LIMIT_BYTES, PACKET_LIMIT_BYTES
from agent.wire.reasons import Reason
from agent.wire.topics import DEVICE_READS, DEVICE_WRITES, Kind, Topic
from tests.e2e.scene import Centre, Device, Row, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

TABLES = (
    "devices", "desired", "bundles", "rollouts", "tokens", "reported", "presence", "events",
    "acked", "health", "audit",
)  # fmt: skip
NOT_ALLOWED = 0x87
AT = "2026-01-01T00:00:00Z"


def test_garbage_from_a_device_changes_nothing(
    town: Centre, make_device: Callable[..., Device], old: Model
) -> None:
    """Every topic it writes, every way to be wrong; another device's topics are closed to it."""
    honest, liar = make_device(town), make_device(town)
    honest.start()
    town.deliver("1.0.0", honest)
    ledger, last = honest.numbering()
    until(lambda: honest.ledger("SELECT count(*) AS n FROM event") == [{"n": 0}])
    store, registry = town.store(*TABLES), town.registry()
    refused = _refused(town)
    theirs: dict[Kind, v1.Reported | v1.Death | v1.Event] = {
        Kind.REPORTED: v1.Reported(fleet="fleet", device=honest.id, session=99),
        Kind.PRESENCE: v1.Death(fleet="fleet", device=honest.id, session=99),
        Kind.EVENT: v1.Event(
            fleet="fleet", device=honest.id, ledger=ledger, number=last + 1,
            kind=v1.EventKind.BOOT, at=AT,
        ),
    }  # fmt: skip

    peer = liar.peer().connect()
    for kind in DEVICE_WRITES:
        topic = str(Topic("fleet", liar.id, kind))
        for document in (
            b"",
            b"{",
            b"\xff\xfe\x00",
            b"[" * 8000,
            b'{"schema": "skerry.reported/v1-draft", "device": ' + b"9" * 5000 + b"}",
            b'{"schema": "skerry.event/v1-draft", "device": "\\ud800"}',
            b'{"schema": "skerry.%s/v9", "fleet": "fleet"}' % kind.encode(),
            b"x" * (DOCUMENT_LIMIT_BYTES + 1),
            b"x" * (PACKET_LIMIT_BYTES - 200),
            *(codec.encode(document) for document in theirs.values()),
            *(codec.encode(_elsewhere(document, liar.id)) for document in theirs.values()),
        ):
            assert peer.publish(topic, document, retain=kind is not Kind.EVENT) < 0x80
    for kind in Kind:
        assert NOT_ALLOWED == peer.publish(str(Topic("fleet", honest.id, kind)), b"{}")
    for kind in DEVICE_READS:
        assert NOT_ALLOWED == peer.publish(str(Topic("fleet", liar.id, kind)), b"{}")

    wanted = {Reason.MALFORMED, Reason.TOO_LARGE, Reason.UNKNOWN_SCHEMA, Reason.WRONG_TARGET}
    wanted |= {Reason.WRONG_FLEET}
    until(lambda: wanted <= _refused(town).keys() | refused.keys(), what="the centre's refusals")
    # What comes after garbage is heard: in order, so all of the garbage has been judged.
    peer.publish(
        str(Topic("fleet", liar.id, Kind.PRESENCE)),
        codec.encode(
            v1.Birth(
                fleet="fleet", device=liar.id, session=1, agent_version="0.0.1", at=AT, facts={}
            )
        ),
    )
    until(lambda: town.device(liar)["online"], what="the liar's first true word")
    after = town.store(*TABLES)
    for table in TABLES:
        assert _of_others(store[table], liar) == _of_others(after[table], liar), table
    for table in ("reported", "events", "acked", "health"):
        assert not [row for row in after[table] if row["device"] == liar.id], table
    assert registry == town.registry()
    assert honest.answers(old)
    peer.leave()


def test_what_is_true_in_form_only_is_kept_to_its_device(
    town: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """Numbers out of this world: they stop no other device, nor the liar's own next honest life."""
    honest, liar = make_device(town), make_device(town)
    honest.start()
    town.deliver("1.0.0", honest)
    store = town.store("devices", "desired", "bundles", "tokens")
    most = 2**53 - 1
    peer = liar.peer().connect()
    for kind, document in (
        (Kind.EVENT, _event(liar.id, "l-x", most)),
        (Kind.EVENT, _event(liar.id, "l-" + "x" * 200, 1)),
        (Kind.EVENT, _event(liar.id, "l-y", 5, first=2)),
        (Kind.REPORTED, v1.Reported(fleet="fleet", device=liar.id, session=3)),
        (
            Kind.REPORTED,
            v1.Reported(
                fleet="fleet", device=liar.id, session=3,
                observed=v1.Order(epoch=0, generation=most),
            ),
        ),
    ):  # fmt: skip
        assert peer.publish(str(Topic("fleet", liar.id, kind)), codec.encode(document)) < 0x80
    until(lambda: (town.device(liar)["reported"] or {}).get("observed"), what="the lie")
    peer.leave()

    liar.start()
    town.deliver("2.0.0", honest)
    town.deliver("1.0.0", liar)
    assert honest.answers(new)
    assert liar.answers(old)
    for table in ("devices", "bundles", "tokens"):
        assert _of_others(store[table], liar) == _of_others(town.store(table)[table], liar)
    assert "Traceback" not in town.skerry("device", "ls").stdout


def _elsewhere(
    document: v1.Reported | v1.Death | v1.Event, device: str
) -> v1.Reported | v1.Death | v1.Event:
    return replace(document, device=device, fleet="another")


def _event(device: str, ledger: str, number: int, first: int | None = None) -> v1.Event:
    return v1.Event(
        fleet="fleet", device=device, ledger=ledger, number=number, first=first,
        kind=v1.EventKind.FOLDED, at=AT, message=json.dumps({"a": "\x00"}),
    )  # fmt: skip


def _of_others(found: list[Row], device: Device) -> list[Row]:
    return [row for row in found if device.id not in (row.get("device"), row.get("id"))]


def _refused(centre: Centre) -> dict[str, int]:
    """Return what the centre says it has refused, by reason."""
    said = [line for line in centre.said() if line.get("event") == "document refused"]
    return {line["reason"]: line["so_far"] for line in said}
