"""A rollout that a document declares is started once, and what was refused does not come again."""

from dataclasses import replace

import pytest

from agent.wire.v1 import DeploymentSettings
from fleet.inventory import Inventory
from fleet.rollouts.declared import Declared, declared, wish
from fleet.rollouts.policy import ALL_AT_ONCE
from fleet.rollouts.progress import Rollout, begin
from fleet.rollouts.states import RolloutState, TargetState
from fleet.selector import parse
from tests.fleet.deciding.paper import Paper


def begun(paper: Paper, count: int) -> tuple[Rollout, Inventory]:
    """Return a rollout to so many, and the fleet that it was planned for."""
    inventory = paper.inventory(*paper.targets(count))
    return begin(paper.plan(inventory), "r-1"), inventory


def ended(rollout: Rollout, state: RolloutState, *targets: TargetState) -> Rollout:
    """Return a rollout that is in this state, and its targets in these."""
    moved = [
        replace(progress, state=at) for progress, at in zip(rollout.targets, targets, strict=True)
    ]
    return replace(rollout, state=state, targets=tuple(moved))


def test_the_wish_is_what_on_whom_and_not_how_it_spreads(paper: Paper) -> None:
    """Another policy or soak is the same wish; another bundle, name, target or setting is not."""
    request = paper.request(targets=("d-1", "d-2"))
    same = [
        replace(request, policy="careful", soak_s=5.0),
        replace(request, own_policy=replace(ALL_AT_ONCE, name="mine"), policy="mine"),
        replace(request, targets=("d-2", "d-1")),
    ]
    others = [
        replace(request, bundle=paper.bundle("2.0.0")),
        replace(request, deployment="other"),
        replace(request, selector=parse("room=oven")),
        replace(request, targets=("d-1",)),
        replace(request, settings=DeploymentSettings()),
    ]

    assert {wish(request)} == {wish(each) for each in same}
    assert len({wish(each) for each in (request, *others)}) == len(others) + 1


def test_what_was_never_wished_for_is_started_and_what_is_there_is_not(paper: Paper) -> None:
    """No rollout is needed for that: the plan has no step."""
    planned = paper.plan(paper.inventory(*paper.targets(2)))
    assert declared(planned, None) is Declared.START
    assert declared(replace(planned, steps=()), None) is Declared.NOTHING


@pytest.mark.parametrize(
    ("state", "does"),
    [
        (RolloutState.PLANNED, Declared.NOTHING),
        (RolloutState.RUNNING, Declared.NOTHING),
        (RolloutState.PAUSED, Declared.NOTHING),
        (RolloutState.ROLLING_BACK, Declared.HELD),
        (RolloutState.ROLLED_BACK, Declared.HELD),
        (RolloutState.FAILED, Declared.HELD),
        (RolloutState.ABORTED, Declared.HELD),
        (RolloutState.DONE, Declared.START),
        (RolloutState.SUPERSEDED, Declared.START),
    ],
)
def test_the_last_rollout_of_the_wish_decides(
    paper: Paper, state: RolloutState, does: Declared
) -> None:
    """Every state has its answer; here two who had it want something else by now."""
    last, inventory = begun(paper, 2)
    planned = paper.plan(inventory)
    had = ended(last, state, TargetState.COMMITTED, TargetState.SUPERSEDED)

    assert declared(planned, had) is does
    assert declared(replace(planned, steps=()), had) is Declared.NOTHING


@pytest.mark.parametrize(
    "state", [each for each in TargetState if each not in {"committed", "superseded"}]
)
def test_who_did_not_take_it_is_not_asked_anew_by_a_pipeline(
    paper: Paper, state: TargetState
) -> None:
    """It failed, or has not come to it yet: `retry` is for the one, time for the other."""
    last, inventory = begun(paper, 2)
    planned = paper.plan(inventory)
    had = ended(last, RolloutState.DONE, TargetState.COMMITTED, state)
    only = replace(planned, steps=tuple(s for s in planned.steps if s.target == "d-2"))

    went_back = state in {"returning", "returned", "not-returned"}
    assert declared(only, had) is (Declared.HELD if went_back else Declared.NOTHING)


def test_a_newcomer_is_a_reason_to_start(paper: Paper) -> None:
    """Nobody has decided about it yet."""
    last, _ = begun(paper, 1)
    had = ended(last, RolloutState.DONE, TargetState.REFUSED)
    planned = paper.plan(paper.inventory(*paper.targets(2)))

    assert declared(planned, had) is Declared.START


def test_what_went_back_and_was_then_overtaken_stays_refused(paper: Paper) -> None:
    """A newer rollout that ended the return is no reason to try the bad one once more."""
    last, inventory = begun(paper, 2)
    had = ended(last, RolloutState.SUPERSEDED, TargetState.RETURNED, TargetState.SUPERSEDED)

    assert declared(paper.plan(inventory), had) is Declared.HELD
