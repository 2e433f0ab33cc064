"""A gate says success, failure, inconclusive or nothing yet: by what ended, not by what didn't."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollouts.gate import (
    GateReason,
    Judgement,
    Verdict,
    decides_at,
    judge,
    late_at,
    unproven,
)
from fleet.rollouts.policy import Gate
from fleet.rollouts.progress import Progress, Rollout, RolloutWave
from fleet.rollouts.states import BAD, SETTLED, TargetState, WaveState
from tests.fleet.deciding.paper import NOW, Paper

HOUR = timedelta(hours=1)
CLASSES = frozenset({"a", "b"})


def member(state: TargetState, number: int = 1, *, away: bool = False, name: str = "a") -> Progress:
    return Progress(
        target=f"d-{number}",
        deployment=Paper().deployment(),
        class_name=name,
        online=not away,
        state=state,
        since=NOW,
    )


def several(**counts: int) -> list[Progress]:
    """Return members by how many of each: good, bad, busy, away, gone."""
    kinds = {
        "good": member(TargetState.COMMITTED),
        "bad": member(TargetState.REFUSED),
        "busy": member(TargetState.UPDATING),
        "away": member(TargetState.PLANNED, away=True),
        "gone": member(TargetState.SUPERSEDED),
    }
    return [kinds[kind] for kind, count in counts.items() for _ in range(count)]


def said(
    gate: Gate | None,
    members: list[Progress],
    *,
    state: WaveState = WaveState.RUNNING,
    waited: timedelta = timedelta(0),
    unproven: frozenset[str] = frozenset(),
) -> Judgement:
    wave = RolloutWave(number=1, targets=("d-1",), gate=gate, state=state, since=NOW)
    return judge(wave, members, unproven, NOW + waited)


STRICT = Gate(success_percent=100, error_percent=0)
LOOSE = Gate(success_percent=90, error_percent=20, minimum_sample=5)


@pytest.mark.parametrize(
    ("gate", "counts", "verdict", "reason"),
    [
        (STRICT, {"good": 1}, "success", "ENOUGH_COMMITTED"),
        (STRICT, {"good": 1, "away": 9}, "success", "ENOUGH_COMMITTED"),
        (STRICT, {"good": 1, "gone": 9}, "success", "ENOUGH_COMMITTED"),
        (STRICT, {"good": 9, "busy": 1}, "pending", "UNDER_WAY"),
        (STRICT, {"bad": 1}, "failure", "ERRORS_ABOVE"),
        (STRICT, {"good": 9, "busy": 9, "bad": 1}, "failure", "ERRORS_ABOVE"),
        (STRICT, {"away": 3}, "pending", "WAITS_FOR_AWAY"),
        (STRICT, {"gone": 3}, "inconclusive", "SAMPLE_TOO_SMALL"),
        (LOOSE, {"good": 4}, "inconclusive", "SAMPLE_TOO_SMALL"),
        (LOOSE, {"good": 4, "away": 1}, "pending", "WAITS_FOR_AWAY"),
        (LOOSE, {"bad": 4}, "inconclusive", "SAMPLE_TOO_SMALL"),
        (LOOSE, {"bad": 4, "busy": 1}, "pending", "UNDER_WAY"),
        (LOOSE, {"bad": 5}, "failure", "ERRORS_ABOVE"),
        (LOOSE, {"good": 3, "bad": 2}, "failure", "ERRORS_ABOVE"),
        (LOOSE, {"good": 4, "bad": 1}, "inconclusive", "BETWEEN_THRESHOLDS"),
        (LOOSE, {"good": 9, "bad": 1}, "success", "ENOUGH_COMMITTED"),
        (LOOSE, {"good": 3, "bad": 2, "busy": 5}, "pending", "UNDER_WAY"),
        (None, {"good": 1, "away": 1}, "success", "ENOUGH_COMMITTED"),
        (None, {"away": 2}, "pending", "WAITS_FOR_AWAY"),
        (None, {"good": 5, "bad": 1}, "failure", "ERRORS_ABOVE"),
        (None, {"bad": 1, "busy": 1}, "pending", "UNDER_WAY"),
    ],
)
def test_what_a_gate_says(
    gate: Gate | None, counts: dict[str, int], verdict: str, reason: str
) -> None:
    """By both thresholds, over a minimum sample; who is away or overtaken counts neither way."""
    judgement = said(gate, several(**counts))

    assert (verdict, reason) == (judgement.verdict, judgement.reason)


def test_waiting_for_who_is_away_ends_with_the_deadline() -> None:
    """No data is inconclusive, never success; and what was inconclusive stays so."""
    members = several(away=3)

    assert Verdict.PENDING is said(STRICT, members, waited=HOUR - timedelta(seconds=1)).verdict
    assert Verdict.INCONCLUSIVE is said(STRICT, members, waited=HOUR).verdict
    assert Verdict.INCONCLUSIVE is said(STRICT, members, state=WaveState.INCONCLUSIVE).verdict


def test_a_canary_must_succeed() -> None:
    """Its failure is the wave's, below any sample and under any threshold, and is told as such."""
    loosest = Gate(success_percent=0, error_percent=100, minimum_sample=100)
    judgement = said(loosest, several(good=50, bad=1), unproven=CLASSES)

    assert (Verdict.FAILURE, GateReason.CANARY_FAILED) == (judgement.verdict, judgement.reason)
    assert {"target": "d-1", "class_name": "a", "cause": "refused"} == judgement.parameters
    assert Verdict.FAILURE is not said(loosest, several(good=50, bad=1)).verdict
    ungated = said(None, several(good=50, bad=1, busy=1), unproven=CLASSES)
    assert GateReason.CANARY_FAILED == ungated.reason


