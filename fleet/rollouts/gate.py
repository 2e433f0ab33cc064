"""What a wave has shown so far: the verdict of its gate, with the reason. Pure.

Verdicts are Success, Failure, Inconclusive, or none yet. No data is never
success: with too few ends the gate waits for those that are away until its
deadline has passed, for those before a window of their own until that opens, and then is
inconclusive. Targets that are away, or were
overtaken by something newer, count neither way. A canary, one of the first of
its class, must succeed: its failure is the wave's, whatever the percentages say. A
gate that wants everyone has them all for its sample, those away too, and is failed by
the first that fails.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter

from fleet.rollouts.findings import Finding, Outcome, found
from fleet.rollouts.policy import Gate
from fleet.rollouts.progress import Progress, Rollout, RolloutWave
from fleet.rollouts.states import BAD, SETTLED, UNDER_WAY, TargetState, WaveState
from fleet.wording import figure

_DEADLINE_S = 3600.0
"""For a wave without a gate: only a return is held to it, and who went away on the way."""


class Verdict(StrEnum):
    """What a gate says."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    INCONCLUSIVE = "inconclusive"


class GateReason(StrEnum):
    """Why a gate says what it says."""

    CANARY_FAILED = "CANARY_FAILED"
    ERRORS_ABOVE = "ERRORS_ABOVE"
    UNDER_WAY = "UNDER_WAY"
    WAITS_FOR_AWAY = "WAITS_FOR_AWAY"
    SAMPLE_TOO_SMALL = "SAMPLE_TOO_SMALL"
    BETWEEN_THRESHOLDS = "BETWEEN_THRESHOLDS"
    CHECK_FAILED = "CHECK_FAILED"
    MEASURING = "MEASURING"
    CHECK_UNDECIDED = "CHECK_UNDECIDED"
    ENOUGH_COMMITTED = "ENOUGH_COMMITTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, why, and the numbers it rests on.

    Of the wave's `members`, without those overtaken: `good` committed, `bad`
    did not take it, `under_way` can be reached and have not come to an end,
    `away` can't be reached. Who failed and is to be asked again is not at an end.
    `findings` are what its checks say.
    """

    verdict: Verdict
    reason: GateReason
    good: int = 0
    bad: int = 0
    under_way: int = 0
    away: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def ended(self) -> int:
        """The sample: how many came to an end."""
        return self.good + self.bad


def judge(
    wave: RolloutWave, members: Sequence[Progress], unproven: frozenset[str], now: datetime
) -> Judgement:
    """Say what a wave has shown.

    Args:
        wave: the wave; without a gate it passes when all came to an end and all committed.
        members: its targets.
        unproven: the classes whose canaries have not all committed, by a policy that has them.
        now: what the deadline is held against.
    """
    ends = _of_ends(wave, members, unproven, now)
    if wave.gate is None or not wave.gate.checks:
        return ends
    classes = {each.class_name for each in members if each.state is TargetState.COMMITTED}
    findings = found(wave.gate.checks, wave.evidence, classes)
    return replace(_of_checks(wave, ends, findings, now), findings=findings)


def _of_ends(  # noqa: PLR0911  # a ladder of rules, one return each
    wave: RolloutWave, members: Sequence[Progress], unproven: frozenset[str], now: datetime
) -> Judgement:
    """Say what a wave has shown by how its targets came to an end."""
    counted = _count(members)
    total = counted["good"] + counted["bad"] + counted["under_way"]

    def said(verdict: Verdict, why: GateReason, **parameters: str) -> Judgement:
        return Judgement(
            verdict=verdict,
            reason=why,
            good=counted["good"],
            bad=counted["bad"],
            under_way=counted["under_way"],
            away=counted["away"],
            parameters=parameters,
        )

    canary = None
    if counted["bad"]:
        failed = (each for each in members if each.failed)
        canary = next((each for each in failed if each.class_name in unproven), None)
    if canary is not None:
        return said(
            Verdict.FAILURE,
            GateReason.CANARY_FAILED,
            target=canary.name or canary.target,
            class_name=canary.class_name,
            cause=canary.reason or str(canary.state),
        )
    if wave.gate is None:
        verdict, why = _ungated(counted)
        told = {"bad": str(counted["bad"]), "of": str(total), "limit": "0"}
        return said(verdict, why, **(told if verdict is Verdict.FAILURE else {}))
    gate, ended = wave.gate, counted["good"] + counted["bad"]
    sampled = ended >= (total + counted["away"] if gate.everyone else gate.minimum_sample)
    if (sampled or gate.everyone) and counted["bad"] * 100 > gate.error_percent * total:
        return said(
            Verdict.FAILURE,
            GateReason.ERRORS_ABOVE,
            bad=str(counted["bad"]),
            of=str(total),
            limit=str(gate.error_percent),
        )
    if counted["under_way"]:
        return said(Verdict.PENDING, GateReason.UNDER_WAY)
    if not sampled:
        return said(*_too_few(wave, gate, members, now), sample=str(ended))
    if counted["good"] * 100 >= gate.success_percent * ended:
        return said(Verdict.SUCCESS, GateReason.ENOUGH_COMMITTED)
    return said(Verdict.INCONCLUSIVE, GateReason.BETWEEN_THRESHOLDS, sample=str(ended))


def _of_checks(
    wave: RolloutWave, ends: Judgement, findings: Sequence[Finding], now: datetime
) -> Judgement:
    """Say what a wave has shown, its checks with it: they fail it, or keep it from passing."""
    outcomes = {each.outcome: each for each in reversed(findings)}
    failing, unknown = outcomes.get(Outcome.FAILS), outcomes.get(Outcome.UNKNOWN)
    if failing is not None and ends.verdict is not Verdict.FAILURE:
        verdict, why, told = Verdict.FAILURE, GateReason.CHECK_FAILED, _told(failing)
    elif unknown is not None and ends.verdict is Verdict.SUCCESS:
        (verdict, why), told = _unmeasured(wave, now), _told(unknown)
    else:
        return ends
    return replace(ends, verdict=verdict, reason=why, parameters=told)


def unproven(rollout: Rollout) -> frozenset[str]:
    """Return the classes of which not enough have committed to let more of them follow."""
    if rollout.canaries is None:
        return frozenset()
    found = Counter(map(_CLASS, rollout.targets))
    sizes: Counter[str] = Counter()
    for (name, _), number in found.items():
        sizes[name] += number
    return frozenset(
        name
        for name, size in sizes.items()
        if found[name, TargetState.COMMITTED] < min(rollout.canaries, size)
    )


def decides_at(wave: RolloutWave) -> datetime | None:
    """Return when a wave that soaks has soaked long enough."""
    if wave.gate is None or wave.since is None:
        return None
    return wave.since + timedelta(seconds=wave.gate.soak_s)


def measured_by(wave: RolloutWave) -> datetime | None:
    """Return until when a wave that soaks waits for what its checks read. None: it does not."""
    if wave.gate is None or not wave.gate.checks or wave.since is None:
        return None
    return wave.since + timedelta(seconds=max(wave.gate.soak_s, wave.gate.deadline_s))


def late_at(progress: Progress, wave: RolloutWave) -> datetime | None:
    """Return when a target that stays in reach and says nothing has had its time. None: never."""
    returning = progress.state is TargetState.RETURNING
    if progress.since is None or not (returning or progress.state in UNDER_WAY):
        return None
    if wave.gate is None:
        return progress.since + timedelta(seconds=_DEADLINE_S) if returning else None
    return progress.since + timedelta(seconds=wave.gate.deadline_s)


def aside_at(progress: Progress, wave: RolloutWave) -> datetime | None:
    """Return until when one on the way is down. None: it is not on the way.

    Here it has the time since it came back; away it has none but the first, so that one that
    comes and goes is not down for ever.
    """
    begun = progress.since if progress.reachable else progress.began_at or progress.since
    if begun is None or progress.state not in UNDER_WAY:
        return None
    return begun + timedelta(seconds=deadline_s(wave))


def deadline_s(wave: RolloutWave) -> float:
    """Return the seconds that a target of a wave has; without a gate an hour."""
    return _DEADLINE_S if wave.gate is None else wave.gate.deadline_s


def _count(members: Sequence[Progress]) -> dict[str, int]:
    counted = {"good": 0, "bad": 0, "under_way": 0, "away": 0}
    for (state, online, held, again_at), number in Counter(map(_HOW, members)).items():
        if state is TargetState.COMMITTED:
            counted["good"] += number
        elif state in BAD and again_at is None:
            counted["bad"] += number
        elif state not in SETTLED or again_at is not None:
            counted["under_way" if online and not held else "away"] += number
    return counted


_HOW = attrgetter("state", "online", "held", "again_at")
_CLASS = attrgetter("class_name", "state")


def _unmeasured(wave: RolloutWave, now: datetime) -> tuple[Verdict, GateReason]:
    """Wait for more to be told, while the wave soaks; one that was given up waits for a person."""
    late = measured_by(wave) if wave.state is WaveState.SOAKING else None
    if wave.state is WaveState.INCONCLUSIVE or (late is not None and now >= late):
        return Verdict.INCONCLUSIVE, GateReason.CHECK_UNDECIDED
    return Verdict.PENDING, GateReason.MEASURING


def _told(finding: Finding) -> dict[str, str]:
    """Return a finding as its sentence wants it."""
    return {
        "check": finding.check,
        "class_name": finding.class_name,
        "observed": figure(finding.observed),
        "limit": figure(finding.limit),
        "sample": str(finding.sample),
        "least": str(finding.least),
        "against": finding.against,
    }


def _ungated(counted: Mapping[str, int]) -> tuple[Verdict, GateReason]:
    if counted["under_way"]:
        return Verdict.PENDING, GateReason.UNDER_WAY
    if counted["bad"]:
        return Verdict.FAILURE, GateReason.ERRORS_ABOVE
    if counted["good"]:
        return Verdict.SUCCESS, GateReason.ENOUGH_COMMITTED
    return Verdict.PENDING, GateReason.WAITS_FOR_AWAY


def _too_few(
    wave: RolloutWave, gate: Gate, members: Sequence[Progress], now: datetime
) -> tuple[Verdict, GateReason]:
    """Wait for who is away until the deadline, and for who keeps a window until that opens."""
    if wave.state is WaveState.INCONCLUSIVE:
        return Verdict.INCONCLUSIVE, GateReason.SAMPLE_TOO_SMALL
    late = wave.since is not None and now >= wave.since + timedelta(seconds=gate.deadline_s)
    if any(each.set_aside and (each.keeps_window or not late) for each in members):
        return Verdict.PENDING, GateReason.WAITS_FOR_AWAY
    return Verdict.INCONCLUSIVE, GateReason.SAMPLE_TOO_SMALL
