"""The seven state words of a device: one table of predicates, the first that holds wins. Pure.

Rules:
- A verdict is about what was last heard; nothing is assumed of a device that is silent.
- `unknown` and `offline` come first: what nobody has heard lately is never drawn as good. An
  offline verdict says what the device was, by the rows below, when it was last heard.
- What a device does about a revision counts against it only while that revision is the one
  wanted: a newer one has another chance.
- Every verdict has a reason code, its parameters, and since when. Devices' clocks may be wrong,
  so their word of a time counts only between when they joined and when they said it.

`docs/reference/states.md` is generated from `RULES`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from agent.wire import v1
from agent.wire.limits import HEALTH_PERIOD_S
from agent.wire.phases import SERVING, Phase
from agent.wire.reasons import Reason
from agent.wire.vitals import (
    DISK_LEAST_BYTES,
    DISK_SHARE,
    ERROR_SHARE,
    ERRORS_LEAST,
    disk_nearly_full,
    fails_often,
)
from agent.wire.windows import waits_for_window
from fleet.health.drift import ALARM_PSI, CHANCE, Distance, Level, furthest
from fleet.health.heard import Heard, so_far, words
from fleet.health.tellings import KEPT

SILENT_PERIODS = 3
"""Two documents in a row may be lost on a bad line; the third is news."""

SILENT_LEAST_S = 300.0
"""A device that reports every second isn't away because its router restarts."""


class State(StrEnum):
    """How a device is, in one word; the worst first, as the first that holds wins."""

    UNKNOWN = "unknown"
    OFFLINE = "offline"
    FAILING = "failing"
    DEGRADED = "degraded"
    UPDATING = "updating"
    WAITING = "waiting"
    OK = "ok"


class HealthReason(StrEnum):
    """Why a device is in its state, where no reason code of its own says it."""

    NEVER_REPORTED = "NEVER_REPORTED"
    DISCONNECTED = "DISCONNECTED"
    SILENT = "SILENT"
    NOT_SERVING = "NOT_SERVING"
    THROTTLED = "THROTTLED"
    ERRORS_HIGH = "ERRORS_HIGH"
    DISK_NEARLY_FULL = "DISK_NEARLY_FULL"
    DRIFTING = "DRIFTING"
    ON_THE_WAY = "ON_THE_WAY"
    COMPARED = "COMPARED"
    NOT_BEGUN = "NOT_BEGUN"
    NOT_ANSWERED = "NOT_ANSWERED"
    AHEAD_OF_STORE = "AHEAD_OF_STORE"
    NOTHING_WANTED = "NOTHING_WANTED"
    AS_WANTED = "AS_WANTED"
    NOT_WATCHED = "NOT_WATCHED"  # of the past only


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a predicate found: the code, since when, and which bundle it is about, if one."""

    reason: str
    since: str
    subject: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A device's state and why. `was`: what an offline device was when it was last heard."""

    state: State
    finding: Finding
    was: State | None = None


Predicate = Callable[[Heard, datetime], Finding | None]
"""Returns what it found, if it holds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table: the state, the predicate in words, and the predicate."""

    state: State
    when: str
    find: Predicate


def verdict(heard: Heard, now: datetime) -> Verdict:
    """Return how a device is: the first row that holds. The last one always does."""
    rule, finding = next(_found(RULES, heard, now))
    was = _was(heard, now) if rule.state is State.OFFLINE else None
    return Verdict(state=rule.state, finding=finding, was=was)


def findings(heard: Heard, now: datetime) -> Iterator[tuple[State, Finding]]:
    """Return all that is wrong with a device as it was last heard, and not only the first of it."""
    wrong = (rule for rule in RULES if rule.state in {State.FAILING, State.DEGRADED})
    for rule, finding in _found(wrong, heard, now):
        yield rule.state, finding


