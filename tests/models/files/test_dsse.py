"""An envelope carries exact bytes, and what is signed is the type with them."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import dsse
from models.dsse import Envelope, Signature
from models.errors import RefusedError

LIMIT_BYTES = 4096


def written(**changes: object) -> bytes:
    document: dict[str, object] = {
        "payloadType": "http://example.com/HelloWorld",
        "payload": base64.b64encode(b"hello world").decode(),
        "signatures": [{"keyid": "66301bbf", "sig": base64.b64encode(b"signed").decode()}],
    }
    return json.dumps(document | changes).encode()


def test_the_specification_s_own_vector() -> None:
    """DSSE v1.0, protocol, test vector."""
    assert b"DSSEv1 29 http://example.com/HelloWorld 11 hello world" == dsse.pae(
        "http://example.com/HelloWorld", b"hello world"
    )


def test_lengths_are_of_bytes_not_characters() -> None:
    """Or two different pairs could be signed by one signature."""
    assert "DSSEv1 2 é 3 é!".encode() == dsse.pae("é", "é!".encode())
    assert dsse.pae("a", b"1 b") != dsse.pae("a 3", b"b")


@given(st.text(max_size=40), st.binary(max_size=200), st.lists(st.binary(max_size=70), max_size=3))
def test_what_is_written_is_read(kind: str, payload: bytes, sigs: list[bytes]) -> None:
    """The payload comes back byte for byte."""
    envelope = Envelope(
        payload_type=kind,
        payload=payload,
        signatures=tuple(Signature(keyid="k", sig=sig) for sig in sigs),
    )

    assert envelope == dsse.parse(dsse.render(envelope), LIMIT_BYTES)


def test_either_base64_alphabet_is_read() -> None:
    """The specification allows both."""
    content = bytes([0xFB, 0xFF, 0xFE])
    raw = written(
        payload=base64.urlsafe_b64encode(content).decode(), note="unknown fields are let be"
    )

    assert content == dsse.parse(raw, LIMIT_BYTES).payload


def test_a_signature_without_a_key_id_is_read() -> None:
    """It is only a hint."""
    raw = written(signatures=[{"sig": ""}])

    assert (Signature(keyid="", sig=b""),) == dsse.parse(raw, LIMIT_BYTES).signatures


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "MALFORMED"),
        (b"{", "MALFORMED"),
        (b"[]", "MALFORMED"),
        (b"[" * 3000, "MALFORMED"),
        (b"\xff\xfe", "MALFORMED"),
        (written(payload="not base64!"), "MALFORMED"),
        (written(payload=7), "MALFORMED"),
        (written(payloadType=None), "MALFORMED"),
        (written(signatures={}), "MALFORMED"),
        (written(signatures=["x"]), "MALFORMED"),
        (written(signatures=[{"sig": "é"}]), "MALFORMED"),
        (written(signatures=[{"sig": ""}] * 9), "MALFORMED"),
        (written(payload="A" * LIMIT_BYTES), "TOO_LARGE"),
    ],
)
def test_what_is_no_envelope_is_refused(raw: bytes, reason: str) -> None:
    """By its reason code."""
    with pytest.raises(RefusedError) as caught:
        dsse.parse(raw, LIMIT_BYTES)

    assert reason == caught.value.reason


def test_another_kind_of_document_is_refused() -> None:
    """An envelope of one kind is never taken for another."""
    envelope = dsse.parse(written(), LIMIT_BYTES)

    assert b"hello world" == dsse.expect(envelope, "http://example.com/HelloWorld")
    with pytest.raises(RefusedError) as caught:
        dsse.expect(envelope, dsse.DESIRED_PAYLOAD_TYPE)
    assert "WRONG_KIND" == caught.value.reason
