"""What the fetching child is asked to do. Pure; both sides of the pipe read this."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.fit import Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The files that say who we are and whom we trust."""

    key: str
    certificate: str
    ca: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchJob:
    """One bundle to bring into a store and verify.

    `keys` are PEM. `stall_s` without `stall_bytes` ends a connection that only
    pretends to move, `rate_bytes_per_s` bounds one that moves (None: nothing does).
    `shut` is why the registry may not be asked now; empty: it may. `reserve_bytes` of the
    disk are left for others.
    `credentials` are for TLS; a registry on loopback may do without. `hardware` is what
    the bundle is to fit before any of its weights are asked for; None: it has served here.
    """

    store: str
    registry_url: str
    name: str
    digest: str
    keys: tuple[str, ...]
    credentials: Credentials
    hardware: Hardware | None
    stall_s: float = 30.0
    stall_bytes: int = 16 * 1024
    rate_bytes_per_s: int | None = None
    shut: str = ""
    reserve_bytes: int = 32 * 1024 * 1024

    def to_json(self) -> dict[str, Any]:
        """Return what goes through the pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: bytes) -> "FetchJob":
        """Return the job that came through the pipe."""
        fields = json.loads(raw)
        keys, credentials = tuple(fields.pop("keys")), Credentials(**fields.pop("credentials"))
        hardware = fields.pop("hardware")
        if hardware is not None:
            hardware["accelerators"] = tuple(hardware["accelerators"])
            hardware = Hardware(**hardware)
        return cls(**fields, keys=keys, credentials=credentials, hardware=hardware)

    @property
    def store_path(self) -> Path:
        """Where the store is."""
        return Path(self.store)
