"""Certificates for tests: an authority that signs whatever name it is asked for."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet.broker.settings import TlsFiles

_FROM = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_UNTIL = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)


class TestAuthority:
    """A CA in a folder."""

    __test__ = False

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / f"{name.replace(' ', '-')}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._contexts: dict[str, ssl.SSLContext] = {}

    def issue(self, common_name: str, *, until: dt.datetime = _UNTIL) -> tuple[Path, Path]:
        """Return the certificate and the key of a new identity."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        certificate = (
            self._builder(_name(common_name), key, until=until)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = self.folder / f"{self.path.stem}-{common_name}"
        paths = stem.with_suffix(".pem"), stem.with_suffix(".key")
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def server(self) -> TlsFiles:
        certificate, key = self.issue("broker")
        return TlsFiles(ca=self.path, certificate=certificate, key=key)

    def context(self, common_name: str | None, *, trust: Path | None = None) -> ssl.SSLContext:
        """Return what a client of that name connects with; None: without a certificate."""
        context = ssl.create_default_context(cafile=trust or self.path)
        if common_name is not None:
            context.load_cert_chain(*self.issue(common_name))
        return context

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        until: dt.datetime = _UNTIL,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(until)
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
