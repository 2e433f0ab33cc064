"""A simulation is the planner's own: it stops what a gate stops, and says the same each time."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.wire.phases import PHASES
from fleet.rollouts.policy import CAREFUL, Budget, EachClass, Gate, Policy, WaveRule
from fleet.simulate.many import invent, simulate
from fleet.simulate.outcome import Ending, Run, distribution
from fleet.simulate.twin import FailsIn, Spread, Twin
from fleet.simulate.walk import _NEXT, Walker
from tests.fleet.deciding.paper import Paper

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY_S = 86400.0
BAD_CLASS = "tflite 2.0.0, aarch64, cpu, int8"


def runs(
    twin: Twin, *, policy: Policy = CAREFUL, devices: int = 60, times: int = 6
) -> Sequence[Run]:
    made = invent(devices, 4, policy, twin, NOW)
    return simulate(made, twin, seeds=range(times), limit_s=DAY_S, now=NOW)


def test_a_good_bundle_comes_to_everybody() -> None:
    """Every run ends well, with the bundle on all devices and a walk through the phases on each."""
    for run in runs(Twin()):
        assert (run.decided.ending, run.served, run.served_bad) == (Ending.DONE, 60, 0)
        assert run.states == {"committed": 60}
        assert run.events >= 5 * 60


def test_the_same_seed_is_the_same_run() -> None:
    """Whoever changes a policy compares it with the one before on the same fleet."""
    twin = Twin(bad_share=0.1, away_share=0.2)
    assert runs(twin) == runs(twin)


def test_a_bundle_bad_on_one_class_serves_on_its_canary_alone() -> None:
    """As the planner promises: one device of the class has it, and everybody goes back at once."""
    for run in runs(Twin(bad_classes=frozenset({BAD_CLASS}))):
        assert (run.decided.ending, run.decided.wave) == (Ending.ROLLED_BACK, 1)
        assert run.decided.reason == "CANARY_FAILED"
        assert run.served_bad == 1
        assert run.took_s < 600, "nobody is waited for who is back already"


def test_what_fails_its_test_serves_nowhere_that_it_is_bad() -> None:
    """A device's own test keeps it from serving; the gate still stops the rollout."""
    found = runs(Twin(bad_share=0.5, fails_in=FailsIn.TESTING))
    assert {Ending.ROLLED_BACK} == {run.decided.ending for run in found}
    assert not any(run.served_bad for run in found)


def test_devices_that_come_and_go_end_as_all_do() -> None:
    """Nobody is lost between two looks: in the end each target is in a state that is an end."""
    for run in runs(Twin(away_share=0.3, away=Spread(p50_s=60, p95_s=600), bad_share=0.3)):
        assert run.decided.ending is Ending.ROLLED_BACK
        assert run.states.keys() <= {"returned", "not-asked", "returning"}


def test_a_gate_that_wants_a_person_waits_for_one() -> None:
    """Nobody is there to say the word: the run ends so, and says at which wave."""
    gate = Gate(success_percent=100, error_percent=0, approval=True)
    policy = Policy(name="asks", waves=(WaveRule(size=EachClass(), gate=gate),))
    for run in runs(Twin(), policy=policy):
        assert (run.decided.ending, run.decided.wave) == (Ending.WAITS_FOR_APPROVAL, 1)


def test_a_budget_makes_it_longer() -> None:
    """One device of a group at a time takes its time in a simulation, too."""
    budget = Budget(label="skerry/runtime", targets=1)
    slow = runs(Twin(), policy=replace(CAREFUL, name="slow", budgets=(budget,)), times=1)
    fast = runs(Twin(), times=1)
    assert slow[0].decided.ending is fast[0].decided.ending is Ending.DONE
    assert slow[0].took_s > 2 * fast[0].took_s


def test_a_device_waits_for_nothing_that_the_table_does_not_have() -> None:
    """In each phase, whatever it is in for: what happens next has a row."""
    paper = Paper()
    for phase in _NEXT:
        for fails_in in (None, *FailsIn):
            for online in (True, False):
                lot = replace(Twin().lot("a", random.Random(1).random), fails_in=fails_in)  # noqa: S311
                wanted = paper.deployment(revision=3, version="2.0.0")
                walker = Walker(lot=lot, digest=wanted.bundle.digest, online=online)
                walker.wanted, walker.phase, walker.before = wanted, phase, paper.deployment()
                upcoming = walker.next()
                assert upcoming is None or upcoming.happening in PHASES[phase]


def test_a_distribution_is_of_all_runs() -> None:
    """Each run is counted once, and the most frequent ending is first; no run has none."""
    found = distribution(runs(Twin(bad_share=0.06), times=12))
    assert sum(each.runs for each in found.endings) == found.runs == 12
    assert [each.runs for each in found.endings] == sorted(
        (each.runs for each in found.endings), reverse=True
    )
    assert found.served.p50 <= found.served.p95 <= found.served.most
    with pytest.raises(ValueError, match="no run"):
        distribution([])


@pytest.mark.parametrize(("p50_s", "p95_s"), [(0, 1), (2, 1), (1, 1e9)])
def test_a_spread_that_can_not_be_is_refused(p50_s: float, p95_s: float) -> None:
    """Two spans that no duration can have are an error, not another spread."""
    with pytest.raises(ValueError, match="must be above 0"):
        Spread(p50_s=p50_s, p95_s=p95_s)


def test_half_take_no_longer_than_the_first_of_two() -> None:
    """Half of what is drawn is below the first span, and 95 % of it below the second."""
    draw = random.Random(3).random  # noqa: S311  # no secret
    took = sorted(Spread(p50_s=20, p95_s=90).drawn(draw) for _ in range(4000))
    assert took[2000] == pytest.approx(20, rel=0.1)
    assert took[3800] == pytest.approx(90, rel=0.15)
