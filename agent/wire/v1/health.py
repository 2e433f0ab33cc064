"""`health`: one document a period, in numbers that add up over a fleet.

Latency travels as a sparse DDSketch (Masson, Rim, Lee, VLDB 2019; relative
error 5 %, at most 64 buckets, the lowest collapsed): quantiles of devices don't
add up, sketches do. Counts are of this period, not since boot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.wire.limits import (
    DEPLOYMENTS_LIMIT,
    DRIFT_COUNT_LIMIT,
    DRIFT_COUNTS_LIMIT,
    DRIFT_NAME_LIMIT,
    DRIFT_SUBJECTS_LIMIT,
    SKETCH_BUCKETS_LIMIT,
    SKETCH_INDEX_LIMIT,
)
from agent.wire.v1.checks import (
    check_device,
    check_digest,
    check_fleet,
    check_name,
    check_text,
    check_time,
    check_unique,
    check_whole,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySketch:
    """Seconds, as `index -> count` with index = ceil(log(seconds) / log(gamma)).

    gamma = 1.05 / 0.95. On the wire it is one short text (`agent.wire.packing`).
    """

    count: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_whole("count", self.count)
        if len(self.buckets) > SKETCH_BUCKETS_LIMIT:
            raise ValueError(f"{len(self.buckets)} buckets; at most {SKETCH_BUCKETS_LIMIT}")
        for index, number in self.buckets.items():
            check_whole("a bucket", number, least=1)
            if abs(index) > SKETCH_INDEX_LIMIT:
                raise ValueError(f"bucket {index}; at most {SKETCH_INDEX_LIMIT} from 0")
        if sum(self.buckets.values()) != self.count:
            raise ValueError("the buckets don't add up to count")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSketch:
    """How many requests were in each bin of a card's drift reference, since this was last told.

    The last count is of requests whose number is none (NaN, infinity). On the wire a deployment's
    are an object of short texts, by subject (`agent.wire.packing`).
    """

    subject: str
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        check_name(self.subject)
        if len(self.subject) > DRIFT_NAME_LIMIT:
            raise ValueError(f"{self.subject!r} has more than {DRIFT_NAME_LIMIT} characters")
        if not 0 < len(self.counts) <= DRIFT_COUNTS_LIMIT:
            raise ValueError(
                f"{len(self.counts)} bins of {self.subject}; 1 to {DRIFT_COUNTS_LIMIT}"
            )
        for number in self.counts:
            check_whole("a bin", number)
            if number > DRIFT_COUNT_LIMIT:
                raise ValueError(
                    f"{number} in a bin of {self.subject}; at most {DRIFT_COUNT_LIMIT}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowed:
    """How far a candidate in the shadow is: so many live requests compared of those `wanted`."""

    compared: int
    agreed: int
    wanted: int

    def __post_init__(self) -> None:
        check_whole("compared", self.compared)
        check_whole("agreed", self.agreed)
        check_whole("wanted", self.wanted, least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentHealth:
    """One deployment over one period. `restarts` counts workers that had to be started again.

    `shadow` is there while a candidate is compared with what serves, and counts since that began.
    """

    name: str
    revision: int
    digest: str
    requests: int
    errors: int
    restarts: int = 0
    latency: LatencySketch = LatencySketch()
    drift: tuple[DriftSketch, ...] = ()
    shadow: Shadowed | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_digest(self.digest)
        check_whole("revision", self.revision, least=1)
        check_whole("requests", self.requests)
        check_whole("errors", self.errors)
        check_whole("restarts", self.restarts)
        if len(self.drift) > DRIFT_SUBJECTS_LIMIT:
            raise ValueError(f"{len(self.drift)} drifts; at most {DRIFT_SUBJECTS_LIMIT}")
        check_unique("drift", [each.subject for each in self.drift])


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One device over one period. None means not measured here, never zero.

    `told`: how many events its ledger had told when this was measured. That, and no
    clock, orders it among the documents that waited and came as events.
    """

    fleet: str
    device: str
    session: int
    at: str
    period_s: float
    cpu_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    accelerator: str | None = None
    accelerator_c: float | None = None
    outbox: int = 0
    told: int = 0
    deployments: tuple[DeploymentHealth, ...] = ()

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_time(self.at)
        check_whole("session", self.session)
        check_whole("outbox", self.outbox)
        check_whole("told", self.told)
        if not 0 < self.period_s <= 86400:  # noqa: PLR2004  # as `DeviceSettings` has it
            raise ValueError(f"period_s is {self.period_s}; it must be above 0 and at most 86400")
        if self.accelerator is not None:
            check_text(self.accelerator)
        if len(self.deployments) > DEPLOYMENTS_LIMIT:
            raise ValueError(f"{len(self.deployments)} deployments; at most {DEPLOYMENTS_LIMIT}")
