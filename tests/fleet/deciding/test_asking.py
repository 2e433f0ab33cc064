"""Who is asked, when, and who no longer."""

import pytest

from fleet.inventory import Inventory
from fleet.rollouts.asking import due
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.states import RolloutHappening, RolloutState, WaveState
from tests.fleet.deciding.paper import NOW, Paper, look, states

Running = tuple[Rollout, Inventory]

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
