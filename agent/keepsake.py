"""What a device needs to serve if its ledger is lost: a copy of its last word, in a file beside it.

The ledger is the truth; this is read only where the ledger is damaged, or can't be
opened for writing. It is replaced whole by rename, so it is as it was written or
not there, and holds nothing that counts upwards: events and sessions begin anew
with a new ledger's id. A deployment comes back as what was committed: a candidate,
or a revision on trial, is tried again when it is next desired.

Blocking.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from agent.state import Installed, Record
from agent.wire.order import Held
from agent.wire.phases import Phase
from models import durable

NAME = "serving.json"
_LIMIT_BYTES = 1024 * 1024
"""Sixteen deployments with what was measured of each take some 100 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDocument:
    """A document the device obeys: its order, the exact payload, and the envelope it came in."""

    held: Held
    payload: bytes
    envelope: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One deployment as it serves, or is to again."""

    current: Installed
    previous: Installed | None
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepsake:
    """All of a device that must not be lost with its ledger."""

    deployments: tuple[Kept, ...] = ()
    held: Mapping[str, HeldDocument]
    schema: int = 1

    def records(self) -> dict[str, Record]:
        """Return each deployment as committed."""
        return {
            each.current.deployment.name: Record(
                wanted=each.current.deployment,
                phase=Phase.COMMITTED,
                since=each.since,
                current=each.current,
                previous=each.previous,
                proven=True,
            )
            for each in self.deployments
        }


@cache
def _adapter() -> TypeAdapter[Keepsake]:
    return TypeAdapter(Keepsake)  # the documents are JSON, so their bytes are texts


def keepsake(records: Iterable[Record], held: Mapping[str, HeldDocument]) -> Keepsake:
    """Return what is to be kept of a ledger."""
    return Keepsake(
        deployments=tuple(kept for record in records for kept in [_kept(record)] if kept),
        held=dict(held),
    )


def _kept(record: Record) -> Kept | None:
    if record.current is None:
        return None
    if record.proven or record.previous is None:
        return Kept(current=record.current, previous=record.previous, since=record.since)
    return Kept(current=record.previous, previous=None, since=record.since)


def write(path: Path, kept: Keepsake) -> None:
    """Put it durably beside the ledger.

    Raises:
        OSError: the disk won't have it; what was there before still is.
    """
    durable.write(path, _adapter().dump_json(kept), mode=0o600)


def read(path: Path) -> Keepsake | None:
    """Return what was kept; None where there is nothing, or nothing that we wrote."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LIMIT_BYTES + 1)
        kept = _adapter().validate_json(raw)
    except (OSError, ValidationError):
        return None
    return kept if kept.schema == 1 and len(raw) <= _LIMIT_BYTES else None
