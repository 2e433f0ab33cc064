"""A device's state is one word, from one table; what nobody heard lately is never drawn as good."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import (
    Active,
    Condition,
    DeploymentHealth,
    Health,
    Hold,
    Order,
    Problem,
    Reported,
    ReportedDeployment,
    Shadowed,
)
from agent.wire.vitals import DISK_LEAST_BYTES
from fleet.clock import written
from fleet.health.drift import Distance, Drift, Level
from fleet.health.heard import Heard
from fleet.health.states import (
    RULES,
    SILENT_LEAST_S,
    HealthReason,
    State,
    silent_limit_s,
    verdict,
)
from fleet.inventory import Target
from tests.fleet.deciding.paper import FLEET, Paper

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOINED = "2026-02-01T00:00:00Z"
PAPER = Paper()
BUNDLE = PAPER.bundle("1.4.0")
NEXT = PAPER.bundle("1.5.0")


def ago(seconds: float) -> str:
    return written(NOW - timedelta(seconds=seconds))


def active(version: str = "1.4.0", revision: int = 1) -> Active:
    return Active(
        revision=revision,
        bundle=PAPER.bundle(version),
        variant="sha256:" + "5" * 64,
        runtime="ai-edge-litert 2.3.0",
        accelerator="cpu",
    )


def told(phase: Phase = Phase.COMMITTED, **changes: object) -> ReportedDeployment:
    fields: dict[str, object] = {
        "name": "digits",
        "revision": 1,
        "digest": BUNDLE.digest,
        "phase": phase,
        "active": active(),
        **changes,
    }
    return ReportedDeployment(**fields)  # type: ignore[arg-type]


def feels(**changes: object) -> Health:
    fields: dict[str, object] = {
        "fleet": FLEET,
        "device": "d-1",
        "session": 1,
        "at": ago(10),
        "period_s": 60.0,
        **changes,
    }
    return Health(**fields)  # type: ignore[arg-type]


def heard(*deployments: ReportedDeployment, **changes: object) -> Heard:
    """Return a device that is well, but for what a test changes."""
    report: dict[str, object] = {
        "fleet": FLEET,
        "device": "d-1",
        "session": 1,
        "observed": Order(epoch=0, generation=1),
        "deployments": deployments or (told(),),
        **{
            name: changes.pop(name)
            for name in ("hold", "last_error", "observed")
            if name in changes
        },
    }
    target = Target(
        device="d-1",
        name="porto-cam-07",
        facts=PAPER.facts,
        online=bool(changes.pop("online", True)),
        last_seen=str(changes.pop("last_seen", ago(600))),
        desired=changes.pop("desired", PAPER.desired("d-1", PAPER.deployment(version="1.4.0"))),  # type: ignore[arg-type]
        reported=Reported(**report) if changes.pop("reports", True) else None,  # type: ignore[arg-type]
    )
    fields: dict[str, object] = {
        "joined_at": JOINED,
        "reported_at": ago(500),
        "health": feels(),
        "health_at": ago(10),
        **changes,
    }
    return Heard(target=target, **fields)  # type: ignore[arg-type]


def wants(version: str, revision: int, generation: int = 2) -> object:
    return PAPER.desired(
        "d-1",
        PAPER.deployment(version=version, revision=revision),
        generation=generation,
    )


BAD = Problem(reason=Reason.GOLDEN_MISMATCH, parameters={"failed": "3 of 16"})
LATER = Problem(reason=Reason.REGISTRY_UNREACHABLE)
SLOW = Condition(type="fallback", reason=Reason.ACCELERATOR_FALLBACK, since=ago(400))
ERRORS = DeploymentHealth(name="digits", revision=1, digest=BUNDLE.digest, requests=100, errors=3)
FAR = Distance(
    subject="input-0-mean", level=Level.ALARM, requests=8000, least=200, psi=0.412, chance=0.0
)
DRIFT = Drift(
    deployment="digits",
    revision=1,
    digest=BUNDLE.digest,
    told_at=ago(3000),
    since=ago(9000),
    judged=(replace(FAR, subject="output-0-class", level=Level.OK, psi=0.01), FAR),
)
DAY_S = 86400.0
ONE_ERROR = replace(ERRORS, requests=1, errors=1)

CASES = {
    "never reported": (heard(reports=False), State.UNKNOWN, HealthReason.NEVER_REPORTED),
    "away and never reported": (
        heard(reports=False, online=False),
        State.UNKNOWN,
        HealthReason.NEVER_REPORTED,
    ),
    "left": (heard(online=False), State.OFFLINE, HealthReason.DISCONNECTED),
    "left while failing": (
        heard(told(Phase.REFUSED, last_error=BAD), online=False),
        State.OFFLINE,
        HealthReason.DISCONNECTED,
    ),
    "silent": (
        heard(reported_at=ago(301), health_at=ago(301)),
        State.OFFLINE,
        HealthReason.SILENT,
    ),
    "refused": (
        heard(told(Phase.REFUSED, digest=NEXT.digest, revision=3, last_error=BAD)),
        State.FAILING,
        Reason.GOLDEN_MISMATCH,
    ),
    "refused, and no room to say why": (
        heard(told(Phase.REFUSED)),
        State.FAILING,
        HealthReason.NOT_SERVING,
    ),
    "rolling back": (
        heard(told(Phase.ROLLING_BACK, last_error=BAD)),
        State.FAILING,
        Reason.GOLDEN_MISMATCH,
    ),
    "rolled back": (
        heard(told(Phase.ROLLED_BACK, last_error=BAD)),
        State.FAILING,
        Reason.GOLDEN_MISMATCH,
    ),
    "refused, but another is wanted by now": (
        heard(told(Phase.REFUSED, last_error=BAD), desired=wants("1.5.0", 3)),
        State.WAITING,
        HealthReason.NOT_ANSWERED,
    ),
    "can't be started": (
        heard(told(Phase.COMMITTED, last_error=Problem(reason=Reason.WORKER_CRASHED))),
        State.FAILING,
        Reason.WORKER_CRASHED,
    ),
    "keeps dying, and there is nothing else": (
        heard(told(conditions=(replace(SLOW, type="ailing", reason=Reason.WORKER_STUCK),))),
        State.FAILING,
        Reason.WORKER_STUCK,
    ),
    "refuses its document": (
        heard(desired=wants("1.5.0", 3), last_error=Problem(reason=Reason.SIGNATURE_INVALID)),
        State.FAILING,
        Reason.SIGNATURE_INVALID,
    ),
    "refused one that is past": (
        heard(last_error=Problem(reason=Reason.SIGNATURE_INVALID)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "fallback": (heard(told(conditions=(SLOW,))), State.DEGRADED, Reason.ACCELERATOR_FALLBACK),
    "throttled": (
        heard(health=feels(throttled=True, temperature_c=84.2)),
        State.DEGRADED,
        HealthReason.THROTTLED,
    ),
    "throttled, as it told late": (
        heard(health=feels(throttled=True), health_late=True),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "errors": (
        heard(health=feels(deployments=(ERRORS,))),
        State.DEGRADED,
        HealthReason.ERRORS_HIGH,
    ),
    "one error": (
        heard(health=feels(deployments=(ONE_ERROR,))),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "disk": (
        heard(health=feels(disk_free_bytes=100 << 20, disk_total_bytes=8 << 30)),
        State.DEGRADED,
        HealthReason.DISK_NEARLY_FULL,
    ),
    "a large disk": (
        heard(health=feels(disk_free_bytes=DISK_LEAST_BYTES, disk_total_bytes=1 << 40)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "drifting": (heard(drift=(DRIFT,)), State.DEGRADED, HealthReason.DRIFTING),
    "worth a look": (
        heard(drift=(replace(DRIFT, judged=(replace(FAR, level=Level.WATCH),)),)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "drifted, and not a word of it for a day": (
        heard(drift=(replace(DRIFT, told_at=ago(DAY_S + 11)),)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "drifted while it was away": (
        heard(drift=(replace(DRIFT, told_at=None),)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "another revision drifted": (
        heard(drift=(replace(DRIFT, revision=2),)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "another bundle drifted": (
        heard(drift=(replace(DRIFT, digest=NEXT.digest),)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "a deployment that is not there drifted": (
        heard(drift=(replace(DRIFT, deployment="other"),)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
    "fetching": (
        heard(told(Phase.FETCHING, digest=NEXT.digest, revision=3)),
        State.UPDATING,
        HealthReason.ON_THE_WAY,
    ),
    "shadow": (heard(told(Phase.SHADOWING)), State.UPDATING, HealthReason.COMPARED),
    "probation": (heard(told(Phase.PROBATION)), State.UPDATING, HealthReason.ON_THE_WAY),
    "held": (
        heard(hold=Hold(reason="lens is off", since=ago(450))),
        State.WAITING,
        Reason.HELD_BY_OWNER,
    ),
    "ahead of the store": (
        heard(observed=Order(epoch=0, generation=9)),
        State.WAITING,
        HealthReason.AHEAD_OF_STORE,
    ),
    "put off": (
        heard(told(Phase.ACCEPTED, last_error=LATER)),
        State.WAITING,
        Reason.REGISTRY_UNREACHABLE,
    ),
    "not begun": (heard(told(Phase.ACCEPTED)), State.WAITING, HealthReason.NOT_BEGUN),
    "not answered": (
        heard(desired=wants("1.5.0", 3)),
        State.WAITING,
        HealthReason.NOT_ANSWERED,
    ),
    "well": (heard(), State.OK, HealthReason.AS_WANTED),
    "well, and has sent no health yet": (
        heard(health=None, health_at=None, reported_at=ago(100)),
        State.OK,
        HealthReason.AS_WANTED,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_state_has_its_reason(case: str) -> None:
    """Each row of the table, and what is near to it and not it."""
    device, state, reason = CASES[case]
    found = verdict(device, NOW)

    assert (state, reason) == (found.state, found.finding.reason)


def test_nothing_wanted_is_well() -> None:
    """A device that just joined is no trouble."""
    blank = heard(desired=None, observed=None)
    blank = replace(
        blank,
        target=replace(blank.target, reported=Reported(fleet=FLEET, device="d-1", session=1)),
    )

    assert HealthReason.NOTHING_WANTED == verdict(blank, NOW).finding.reason


def test_every_row_is_reached() -> None:
    """No predicate hides another for good."""
    reached = {verdict(device, NOW).state for device, _, _ in CASES.values()}

    assert set(State) == reached
    assert [*State] == list(dict.fromkeys(rule.state for rule in RULES))


@given(
    seconds=st.floats(-(10**6), 10**8),
    online=st.booleans(),
    phase=st.sampled_from(Phase),
    error=st.sampled_from([None, BAD, LATER]),
    version=st.sampled_from(["1.4.0", "1.5.0"]),
    revision=st.integers(1, 3),
    generation=st.integers(1, 3),
    throttled=st.sampled_from([None, True, False]),
    since=st.sampled_from(["9999-99-99T99:99:99Z", "1970-01-01T00:00:00Z", ago(3)]),
)
def test_the_first_that_holds_wins_and_one_always_does(
    *,
    seconds: float,
    online: bool,
    phase: Phase,
    error: Problem | None,
    version: str,
    revision: int,
    generation: int,
    throttled: bool | None,
    since: str,
) -> None:
    """Whatever a device says, its clock included, it has a state, a reason and a time."""
    condition = Condition(type="serving", reason=Reason.INCUMBENT_KEPT, since=since)
    device = heard(
        told(phase, last_error=error, conditions=(condition,)),
        online=online,
        desired=wants(version, revision, generation),
        health=feels(throttled=throttled),
    )
    now = NOW + timedelta(seconds=seconds)
    found = verdict(device, now)
    holding = [rule for rule in RULES if rule.find(device, now) is not None]

    assert holding[0].state is found.state
    assert JOINED <= found.finding.since <= ago(-1)
    assert (found.was is not None) == (found.state is State.OFFLINE)
    if not online or seconds > silent_limit_s(device):
        assert State.OFFLINE is found.state


def test_offline_says_what_it_was_when_it_was_heard() -> None:
    """What was asked of it since is nothing it was."""
    well, bad = heard(online=False), heard(told(Phase.REFUSED, last_error=BAD), online=False)
    since = [
        replace(each, target=replace(each.target, desired=wants("1.5.0", 3)))  # type: ignore[arg-type]
        for each in (well, bad)
    ]

    assert [State.OK, State.FAILING] * 2 == [verdict(each, NOW).was for each in (well, bad, *since)]


def test_silence_is_three_periods_and_five_minutes() -> None:
    """By the period that it is to have, or has: whichever is longer."""
    slow = replace(
        PAPER.desired("d-1"), settings=replace(PAPER.desired("d-1").settings, health_period_s=900.0)
    )

    assert SILENT_LEAST_S == silent_limit_s(heard())
    assert 2700 == silent_limit_s(heard(desired=slow))
    assert 10800 == silent_limit_s(heard(desired=slow, health=feels(period_s=3600.0)))
    assert State.OK is verdict(heard(reported_at=ago(300), health_at=ago(300)), NOW).state


def test_a_device_s_clock_is_believed_within_reason() -> None:
    """Between when it joined and when it said so."""

    def since(moment: str) -> str:
        condition = Condition(type="serving", reason=Reason.INCUMBENT_KEPT, since=moment)
        device = heard(told(Phase.REFUSED, last_error=BAD, conditions=(condition,)))
        return verdict(device, NOW).finding.since

    assert ago(700) == since(ago(700))
    assert JOINED == since("1970-01-01T00:00:00Z")
    assert ago(500) == since("2090-01-01T00:00:00.5Z")


def test_a_candidate_in_the_shadow_is_said_with_how_far_it_is() -> None:
    """As the device last told; one that waited for a connection says how it was then."""
    part = DeploymentHealth(
        name="digits",
        revision=1,
        digest=BUNDLE.digest,
        requests=40,
        errors=0,
        shadow=Shadowed(compared=37, agreed=36, wanted=100),
    )
    now = heard(told(Phase.SHADOWING), health=feels(deployments=(part,)))
    late = replace(now, health_late=True)

    assert {"so far": "37 of 100 compared, 36 agreed"} == verdict(now, NOW).finding.parameters
    assert {} == verdict(late, NOW).finding.parameters


def test_a_drift_says_what_how_far_and_since_when() -> None:
    """The subject that is furthest; and an offline device was drifting when it was last heard."""
    told = verdict(heard(drift=(DRIFT,)), NOW).finding
    away = heard(
        drift=(replace(DRIFT, told_at=ago(9 * DAY_S)),),
        online=False,
        last_seen=ago(9 * DAY_S),
        health_at=ago(9 * DAY_S),
        reported_at=ago(9.1 * DAY_S),
    )

    assert {"subject": "input-0-mean", "psi": "0.41", "requests": "8000"} == told.parameters
    assert ("digits 1.4.0", ago(9000)) == (told.subject, told.since)
    assert (State.OFFLINE, State.DEGRADED) == (verdict(away, NOW).state, verdict(away, NOW).was)