def _was(heard: Heard, now: datetime) -> State:
    """Return what a device was when it was last heard: nothing asked of it since counts."""
    reported, desired = heard.target.reported, heard.target.desired
    observed = None if reported is None else reported.observed
    if desired is not None and (observed is None or desired.order > observed):
        heard = replace(heard, target=replace(heard.target, desired=None))
    rule, _ = next(_found((rule for rule in RULES if rule.find not in _OF_NOW), heard, now))
    return rule.state


def _found(rules: Iterable[Rule], heard: Heard, now: datetime) -> Iterator[tuple[Rule, Finding]]:
    for rule in rules:
        finding = rule.find(heard, now)
        if finding is not None:
            yield rule, finding


def silent_limit_s(heard: Heard) -> float:
    """Return how long a device may say nothing."""
    wanted = heard.target.desired
    period_s = HEALTH_PERIOD_S if wanted is None else wanted.settings.health_period_s
    if heard.health is not None:  # it may not have heard yet that it should speak more often
        period_s = max(period_s, heard.health.period_s)
    return max(SILENT_PERIODS * period_s, SILENT_LEAST_S)


def _never_reported(heard: Heard, _: datetime) -> Finding | None:
    if heard.target.reported is not None:
        return None
    return Finding(reason=HealthReason.NEVER_REPORTED, since=heard.joined_at)


def _gone(heard: Heard, _: datetime) -> Finding | None:
    if heard.target.online:
        return None
    return Finding(
        reason=HealthReason.DISCONNECTED, since=heard.target.last_seen or heard.joined_at
    )


def _silent(heard: Heard, now: datetime) -> Finding | None:
    if heard.silent_s(now) <= silent_limit_s(heard):
        return None
    return Finding(reason=HealthReason.SILENT, since=heard.at or heard.joined_at)


def _refuses_document(heard: Heard, _: datetime) -> Finding | None:
    reported, desired = heard.target.reported, heard.target.desired
    if reported is None or desired is None or reported.last_error is None:
        return None
    if reported.observed is not None and reported.observed >= desired.order:
        return None
    return _of_problem(reported.last_error, since=_reported_at(heard))


def _refused(heard: Heard, _: datetime) -> Finding | None:
    for told in heard.deployments:
        if told.phase in {Phase.REFUSED, Phase.ROLLING_BACK, Phase.ROLLED_BACK} and _is_wanted(
            heard, told
        ):
            return _of_revision(heard, told)
    return None


def _ailing(heard: Heard, _: datetime) -> Finding | None:
    for told in heard.deployments:
        if told.phase not in SERVING:
            continue
        for condition in told.conditions:
            if condition.type == "ailing":
                return Finding(
                    reason=condition.reason,
                    since=_credible(heard, condition.since),
                    subject=words(heard.named(told.name, told.digest)),
                    parameters=condition.parameters,
                )
        if told.last_error is not None:
            return _of_revision(heard, told)
    return None


def _fallback(heard: Heard, _: datetime) -> Finding | None:
    slower = {Reason.ACCELERATOR_FALLBACK, Reason.ACCELERATOR_MISSING}
    for told in heard.deployments:
        for condition in told.conditions:
            if condition.reason in slower:
                return Finding(
                    reason=condition.reason,
                    since=_credible(heard, condition.since),
                    subject=words(heard.serves(told) or heard.named(told.name, told.digest)),
                    parameters=condition.parameters,
                )
    return None


def _throttled(heard: Heard, _: datetime) -> Finding | None:
    health = heard.feels
    if health is None or not health.throttled:
        return None
    told = {} if health.temperature_c is None else {"at": f"{health.temperature_c:.0f} °C"}
    return Finding(reason=HealthReason.THROTTLED, since=_health_at(heard), parameters=told)


def _errors_high(heard: Heard, _: datetime) -> Finding | None:
    for each in () if heard.feels is None else heard.feels.deployments:
        if fails_often(each):
            return Finding(
                reason=HealthReason.ERRORS_HIGH,
                since=_health_at(heard),
                subject=each.name,
                parameters={"errors": str(each.errors), "requests": str(each.requests)},
            )
    return None


