"""Broker addresses: `mqtts://host:port` and, for loopback only, `mqtt://host:port`. Pure."""

import ipaddress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_PORTS = {"mqtt": 1883, "mqtts": 8883}  # IANA


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a broker listens, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port < 1 << 16:
            raise ValueError(f"not a host and port: {self.host[:80]!r}:{self.port}")
        if not self.tls and not is_loopback(self.host):
            # Without TLS nobody proves who they are: fine within one machine, nowhere else.
            raise ValueError(f"mqtt:// is for loopback; use mqtts://{self.host[:80]}:8883")

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the address in a URL.

        Raises:
            ValueError: another scheme, credentials or a path, no host, or plain beyond loopback.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise ValueError(
                f"not a broker URL: {url[:200]!r} (mqtts://host:8883, mqtt://127.0.0.1:1883)"
            )
        if parts.username or parts.password or parts.path.strip("/") or parts.query:
            raise ValueError("a broker URL is scheme, host and port; identity is the certificate's")
        tls = parts.scheme == "mqtts"
        return cls(host=parts.hostname or "", port=parts.port or _PORTS[parts.scheme], tls=tls)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own and nobody else's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
