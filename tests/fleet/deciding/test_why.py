"""Why a rollout is no further, and why a target is where it is: always a reason that is true."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.wire import facts
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.inventory import Inventory
from fleet.rollouts.fold import fold
from fleet.rollouts.gate import GateReason
from fleet.rollouts.look import seen
from fleet.rollouts.plan import find_policy, plan
from fleet.rollouts.progress import Cause, PersonReason, Rollout, RolloutEvent, begin
from fleet.rollouts.states import RolloutHappening, RolloutState, TargetState, WaveState
from fleet.rollouts.why import WhyReason, judged, present, reasoned, why
from fleet.sentences import explain
from tests.fleet.deciding.paper import FACTS, NOW, Paper

OLD = {**FACTS, facts.RUNTIME: "tflite", facts.RUNTIME_VERSION: "2.14.0"}
LATER = NOW + timedelta(seconds=3)


def fleet(paper: Paper, count: int = 5, **changes: object) -> Inventory:
    return paper.inventory(*paper.targets(count, **changes))


def started(paper: Paper, inventory: Inventory, policy: str = "careful") -> Rollout:
    """Return a rollout that has just begun."""
    request = paper.request(policy=policy)
    made = plan(request, find_policy(policy), inventory, paper.cards(request.bundle), NOW)
    word = RolloutEvent(rollout=RolloutHappening.STARTED)
    return look(fold(begin(made, "r-1"), [word], NOW), inventory)


def look(rollout: Rollout, inventory: Inventory, after: timedelta = timedelta()) -> Rollout:
    return fold(rollout, seen(rollout, inventory, NOW + after), NOW + after)


def ask(paper: Paper, rollout: Rollout, inventory: Inventory, *ids: str) -> Inventory:
    """Write the rollout's documents for these to the store."""
    wanted = {each.target: each.deployment for each in rollout.targets if each.target in ids}
    return paper.written(inventory, wanted)


def put(rollout: Rollout, target: str, state: TargetState, **changes: object) -> Rollout:
    """Return the rollout with one target in another state, as if it had got there."""
    targets = tuple(
        replace(each, state=state, **changes) if each.target == target else each  # type: ignore[arg-type]
        for each in rollout.targets
    )
    return replace(rollout, targets=targets)


def codes(rollout: Rollout, target: str | None = None) -> list[str]:
    """Return the codes; every one has a sentence that lacks no parameter and leaves none over."""
    progress = None if target is None else rollout.by_target()[target]
    causes = why(rollout, progress, LATER)
    for cause in causes:
        said = explain(cause.code, cause.parameters)
        assert "?" not in said.meaning + said.next_step
        assert not said.meaning.endswith(")")
    return [cause.code for cause in causes]


def said(rollout: Rollout, target: str | None = None) -> str:
    progress = None if target is None else rollout.by_target()[target]
    return " ".join(
        explain(cause.code, cause.parameters).meaning for cause in why(rollout, progress, LATER)
    )


def test_before_and_after_it_is_asked(paper: Paper) -> None:
    """The first of its class is next; then it is silent, on its way, and has until its deadline."""
    inventory = fleet(paper)
    rollout = started(paper, inventory)
    inventory = ask(paper, rollout, inventory, "d-1")
    asked = look(rollout, inventory)
    moving = look(asked, paper.says(inventory, "d-1", Phase.FETCHING))
    alone = started(paper, fleet(paper), policy="all-at-once")
    alone = look(alone, ask(paper, alone, fleet(paper), "d-1"))

    assert [WhyReason.ASKED_NEXT] == codes(rollout, "d-1")
    assert [WhyReason.NO_WORD_YET, WhyReason.HAS_UNTIL] == codes(asked, "d-1")
    assert [WhyReason.ON_ITS_WAY, WhyReason.HAS_UNTIL] == codes(moving, "d-1")
    assert "at: fetching" in said(moving, "d-1")
    compared = look(asked, paper.says(inventory, "d-1", Phase.SHADOWING))
    assert [WhyReason.COMPARED, WhyReason.HAS_UNTIL] == codes(compared, "d-1")
    assert "enough live requests" in said(compared, "d-1")
    assert "2026-03-01T13:00:00Z" in said(moving, "d-1")
    assert [WhyReason.NO_WORD_YET] == codes(alone, "d-1")


