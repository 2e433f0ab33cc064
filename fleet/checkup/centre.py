"""The running centre, as somebody who asks it from outside finds it. Pure but `strangers`."""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from fleet.checkup.finding import Finding, ok, warning, wrong

_CLOCKS_APART_S = 30.0
_WAIT_S = 5.0
_ALERT_S = 1.0  # TLS 1.3 refuses a missing certificate only after the handshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a centre answered to `/healthz` and `/api/v1/fleet`, and when, by this machine."""

    url: str
    took_s: float
    version: str
    fleet: Mapping[str, Any]
    now: datetime


def centre(asked: Asked, own_version: str) -> Finding:
    """Judge whether the centre is the one that this program was made for, and at what time."""
    what = f"{asked.url} answers in {asked.took_s * 1000:.0f} ms, version {asked.version}"
    theirs = datetime.fromisoformat(asked.fleet["as_of"])
    apart_s = (asked.now - theirs).total_seconds()
    if abs(apart_s) > _CLOCKS_APART_S:
        why = (
            f"its clock is {abs(apart_s):.0f} s {'behind' if apart_s > 0 else 'ahead of'} this one"
        )
        hint = "set both by NTP: timedatectl set-ntp true; tokens and certificates go by the clock"
        return warning("centre", what, why, hint)
    if asked.version != own_version:
        why = f"this program is version {own_version}"
        return warning("centre", what, why, "run the same version on both sides")
    return ok("centre", what)


def broker(asked: Asked, url: str | None, *, strangers_in: bool | None) -> Finding:
    """Judge the centre's way to its broker, and whom that lets in.

    `url` is where it is, None where that is not known here; `strangers_in` whether it
    took a client without a certificate, None where that was not tried.
    """
    if not asked.fleet["broker"]["connected"]:
        return wrong(
            "broker",
            "the centre has no connection to it",
            "nothing is heard of devices, and nothing new is said to them",
            "read the centre's own words on standard error, and whether the broker's port is free",
        )
    where = f" at {url}" if url else ""
    if strangers_in:
        return wrong(
            "broker",
            f"connected{where}; it lets strangers in",
            "a client without a certificate was not refused",
            "let nothing but this centre configure it, or compare: require_certificate true",
        )
    if url is not None and url.startswith("mqtt://"):
        return ok("broker", f"connected{where}: on loopback, without access rules")
    tried = "; a client without a certificate is refused" if strangers_in is False else ""
    return ok("broker", f"connected{where}{tried}")


def strangers(url: str, ca: str) -> bool | None:
    """Try whether a broker takes a client without a certificate; None: it can't be reached."""
    place = urlsplit(url)
    if place.scheme != "mqtts" or place.hostname is None:
        return None
    context = ssl.create_default_context(cafile=ca)
    try:
        with socket.create_connection((place.hostname, place.port or 8883), _WAIT_S) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=place.hostname) as encrypted:
                    encrypted.settimeout(_ALERT_S)
                    with suppress(TimeoutError):  # it waits for us to speak: we are let in
                        return bool(encrypted.recv(1))
                    return True
            except ssl.SSLCertVerificationError:
                return None
            except OSError:
                return False
    except OSError:
        return None
