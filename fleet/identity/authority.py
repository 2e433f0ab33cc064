"""The fleet's certificate authority and signing keys: made once, then used. Blocking.

Rules:
- `init` makes all keys or none, and never touches keys that are there.
- A device's certificate says who it is (CN), may only be a TLS client's, and
  lasts two years. What the signing request asks for (subject, extensions) is
  ignored; that it is signed by the key it names is checked.
- The fleet's id is the organisation in the CA's subject, so a home can't mix two.
"""

import ipaddress
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.wire import v1
from agent.wire.reasons import Reason
from agent.wire.v1.checks import check_fleet
from fleet.identity.errors import JoinRefusedError, TrustExistsError, TrustMissingError
from fleet.identity.places import Home
from models import durable, keys
from models.errors import ModelError

CENTRE_NAME = "centre"
_CA_LIFE = timedelta(days=3652)
_SERVER_LIFE = timedelta(days=1826)
_DEVICE_LIFE = timedelta(days=730)
_BACKDATED = timedelta(hours=1)
"""A device's clock may be a little behind: its certificate is valid from an hour ago."""

_CURVES = (ec.SECP256R1, ec.SECP384R1)
_PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_NEXT = "make a new key and signing request (EC P-256, P-384 or Ed25519) and join again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was just made."""

    certificate: str
    serial: str
    expires_at: datetime


def init(home: Path, *, fleet: str, hosts: Sequence[str], now: datetime) -> None:
    """Make a fleet's authority, certificates, signing keys and operator token in `home`.

    `hosts` are names and addresses devices will reach the centre by, beside
    this machine's loopback.

    Raises:
        TrustExistsError: the home has keys already; nothing was changed.
        ValueError: `fleet` is no id, or a host no name; nothing was changed.
    """
    check_fleet(fleet)
    names = [_general_name(host) for host in dict.fromkeys([*hosts, "localhost"])]
    names += [x509.IPAddress(ipaddress.ip_address(own)) for own in ("127.0.0.1", "::1")]
    places = Home(home)
    if places.trust.exists():
        raise TrustExistsError(f"{places.trust} is there already; its keys are not overwritten")
    durable.make_directory(home)

    # Made beside and renamed at the end, so that a crash leaves no half of a trust behind.
    building = Home(home / ".trust-being-made")
    shutil.rmtree(building.path, ignore_errors=True)
    durable.make_directory(building.trust, mode=0o700)
    try:
        _make_certificates(building, fleet, list(dict.fromkeys(names)), now)
        keys.generate(building.desired_key, building.desired_public)
        keys.generate(building.bundle_key, building.bundle_public)
        for made in building.trust.iterdir():
            made.chmod(0o600)
        durable.write(places.operator_token, secrets.token_urlsafe(32).encode(), mode=0o600)
        building.trust.rename(places.trust)
    finally:
        shutil.rmtree(building.path)
    durable.sync_directory(home)


class Authority:
    """The fleet's CA, loaded: issues device certificates and says what devices are to trust."""

    def __init__(
        self,
        *,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        trusted: tuple[v1.TrustedKey, ...],
    ) -> None:
        self._key = key
        self._certificate = certificate
        self.trusted = trusted

    @classmethod
    def load(cls, home: Path) -> "Authority":
        """Load the authority of a home.

        Raises:
            TrustMissingError: the home has none, or it can't be read.
        """
        places = Home(home)
        try:
            key = serialization.load_pem_private_key(places.ca_key.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(places.ca.read_bytes())
            trusted = tuple(
                v1.TrustedKey(id=public.id, use=use, key=public.pem)
                for use, public in (
                    ("bundle", keys.load_public(places.bundle_public)),
                    ("desired", keys.load_public(places.desired_public)),
                )
            )
        except (OSError, ValueError, ModelError) as error:
            raise TrustMissingError(f"no usable keys in {places.trust}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TrustMissingError(f"{places.ca_key} is not an elliptic-curve key")
        return cls(key=key, certificate=certificate, trusted=trusted)

    @property
    def fleet(self) -> str:
        """The fleet's id."""
        [attribute] = self._certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(attribute.value)

    @property
    def pem(self) -> str:
        """The CA's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def ca_sha256(self) -> str:
        """The sha256 of the CA certificate's DER, as join tokens carry it."""
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    def issue(self, csr_pem: str, device: str, *, now: datetime) -> Issued:
        """Return a certificate for `device` over the key in a signing request.

        Raises:
            JoinRefusedError: CSR_INVALID: not a request, not signed by its own key, or a key
                of a kind we don't take.
        """
        public = _key_of(csr_pem)
        expires_at = now + _DEVICE_LIFE
        certificate = (
            _builder(self.fleet, device, now - _BACKDATED, expires_at)
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            serial=f"{certificate.serial_number:x}",
            expires_at=expires_at,
        )


def server_names(home: Home) -> frozenset[str]:
    """Return the names and addresses the server certificate is good for.

    Raises:
        TrustMissingError: there is no readable certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(home.server.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise TrustMissingError(f"no usable certificate in {home.server}") from error
    return frozenset(
        [
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        ]
    )


def _key_of(csr_pem: str) -> _PublicKey:
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        public = request.public_key()
        honest = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise JoinRefusedError(
            Reason.CSR_INVALID, "the signing request can't be read", _NEXT
        ) from error
    if isinstance(public, ec.EllipticCurvePublicKey):
        allowed = isinstance(public.curve, _CURVES)
    else:
        allowed = isinstance(public, ed25519.Ed25519PublicKey)
    if not allowed:
        raise JoinRefusedError(
            Reason.CSR_INVALID, "the signing request is for a kind of key that is not taken", _NEXT
        )
    if not honest:
        raise JoinRefusedError(
            Reason.CSR_INVALID, "the signing request is not signed by its own key", _NEXT
        )
    assert isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)  # noqa: S101  # `allowed` said so
    return public


def _make_certificates(
    places: Home, fleet: str, names: list[x509.GeneralName], now: datetime
) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = (
        _builder(fleet, f"Skerry fleet {fleet}", now - _BACKDATED, now + _CA_LIFE)
        .issuer_name(_subject(fleet, f"Skerry fleet {fleet}"))
        .public_key(ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write_key(places.ca_key, ca_key)
    _write_certificate(places.ca, ca)
    for name, use, key_path, path in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH, places.server_key, places.server),
        (CENTRE_NAME, ExtendedKeyUsageOID.CLIENT_AUTH, places.centre_key, places.centre),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(fleet, name, now - _BACKDATED, now + _SERVER_LIFE)
            .issuer_name(ca.subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
        )
        if use == ExtendedKeyUsageOID.SERVER_AUTH:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        _write_key(key_path, key)
        _write_certificate(path, builder.sign(ca_key, hashes.SHA256()))


def _builder(
    fleet: str, name: str, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(fleet, name))
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _subject(fleet: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _key_usage(*, ca: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host or len(host) > 253 or not host.isascii() or set(host) & set(" /:@*\\\"'"):  # noqa: PLR2004  # RFC 1035
        raise ValueError(f"not a host name or address: {host[:80]!r}")
    return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    durable.write(path, pem, mode=0o600)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    durable.write(path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o600)


def ends_of(home: Home) -> Mapping[str, datetime]:
    """Return when each certificate of a centre ends. Blocking.

    Raises:
        TrustMissingError: one isn't there, or is none.
    """
    found = {}
    for name, path in (("CA", home.ca), ("server", home.server), ("centre", home.centre)):
        try:
            found[name] = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        except (OSError, ValueError) as error:
            raise TrustMissingError(f"no certificate in {path}") from error
    return found