def test_a_target_of_a_later_wave_waits_for_the_present_one(paper: Paper) -> None:
    """It names both; who is away as well is told that first."""
    away = paper.change(fleet(paper), "d-5", online=False)
    rollout = started(paper, away)
    held = put(rollout, "d-4", TargetState.PLANNED, held=True)

    assert [WhyReason.WAITS_FOR_WAVE] == codes(rollout, "d-3")
    assert [WhyReason.AWAY, WhyReason.WAITS_FOR_WAVE] == codes(rollout, "d-5")
    assert "in wave 3, and waits until wave 1 has passed" in said(rollout, "d-5")
    assert [Reason.HELD_BY_OWNER, WhyReason.WAITS_FOR_WAVE] == codes(held, "d-4")


def test_a_class_that_was_away_sends_one_first(paper: Paper) -> None:
    """The others of it wait for that one, by name."""
    inventory = paper.inventory(
        *paper.targets(2),
        *(paper.target(number, facts=OLD, online=False) for number in (3, 4, 5)),
    )
    rollout = started(paper, inventory, policy="careful")
    inventory = paper.says(ask(paper, rollout, inventory, "d-1"), "d-1", Phase.COMMITTED)
    rollout = look(look(rollout, inventory), inventory, timedelta(seconds=61))
    back = inventory
    for device in ("d-3", "d-4", "d-5"):
        back = paper.change(back, device, online=True)
    passed = replace(
        rollout, waves=tuple(replace(wave, state=WaveState.PASSED) for wave in rollout.waves)
    )
    rollout = look(replace(passed, state=RolloutState.RUNNING), back, timedelta(seconds=61))

    waiting = [each.target for each in rollout.targets if each.class_name.startswith("tflite")]
    first, *others = waiting
    assert [WhyReason.ASKED_NEXT] == codes(rollout, first)
    for other in others:
        assert [WhyReason.CLASS_UNPROVEN] == codes(rollout, other)
        name = rollout.by_target()[first].name
        assert f"{name} goes first" in said(rollout, other)


def test_a_pause_and_a_gate_keep_a_target_back(paper: Paper) -> None:
    """Nobody new while it is paused; nobody at all once the wave's gate has failed."""
    inventory = paper.change(fleet(paper, 2), "d-2", online=False)
    rollout = started(paper, inventory)
    words = [RolloutEvent(rollout=RolloutHappening.PAUSED, by="ana", reason="odd")]
    paused = fold(rollout, words, NOW)
    wave = next(wave for wave in rollout.waves if "d-2" in wave.targets)
    ended = put(rollout, "d-1", TargetState.REFUSED)
    waves = tuple(
        replace(each, state=WaveState.PASSED, targets=(*each.targets, "d-1"))
        if each == wave
        else replace(each, targets=("d-1",))
        for each in rollout.waves
    )
    done = replace(ended, state=RolloutState.DONE, waves=waves)

    assert [WhyReason.NOBODY_NEW] == codes(paused, "d-1")
    assert [WhyReason.AWAY, WhyReason.GATE_CLOSED] == codes(done, "d-2")
    causes = why(paused, None, LATER)
    assert (PersonReason.PAUSED_BY_PERSON, "ana") == (causes[0].code, causes[0].by)
    assert WhyReason.TARGETS_UNDER_WAY == causes[1].code


