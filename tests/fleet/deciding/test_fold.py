"""Events fold a rollout into the next, by whole tables, and all that follows follows."""

from dataclasses import replace
from enum import StrEnum

import pytest
from pydantic import TypeAdapter

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import DeploymentSettings
from fleet.inventory import Inventory
from fleet.rollouts.asking import due
from fleet.rollouts.fold import IllegalEventError, fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import Plan
from fleet.rollouts.progress import (
    Event,
    PresenceEvent,
    Rollout,
    RolloutEvent,
    RolloutWave,
    TargetEvent,
    begin,
)
from fleet.rollouts.states import (
    ENDED,
    ROLLOUT,
    TARGET,
    WAVE,
    RolloutHappening,
    RolloutState,
    TargetHappening,
    TargetState,
    WaveHappening,
    WaveState,
)
from tests.fleet.deciding.paper import NOW, Paper, look, states

Running = tuple[Rollout, Inventory]

STARTED = RolloutEvent(rollout=RolloutHappening.STARTED)


@pytest.mark.parametrize(
    ("table", "states_of", "happenings"),
    [
        (ROLLOUT, RolloutState, RolloutHappening),
        (WAVE, WaveState, WaveHappening),
        (TARGET, TargetState, TargetHappening),
    ],
)
def test_the_tables_are_whole(
    table: dict[StrEnum, dict[StrEnum, StrEnum]],
    states_of: type[StrEnum],
    happenings: type[StrEnum],
) -> None:
    """Every state has its row, terminal ones too, and is reachable; every happening is used."""
    reachable = {next(iter(states_of))}
    for _ in states_of:
        reachable |= {after for state in reachable for after in table[state].values()}

    assert set(table) == set(states_of) == reachable
    assert {happening for row in table.values() for happening in row} == set(happenings)


def test_every_state_that_has_not_ended_can_be_ended() -> None:
    """No rollout gets stuck where nobody can stop it; what was done can still be returned."""
    for state, row in ROLLOUT.items():
        assert (RolloutHappening.ABORTED in row) is (state not in ENDED)
    returnable = {state for state, row in ROLLOUT.items() if RolloutHappening.RETURN_ASKED in row}
    assert returnable == set(RolloutState) - {
        RolloutState.PLANNED,
        RolloutState.ROLLING_BACK,
        RolloutState.ROLLED_BACK,
        RolloutState.SUPERSEDED,
    }


def test_a_plan_without_a_step_is_no_rollout(paper: Paper) -> None:
    """There is nothing to carry out."""
    with pytest.raises(ValueError, match="nothing to roll out"):
        begin(paper.plan(paper.inventory()), "r-1")


def test_it_is_done_when_everybody_committed(paper: Paper, running: Running) -> None:
    """Not before."""
    rollout, inventory = running
    for number in (1, 2, 3):
        assert rollout.state is RolloutState.RUNNING
        inventory = paper.says(inventory, f"d-{number}", Phase.PROBATION)
        rollout = look(rollout, inventory)
        inventory = paper.says(inventory, f"d-{number}", Phase.COMMITTED)
        rollout = look(rollout, inventory)

    assert rollout.state is RolloutState.DONE
    assert rollout.count()[TargetState.COMMITTED] == 3
    assert [WaveState.PASSED] == [wave.state for wave in rollout.waves]


@pytest.mark.parametrize(
    ("phase", "state"), [(Phase.REFUSED, "refused"), (Phase.ROLLED_BACK, "rolled-back")]
)
def test_it_has_failed_when_one_did_not_take_it(
    paper: Paper, running: Running, phase: Phase, state: str
) -> None:
    """When all have settled; with the outcome and the reason of each."""
    rollout, inventory = running
    inventory = paper.says(inventory, "d-1", phase, reason=Reason.GOLDEN_MISMATCH)
    rollout = look(rollout, inventory)
    assert rollout.state is RolloutState.RUNNING

    for device in ("d-2", "d-3"):
        inventory = paper.says(inventory, device, Phase.COMMITTED)
    rollout = look(rollout, inventory)

    assert rollout.state is RolloutState.FAILED
    assert states(rollout) == {"d-1": state, "d-2": "committed", "d-3": "committed"}
    assert rollout.targets[0].reason == "GOLDEN_MISMATCH"


def test_waves_start_one_after_the_other(paper: Paper) -> None:
    """The second is due when the first has passed, and never after it failed."""
    inventory = paper.inventory(*paper.targets(2))
    planned = paper.plan(inventory)
    waves = (RolloutWave(number=1, targets=("d-1",)), RolloutWave(number=2, targets=("d-2",)))

    def after_the_first(phase: Phase) -> Rollout:
        rollout = fold(replace(begin(planned, "r-1"), waves=waves), [STARTED], NOW)
        assert ["d-1"] == [progress.target for progress in due(rollout, NOW)]
        asked = paper.written(inventory, {"d-1": planned.steps[0].deployment})
        return look(rollout, paper.says(asked, "d-1", phase))

    assert ["d-2"] == [progress.target for progress in due(after_the_first(Phase.COMMITTED), NOW)]
    failed = after_the_first(Phase.REFUSED)
    assert ((), RolloutState.FAILED) == (due(failed, NOW), failed.state)
    assert [WaveState.FAILED, WaveState.ABORTED] == [wave.state for wave in failed.waves]


def test_an_illegal_event_names_state_and_event(paper: Paper, running: Running) -> None:
    """And nothing of the batch is folded."""
    rollout, inventory = running
    committed = look(rollout, paper.says(inventory, "d-1", Phase.COMMITTED))
    again = TargetEvent(target="d-1", happening=TargetHappening.ASKED)

    with pytest.raises(IllegalEventError, match="d-1 is committed; it can't be asked") as raised:
        fold(committed, [PresenceEvent(target="d-2", online=False), again], NOW)
    assert (TargetState.COMMITTED, TargetHappening.ASKED) == (
        raised.value.state,
        raised.value.happening,
    )
    with pytest.raises(IllegalEventError, match="rollout r-1 is running; it can't be started"):
        fold(rollout, [STARTED], NOW)
    assert committed.set_aside() == ()


def test_an_event_about_a_stranger_is_a_bug(running: Running) -> None:
    """The rim folds only what was seen of this rollout's targets."""
    rollout, _ = running

    with pytest.raises(KeyError, match="d-9"):
        fold(rollout, [PresenceEvent(target="d-9", online=True)], NOW)


def test_a_rollout_and_its_events_survive_being_stored(paper: Paper, running: Running) -> None:
    """Written as JSON and read again, each is what it was: no event is taken for another kind."""
    rollout, inventory = running
    events: list[Event] = [STARTED, PresenceEvent(target="d-1", online=False)]
    events += seen(rollout, paper.says(inventory, "d-1", Phase.REFUSED, reason="LOAD_FAILED"), NOW)
    planned = paper.plan(inventory, paper.request("2.0.0", settings=DeploymentSettings()))

    rollouts, plans = TypeAdapter(Rollout), TypeAdapter(Plan)
    several: TypeAdapter[list[Event]] = TypeAdapter(list[Event])
    assert rollout == rollouts.validate_json(rollouts.dump_json(rollout))
    assert events == several.validate_json(several.dump_json(events))
    assert planned == plans.validate_json(plans.dump_json(planned))
