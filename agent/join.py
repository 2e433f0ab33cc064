"""Joining a fleet: a key made here, a token spent there, an identity whole or not at all.

Rules:
- The CA is believed only when it hashes to what the token says; everything after
  that goes over TLS verified by it. Plain http is for loopback.
- The private key never leaves this device.
- The identity folder appears by one rename; until then nothing has happened here.
  (The token may be spent all the same when the power goes in between.)

Blocking, in the join command's own process: this is where cryptography is.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from agent.errors import PersonError
from agent.home import Home
from agent.wire import codec, v1
from agent.wire.codec import WireError
from agent.wire.limits import JOIN_LIMIT_BYTES
from agent.wire.reasons import Reason
from models import durable

_TOKEN = re.compile(r"sk1\.([0-9a-f]{64})\.[A-Za-z0-9_-]{16,128}\Z")
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?(/.*)?\Z")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
_LIMIT_S = 30.0
_WHAT = "this device did not join"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asks for."""

    url: str
    token: str
    name: str
    labels: Mapping[str, str]
    site: str | None
    facts: v1.Facts


def join(home: Home, wish: Wish) -> v1.JoinAnswer:
    """Join, and leave the identity in the home.

    Raises:
        PersonError: it did not work, and nothing changed here.
    """
    if home.identity.exists():
        raise PersonError(
            "this device has joined already",
            Reason.TOKEN_USED,
            f"its identity is in {home.identity}",
            "run it: skerry-agent run; to join anew, move that folder away first",
            code=6,
        )
    ca = _fetch_ca(wish)
    key = ec.generate_private_key(ec.SECP256R1())
    answer = _ask(wish, ca, _signing_request(key, wish.name))
    _check(answer, key)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _keep(home, pem, answer)
    return answer


def _fetch_ca(wish: Wish) -> str:
    """Return the CA certificate that the token names.

    Raises:
        PersonError: the token is none, nobody answers, or somebody else does.
    """
    token = _TOKEN.match(wish.token)
    if token is None:
        raise _failure(
            Reason.TOKEN_UNKNOWN,
            _token_problem(wish.token),
            "get one from the operator: skerry token create",
            code=2,
        )
    if not wish.url.startswith("https://") and not _LOOPBACK.match(wish.url):
        raise _failure(
            Reason.MALFORMED,
            f"{wish.url[:120]!r} is neither https:// nor this machine",
            "give the address of the centre, like https://centre.example:8443",
            code=2,
        )
    # Not verified yet, and no secret is sent: the answer is checked against the token.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)
        raw = _request(_pool(None), "GET", wish, "/ca", None)
    for pem in _PEM.findall(raw.decode("ascii", errors="replace")):
        try:
            der = ssl.PEM_cert_to_DER_cert(pem)
        except ValueError:
            continue
        if hashlib.sha256(der).hexdigest() == token[1]:
            return str(pem)
    raise _failure(
        Reason.CA_MISMATCH,
        "who answers there is not the centre this token was made by",
        "check the address; if it is right, ask the operator: somebody may be in between",
        code=7,
    )


def _token_problem(text: str) -> str:
    """Say what keeps a text from being a token, and nothing of what it holds."""
    if not text:
        return "no token: give it by --token, $SKERRY_TOKEN, or standard input"
    kind, *parts = text.split(".")
    if kind != "sk1" or len(parts) != 2:  # noqa: PLR2004  # the fleet and the secret
        return "that is no join token: it begins with sk1. and has three parts"
    if not re.fullmatch("[0-9a-f]{64}", parts[0]):
        return "that is no join token: its second part is not 64 digits 0-9 and a-f"
    return "that is no join token: its third part is not 16 to 128 letters, digits, - or _"


def _ask(wish: Wish, ca: str, csr: str) -> v1.JoinAnswer:
    try:
        request = codec.encode(
            v1.JoinRequest(
                token=wish.token,
                csr=csr,
                name=wish.name,
                labels=wish.labels,
                facts=wish.facts,
                site=wish.site,
            )
        )
    except (ValueError, WireError) as error:
        raise _failure(
            Reason.MALFORMED, str(error), "see skerry-agent join --help", code=2
        ) from error
    context = ssl.create_default_context(cadata=ca)
    raw = _request(_pool(context), "POST", wish, "/join", request)
    try:
        return codec.decode(raw, v1.JoinAnswer)
    except WireError as error:
        raise _failure(
            error.reason,
            f"the centre's answer can't be read: {error}",
            "is it a newer version? update this agent and join again",
            code=1,
        ) from error


