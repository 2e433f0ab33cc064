"""What serving tells the rest of the agent, as values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.wire.reasons import Reason
from agent.wire.v1.health import LatencySketch


class Happening(StrEnum):
    """What happened to a deployment's worker."""

    CRASHED = "crashed"
    STUCK = "stuck"
    RESTARTED = "restarted"
    MISSING = "missing"
    GAVE_UP = "gave-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent:
    """Something happened to a revision's worker. After `gave-up` nothing restarts it any more."""

    kind: Happening
    deployment: str
    revision: int
    bundle_digest: str
    reason: Reason | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One revision of one deployment since counts were last taken.

    `errors` are answers that are not the client's fault (500 and above);
    `latency` is of good answers, from the request being read to its answer. So is
    `drift`: by subject, how many were in each bin of the card's reference.
    """

    deployment: str
    revision: int
    bundle_digest: str
    requests: int
    errors: int
    restarts: int
    latency: LatencySketch
    drift: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
