"""Who is to be told: `receivers.toml` in the centre's home. Parsing is pure; reading is bounded.

Secrets are never in it: it names files that hold them, beside it or anywhere, for the centre's
user alone. It is read again whenever there is something to tell: no restart is needed.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleet.alerts.cause import Severity

FILE_LIMIT_BYTES = 64 * 1024
SECRET_LIMIT_BYTES = 4096
RECEIVERS_LIMIT = 20
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=^_`{|}~-]+"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*\Z")
_OTHERS = 0o077


class ReceiverError(Exception):
    """Nobody can be told so: what is wrong, and the words in which it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A POST of JSON, signed with the secret in a file.

    `ca` here and below: a file with the authorities that its certificate must be of; None: those
    that this machine trusts.
    """

    url: str
    secret_file: Path
    ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail through an SMTP server. `security`: `tls`, `starttls` or `none`."""

    host: str
    port: int
    security: str
    user: str | None
    password_file: Path | None
    sender: str
    to: tuple[str, ...]
    ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    """A publication on the centre's own broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alertmanager:
    """An Alertmanager, told of all that is open again and again."""

    url: str
    ca: Path | None = None


Way = Webhook | Mail | Mqtt | Alertmanager


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One receiver, and the least severity that it wants to hear of."""

    name: str
    least: Severity
    way: Way

    @property
    def kind(self) -> str:
        """Which kind it is, as the file says it."""
        return type(self.way).__name__.lower()

    @property
    def where(self) -> str:
        """Where it is, without what may be secret."""
        match self.way:
            case Webhook() | Alertmanager():
                parts = urlsplit(self.way.url)
                return f"{parts.scheme}://{parts.netloc}"
            case Mail():
                return f"{', '.join(self.way.to)} by {self.way.host}:{self.way.port}"
            case Mqtt():
                return "the centre's broker"


def read(path: Path) -> tuple[Receiver, ...]:
    """Return the receivers that a file names; no file, no receivers. Blocking.

    Raises:
        ReceiverError: it can't be read, or says something that can't be meant.
    """
    try:
        raw = bounded(path, FILE_LIMIT_BYTES)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ReceiverError(f"{path.name} can't be read: {error.strerror}") from error
    try:
        return parse(raw.decode(), path.parent)
    except (ValueError, RecursionError) as error:
        raise ReceiverError(f"{path.name}: {error}"[:300]) from error


def secret(path: Path) -> bytes:
    """Return the secret in a file. Blocking.

    Raises:
        ReceiverError: there is none, or others can read it.
    """
    try:
        if path.stat().st_mode & _OTHERS:
            raise ReceiverError(f"others on this machine can read {path}: chmod 600 {path}")
        found = bounded(path, SECRET_LIMIT_BYTES).strip()
    except OSError as error:
        raise ReceiverError(f"no secret in {path}: {error.strerror}") from error
    if not found:
        raise ReceiverError(f"{path} is empty")
    return found


