"""The keys and certificates of a home: there, whole, kept to their owner, and not at their end."""

import os
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from fleet.checkup.finding import Finding, ok, warning, wrong
from fleet.identity.authority import Authority
from fleet.identity.errors import TrustMissingError
from fleet.identity.places import Home
from models.errors import ModelError
from models.keys import SigningKey, load_public

SOON = timedelta(days=30)
_CHECK = "trust"
_OTHERS = 0o077
_OTHERS_WRITE = 0o022


def look(home: Home, now: datetime) -> Iterator[Finding]:
    """Look at the files under `trust`, and at the operator token."""
    try:
        os.scandir(home.trust).close()
    except (FileNotFoundError, NotADirectoryError) as error:
        yield wrong(_CHECK, f"{home.trust} is gone", str(error), _restore(home))
        return
    except OSError as error:
        hint = "do it as the user that runs the centre"
        yield wrong(_CHECK, f"{home.trust} can't be read", str(error), hint)
        return
    found = [*_kept(home), *_whole(home)]
    if not found:  # dates are read only of what can be read
        certificates = {name: _certificate(path) for name, path in _certificates(home).items()}
        found = list(_dates(certificates, home, now))
        if not found:
            ends = ", ".join(
                f"{name} until {each.not_valid_after_utc:%Y-%m-%d}"
                for name, each in certificates.items()
            )
            found = [ok(_CHECK, f"whole: {ends}")]
    yield from found


def _certificates(home: Home) -> dict[str, Path]:
    return {"CA": home.ca, "server": home.server, "centre": home.centre}


def _secrets(home: Home) -> tuple[Path, ...]:
    return (
        home.ca_key,
        home.server_key,
        home.centre_key,
        home.desired_key,
        home.bundle_key,
        home.operator_token,
    )


def _kept(home: Home) -> Iterator[Finding]:
    """Look who may read what is secret, or write beside it. The bundle key may live elsewhere."""
    open_to_others = [
        path.name for path in _secrets(home) if path.is_file() and path.stat().st_mode & _OTHERS
    ]
    if open_to_others:
        files = " ".join(str(path) for path in _secrets(home) if path.name in open_to_others)
        yield wrong(
            _CHECK,
            f"others on this machine can read {', '.join(open_to_others)}",
            "who has such a key can speak for this centre",
            f"chmod 600 {files}; and where others may have read it, begin a new home",
        )
    if home.trust.stat().st_mode & _OTHERS_WRITE:
        yield wrong(
            _CHECK,
            f"others on this machine can write in {home.trust}",
            "who can put a key there can speak for this centre",
            f"chmod 700 {home.trust}; and look at what is there, and whose it is",
        )


def _whole(home: Home) -> Iterator[Finding]:
    try:
        authority = Authority.load(home.path)
        apart = [*_apart(home)]
    except (TrustMissingError, ModelError, OSError) as error:
        why = str(error.__cause__ or error)
        yield wrong(_CHECK, f"the keys in {home.trust} can't be used", why, _restore(home))
        return
    for pair, why in apart:
        yield wrong(_CHECK, f"{pair} don't belong together", why, _restore(home))
    ca = x509.load_pem_x509_certificate(authority.pem.encode())
    for name, path, private in (
        ("CA", home.ca, home.ca_key),
        ("server", home.server, home.server_key),
        ("centre", home.centre, home.centre_key),
    ):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, private)
            _certificate(path).verify_directly_issued_by(ca)
        except (OSError, ValueError, TypeError, InvalidSignature) as error:
            said = str(error) or "it is not issued by this fleet's CA"
            why = f"{path.name} with {private.name}: {said}"
            yield wrong(_CHECK, f"the {name} certificate can't be used", why, _restore(home))
    yield from _token(home)


def _apart(home: Home) -> Iterator[tuple[str, str]]:
    """Return which signing keys are not the ones devices know, and what comes of it."""
    if SigningKey.load(home.desired_key).public.pem != load_public(home.desired_public).pem:
        yield "desired.key and desired.pub", "devices refuse whatever this centre wants of them"
    if not home.bundle_key.exists():
        return  # it may live on the engineer's machine
    if SigningKey.load(home.bundle_key).public.pem != load_public(home.bundle_public).pem:
        yield "bundle.key and bundle.pub", "what is signed here from now on can't be published"


def _token(home: Home) -> Iterator[Finding]:
    try:
        why = "" if home.operator_token.read_text(encoding="ascii").strip() else "it is empty"
    except (OSError, UnicodeDecodeError) as error:
        why = str(error)
    if why:
        yield wrong(
            _CHECK,
            f"there is no operator token in {home.operator_token}",
            f"{why}; nobody can ask this centre anything, and it does not start",
            f"make one: (umask 077; openssl rand -hex 32 > {home.operator_token}), and start it",
        )


def _restore(home: Home) -> str:
    return f"bring {home.trust} back from a backup; a fleet without its keys begins anew"


def _dates(
    certificates: dict[str, x509.Certificate], home: Home, now: datetime
) -> Iterator[Finding]:
    for name, each in certificates.items():
        begins, ends = each.not_valid_before_utc, each.not_valid_after_utc
        anew = f"begin a new home ({home.path} has no renewal yet): skerry trust init; join again"
        if now < begins:
            why = f"it is valid from {begins:%Y-%m-%d %H:%M} UTC: this machine's clock is behind"
            yield wrong(
                _CHECK, f"the {name} certificate is not valid yet", why, "set this machine's clock"
            )
        elif now >= ends:
            why = f"its last day was {ends:%Y-%m-%d}; nobody who checks it connects any more"
            yield wrong(_CHECK, f"the {name} certificate has expired", why, anew)
        elif now >= ends - SOON:
            why = f"its last day is {ends:%Y-%m-%d}; afterwards nobody who checks it connects"
            yield warning(_CHECK, f"the {name} certificate expires soon", why, anew)


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())
