"""Ed25519 keys: make, keep, sign with, verify by. `cryptography` is imported only on use.

A key's id is the sha256 of its DER SubjectPublicKeyInfo in hexadecimal, so it
names the key itself and can't be chosen. A private key is an unencrypted PKCS #8
file readable by its owner only: whoever signs unattended has nobody to ask for a
passphrase.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from models import dsse, durable
from models.errors import RefusedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_KEY_FILE_LIMIT_BYTES = 4 * 1024  # an Ed25519 key in PEM has some 120 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key to verify by: its id and its PEM (SubjectPublicKeyInfo)."""

    id: str
    pem: str

    @classmethod
    def from_pem(cls, pem: str) -> Self:
        """Return the key in `pem`, with the id that follows from it.

        Raises:
            RefusedError: `MALFORMED`: it is not an Ed25519 public key in PEM.
        """
        return cls(id=_id_of(_public(pem)), pem=pem)


class SigningKey:
    """A key to sign with."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self.public_pem = _pem_of(private.public_key())
        self.id = _id_of(private.public_key())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the private key in a file.

        Raises:
            RefusedError: `NOT_FOUND`, or `MALFORMED`: not an Ed25519 private key in PEM.
        """
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # see charter
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415  # see charter
            Ed25519PrivateKey,
        )

        try:
            key = serialization.load_pem_private_key(_read(path), password=None)
        except (ValueError, TypeError) as error:
            raise RefusedError("MALFORMED", f"{path} is not a private key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise RefusedError("MALFORMED", f"{path} is not an Ed25519 private key")
        return cls(key)

    @property
    def public(self) -> PublicKey:
        """The key to verify by."""
        return PublicKey(id=self.id, pem=self.public_pem)

    def sign(self, payload_type: str, payload: bytes) -> dsse.Envelope:
        """Return `payload` in an envelope signed by this key."""
        return dsse.Envelope(
            payload_type=payload_type,
            payload=payload,
            signatures=(
                dsse.Signature(
                    keyid=self.id, sig=self._private.sign(dsse.pae(payload_type, payload))
                ),
            ),
        )


def generate(private: Path, public: Path) -> PublicKey:
    """Make a key pair and keep it durably: `private` for its owner only, `public` for everyone.

    Raises:
        FileExistsError: one of them is there already; a key is never overwritten.
        OSError: they can't be written.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # see charter
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415  # see charter
        Ed25519PrivateKey,
    )

    for path in (private, public):
        if path.exists():
            raise FileExistsError(f"{path} is there already; a key is never overwritten")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # The public half first: a cut between the two leaves no key that nobody can verify.
    durable.write(public, _pem_of(key.public_key()).encode())
    durable.write(private, pem, mode=0o600)
    return SigningKey(key).public


def load_public(path: Path) -> PublicKey:
    """Return the public key in a file.

    Raises:
        RefusedError: `NOT_FOUND`, or `MALFORMED`: not an Ed25519 public key in PEM.
    """
    try:
        return PublicKey.from_pem(_read(path).decode("ascii"))
    except UnicodeDecodeError as error:
        raise RefusedError("MALFORMED", f"{path} is not a public key in PEM") from error


def verify(envelope: dsse.Envelope, keys: Sequence[PublicKey]) -> str:
    """Return the id of a trusted key that signed this envelope's exact type and payload.

    The type itself is the caller's to check (`dsse.expect`), or use `admit`.

    Raises:
        RefusedError: `SIGNATURE_MISSING`: there is none. `SIGNATURE_INVALID`: none by a trusted
            key, or one that doesn't fit the content; the message says which.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # see charter

    if not envelope.signatures:
        raise RefusedError("SIGNATURE_MISSING", "the envelope carries no signature")
    signed = dsse.pae(envelope.payload_type, envelope.payload)
    broken: list[str] = []
    for signature in envelope.signatures:
        for key in keys:
            if signature.keyid not in {"", key.id}:
                continue
            try:
                _public(key.pem).verify(signature.sig, signed)
            except InvalidSignature:
                broken.append(key.id)
            else:
                return key.id
    if broken:
        raise RefusedError(
            "SIGNATURE_INVALID",
            f"the signature by trusted key {broken[0][:12]} isn't over this content",
        )
    strangers = ", ".join(sorted({each.keyid[:12] or "?" for each in envelope.signatures}))
    raise RefusedError(
        "SIGNATURE_INVALID",
        f"signed by {strangers}, which is not among the {len(keys)} trusted keys",
    )


def admit(
    raw: bytes, payload_type: str, keys: Sequence[PublicKey], *, limit_bytes: int
) -> tuple[bytes, str]:
    """Return the payload of a signed envelope, and the id of the trusted key that signed it.

    Raises:
        RefusedError: `TOO_LARGE`, `MALFORMED`, `WRONG_KIND`, or as `verify`.
    """
    envelope = dsse.parse(raw, limit_bytes)
    payload = dsse.expect(envelope, payload_type)
    return payload, verify(envelope, keys)


def _public(pem: str) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # see charter
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415  # see charter
        Ed25519PublicKey,
    )

    try:
        key = serialization.load_pem_public_key(pem.encode())
    except ValueError as error:
        raise RefusedError("MALFORMED", "not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise RefusedError("MALFORMED", "not an Ed25519 public key")
    return key


def _id_of(key: "Ed25519PublicKey") -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # see charter

    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def _pem_of(key: "Ed25519PublicKey") -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # see charter

    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_KEY_FILE_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise RefusedError("NOT_FOUND", f"there is no key at {path}") from error
    if len(raw) > _KEY_FILE_LIMIT_BYTES:
        raise RefusedError("TOO_LARGE", f"{path} is too large for a key")
    return raw
