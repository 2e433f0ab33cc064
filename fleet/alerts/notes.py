"""What one device contributes to causes: a small value for each, kept between looks. Pure.

A device is read again only when it has said something; of the others the note is enough to see
whether they have gone quiet, which is all that time alone changes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.wire.reasons import Reason
from fleet.alerts.cause import Scope
from fleet.health.heard import Heard, words
from fleet.health.states import (
    Finding,
    HealthReason,
    State,
    findings,
    silent_limit_s,
)

RESTARTS_LEAST = 3
"""In one period: a worker that dies so often does not recover, whatever it says in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """That a device shows a cause of a rule's: which one, why by its code, and since when."""

    rule: str
    scope: Scope
    subject: str
    reason: str
    since: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """One device. `at` is its last word, `since` when it came or went; by the centre's clock."""

    device: str
    name: str
    site: str
    online: bool
    reported: bool
    since: str
    at: str
    quiet_after_s: float
    certificate_ends: str
    signs: tuple[Sign, ...] = ()


RULE_OF: Mapping[str, tuple[str, Scope]] = {
    Reason.GOLDEN_MISMATCH: ("SkerryGoldenFailing", Scope.BUNDLE),
    Reason.WORKER_CRASHED: ("SkerryCrashLoop", Scope.BUNDLE),
    Reason.WORKER_STUCK: ("SkerryCrashLoop", Scope.BUNDLE),
    Reason.QUARANTINED: ("SkerryCrashLoop", Scope.BUNDLE),
    Reason.ACCELERATOR_FALLBACK: ("SkerryAcceleratorFallback", Scope.BUNDLE),
    Reason.ACCELERATOR_MISSING: ("SkerryAcceleratorFallback", Scope.BUNDLE),
    HealthReason.ERRORS_HIGH: ("SkerryModelErrors", Scope.BUNDLE),
    HealthReason.DRIFTING: ("SkerryModelDrifting", Scope.BUNDLE),
    HealthReason.THROTTLED: ("SkerryThrottling", Scope.SITE),
    HealthReason.DISK_NEARLY_FULL: ("SkerryDiskFilling", Scope.SITE),
    Reason.DISK_FULL: ("SkerryDiskFilling", Scope.SITE),
}
"""Which rule a reason code belongs to, and where its cause is looked for."""

OTHERWISE: Mapping[State, str] = {
    State.FAILING: "SkerryDevicesFailing",
    State.DEGRADED: "SkerryDevicesDegraded",
}
"""The rule of every other code, by the state it puts a device in."""


def note(heard: Heard, certificate_ends: str, now: datetime) -> Noted:
    """Return what is noted of a device until it says something else."""
    target = heard.target
    return Noted(
        device=target.device,
        name=target.name,
        site=target.site or "",
        online=target.online,
        reported=target.reported is not None,
        since=target.last_seen or heard.joined_at,
        at=heard.at or heard.joined_at,
        quiet_after_s=silent_limit_s(heard),
        certificate_ends=certificate_ends,
        signs=tuple(signs(heard, now)),
    )


def signs(heard: Heard, now: datetime) -> Iterator[Sign]:
    """Return what a device shows of causes, as it was last heard."""
    shown = set()
    for state, finding in findings(heard, now):
        sign = _sign(heard, state, finding)
        shown.add((sign.rule, sign.subject))
        yield sign
    for each in () if heard.feels is None else heard.feels.deployments:
        subject = words(heard.named(each.name, each.digest))
        rule, scope = RULE_OF[Reason.WORKER_CRASHED]
        if each.restarts >= RESTARTS_LEAST and (rule, subject) not in shown:
            yield Sign(
                rule=rule,
                scope=scope,
                subject=subject,
                reason=Reason.WORKER_CRASHED,
                since=heard.health_at or heard.joined_at,
                parameters={"restarts": str(each.restarts)},
            )


def _sign(heard: Heard, state: State, finding: Finding) -> Sign:
    rule, scope = RULE_OF.get(finding.reason, (OTHERWISE[state], Scope.BUNDLE))
    subject = _bundle(heard, finding.subject)
    if scope is Scope.SITE:
        subject = heard.target.site or ""
    elif not subject:
        scope, subject = Scope.REASON, finding.reason
    return Sign(
        rule=rule,
        scope=scope,
        subject=subject,
        reason=finding.reason,
        since=finding.since,
        parameters=finding.parameters,
    )


def _bundle(heard: Heard, subject: str) -> str:
    """Return the bundle that a finding is about, where it names only the deployment."""
    told = heard.target.told(subject)
    if told is None:
        return subject
    return words(heard.serves(told) or heard.named(told.name, told.digest))
