"""Whether the broker that we started is the one that serves its port. Blocking, bounded in time.

An open port proves nothing: Mosquitto opens it before it reads its key, and
another process may have taken it just before.
"""

import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_LIMIT_S = 5.0
# MQTT 5, clean start, keep-alive of 60 s, client id "skerry-probe".
_CONNECT = b"\x10\x19\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x0cskerry-probe"
_CONNACK_ACCEPTED = (b"\x20", b"\x00")  # its first byte, and its reason code
_CONNACK_START_BYTES = 4
_DISCONNECT = b"\xe0\x00"


def shows(host: str, port: int, certificate: Path) -> bool:
    """Return whether a TLS server there shows that certificate and has its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it must be this very certificate, whoever signed it
    # From 1.3 on our side is done before the server asks why we have no certificate.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        expected = x509.load_pem_x509_certificate(certificate.read_bytes())
        with (
            socket.create_connection((host, port), timeout=_LIMIT_S) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return secure.getpeercert(binary_form=True) == expected.public_bytes(Encoding.DER)
    except (OSError, ValueError):  # not (yet), or no certificate: the broker says which, and ends
        return False


def answers(host: str, port: int) -> bool:
    """Return whether an MQTT 5 broker there accepts a client."""
    try:
        with socket.create_connection((host, port), timeout=_LIMIT_S) as client:
            client.sendall(_CONNECT)
            with client.makefile("rb") as stream:
                start = stream.read(_CONNACK_START_BYTES)
            client.sendall(_DISCONNECT)
    except OSError:
        return False
    return (start[:1], start[3:]) == _CONNACK_ACCEPTED
