"""`desired` and `site-desired`: what a target should be. Signed (DSSE), obeyed only if that holds.

Three outcomes when one arrives (`agent.wire.order.admit`): newer or identical,
accepted; older, stale, refused; same (epoch, generation) with other content,
conflict, loud. Rollback is a newer generation with old content.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.wire.limits import (
    DEPLOYMENTS_LIMIT,
    DOWNLOAD_RATE_LEAST_BYTES_PER_S,
    HEALTH_PERIOD_S,
    WINDOWS_LIMIT,
    WORKERS_LIMIT,
)
from agent.wire.v1.checks import (
    check_device,
    check_digest,
    check_fleet,
    check_name,
    check_site,
    check_text,
    check_time,
    check_time_of_day,
    check_trace,
    check_unique,
    check_whole,
    check_zone,
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Order:
    """What orders desired documents of one target: the epoch first, then the generation.

    The epoch rises only by a recovery under the offline key.
    """

    epoch: int
    generation: int

    def __post_init__(self) -> None:
        check_whole("epoch", self.epoch)
        check_whole("generation", self.generation, least=1)

    def __str__(self) -> str:
        return f"epoch {self.epoch}, generation {self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A secret by the name that the device (or a Kubernetes Secret) has for it. Never its value."""

    secret: str

    def __post_init__(self) -> None:
        check_name(self.secret)


Setting = bool | int | float | str | SecretRef


