"""`reported` and `site-reported`: what a target says it is, retained.

A report is about (deployment, revision, digest). `observed` says which desired
document it answers; nothing is inferred from its age.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.wire.limits import DEPLOYMENTS_LIMIT, FACTS_LIMIT, QUARANTINED_LIMIT
from agent.wire.phases import Phase
from agent.wire.v1.checks import (
    check_code,
    check_device,
    check_digest,
    check_fleet,
    check_name,
    check_pairs,
    check_site,
    check_text,
    check_time,
    check_unique,
    check_whole,
)
from agent.wire.v1.desired import BundleRef, Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A cause: its reason code, parameters for the reader's sentence, a message for the log."""

    reason: str
    message: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_code(self.reason)
        check_text(self.message)
        check_pairs("parameters", self.parameters, FACTS_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that is so, why, and since when by the device's clock (shown, never compared)."""

    type: str
    reason: str
    since: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self.type)
        check_code(self.reason)
        check_time(self.since)
        check_pairs("parameters", self.parameters, FACTS_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A technician holds the device (or a deployment), and why."""

    reason: str
    since: str

    def __post_init__(self) -> None:
        check_text(self.reason)
        check_time(self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """What serves now under a deployment's name, and on what: no slower path goes unsaid.

    So many `workers` answer. `latency_p50_s` is the median measured when this way was chosen;
    None: it was not measured.
    """

    revision: int
    bundle: BundleRef
    variant: str
    runtime: str
    accelerator: str
    threads: int = 1
    workers: int = 1
    latency_p50_s: float | None = None

    def __post_init__(self) -> None:
        check_whole("revision", self.revision, least=1)
        check_digest(self.variant)
        check_text(self.runtime)
        check_text(self.accelerator)
        check_whole("threads", self.threads, least=1)
        check_whole("workers", self.workers, least=1)
        if self.latency_p50_s is not None and not 0 <= self.latency_p50_s < math.inf:
            raise ValueError(f"latency_p50_s is {self.latency_p50_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedDeployment:
    """One deployment: the revision wanted, how far it has come, and what serves meanwhile."""

    name: str
    revision: int
    digest: str
    phase: Phase
    active: Active | None = None
    conditions: tuple[Condition, ...] = ()
    last_error: Problem | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_whole("revision", self.revision, least=1)
        check_digest(self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A bundle that failed by itself on this device, and is not tried again there; why, since."""

    digest: str
    reason: str
    since: str

    def __post_init__(self) -> None:
        check_digest(self.digest)
        check_code(self.reason)
        check_time(self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What one device says it is. `observed` is the document it acts on; None: it has none."""

    fleet: str
    device: str
    session: int
    observed: Order | None = None
    deployments: tuple[ReportedDeployment, ...] = ()
    conditions: tuple[Condition, ...] = ()
    hold: Hold | None = None
    quarantined: tuple[Quarantined, ...] = ()
    last_error: Problem | None = None
    agent_version: str = ""

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_whole("session", self.session)
        check_text(self.agent_version)
        if len(self.quarantined) > QUARANTINED_LIMIT:
            raise ValueError(f"{len(self.quarantined)} in quarantine; at most {QUARANTINED_LIMIT}")
        check_unique("digest", [each.digest for each in self.quarantined])
        if len(self.deployments) > DEPLOYMENTS_LIMIT:
            raise ValueError(f"{len(self.deployments)} deployments; at most {DEPLOYMENTS_LIMIT}")
        check_unique("deployment", [deployment.name for deployment in self.deployments])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRelease:
    """One release of a site: the revision wanted and how far it is."""

    name: str
    revision: int
    digest: str
    phase: str
    conditions: tuple[Condition, ...] = ()
    last_error: Problem | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_whole("revision", self.revision, least=1)
        check_digest(self.digest)
        check_text(self.phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReported:
    """What a site's Lease holder says of it.

    Counts only from a member, and only with the highest term seen.
    """

    fleet: str
    site: str
    device: str
    term: int
    observed: Order | None = None
    releases: tuple[ReportedRelease, ...] = ()

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_site(self.site)
        check_device(self.device)
        check_whole("term", self.term)
