"""The running centre, as somebody who asks it from outside finds it.

What judges is pure; `runs` and `strangers` look.
"""

import fcntl
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from fleet.checkup.finding import Finding, ok, warning, wrong

_CLOCKS_APART_S = 30.0
_WAIT_S = 5.0
_ALERT_S = 1.0  # TLS 1.3 refuses a missing certificate only after the handshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a centre answered, and when, by this machine."""

    url: str
    where: str
    """The words that name it in another command, after a blank; empty: none are needed."""

    took_s: float
    now: datetime
    version: str
    as_of: datetime
    connected: bool
    devices: int
    unheard: Sequence[tuple[str, datetime]]
    """Name of each device that was never heard, and when it joined."""

    @classmethod
    def read(
        cls,
        *,
        healthy: Mapping[str, Any],
        fleet: Mapping[str, Any],
        unheard: Mapping[str, Any],
        **ours: Any,  # noqa: ANN401  # the fields that are not the centre's
    ) -> Self:
        """Return what its answers say.

        Raises:
            ValueError: no centre answers so.
        """
        try:
            return cls(
                **ours,
                version=str(healthy["version"]),
                as_of=_time(fleet["as_of"]),
                connected=bool(fleet["broker"]["connected"]),
                devices=int(fleet["devices"]),
                unheard=[
                    (str(each["name"]), _time(each["joined_at"])) for each in unheard["devices"]
                ],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"a centre's answer has another shape: {error}") from error


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment


def centre(asked: Asked, own_version: str) -> Iterator[Finding]:
    """Judge whether the centre is the one that this program was made for, and at what time."""
    what = f"{asked.url} answers in {asked.took_s * 1000:.0f} ms, version {asked.version}"
    apart_s = (asked.now - asked.as_of).total_seconds()
    if abs(apart_s) > _CLOCKS_APART_S:
        why = (
            f"its clock is {abs(apart_s):.0f} s {'behind' if apart_s > 0 else 'ahead of'} this one"
        )
        hint = "set both by NTP: timedatectl set-ntp true; tokens and certificates go by the clock"
        yield warning("centre", what, why, hint)
    if asked.version != own_version:
        why = f"this program is version {own_version}"
        yield warning("centre", what, why, "run the same version on both sides: skerry --version")
    if abs(apart_s) <= _CLOCKS_APART_S and asked.version == own_version:
        # The centre's time has whole seconds: what is below one is not known.
        yield ok("centre", f"{what}, clocks {int(abs(apart_s))} s apart")


def runs(lock: Path) -> bool | None:
    """Return whether a centre runs on the home of this lock, answering or not; None: not known."""
    try:
        with lock.open("rb") as file:
            # Shared, and for no time: it keeps no other doctor out, and is gone with the file.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def unanswered(home: Path, why: str, *, running: bool, pid: int | None) -> Finding | None:
    """Judge a centre of this machine that gave no answer; None: it was not started, or ended well.

    `pid` is what it said when it was ready; it takes that back when it ends.
    """
    if running:
        hint = "it may be starting: ask again in a minute"
        if pid is not None:
            hint += f"; if it hangs, end it: kill {pid}; then start it: skerry up --home {home}"
        return wrong("centre", f"a centre runs on {home} and gives no answer", why, hint)
    if pid is not None:
        return wrong(
            "centre",
            f"the centre on {home} ended without a word",
            f"{why}; it was killed, or the machine went down",
            f"start it, it goes on from where it was: skerry up --home {home}",
        )
    return None


def broker(asked: Asked, url: str | None, *, strangers_in: bool | None) -> Finding:
    """Judge the centre's way to its broker, and whom that lets in.

    `url` is where it is, None where that is not known here; `strangers_in` whether it
    took a client without a certificate, None where that was not tried.
    """
    if not asked.connected:
        port = urlsplit(url or "").port or 8883
        return wrong(
            "broker",
            "the centre has no connection to it",
            "nothing is heard of devices, and nothing new is said to them",
            "read the centre's own words on standard error; at the broker's machine, who has its"
            f" port: ss -ltnp 'sport = :{port}'",
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
    try:
        context = ssl.create_default_context(cafile=ca)
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