def check_settings(values: Mapping[str, Setting]) -> None:
    """Numbers that every JSON reader keeps; texts are bounded by their document."""
    for name, value in values.items():
        check_text(name)
        if isinstance(value, int) and abs(value) >= 1 << 53:
            raise ValueError(f"setting {name!r} is {value}; whole numbers stay below 2**53")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"setting {name!r} is {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRef:
    """A bundle: its manifest's digest, and the name and version a person reads."""

    digest: str
    name: str
    version: str

    def __post_init__(self) -> None:
        check_digest(self.digest)
        check_name(self.name)
        check_text(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSettings:
    """How a candidate is compared with the incumbent, on live requests, before it serves.

    `share` of the requests that the incumbent answered is answered by the candidate too,
    unseen. Once `requests` were compared, at least the share `agreement` of them must have
    agreed: on the decision where the card names one, else to `tolerance` in each output's
    own units (None: as the card allows for another runtime). After `limit_s` with too few
    requests nothing is known, and the candidate is refused.
    """

    share: float = 1.0
    requests: int = 100
    agreement: float = 0.95
    tolerance: float | None = None
    limit_s: float = 3600.0

    def __post_init__(self) -> None:
        check_whole("requests", self.requests, least=1)
        for name, value in (("share", self.share), ("agreement", self.agreement)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; it must be above 0 and at most 1")
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance is {self.tolerance}; it must be at least 0")
        if not 0 < self.limit_s <= 30 * 86400:
            raise ValueError(f"limit_s is {self.limit_s}; it must be above 0 and at most 30 days")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """How a bundle serves.

    `threads` is the runtime's thread count; None: as measured on the device (two
    threads made one int8 model 30 times slower). `workers` is how many processes
    answer; None: as measured there, too. `timeout_s` ends a stuck call.
    `latency_budget_s` is the longest median with which it is let in, as measured on the
    device before it serves, and stays in its probation, as its answers take; None: any.
    `memory_budget_bytes` is the same for what its process grows by with the model.
    `shadow` compares it with the incumbent before it serves; None: it is not.
    `probation_s` is how long a new revision serves before it is committed.
    `values` go to pre- and post-processing (thresholds and the like).
    """

    threads: int | None = None
    workers: int | None = None
    timeout_s: float = 10.0
    latency_budget_s: float | None = None
    memory_budget_bytes: int | None = None
    shadow: ShadowSettings | None = None
    probation_s: float = 0.0
    values: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_whole("threads", self.threads, least=1)
        if self.workers is not None and not 1 <= self.workers <= WORKERS_LIMIT:
            raise ValueError(f"workers is {self.workers}; it must be from 1 to {WORKERS_LIMIT}")
        if not 0 < self.timeout_s <= 3600:  # noqa: PLR2004  # an hour: above it nobody waits
            raise ValueError(f"timeout_s is {self.timeout_s}; it must be above 0 and at most 3600")
        if self.latency_budget_s is not None and not 0 < self.latency_budget_s <= self.timeout_s:
            raise ValueError(
                f"latency_budget_s is {self.latency_budget_s}; "
                "it must be above 0 and at most timeout_s"
            )
        if self.memory_budget_bytes is not None:
            check_whole("memory_budget_bytes", self.memory_budget_bytes, least=1)
        if not 0 <= self.probation_s <= 30 * 86400:
            raise ValueError(f"probation_s is {self.probation_s}; it must be between 0 and 30 days")
        check_settings(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A named place on a device where a bundle serves.

    `revision` changes only when the bundle or the settings do: it, not the
    generation, is what reports, gates and probation are about. Deployments of
    one `unit` switch together. `trace_id` names the rollout that brought it, in
    the logs of both sides; it only explains, so deployments are equal without it.
    """

    name: str
    bundle: BundleRef
    revision: int
    settings: DeploymentSettings = DeploymentSettings()
    unit: str | None = None
    trace_id: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_whole("revision", self.revision, least=1)
        if self.unit is not None:
            check_name(self.unit)
        if self.trace_id is not None:
            check_trace(self.trace_id)


class Weekday(StrEnum):
    """A day of the week, in its order."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time of the week, by the clock on a wall there: open when that shows a time within it.

    `start` is in it, `end` (up to `24:00`) is not. One that ends before it starts goes on
    over midnight; its `days` are those on which it starts.
    """

    days: tuple[Weekday, ...]
    start: str
    end: str

    def __post_init__(self) -> None:
        check_unique("day", self.days)
        if not self.days:
            raise ValueError("a window on no day")
        check_time_of_day(self.start)
        check_time_of_day(self.end)
        if self.start in {self.end, "24:00"}:
            raise ValueError(
                f"a window from {self.start} to {self.end}; a whole day is 00:00 to 24:00"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """Settings of the device itself.

    `reconnect_cap_s` bounds the full jitter of reconnects (60 s up to 10,000
    devices on one broker, 300 s at 100,000: TLS handshakes are what a broker
    runs out of). `download_rate_bytes_per_s` bounds what comes from the registry; None: as
    fast as the line. It does so within `download_windows`, in the zone `time_zone` (an IANA
    name); none: always. What serves, and what is in the store already, needs no window.
    Only within `maintenance_windows`, in the same zone, is a candidate tested or made to serve;
    none: always. What should serve already, and what served before, needs none of those either.
    """

    health_period_s: float = HEALTH_PERIOD_S
    reconnect_cap_s: float = 60.0
    download_rate_bytes_per_s: int | None = None
    download_windows: tuple[Window, ...] = ()
    maintenance_windows: tuple[Window, ...] = ()
    time_zone: str = "UTC"
    values: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.health_period_s <= 86400:  # noqa: PLR2004  # a second to a day
            raise ValueError(
                f"health_period_s is {self.health_period_s}; it must be between 1 and 86400"
            )
        if not 0 < self.reconnect_cap_s <= 3600:  # noqa: PLR2004  # above an hour a device looks dead
            raise ValueError(
                f"reconnect_cap_s is {self.reconnect_cap_s}; it must be above 0 and at most 3600"
            )
        if self.download_rate_bytes_per_s is not None:
            least = DOWNLOAD_RATE_LEAST_BYTES_PER_S
            check_whole("download_rate_bytes_per_s", self.download_rate_bytes_per_s, least=least)
        count = len(self.download_windows) + len(self.maintenance_windows)
        if count > WINDOWS_LIMIT:
            raise ValueError(f"{count} windows of both kinds; at most {WINDOWS_LIMIT}")
        check_zone(self.time_zone)
        check_settings(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What one device should be."""

    fleet: str
    target: str
    order: Order
    issued_at: str
    deployments: tuple[Deployment, ...] = ()
    settings: DeviceSettings = DeviceSettings()
    agent_version: str | None = None

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.target)
        check_time(self.issued_at)
        if len(self.deployments) > DEPLOYMENTS_LIMIT:
            raise ValueError(f"{len(self.deployments)} deployments; at most {DEPLOYMENTS_LIMIT}")
        check_unique("deployment", [deployment.name for deployment in self.deployments])
        if self.agent_version is not None:
            check_text(self.agent_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRef:
    """A signed set of manifests a site should run, by digest; `revision` as for a deployment."""

    name: str
    digest: str
    version: str
    revision: int

    def __post_init__(self) -> None:
        check_name(self.name)
        check_digest(self.digest)
        check_text(self.version)
        check_whole("revision", self.revision, least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteDesired:
    """What one site should run: the same bytes are published to each of its members."""

    fleet: str
    target: str
    order: Order
    issued_at: str
    releases: tuple[ReleaseRef, ...] = ()

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_site(self.target)
        check_time(self.issued_at)
        check_unique("release", [release.name for release in self.releases])
