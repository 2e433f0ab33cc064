"""A rollout moves by reports about its own revision, and by nothing else."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import Hold, Order, Reported
from fleet.inventory import Inventory
from fleet.rollouts.asking import due
from fleet.rollouts.fold import fold
from fleet.rollouts.look import outlived, seen
from fleet.rollouts.plan import plan
from fleet.rollouts.policy import CAREFUL
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.states import RolloutHappening, RolloutState, TargetState
from fleet.rollouts.why import why
from tests.fleet.deciding.paper import NOW, Paper, look, states

Running = tuple[Rollout, Inventory]

STARTED = RolloutEvent(rollout=RolloutHappening.STARTED)


def test_progress_is_seen_phase_by_phase(paper: Paper, running: Running) -> None:
    """The last word of each target is kept, with its reason."""
    rollout, inventory = running
    inventory = paper.says(inventory, "d-1", Phase.FETCHING)
    rollout = look(rollout, inventory)
    inventory = paper.says(inventory, "d-1", Phase.ACCEPTED, reason=Reason.DISK_FULL)
    rollout = look(rollout, inventory)

    assert (TargetState.UPDATING, Phase.ACCEPTED, "DISK_FULL") == (
        rollout.targets[0].state,
        rollout.targets[0].phase,
        rollout.targets[0].reason,
    )


def test_an_offline_target_is_set_aside_and_is_no_failure(paper: Paper, running: Running) -> None:
    """The rest finishes without it."""
    rollout, inventory = running
    inventory = paper.change(inventory, "d-3", online=False)
    for device in ("d-1", "d-2"):
        inventory = paper.says(inventory, device, Phase.COMMITTED)
    rollout = look(rollout, inventory)

    assert (RolloutState.DONE, ("d-3",)) == (rollout.state, rollout.set_aside())


def test_a_target_that_returns_carries_on_where_it_was(paper: Paper, running: Running) -> None:
    """Before the end the rollout waits for it again; after it, only its own outcome changes."""
    rollout, inventory = running
    away = paper.change(inventory, "d-3", online=False)
    rollout = look(rollout, away)
    assert rollout.set_aside() == ("d-3",)
    rollout = look(rollout, inventory)
    assert rollout.set_aside() == ()

    for device in ("d-1", "d-2"):
        away = paper.says(away, device, Phase.COMMITTED)
    done = look(rollout, away)
    assert done.state is RolloutState.DONE
    late = paper.change(paper.says(away, "d-3", Phase.REFUSED), "d-3", online=True)
    after = look(done, late)

    assert (RolloutState.DONE, "refused") == (after.state, states(after)["d-3"])


def test_a_target_that_keeps_its_download_window_is_not_late(paper: Paper) -> None:
    """It is set aside while it waits, and has its whole time from when it may begin."""
    inventory = paper.inventory(*paper.targets(1))
    planned = plan(paper.request(), CAREFUL, inventory, paper.cards(paper.bundle()), NOW)
    rollout, inventory = paper.started(inventory, planned)
    rollout = look(rollout, inventory)
    shut = Reason.DOWNLOAD_WINDOW_CLOSED
    waiting = paper.says(inventory, "d-1", Phase.ACCEPTED, reason=shut)
    rollout = look(rollout, waiting)
    night = NOW + timedelta(hours=9)
    rollout = look(rollout, waiting, night)
    assert (("d-1",), "updating") == (rollout.set_aside(), states(rollout)["d-1"])
    [cause] = why(rollout, rollout.targets[0], night)[:1]
    assert shut == cause.code

    begun = paper.says(inventory, "d-1", Phase.FETCHING, reason=shut)
    rollout = look(rollout, begun, night)
    assert () == rollout.set_aside()
    rollout = look(rollout, begun, night + timedelta(minutes=59))
    assert "updating" == states(rollout)["d-1"]
    rollout = look(rollout, begun, night + timedelta(minutes=61))
    assert "timed-out" == states(rollout)["d-1"]


@pytest.mark.parametrize("phase", [Phase.TESTING, Phase.ACTIVATING])
def test_a_target_that_keeps_its_maintenance_window_is_not_late(paper: Paper, phase: Phase) -> None:
    """Ready and waiting, before its test or before it serves; else that reason is one of before."""
    inventory = paper.inventory(*paper.targets(1))
    planned = plan(paper.request(), CAREFUL, inventory, paper.cards(paper.bundle()), NOW)
    rollout, inventory = paper.started(inventory, planned)
    shut = Reason.MAINTENANCE_WINDOW_CLOSED
    waiting = paper.says(inventory, "d-1", phase, reason=shut)
    rollout = look(look(rollout, inventory), waiting)
    night = NOW + timedelta(hours=9)
    rollout = look(rollout, waiting, night)
    assert (("d-1",), "updating") == (rollout.set_aside(), states(rollout)["d-1"])
    compared = paper.says(inventory, "d-1", Phase.SHADOWING, reason=shut)
    assert () == look(rollout, compared, night).set_aside()


def test_no_word_from_anybody_decides_nothing(paper: Paper, running: Running) -> None:
    """Everybody away is not everybody done: no data waits."""
    rollout, inventory = running
    for device in ("d-1", "d-2", "d-3"):
        inventory = paper.change(inventory, device, online=False)
    rollout = look(rollout, inventory)

    assert (RolloutState.RUNNING, 3) == (rollout.state, len(rollout.set_aside()))


def test_a_target_missing_from_the_inventory_is_away(paper: Paper, running: Running) -> None:
    """The inventory is incomplete: what it lacks has not failed."""
    rollout, inventory = running
    rollout = look(rollout, paper.inventory(*inventory.targets[1:]))

    assert rollout.set_aside() == ("d-1",)


def test_a_stale_report_has_no_effect(paper: Paper) -> None:
    """A committed revision before this one is not this one."""
    held = paper.desired("d-1", paper.deployment(revision=3), generation=3)
    target = paper.reported(paper.target(desired=held), Phase.COMMITTED)
    inventory = paper.inventory(target)
    rollout, inventory = paper.started(inventory, paper.plan(inventory, paper.request("2.0.0")))
    rollout = look(rollout, inventory)

    assert states(rollout) == {"d-1": "asked"}
    assert seen(rollout, inventory, NOW) == ()


@pytest.mark.parametrize(
    "said",
    [{"revision": 9}, {"digest": "sha256:" + "9" * 64}],
    ids=["another revision", "another digest"],
)
def test_only_reports_of_this_revision_and_digest_count(
    paper: Paper, running: Running, said: dict[str, Any]
) -> None:
    """Deployment, revision, digest: all three."""
    rollout, inventory = running
    inventory = paper.says(inventory, "d-1", Phase.COMMITTED, **said)

    assert seen(rollout, inventory, NOW) == ()


def test_a_report_of_another_deployment_has_no_effect(paper: Paper, running: Running) -> None:
    """Even with the same revision and digest."""
    rollout, inventory = running
    wake = paper.deployment("wake", revision=1)
    inventory = paper.written(inventory, {"d-1": wake})
    inventory = paper.says(inventory, "d-1", Phase.COMMITTED, name="wake")

    assert seen(rollout, inventory, NOW) == ()


def test_a_duplicate_report_has_no_effect(paper: Paper, running: Running) -> None:
    """What has been folded is not seen again."""
    rollout, inventory = running
    inventory = paper.says(inventory, "d-1", Phase.TESTING)
    rollout = look(rollout, inventory)

    assert seen(rollout, inventory, NOW) == ()


def test_a_reordered_report_does_not_undo_an_outcome(paper: Paper, running: Running) -> None:
    """An earlier phase that arrives after the end of this revision is old news."""
    rollout, inventory = running
    rollout = look(rollout, paper.says(inventory, "d-1", Phase.COMMITTED))
    before = rollout
    rollout = look(rollout, paper.says(inventory, "d-1", Phase.TESTING))

    assert before == rollout


def test_a_retired_revision_says_nothing_by_itself(paper: Paper, running: Running) -> None:
    """What replaced it is read from the store."""
    rollout, inventory = running

    assert seen(rollout, paper.says(inventory, "d-1", Phase.RETIRED), NOW) == ()


def test_a_newer_rollout_takes_its_targets(paper: Paper, running: Running) -> None:
    """Superseded is neither failed nor done; the rest of the wave goes on."""
    rollout, inventory = running
    newer = paper.plan(inventory, paper.request("2.0.0", selector=None, targets=("d-1",)))
    inventory = paper.carried_out(inventory, newer)
    rollout = look(rollout, inventory)
    assert states(rollout) == {"d-1": "superseded", "d-2": "asked", "d-3": "asked"}

    for device in ("d-2", "d-3"):
        inventory = paper.says(inventory, device, Phase.COMMITTED)
    assert look(rollout, inventory).state is RolloutState.DONE


def test_the_slower_of_two_rollouts_planned_on_one_world_is_superseded(paper: Paper) -> None:
    """Both got the same revision number; the store took the first, and the other finds it there."""
    inventory = paper.inventory(*paper.targets(1))
    slower = fold(begin(paper.plan(inventory), "r-1"), [STARTED], NOW)
    faster = paper.plan(inventory, paper.request("2.0.0"))
    assert faster.steps[0].deployment.revision == slower.targets[0].deployment.revision
    slower = look(slower, paper.carried_out(inventory, faster))

    assert (RolloutState.SUPERSEDED, ()) == (slower.state, due(slower, NOW))


def test_a_rollout_that_lost_all_its_targets_is_superseded(paper: Paper, running: Running) -> None:
    """By a newer one on all of them."""
    rollout, inventory = running
    newer = paper.plan(inventory, paper.request("2.0.0"))
    rollout = look(rollout, paper.carried_out(inventory, newer))

    assert rollout.state is RolloutState.SUPERSEDED


def test_a_removed_deployment_is_superseded(paper: Paper, running: Running) -> None:
    """It is not wanted any more, and will not be reported."""
    rollout, inventory = running
    inventory = paper.change(inventory, "d-1", desired=paper.desired("d-1", generation=9))

    assert states(look(rollout, inventory))["d-1"] == "superseded"


def test_a_store_that_went_back_does_not_undo_the_rollout(paper: Paper) -> None:
    """An older revision in the store is no newer wish: nothing follows."""
    before = paper.inventory(paper.target(desired=paper.desired("d-1", paper.deployment())))
    rollout, after = paper.started(before, paper.plan(before, paper.request("2.0.0")))
    rollout = look(rollout, after)

    assert seen(rollout, before, NOW) == ()


def test_being_cut_off_between_store_and_rollout_is_repaired(paper: Paper) -> None:
    """The store holds the documents and the rollout never heard: the next look finds it."""
    inventory = paper.inventory(*paper.targets(2))
    planned = paper.plan(inventory)
    rollout = fold(begin(planned, "r-1"), [STARTED], NOW)
    inventory = paper.says(paper.carried_out(inventory, planned), "d-1", Phase.COMMITTED)
    rollout = look(rollout, inventory)

    assert states(rollout) == {"d-1": "committed", "d-2": "asked"}
    assert due(rollout, NOW) == ()


@given(generation=st.integers(1, 50))
def test_the_order_of_the_document_plays_no_part(paper: Paper, generation: int) -> None:
    """A newer generation that leaves the revision alone neither helps nor hinders."""
    inventory = paper.inventory(*paper.targets(1))
    rollout, inventory = paper.started(inventory, paper.plan(inventory))
    desired = paper.desired("d-1", rollout.targets[0].deployment, generation=generation)
    inventory = paper.change(inventory, "d-1", desired=desired)
    rollout = look(rollout, paper.says(inventory, "d-1", Phase.COMMITTED))

    assert rollout.state is RolloutState.DONE
    assert Order(epoch=0, generation=generation) == desired.order


@pytest.mark.parametrize("changes", [{"online": False}, {"held": True}], ids=["away", "held"])
def test_who_went_before_its_deadline_was_seen_to_pass_is_not_late(
    paper: Paper, changes: dict[str, bool]
) -> None:
    """One look sees both that it is gone and that its time is over: being gone comes first."""
    request = paper.request(policy="careful")
    inventory = paper.inventory(*paper.targets(1))
    planned = plan(request, CAREFUL, inventory, paper.cards(request.bundle), NOW)
    rollout, inventory = paper.started(inventory, planned)
    rollout = look(rollout, inventory)
    late = NOW + timedelta(hours=1)
    assert states(look(rollout, inventory, late)) == {"d-1": "timed-out"}
    if "held" in changes:
        hold = Hold(reason="repairs", since="2026-03-01T09:00:00Z")
        report = Reported(fleet=paper.fleet, device="d-1", session=1, hold=hold)
        gone = paper.change(inventory, "d-1", reported=report)
    else:
        gone = paper.change(inventory, "d-1", **changes)

    assert states(look(rollout, gone, late)) == {"d-1": "asked"}
    back = look(look(rollout, gone, late), inventory, late)
    assert states(look(back, inventory, late + timedelta(minutes=59))) == {"d-1": "asked"}


def test_an_ended_rollout_is_read_for_what_is_wanted_now(paper: Paper) -> None:
    """Who wants other content since doesn't serve this one's any more; the same content stays."""
    inventory = paper.inventory(*paper.targets(3))
    rollout, inventory = paper.started(inventory, paper.plan(inventory))
    for device in ("d-1", "d-2", "d-3"):
        inventory = paper.says(inventory, device, Phase.COMMITTED)
    done = look(rollout, inventory)
    assert RolloutState.DONE == done.state
    mine = done.targets[0].deployment
    wanted = {
        "d-1": replace(mine, revision=9),
        "d-2": replace(mine, revision=9, bundle=paper.bundle("2.0.0")),
    }

    assert ["committed", "superseded", "superseded"] == [
        str(each.state) for each in outlived(done, wanted).targets
    ]
    assert outlived(rollout, {}) == rollout
