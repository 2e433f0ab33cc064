"""Which broker the centre uses, and what it is asked to be."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from fleet.ports import Broker, BrokerError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The broker's side of TLS: who may connect (`ca`), and what it shows (`certificate`, `key`)."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """What the centre's broker is asked to be.

    `home` is the folder it may write (`HOME/broker`). It listens on
    `host:port`; `public_host` is the name devices dial (in the server
    certificate), by default `host`. `url` names a broker that is run by someone
    else; everything but `fleet` then is without effect. `embedded` asks for the
    embedded broker even where Mosquitto is installed.
    """

    fleet: str
    home: Path
    host: str = "127.0.0.1"
    port: int = 8883
    public_host: str | None = None
    tls: TlsFiles | None = None
    url: str | None = None
    embedded: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own and nobody else's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def choose(settings: BrokerSettings) -> Broker:
    """Return the broker to use: the URL given, else Mosquitto where it is installed, else the embedded one.

    The embedded one has no access rules, so it is refused for anything but loopback.

    Raises:
        BrokerError: no broker can do what is asked; says what to install or change.
    """
    raise NotImplementedError
