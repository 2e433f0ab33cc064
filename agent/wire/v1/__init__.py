"""Version 1 of the wire: every document, as frozen values. Draft until release 0.1.

One module a topic. A published version is frozen: until 0.1 a change brings its
golden files and a line in an ADR; afterwards it needs a new version beside it.

Rules that hold for every document:
- Unknown fields are ignored; a field that must be understood needs a new version.
- Order is by (epoch, generation), never by time. Times are RFC 3339 in UTC and
  are shown to people; nothing is decided by them but the expiry of commands.
- A report speaks about (deployment, revision, digest); a report about another
  revision advances nothing.
"""

from agent.wire.v1.command import Command, Result, ResultStatus, Verb
from agent.wire.v1.desired import (
    BundleRef,
    Deployment,
    DeploymentSettings,
    Desired,
    DeviceSettings,
    Order,
    ReleaseRef,
    SecretRef,
    ShadowSettings,
    SiteDesired,
    Weekday,
    Window,
)
from agent.wire.v1.event import Acked, Event, EventKind
from agent.wire.v1.health import DeploymentHealth, DriftSketch, Health, LatencySketch, Shadowed
from agent.wire.v1.identity import (
    Approval,
    ApprovalState,
    JoinAnswer,
    JoinRequest,
    RenewAnswer,
    RenewRequest,
    Revocation,
    RevocationList,
    TrustedKey,
)
from agent.wire.v1.presence import Birth, Death, Facts
from agent.wire.v1.reported import (
    Active,
    Condition,
    Hold,
    Problem,
    Quarantined,
    Reported,
    ReportedDeployment,
    ReportedRelease,
    SiteReported,
)

__all__ = [
    "Acked", "Active", "Approval", "ApprovalState", "Birth", "BundleRef", "Command", "Condition",
    "Death", "Deployment", "DeploymentHealth", "DeploymentSettings", "Desired", "DeviceSettings",
    "DriftSketch", "Event", "EventKind", "Facts", "Health", "Hold", "JoinAnswer",
    "JoinRequest", "LatencySketch", "Order", "Problem", "Quarantined", "ReleaseRef", "RenewAnswer",
    "RenewRequest", "Reported", "ReportedDeployment", "ReportedRelease", "Result", "ResultStatus",
    "Revocation", "RevocationList", "SecretRef", "ShadowSettings", "Shadowed", "SiteDesired",
    "SiteReported", "TrustedKey", "Verb", "Weekday", "Window",
]  # fmt: skip
