"""How one deployment stands, for who is at the device: on its page and by `status`. Pure."""

from dataclasses import dataclass

from agent.state import Record
from agent.wire import v1
from agent.wire.phases import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is wanted, how far that has come and what is in its way, and what serves meanwhile."""

    name: str
    wanted: str
    revision: int
    phase: Phase
    reason: str | None
    serves: str | None
    workers: int | None


def standing(record: Record) -> Standing:
    """Return how a deployment stands."""
    return Standing(
        name=record.name,
        wanted=named(record.wanted.bundle),
        revision=record.wanted.revision,
        phase=record.phase,
        reason=record.problem.reason if record.problem else None,
        serves=named(record.current.deployment.bundle) if record.current else None,
        workers=record.current.workers if record.current else None,
    )


def named(bundle: v1.BundleRef) -> str:
    """Return a bundle's name and version as people and commands write them."""
    return f"{bundle.name}:{bundle.version}"