def _request(
    pool: urllib3.PoolManager, method: str, wish: Wish, path: str, body: bytes | None
) -> bytes:
    url = wish.url.rstrip("/") + path
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        answer = pool.request(method, url, body=body, headers=headers, preload_content=False)
        try:
            raw = answer.read(JOIN_LIMIT_BYTES + 1, decode_content=False)
        finally:
            answer.close()
            pool.clear()
    except (HTTPError, OSError) as error:
        raise _no_answer(wish.url, error) from error
    if answer.status != 200:  # noqa: PLR2004  # OK
        raise _refusal(answer.status, raw, url)
    if len(raw) > JOIN_LIMIT_BYTES:
        raise _failure(
            Reason.TOO_LARGE, f"{url} sent more than a join answer", "check the address", code=5
        )
    return raw


def _no_answer(url: str, error: Exception) -> PersonError:
    """Say in a few words why nobody answered: the library's own have addresses of objects."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    said = "the connection broke"
    hint = "check the address, the network, and that the centre runs: skerry up"
    for cause in reversed(causes):  # the library wraps a refusal as a timeout
        if isinstance(cause, ssl.SSLCertVerificationError):
            said = f"its certificate does not fit: {cause.verify_message}"
            hint = "check the address; if it is right, ask the operator: somebody may be in between"
        elif isinstance(cause, ssl.SSLError):
            said, hint = "what answers there speaks no TLS", "check the address and the port"
        elif isinstance(cause, socket.gaierror):
            said = "there is no such name"
        elif isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError):
            said = f"nothing came within {_LIMIT_S:.0f} s"
        elif isinstance(cause, OSError) and cause.strerror:
            said = cause.strerror.lower()
        else:
            continue
        break
    if url.startswith("http://") and "refused" not in said:
        hint = f"if it speaks TLS there, write https: https{url.removeprefix('http')}"
    reason = "UNREACHABLE"
    return PersonError(
        _WHAT, reason, f"no answer from the centre at {url[:120]}: {said}", hint, code=5
    )


def _refusal(status: int, raw: bytes, url: str) -> PersonError:
    try:
        told = json.loads(raw)
        reason, why, hint = Reason(told["reason"]), str(told["error"]), str(told["next"])
    except (ValueError, KeyError, TypeError):
        return _failure(
            Reason.REGISTRY_REFUSED,
            f"{url} answers {status}",
            "check that the address is the centre's",
            code=5,
        )
    code = 6 if reason is Reason.NAME_TAKEN else 4
    return _failure(reason, why[:300], hint[:300], code=code)


def _signing_request(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return (
        request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")
    )


def _check(answer: v1.JoinAnswer, key: ec.EllipticCurvePrivateKey) -> None:
    """Make sure that the certificate is over our key and in the device's name."""
    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
        [name] = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        fits = name.value == answer.device and certificate.public_key() == key.public_key()
    except ValueError:
        fits = False
    if not fits:
        raise _failure(
            Reason.MALFORMED,
            "the certificate in the centre's answer is not ours",
            "ask the operator; a new token is needed",
            code=7,
        )


def _keep(home: Home, key: bytes, answer: v1.JoinAnswer) -> None:
    """Make the identity folder durable, by one rename."""
    try:
        durable.make_directory(home.path, mode=0o700)
        building = Path(tempfile.mkdtemp(prefix=".identity-", dir=home.path))
        try:
            durable.write(building / "key.pem", key, mode=0o600)
            durable.write(building / "cert.pem", answer.certificate.encode())
            durable.write(building / "ca.pem", answer.ca.encode())
            durable.write(building / "join.json", codec.encode(answer))
            os.rename(building, home.identity)  # noqa: PTH104  # must fail when it is there, as rename does
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        durable.sync_directory(home.path)
    except OSError as error:
        raise _failure(
            Reason.DISK_FULL,
            f"the identity can't be written to {home.path}: {error.strerror}",
            "make room there or choose another with --home DIR; a new token is needed",
            code=1,
        ) from error


def _pool(context: ssl.SSLContext | None) -> urllib3.PoolManager:
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return urllib3.PoolManager(
        ssl_context=context, timeout=urllib3.Timeout(total=_LIMIT_S), retries=False
    )


def _failure(reason: Reason, why: str, hint: str, *, code: int) -> PersonError:
    return PersonError(_WHAT, reason, why, hint, code=code)