def test_who_is_only_away_is_told_only_that(paper: Paper) -> None:
    """Nothing else keeps it from being asked."""
    inventory = paper.change(fleet(paper, 2), "d-2", online=False)
    rollout = started(paper, inventory, policy="all-at-once")

    assert [WhyReason.AWAY] == codes(rollout, "d-2")


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (TargetState.COMMITTED, "WORKER_CRASHED", [WhyReason.SERVES_IT]),
        (TargetState.ROLLED_BACK, "WORKER_CRASHED", [WhyReason.WENT_BACK, "WORKER_CRASHED"]),
        (TargetState.REFUSED, "GOLDEN_MISMATCH", [WhyReason.REFUSED_IT, "GOLDEN_MISMATCH"]),
        (TargetState.TIMED_OUT, None, [WhyReason.TOO_LATE]),
        (TargetState.RETURNING, None, [WhyReason.GOES_BACK]),
        (TargetState.RETURNED, None, [WhyReason.IS_WITHOUT]),
        (TargetState.NOT_RETURNED, "DISK_FULL", [WhyReason.NOT_BACK, "DISK_FULL"]),
        (TargetState.NOT_ASKED, None, [WhyReason.SPARED]),
        (TargetState.SUPERSEDED, None, [WhyReason.OVERTAKEN_HERE]),
    ],
)
def test_an_end_is_told_with_the_reason_that_the_target_gave(
    paper: Paper, state: TargetState, reason: str | None, expected: list[str]
) -> None:
    """And one that ended well is not told what went wrong on the way."""
    rollout = put(started(paper, fleet(paper)), "d-1", state, reason=reason)

    assert expected == codes(rollout, "d-1")


def test_a_rollout_says_what_its_present_wave_waits_for(paper: Paper) -> None:
    """By name, as many as fit; until when it soaks; that it waits for who is away."""
    inventory = fleet(paper)
    everybody = started(paper, inventory, policy="all-at-once")
    rollout = started(paper, inventory)
    soaking = look(
        rollout, paper.says(ask(paper, rollout, inventory, "d-1"), "d-1", Phase.COMMITTED)
    )
    away = started(paper, fleet(paper, 2, online=False))

    assert [WhyReason.TARGETS_UNDER_WAY] == codes(everybody)
    assert "5 on the way: buoy-1, buoy-2, buoy-3 and 2 more" in said(everybody)
    assert [WhyReason.SOAKING] == codes(soaking)
    assert "until 2026-03-01T12:01:00Z" in said(soaking)
    assert [GateReason.WAITS_FOR_AWAY] == codes(away)
    assert "0 came to an end, too few to decide; 1 are set aside" in said(away)


def test_an_inconclusive_gate_is_told_once(paper: Paper) -> None:
    """The pause has the gate's reason: it isn't said again for the wave."""
    inventory = fleet(paper, 1, online=False)
    rollout = look(started(paper, inventory), inventory, timedelta(hours=1, seconds=1))
    late = NOW + timedelta(hours=1, seconds=2)

    assert RolloutState.PAUSED is rollout.state
    assert [GateReason.SAMPLE_TOO_SMALL] == [cause.code for cause in why(rollout, None, late)]


