"""What the link makes of what devices send: a document, or a reason. Never an exception."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import v1
from agent.wire.codec import encode
from agent.wire.limits import DOCUMENT_LIMIT_BYTES
from agent.wire.reasons import Reason
from agent.wire.topics import DEVICE_READS, DEVICE_WRITES, Kind, Topic, marker
from fleet.link.intake import Refusal, admit
from fleet.link.pace import full_jitter
from fleet.ports import FromDevice, Received

FLEET, DEVICE, AT = "f", "d-1", "2026-01-02T03:04:05Z"

DOCUMENTS: list[tuple[Kind, FromDevice]] = [
    (Kind.REPORTED, v1.Reported(fleet=FLEET, device=DEVICE, session=1)),
    (Kind.SITE_REPORTED, v1.SiteReported(fleet=FLEET, site="s-1", device=DEVICE, term=1)),
    (
        Kind.PRESENCE,
        v1.Birth(fleet=FLEET, device=DEVICE, session=1, agent_version="1", at=AT, facts={}),
    ),
    (Kind.PRESENCE, v1.Death(fleet=FLEET, device=DEVICE, session=1)),
    (Kind.HEALTH, v1.Health(fleet=FLEET, device=DEVICE, session=1, at=AT, period_s=60)),
    (
        Kind.EVENT,
        v1.Event(fleet=FLEET, device=DEVICE, ledger="l", number=1, kind=v1.EventKind.BOOT, at=AT),
    ),
    (
        Kind.RESULT,
        v1.Result(fleet=FLEET, device=DEVICE, id="c", status=v1.ResultStatus.DONE, at=AT),
    ),
]
REPORTED = DOCUMENTS[0][1]


def topic(kind: Kind, device: str = DEVICE, fleet: str = FLEET) -> str:
    return str(Topic(fleet, device, kind))


def reason_of(topic: str, payload: bytes) -> Reason | None:
    outcome = admit(FLEET, topic, payload)
    return outcome.reason if isinstance(outcome, Refusal) else None


@pytest.mark.parametrize(("kind", "document"), DOCUMENTS)
def test_each_document_of_a_device_is_taken(kind: Kind, document: FromDevice) -> None:
    """All that a device writes, on its own topic, under its own name."""
    expected = Received(topic=Topic(FLEET, DEVICE, kind), document=document, retained=True)
    assert admit(FLEET, topic(kind), encode(document), retained=True) == expected


def test_every_topic_of_a_device_has_a_document() -> None:
    """A kind that is added to the wire is not forgotten here."""
    assert {kind for kind, _ in DOCUMENTS} == set(DEVICE_WRITES)


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        (topic(Kind.REPORTED), b"", Reason.MALFORMED),
        (topic(Kind.REPORTED), b"{", Reason.MALFORMED),
        (topic(Kind.REPORTED), b"\xff\xfe\x00", Reason.MALFORMED),
        (topic(Kind.REPORTED), b"[" * 4000, Reason.MALFORMED),
        (topic(Kind.REPORTED), b'{"schema":"skerry.reported/v9"}', Reason.UNKNOWN_SCHEMA),
        (topic(Kind.REPORTED), encode(DOCUMENTS[3][1]), Reason.UNKNOWN_SCHEMA),
        (topic(Kind.REPORTED), bytes(DOCUMENT_LIMIT_BYTES + 1), Reason.TOO_LARGE),
        (topic(Kind.REPORTED), bytes(100 * 1024 * 1024), Reason.TOO_LARGE),
        (topic(Kind.REPORTED, device="d-2"), encode(REPORTED), Reason.WRONG_TARGET),
        (topic(Kind.REPORTED, fleet="g"), encode(REPORTED), Reason.WRONG_FLEET),
        *((topic(kind), encode(REPORTED), Reason.WRONG_KIND) for kind in DEVICE_READS),
        (marker(FLEET), b"{}", Reason.WRONG_KIND),
        ("anything", b"{}", Reason.WRONG_KIND),
        ("", b"{}", Reason.WRONG_KIND),
    ],
)
def test_what_is_wrong_is_refused_with_its_reason(
    name: str, payload: bytes, reason: Reason
) -> None:
    """Size, form, schema, fleet, device and kind: each has its own code."""
    assert reason_of(name, payload) == reason


def test_a_document_of_another_fleet_on_our_topic_is_refused() -> None:
    """The topic alone doesn't make it ours."""
    foreign = encode(dataclasses.replace(REPORTED, fleet="g"))
    assert reason_of(topic(Kind.REPORTED), foreign) == Reason.WRONG_FLEET


@given(name=st.text(), payload=st.binary(max_size=300))
def test_no_bytes_on_any_topic_raise(name: str, payload: bytes) -> None:
    """Whatever comes, the link goes on."""
    assert isinstance(admit(FLEET, name, payload), Refusal)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    number=st.integers(0, len(DOCUMENTS) - 1),
    field=st.integers(0, 20),
    value=_JSON,
)
def test_no_value_in_any_field_raises(number: int, field: int, value: object) -> None:
    """A known document with anything in one of its fields is taken or refused, and no more."""
    kind, document = DOCUMENTS[number]
    fields = json.loads(encode(document))
    names = sorted(fields)
    fields[names[field % len(names)]] = value
    assert admit(FLEET, topic(kind), json.dumps(fields).encode()) is not None


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_full_jitter_never_exceeds_the_cap(attempt: int, draw: float) -> None:
    """However often it failed, a wait is below the cap, and may be next to nothing."""
    assert 0 <= full_jitter(attempt, first_s=0.5, cap_s=30, draw=draw) < 30


def test_full_jitter_doubles() -> None:
    """The range doubles until the cap."""
    spans = [full_jitter(n, first_s=1, cap_s=10, draw=0.5) for n in range(6)]
    assert spans == [0.5, 1, 2, 4, 5, 5]
