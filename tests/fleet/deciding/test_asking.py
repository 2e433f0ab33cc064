"""Who is asked, when, and who no longer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.inventory import Inventory
from fleet.rollouts.asking import due, look_again_at, overtaken
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import plan
from fleet.rollouts.policy import CAREFUL, Gate, Percent, Policy, WaveRule
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.states import RolloutHappening, RolloutState, WaveState
from fleet.rollouts.why import WhyReason, why
from tests.fleet.deciding.paper import NOW, Paper, look, states
from tests.fleet.deciding.world import LITERT, Conduct, World

STARTED = RolloutEvent(rollout=RolloutHappening.STARTED)
ABORTED = RolloutEvent(rollout=RolloutHappening.ABORTED, by="ana")


def test_before_it_starts_nobody_is_asked(paper: Paper) -> None:
    """Planned is only planned."""
    inventory = paper.inventory(*paper.targets(2))
    rollout = begin(paper.plan(inventory), "r-1")

    assert (RolloutState.PLANNED, ()) == (rollout.state, due(rollout, NOW))
    assert seen(rollout, inventory, NOW) == ()


def test_starting_makes_everybody_due_at_once(paper: Paper) -> None:
    """One wave, and its documents are to be written now; once written, they are not due again."""
    inventory = paper.inventory(*paper.targets(2))
    rollout = fold(begin(paper.plan(inventory), "r-1"), [STARTED], NOW)

    assert [WaveState.RUNNING] == [wave.state for wave in rollout.waves]
    assert ["d-1", "d-2"] == [progress.target for progress in due(rollout, NOW)]
    asked = look(rollout, paper.carried_out(inventory, paper.plan(inventory)))
    assert (due(asked, NOW), states(asked)) == ((), {"d-1": "asked", "d-2": "asked"})


@pytest.mark.parametrize("start", [True, False])
def test_an_aborted_rollout_asks_nobody_any_more(paper: Paper, start: bool) -> None:  # noqa: FBT001  # a parameter
    """Before or after its start; what was asked stays asked."""
    inventory = paper.inventory(*paper.targets(2))
    rollout = begin(paper.plan(inventory), "r-1")
    if start:
        rollout = fold(rollout, [STARTED], NOW)
    rollout = fold(rollout, [ABORTED], NOW)

    assert (RolloutState.ABORTED, ()) == (rollout.state, due(rollout, NOW))
    assert [WaveState.ABORTED] == [wave.state for wave in rollout.waves]


def careful(paper: Paper, inventory: Inventory) -> Rollout:
    """Start a rollout under the default policy; nothing is written yet."""
    request = paper.request("2.0.0", policy="careful")
    planned = plan(request, CAREFUL, inventory, paper.cards(request.bundle), NOW)
    return fold(begin(planned, "r-1"), [STARTED], NOW)


def asked(rollout: Rollout) -> list[str]:
    return [progress.target for progress in due(rollout, NOW)]


def test_no_more_of_an_unproven_class_are_asked_than_its_canaries(paper: Paper) -> None:
    """Also where a wave has many of it: the first one to be back goes alone."""
    inventory = paper.inventory(*paper.targets(6, online=False))
    rollout = careful(paper, inventory)
    assert asked(rollout) == []
    here = [replace(target, online=True) for target in inventory.targets]
    rollout = look(rollout, paper.inventory(*here))

    assert asked(rollout) == ["d-1"]


EVERYBODY = Policy(
    name="everybody",
    per_class=1,
    waves=(WaveRule(size=Percent(percent=100), gate=Gate(success_percent=50, error_percent=50)),),
)


@pytest.mark.parametrize("how", [Conduct.REFUSE, Conduct.FALL_BACK])
def test_devices_that_come_and_go_get_no_more_of_what_is_bad_on_all_of_them(how: Conduct) -> None:
    """Each goes as soon as it was asked, works alone, and says so when it is back."""
    world = World([LITERT] * 6)
    world.bad("1.0.0", LITERT, how=how)
    name = world.start("1.0.0", "digits", EVERYBODY)
    for turn in range(40):
        world.waits(20.0)
        for number, device in enumerate(world.devices.values(), start=1):
            if device.online and "1.0.0" in device.took:
                world.goes(number)
            elif not device.online and turn % 20 == 19:
                world.returns(number)
            world.moves(device)
    assert [device.id for device in world.devices.values() if device.took] == ["d-1"]
    assert world.rollouts[name].state is RolloutState.ROLLED_BACK


def test_a_canary_that_stays_away_holds_up_its_class_for_a_deadline() -> None:
    """And no longer: then another one goes first."""
    world = World([LITERT] * 3)
    name = world.start("1.0.0", "digits", EVERYBODY)
    world.advance()
    world.moves(world.device(1), told=False)
    world.goes(1)
    world.waits(3590.0)
    assert [progress.target for progress in due(world.rollouts[name], world.now)] == []
    assert set(world.desired) == {"d-1"}
    rollout = world.rollouts[name]
    (waits,) = why(rollout, rollout.by_target()["d-2"], world.now)
    assert (waits.code, waits.parameters["waits_for"]) == (WhyReason.CLASS_UNPROVEN, "buoy-d-1")
    assert look_again_at(world.rollouts[name], world.now) == world.now + timedelta(seconds=10)
    world.waits(10.0)
    assert set(world.desired) == {"d-1", "d-2"}


def test_a_canary_that_waits_for_its_window_is_the_canary_all_the_same(paper: Paper) -> None:
    """However late that is: it begins by itself, and so would all that were asked meanwhile."""
    inventory = paper.inventory(*paper.targets(6))
    rollout = careful(paper, inventory)
    inventory = paper.written(inventory, {"d-1": rollout.by_target()["d-1"].deployment})
    shut = paper.says(inventory, "d-1", Phase.ACCEPTED, reason=Reason.DOWNLOAD_WINDOW_CLOSED)
    rollout = look(rollout, shut)
    assert rollout.set_aside() == ("d-1",)
    assert due(rollout, NOW + timedelta(hours=9)) == ()


def carried(rollout: Rollout) -> set[str]:
    """Return whom a stick may bring its document to, each on its own."""
    ids = [progress.target for progress in rollout.targets]
    return {each for each in ids if each in {p.target for p in due(rollout, NOW, carried_to=each)}}


def test_a_stick_goes_round_neither_waves_nor_canaries(paper: Paper) -> None:
    """Who is away may be asked where it would be, were it in reach; and nobody else by that."""
    away = paper.inventory(*paper.targets(6, online=False))
    rollout = careful(paper, away)
    open_wave = set(rollout.waves[0].targets)
    assert 1 < len(open_wave) < 6
    assert carried(rollout) == open_wave
    assert [p.target for p in due(rollout, NOW, carried_to="d-1")] == ["d-1"]
    here = [replace(each, online=number == 0) for number, each in enumerate(away.targets)]
    inventory = paper.written(
        paper.inventory(*here), {"d-1": rollout.by_target()["d-1"].deployment}
    )
    assert carried(look(rollout, inventory)) == set(), "its canary is on the way"
    paused = fold(rollout, [RolloutEvent(rollout=RolloutHappening.PAUSED, by="ana")], NOW)
    assert carried(paused) == set()


def test_a_newer_rollout_overtakes_whoever_was_not_asked_yet(paper: Paper) -> None:
    """With a step or without: also who already serves what is wanted now. Another name's nobody."""
    held = [
        paper.target(number, desired=paper.desired(f"d-{number}", paper.deployment()))
        for number in (1, 2, 3)
    ]
    older = careful(paper, paper.inventory(*held))
    written = paper.written(paper.inventory(*held), {"d-1": older.by_target()["d-1"].deployment})
    older = look(older, written)
    back = paper.plan(written, paper.request("1.0.0"))
    assert ["d-1"] == [step.target for step in back.steps]

    older = fold(older, overtaken(older, back), NOW)
    assert states(older) == {"d-1": "asked", "d-2": "superseded", "d-3": "superseded"}
    other = paper.plan(written, paper.request("1.0.0", deployment="wake"))
    assert overtaken(older, other) == ()


