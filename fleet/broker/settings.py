"""What the centre's broker is asked to be. Pure values; `fleet.broker.choose` acts on them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The broker's side of TLS: who may connect (`ca`), and what it shows."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """What the centre's broker is asked to be.

    `home` is the folder it may write (`HOME/broker`). It listens on
    `host:port`; `public_host` is the name devices dial (one of the server
    certificate's), by default `host`. `tls` is what Mosquitto needs. `url`
    names a broker that someone else runs; everything but `fleet` is without
    effect then. `embedded` asks for the embedded broker even where Mosquitto is
    installed.
    """

    fleet: str
    home: Path
    host: str = "127.0.0.1"
    port: int = 8883
    public_host: str | None = None
    tls: TlsFiles | None = None
    url: str | None = None
    embedded: bool = False