def _disk_nearly_full(heard: Heard, _: datetime) -> Finding | None:
    if heard.feels is None or not disk_nearly_full(heard.feels):
        return None
    free = heard.feels.disk_free_bytes or 0
    return Finding(
        reason=HealthReason.DISK_NEARLY_FULL,
        since=_health_at(heard),
        parameters={"free": f"{free >> 20} MiB"},
    )


def _drifting(heard: Heard, _: datetime) -> Finding | None:
    for told, drift in heard.drifting():
        worst = furthest(drift.judged)
        if worst is not None and worst.level is Level.ALARM:
            return Finding(
                reason=HealthReason.DRIFTING,
                since=drift.since,
                subject=words(heard.named(told.name, drift.digest)),
                parameters=drift_parameters(worst),
            )
    return None


def drift_parameters(worst: Distance) -> Mapping[str, str]:
    """Return what `DRIFTING` says of the subject that is furthest from its reference."""
    return {
        "subject": worst.subject,
        "psi": f"{worst.psi:.2f}",
        "requests": str(worst.requests),
    }


def _on_the_way(heard: Heard, _: datetime) -> Finding | None:
    for told in heard.deployments:
        if told.phase in _UNDER_WAY and not _keeps_window(told):
            compared = told.phase is Phase.SHADOWING
            return Finding(
                reason=HealthReason.COMPARED if compared else HealthReason.ON_THE_WAY,
                since=_reported_at(heard),
                subject=words(heard.named(told.name, told.digest)),
                parameters=so_far(heard.feels, told.name) if compared else {"phase": told.phase},
            )
    return None


def _held(heard: Heard, _: datetime) -> Finding | None:
    hold = None if heard.target.reported is None else heard.target.reported.hold
    if hold is None:
        return None
    return Finding(
        reason=Reason.HELD_BY_OWNER,
        since=_credible(heard, hold.since),
        parameters={"because": hold.reason},
    )


def _ahead(heard: Heard, _: datetime) -> Finding | None:
    ahead = heard.target.ahead
    if ahead is None:
        return None
    return Finding(
        reason=HealthReason.AHEAD_OF_STORE,
        since=_reported_at(heard),
        parameters={"observed": f"{ahead.epoch}.{ahead.generation}"},
    )


def _keeps_window(told: v1.ReportedDeployment) -> bool:
    reason = None if told.last_error is None else told.last_error.reason
    return waits_for_window(told.phase, reason)


def _put_off(heard: Heard, _: datetime) -> Finding | None:
    for told in heard.deployments:
        if told.phase is Phase.ACCEPTED or _keeps_window(told):
            return _of_revision(heard, told, otherwise=HealthReason.NOT_BEGUN)
    return None


def _not_answered(heard: Heard, _: datetime) -> Finding | None:
    reported, desired = heard.target.reported, heard.target.desired
    if desired is None or reported is None:
        return None
    if reported.observed is not None and reported.observed >= desired.order:
        return None
    return Finding(reason=HealthReason.NOT_ANSWERED, since=desired.issued_at)


def _nothing_wanted(heard: Heard, _: datetime) -> Finding | None:
    desired = heard.target.desired
    if heard.deployments or (desired is not None and desired.deployments):
        return None
    return Finding(reason=HealthReason.NOTHING_WANTED, since=_reported_at(heard))


def _as_wanted(heard: Heard, _: datetime) -> Finding:
    subject = ", ".join(map(words, heard.serving()))
    return Finding(reason=HealthReason.AS_WANTED, since=_reported_at(heard), subject=subject)


_UNDER_WAY = frozenset(
    {
        Phase.FETCHING,
        Phase.VERIFYING,
        Phase.STAGING,
        Phase.TESTING,
        Phase.SHADOWING,
        Phase.ACTIVATING,
        Phase.PROBATION,
    }
)