def test_the_clock_is_looked_at_again_when_time_may_decide(paper: Paper) -> None:
    """A wave's deadline, a target's, the end of a soak; nothing, where nobody is waited for."""
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    inventory = paper.inventory(*paper.targets(1))
    rollout = careful(paper, inventory)
    assert look_again_at(rollout, NOW) == NOW + hour
    inventory = paper.written(inventory, {"d-1": rollout.targets[0].deployment})
    rollout = look(rollout, inventory, NOW + minute)
    assert look_again_at(rollout, NOW + hour) == NOW + hour + minute
    rollout = look(rollout, paper.says(inventory, "d-1", Phase.COMMITTED), NOW + 2 * minute)
    assert rollout.waves[0].state is WaveState.SOAKING
    assert look_again_at(rollout, NOW + 2 * minute) == NOW + 3 * minute
    rollout = fold(rollout, [], NOW + 3 * minute)

    assert (RolloutState.DONE, None) == (rollout.state, look_again_at(rollout, NOW))


@pytest.mark.parametrize(
    "word", [RolloutHappening.PAUSED, RolloutHappening.ABORTED, RolloutHappening.RETURN_ASKED]
)
def test_a_rollout_that_does_not_run_asks_nobody_new(paper: Paper, word: RolloutHappening) -> None:
    """Paused, aborted or on its way back; who said so is kept, and why."""
    rollout = careful(paper, paper.inventory(*paper.targets(3)))
    after = fold(rollout, [RolloutEvent(rollout=word, by="ana", reason="rain")], NOW)

    assert due(after, NOW) == ()
    assert after.cause is not None
    assert ("ana", {"reason": "rain"}) == (after.cause.by, after.cause.parameters)
