"""Keys are kept for their owner only, and a signature holds for exactly what was signed."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from models import dsse, keys
from models.errors import RefusedError
from models.keys import PublicKey, SigningKey

KIND = dsse.DESIRED_PAYLOAD_TYPE


@pytest.fixture
def stranger(tmp_path: Path) -> SigningKey:
    keys.generate(tmp_path / "other.key", tmp_path / "other.pub")
    return SigningKey.load(tmp_path / "other.key")


def test_a_key_pair_is_kept(tmp_path: Path) -> None:
    """The private half is its owner's; the id names the key itself."""
    made = keys.generate(tmp_path / "a.key", tmp_path / "a.pub")
    loaded = SigningKey.load(tmp_path / "a.key")

    assert 0o600 == (tmp_path / "a.key").stat().st_mode & 0o777
    assert 0o644 == (tmp_path / "a.pub").stat().st_mode & 0o777
    assert made == loaded.public == keys.load_public(tmp_path / "a.pub")
    der = serialization.load_pem_public_key(made.pem.encode()).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert hashlib.sha256(der).hexdigest() == made.id
    assert {"a.key", "a.pub"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["a.key", "a.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, name: str) -> None:
    """Not even by half a pair."""
    (tmp_path / name).write_text("precious")

    with pytest.raises(FileExistsError, match="never overwritten"):
        keys.generate(tmp_path / "a.key", tmp_path / "a.pub")

    assert "precious" == (tmp_path / name).read_text()
    assert [name] == [path.name for path in tmp_path.iterdir()]


def test_a_signature_by_a_trusted_key_is_accepted(key: SigningKey, stranger: SigningKey) -> None:
    """Whichever of the trusted keys it is."""
    envelope = key.sign(KIND, b"content")

    assert key.id == keys.verify(envelope, [stranger.public, key.public])
    assert (b"content", key.id) == keys.admit(
        dsse.render(envelope), KIND, [key.public], limit_bytes=4096
    )


def test_a_signature_without_a_key_id_is_tried_with_each_key(
    key: SigningKey, stranger: SigningKey
) -> None:
    """The id is a hint."""
    envelope = key.sign(KIND, b"content")
    nameless = replace(envelope, signatures=(replace(envelope.signatures[0], keyid=""),))

    assert key.id == keys.verify(nameless, [stranger.public, key.public])


def test_one_good_signature_among_others_is_enough(key: SigningKey, stranger: SigningKey) -> None:
    """During a rotation, old and new keys sign side by side."""
    ours, theirs = key.sign(KIND, b"content"), stranger.sign(KIND, b"content")
    both = replace(ours, signatures=theirs.signatures + ours.signatures)

    assert key.id == keys.verify(both, [key.public])


def test_refusals_tell_a_foreign_key_from_changed_content(
    key: SigningKey, stranger: SigningKey
) -> None:
    """The first is a matter of trust, the second of damage or attack."""
    envelope = key.sign(KIND, b"content")
    cases = {
        "is not among the 1 trusted keys": (envelope, [stranger.public]),
        "is not among the 0 trusted keys": (envelope, list[PublicKey]()),
        "isn't over this content": (replace(envelope, payload=b"contemt"), [key.public]),
        "carries no signature": (replace(envelope, signatures=()), [key.public]),
    }
    for why, (refused, trusted) in cases.items():
        with pytest.raises(RefusedError, match=why) as caught:
            keys.verify(refused, trusted)
        missing = not refused.signatures
        assert ("SIGNATURE_MISSING" if missing else "SIGNATURE_INVALID") == caught.value.reason


def test_a_signature_of_one_kind_is_none_of_another(key: SigningKey) -> None:
    """The type is signed with the bytes."""
    envelope = replace(key.sign(KIND, b"content"), payload_type=dsse.COMMAND_PAYLOAD_TYPE)

    with pytest.raises(RefusedError, match="isn't over this content"):
        keys.verify(envelope, [key.public])
    with pytest.raises(RefusedError) as caught:
        keys.admit(dsse.render(envelope), KIND, [key.public], limit_bytes=4096)
    assert "WRONG_KIND" == caught.value.reason


def test_every_changed_byte_is_noticed(key: SigningKey) -> None:
    """Of the envelope as sent: whatever byte changes, its payload is never accepted changed."""
    raw = dsse.render(key.sign(KIND, b"content"))
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1
        try:
            payload, _ = keys.admit(bytes(changed), KIND, [key.public], limit_bytes=4096)
        except RefusedError:
            continue
        assert b"content" == payload, at


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    """Each with its reason: nothing there, something else, another algorithm, far too large."""
    ec = generate_private_key(SECP256R1())
    (tmp_path / "ec.key").write_bytes(
        ec.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "ec.pub").write_bytes(
        ec.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (tmp_path / "text").write_bytes(b"\xffkey")
    (tmp_path / "large").write_bytes(b"-" * 100_000)
    for load in (SigningKey.load, keys.load_public):
        for name, reason in (
            ("gone", "NOT_FOUND"),
            ("text", "MALFORMED"),
            ("large", "TOO_LARGE"),
            ("ec.key", "MALFORMED"),
            ("ec.pub", "MALFORMED"),
        ):
            with pytest.raises(RefusedError) as caught:
                load(tmp_path / name)
            assert reason == caught.value.reason, (load, name)


def test_cryptography_is_imported_only_on_use() -> None:
    """Whoever holds public keys as values doesn't pay for it: the agent's supervisor."""
    program = (
        "import sys, models.keys, models.bundle, models.dsse\n"
        "models.keys.PublicKey(id='a', pem='b')\n"
        "assert not {'cryptography', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)