def bounded(path: Path, limit: int) -> bytes:
    """Return what is in a file. Blocking.

    Raises:
        ReceiverError: it is too long.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise ReceiverError(f"{path.name} has more than {limit} bytes")
    return raw


def parse(text: str, folder: Path) -> tuple[Receiver, ...]:
    """Return the receivers in a text; files in it are named from `folder`.

    Raises:
        ValueError: it can't be meant so; the error says where.
    """
    document = tomllib.loads(text)
    if unknown := document.keys() - {"receiver"}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; write [receiver.NAME]")
    found = document.get("receiver", {})
    if not isinstance(found, dict) or len(found) > RECEIVERS_LIMIT:
        raise ValueError(f"[receiver.NAME] is wanted, at most {RECEIVERS_LIMIT} times")
    return tuple(_receiver(name, told, folder) for name, told in found.items())


def _receiver(name: str, told: object, folder: Path) -> Receiver:
    if not _NAME.match(name):
        raise ValueError(f"[receiver.{name[:40]}]: a name has a-z, 0-9 and -, at most 63")
    if not isinstance(told, dict):
        raise ValueError(f"[receiver.{name}] is wanted, with a kind")  # noqa: TRY004  # one kind of error
    try:
        fields = _Fields(dict(told), folder)
        way = _KINDS[fields.choice("kind", _KINDS)](fields)
        least = fields.choice("least", list(Severity), Severity.INFO)
        fields.done()
    except ValueError as error:
        raise ValueError(f"[receiver.{name}]: {error}") from error
    return Receiver(name=name, least=Severity(least), way=way)


class _Fields:
    """What one table says: each field is taken once, and none is left over."""

    def __init__(self, told: dict[str, Any], folder: Path) -> None:
        self._told = told
        self._folder = folder

    def text(self, name: str, otherwise: str | None = None) -> str:
        value = self._told.pop(name, otherwise)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ValueError(f"{name} is wanted, as a text")
        return value

    def choice(self, name: str, among: Collection[str], otherwise: str | None = None) -> str:
        value = self.text(name, otherwise)
        if value not in among:
            raise ValueError(f"{name} is {value[:40]!r}; there are {', '.join(among)}")
        return value

    def optional(self, name: str) -> str | None:
        return self.text(name) if name in self._told else None

    def port(self, otherwise: int) -> int:
        value = self._told.pop("port", otherwise)
        if type(value) is not int or not 0 < value < 1 << 16:
            raise ValueError("port is a number up to 65535")
        return value

    def file(self, name: str) -> Path:
        return self._folder / self.text(name)

    def ca(self, *, secured: bool) -> Path | None:
        if "ca" not in self._told:
            return None
        if not secured:
            raise ValueError("ca is of TLS: without it, no certificate is asked for")
        return self.file("ca")

    def url(self) -> str:
        url = self.text("url")
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url begins with https:// or http://, and names a host")
        if parts.username or parts.password:
            raise ValueError("no secret belongs into url: others are shown it")
        return url

    def addresses(self, name: str) -> tuple[str, ...]:
        value = self._told.pop(name, None)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(map(_is_address, found)):
            raise ValueError(f"{name} is an address, or a list of them")
        return tuple(found)

    def done(self) -> None:
        if left := sorted(self._told):
            if {"secret", "password", "token"} & set(left):
                raise ValueError("no secret belongs here: name a file that holds it, as *_file")
            raise ValueError(f"unknown: {', '.join(left)[:80]}")


def _is_address(value: object) -> bool:
    return isinstance(value, str) and bool(_ADDRESS.match(value))


def _webhook(fields: _Fields) -> Way:
    url = fields.url()
    return Webhook(
        url=url,
        secret_file=fields.file("secret_file"),
        ca=fields.ca(secured=_is_secured(url)),
    )


def _mail(fields: _Fields) -> Way:
    ports = {"tls": 465, "starttls": 587, "none": 25}
    security = fields.choice("security", ports, "starttls")
    user = fields.optional("user")
    if user is not None and security == "none":
        raise ValueError("a password is not sent without tls or starttls")
    [sender] = fields.addresses("from")[:1]
    return Mail(
        host=fields.text("host"),
        port=fields.port(ports[security]),
        security=security,
        user=user,
        password_file=None if user is None else fields.file("password_file"),
        sender=sender,
        to=fields.addresses("to"),
        ca=fields.ca(secured=security != "none"),
    )


def _mqtt(fields: _Fields) -> Way:
    del fields
    return Mqtt()


def _alertmanager(fields: _Fields) -> Way:
    url = fields.url()
    return Alertmanager(url=url, ca=fields.ca(secured=_is_secured(url)))


def _is_secured(url: str) -> bool:
    return urlsplit(url).scheme == "https"


_KINDS: Mapping[str, Callable[[_Fields], Way]] = {
    "webhook": _webhook,
    "mail": _mail,
    "mqtt": _mqtt,
    "alertmanager": _alertmanager,
}