NONE_OR_SOME = st.one_of(st.just(0), st.integers(1, 6))  # most rules are about where nobody is
COUNTS = st.fixed_dictionaries(dict.fromkeys(("good", "bad", "busy", "away", "gone"), NONE_OR_SOME))
GATES = st.builds(
    Gate,
    success_percent=st.integers(0, 100),
    error_percent=st.integers(0, 100),
    minimum_sample=st.integers(1, 5),
)


@given(gate=GATES, counts=COUNTS, waited=st.sampled_from([timedelta(0), HOUR]))
def test_all_settled_never_stands_in_for_enough_succeeded(
    gate: Gate, counts: dict[str, int], waited: timedelta
) -> None:
    """Success has its sample and its share; failure has its sample and its errors."""
    judgement = said(gate, several(**counts), waited=waited)
    good, bad = counts["good"], counts["bad"]

    assert (good, bad, counts["busy"], counts["away"]) == (
        judgement.good,
        judgement.bad,
        judgement.under_way,
        judgement.away,
    )
    if judgement.verdict is Verdict.SUCCESS:
        assert judgement.ended >= gate.minimum_sample
        assert good * 100 >= gate.success_percent * (good + bad)
        assert bad * 100 <= gate.error_percent * (good + bad)
        assert not counts["busy"]
    if judgement.verdict is Verdict.FAILURE:
        assert good + bad >= gate.minimum_sample
        assert bad * 100 > gate.error_percent * (good + bad + counts["busy"])
    if not counts["busy"] and not counts["away"]:
        assert judgement.verdict is not Verdict.PENDING


@given(gate=GATES, counts=COUNTS)
def test_time_alone_never_turns_into_success_or_failure(gate: Gate, counts: dict[str, int]) -> None:
    """The deadline of a wave ends a waiting, and decides nothing else."""
    now, later = (said(gate, several(**counts), waited=each) for each in (timedelta(0), HOUR))

    assert later.verdict is now.verdict or (now.verdict, later.verdict) == (
        Verdict.PENDING,
        Verdict.INCONCLUSIVE,
    )


def rollout(*targets: Progress, canaries: int | None = 2) -> Rollout:
    return Rollout(
        id="r-1",
        plan_digest="",
        deployment="digits",
        waves=(),
        targets=targets,
        canaries=canaries,
    )


def test_a_class_is_proven_when_its_canaries_have_committed() -> None:
    """As many as the policy says, or as it has; asked, refused or away is no proof."""
    committed = TargetState.COMMITTED
    one = member(committed, 1, name="a"), member(TargetState.UPDATING, 2, name="a")
    both = member(committed, 1, name="a"), member(committed, 2, name="a")
    alone = member(committed, 3, name="b")

    assert {"a"} == unproven(rollout(*one, alone))
    assert frozenset() == unproven(rollout(*both, alone))
    assert {"b"} == unproven(rollout(*both, member(TargetState.REFUSED, 3, name="b")))
    assert frozenset() == unproven(rollout(*one, canaries=None))


@pytest.mark.parametrize("state", TargetState)
def test_only_who_is_on_the_way_has_a_deadline(state: TargetState) -> None:
    """A return has one even where no gate stands behind the wave."""
    gated = RolloutWave(number=1, targets=(), gate=Gate(success_percent=1, error_percent=0))
    ungated = RolloutWave(number=1, targets=())
    busy = state in {TargetState.ASKED, TargetState.UPDATING, TargetState.RETURNING}

    assert (NOW + HOUR if busy else None) == late_at(member(state), gated)
    returning = state is TargetState.RETURNING
    assert (NOW + HOUR if returning else None) == late_at(member(state), ungated)


def test_a_soak_runs_from_when_the_wave_settled() -> None:
    """By dates: it does not begin again where the centre does."""
    gate = Gate(success_percent=1, error_percent=0, soak_s=90)
    wave = RolloutWave(number=1, targets=(), gate=gate, state=WaveState.SOAKING, since=NOW)

    assert NOW + timedelta(seconds=90) == decides_at(wave)
    assert decides_at(RolloutWave(number=1, targets=(), since=NOW)) is None


def test_what_counts_against_a_gate_is_an_end_or_late() -> None:
    """And being late is not an end: it may still commit."""
    assert set(BAD) - set(SETTLED) == {TargetState.TIMED_OUT}