RULES: tuple[Rule, ...] = (
    Rule(State.UNKNOWN, "it has never reported what it is", _never_reported),
    Rule(State.OFFLINE, "it left, or the broker lost it", _gone),
    Rule(
        State.OFFLINE,
        f"it has said nothing for {SILENT_PERIODS} health periods, or for"
        f" {SILENT_LEAST_S:.0f} s where that is longer",
        _silent,
    ),
    Rule(State.FAILING, "it refuses the newest document that is for it", _refuses_document),
    Rule(
        State.FAILING,
        "a revision that is wanted was refused, or is or was rolled back",
        _refused,
    ),
    Rule(State.FAILING, "what should serve can't be started, or keeps failing", _ailing),
    Rule(State.DEGRADED, "it serves on a slower path than it was built for", _fallback),
    Rule(State.DEGRADED, "it slows itself down, for heat or for power", _throttled),
    Rule(
        State.DEGRADED,
        f"more than {100 * ERROR_SHARE:.0f} % of a deployment's requests in the last period"
        f" failed, and at least {ERRORS_LEAST}",
        _errors_high,
    ),
    Rule(
        State.DEGRADED,
        f"less than {100 * DISK_SHARE:.0f} % of its disk is free, and less than"
        f" {DISK_LEAST_BYTES >> 30} GiB",
        _disk_nearly_full,
    ),
    Rule(
        State.DEGRADED,
        f"what a deployment that serves sees or says, over the last {KEPT} hours that it told of,"
        f" is far from its card's reference (PSI of {ALARM_PSI} or more), and not by chance"
        f" (p < {CHANCE})",
        _drifting,
    ),
    Rule(State.UPDATING, "a revision is between fetching and probation", _on_the_way),
    Rule(State.WAITING, "a technician holds it", _held),
    Rule(State.WAITING, "it acts on a newer document than the store has", _ahead),
    Rule(State.WAITING, "a revision that is wanted was put off, or not begun yet", _put_off),
    Rule(State.WAITING, "it has not answered the newest document that is for it", _not_answered),
    Rule(State.OK, "nothing is wanted of it", _nothing_wanted),
    Rule(State.OK, "it serves all that is wanted of it", _as_wanted),
)
"""The table. Not in it yet, because nothing measures them: certificates, budgets."""

ENDS: tuple[Predicate, ...] = (_refused, _ailing)
"""Of one deployment: what came of it, whether the device is here or not."""

KEPT_FROM: tuple[Predicate, ...] = (
    _never_reported,
    _gone,
    _silent,
    _refuses_document,
    _ahead,
    _held,
    _on_the_way,
    _put_off,
    _not_answered,
)
"""What keeps a deployment from being as it is wanted: the first that holds."""
_OF_NOW = frozenset({_never_reported, _gone, _silent, _ahead, _not_answered})
"""Predicates about now, or about the store: nothing that a device was."""


def _is_wanted(heard: Heard, told: v1.ReportedDeployment) -> bool:
    """Say whether this is still the revision to be, as far as the store knows one."""
    wanted = heard.target.wanted(told.name)
    return wanted is None or wanted.revision <= told.revision


def _of_revision(
    heard: Heard, told: v1.ReportedDeployment, otherwise: str = HealthReason.NOT_SERVING
) -> Finding:
    conditions = [condition.since for condition in told.conditions]
    since = _credible(heard, max(conditions)) if conditions else _reported_at(heard)
    if told.last_error is None:
        return Finding(
            reason=otherwise, since=since, subject=words(heard.named(told.name, told.digest))
        )
    return _of_problem(
        told.last_error, since=since, subject=words(heard.named(told.name, told.digest))
    )


def _of_problem(problem: v1.Problem, *, since: str, subject: str = "") -> Finding:
    return Finding(
        reason=problem.reason, since=since, subject=subject, parameters=problem.parameters
    )


def _credible(heard: Heard, told: str) -> str:
    """Return a device's word of a time, kept between when it joined and when it said it."""
    to_the_second = f"{told[:19]}Z"  # in UTC, and compared as text: it need not be a real date
    return min(max(to_the_second, heard.joined_at), _reported_at(heard))


def _reported_at(heard: Heard) -> str:
    return heard.reported_at or heard.joined_at


def _health_at(heard: Heard) -> str:
    return heard.health_at or heard.joined_at
