"""`event` and `acked`: transitions that must not be lost, and all that empties the outbox.

Events are numbered within the ledger's id (a new ledger is a new numbering, so
a reinstalled device is not taken for a replay). `acked` names the number below
and at which the centre has committed all; a broker's PUBACK is not receipt.

A period's health that found no connection comes as an event, too: it has waited
among the transitions, and has a number as they have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.wire.limits import FACTS_LIMIT
from agent.wire.phases import Phase
from agent.wire.v1.checks import (
    check_code,
    check_device,
    check_digest,
    check_fleet,
    check_name,
    check_pairs,
    check_text,
    check_time,
    check_trace,
    check_whole,
)
from agent.wire.v1.health import Health


class EventKind(StrEnum):
    """What an event is about."""

    PHASE = "phase"  # a deployment's revision entered a phase
    REFUSED = "refused"  # a document was refused
    WORKER = "worker"  # a worker died, was killed, was restarted
    HOLD = "hold"  # a technician held or released
    QUARANTINE = "quarantine"  # a digest or revision was quarantined or released
    STORE = "store"  # what a device keeps has rotted in its store, or is whole again
    BOOT = "boot"  # the agent started
    HEALTH = "health"  # a period's health document, told when there was a connection again
    FOLDED = "folded"  # `count` older events of one cause, to keep the outbox within its bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One transition, or one period's health. `at` is the device's clock, for people.

    `first`: the numbers from it up to `number` were folded, and won't come one by one.
    `session`: the latest connection, or attempt at one, when it happened (0: none yet).
    `trace_id` is the one that came with the deployment.
    """

    fleet: str
    device: str
    ledger: str
    number: int
    kind: EventKind
    at: str
    deployment: str | None = None
    revision: int | None = None
    digest: str | None = None
    phase: Phase | None = None
    reason: str | None = None
    count: int = 1
    message: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    first: int | None = None
    session: int = 0
    health: Health | None = None
    trace_id: str | None = None

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_text(self.ledger)
        check_whole("number", self.number, least=1)
        check_whole("session", self.session)
        if self.first is not None and not 1 <= self.first <= self.number:
            raise ValueError(f"first is {self.first}; it must be between 1 and {self.number}")
        check_whole("count", self.count, least=1)
        check_time(self.at)
        check_text(self.message)
        check_pairs("parameters", self.parameters, FACTS_LIMIT)
        if self.deployment is not None:
            check_name(self.deployment)
        if self.digest is not None:
            check_digest(self.digest)
        if self.reason is not None:
            check_code(self.reason)
        if self.trace_id is not None:
            check_trace(self.trace_id)
        if (self.health is not None) != (self.kind is EventKind.HEALTH):
            raise ValueError(f"an event of kind {self.kind} and its health don't belong together")
        if self.health is not None and (self.health.fleet, self.health.device) != (
            self.fleet,
            self.device,
        ):
            raise ValueError(f"{self.device} tells the health of {self.health.device}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """All events of this ledger up to and including `number` are committed by the centre."""

    fleet: str
    device: str
    ledger: str
    number: int

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_text(self.ledger)
        check_whole("number", self.number)