def test_the_end_of_a_rollout_is_told(paper: Paper) -> None:
    """Done, with who is still to come; going back, with who is; overtaken; before it began."""
    base = started(paper, fleet(paper, 3))
    cause = Cause(code=GateReason.ERRORS_ABOVE, parameters={"wave": "1", "bad": "1", "of": "2"})
    cause = replace(cause, parameters={**cause.parameters, "limit": "0"})

    def at(state: RolloutState, **targets: tuple[TargetState, bool]) -> Rollout:
        rollout = replace(base, state=state, cause=cause)
        for name, (target_state, online) in targets.items():
            rollout = put(rollout, name.replace("_", "-"), target_state, online=online)
        return rollout

    well = (TargetState.COMMITTED, True)
    done = at(RolloutState.DONE, d_1=well, d_2=well, d_3=(TargetState.PLANNED, False))
    back = at(
        RolloutState.ROLLING_BACK,
        d_1=(TargetState.RETURNING, True),
        d_2=(TargetState.RETURNING, False),
        d_3=(TargetState.NOT_RETURNED, True),
    )

    assert [WhyReason.WAVES_PASSED, WhyReason.CATCHES_UP] == codes(done)
    assert [WhyReason.WAVES_PASSED] == codes(at(RolloutState.DONE, d_1=well, d_2=well, d_3=well))
    assert [
        GateReason.ERRORS_ABOVE,
        WhyReason.TARGETS_RETURNING,
        WhyReason.RETURNS_LATER,
        WhyReason.SOME_NOT_RETURNED,
    ] == codes(back)
    assert [GateReason.ERRORS_ABOVE] == codes(at(RolloutState.FAILED))
    assert [WhyReason.OVERTAKEN_EVERYWHERE] == codes(at(RolloutState.SUPERSEDED))
    assert [WhyReason.NOT_STARTED] == codes(replace(base, state=RolloutState.PLANNED))
    assert [] == codes(replace(base, waves=()))


def test_a_judgement_is_told_with_its_numbers(paper: Paper) -> None:
    """Every verdict's sentence has all it asks for, also where no gate stands behind a wave."""
    inventory = fleet(paper, 2)
    rollout = started(paper, inventory, policy="all-at-once")
    (wave,) = rollout.waves

    def verdict(*states: TargetState) -> str:
        now = rollout
        for number, state in enumerate(states, 1):
            now = put(now, f"d-{number}", state)
        told = reasoned(wave, judged(now, wave, now.targets, LATER))
        said = explain(told.code, told.parameters)
        assert "?" not in said.meaning
        assert not said.meaning.endswith(")")
        return said.meaning

    good, bad = TargetState.COMMITTED, TargetState.REFUSED
    assert "In wave 1, 2 have not come to an end yet." == verdict()
    assert "2 of the 2 that came to an end serve it" in verdict(good, good)
    assert "1 of 2 did not take it; the gate lets pass 0 %" in verdict(good, bad)
    assert wave == present(rollout)


def test_a_target_that_is_back_says_why_it_went(paper: Paper) -> None:
    """Its last word about the revision stays, and what it is back on is true."""
    rollout = started(paper, fleet(paper))
    before = replace(rollout.by_target()["d-1"].deployment, revision=1)
    back = put(
        rollout,
        "d-1",
        TargetState.RETURNED,
        phase=Phase.REFUSED,
        reason="GOLDEN_MISMATCH",
        replaces=before,
    )

    assert [WhyReason.IS_BACK, "GOLDEN_MISMATCH"] == codes(back, "d-1")


def test_a_paused_rollout_promises_no_decision(paper: Paper) -> None:
    """What has soaked passes when it is resumed, and who waits for it is told of the pause."""
    inventory = fleet(paper, 2)
    rollout = started(paper, inventory)
    soaking = replace(rollout.waves[0], state=WaveState.SOAKING, since=NOW)
    rollout = replace(rollout, waves=(soaking, *rollout.waves[1:]))
    rollout = put(rollout, rollout.waves[0].targets[0], TargetState.COMMITTED)
    paused = fold(rollout, [RolloutEvent(rollout=RolloutHappening.PAUSED, by="ana")], NOW)

    assert [PersonReason.PAUSED_BY_PERSON, WhyReason.SOAK_IS_HELD] == codes(paused)
    assert WhyReason.NOBODY_NEW == codes(paused, rollout.waves[1].targets[0])[0]


def test_a_rollout_that_is_done_says_who_got_something_newer(paper: Paper) -> None:
    """Done is not everywhere, where a newer one came in between."""
    rollout = started(paper, fleet(paper))
    done = replace(put(rollout, "d-3", TargetState.SUPERSEDED), state=RolloutState.DONE, cause=None)

    assert WhyReason.OVERTAKEN_IN_PART == codes(done)[0]
