"""A rollout runs to its end by reports about its own revision, and by nothing else."""

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from pydantic import TypeAdapter

from agent.wire.phases import PHASES, SETTLED, Happening, Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import DeploymentSettings, Order
from fleet.inventory import Inventory
from fleet.rollouts.plan import Plan
from fleet.rollouts.rollout import (
    Event,
    IllegalEventError,
    PresenceEvent,
    Rollout,
    RolloutEvent,
    RolloutWave,
    TargetEvent,
    begin,
    due,
    fold,
    seen,
)
from fleet.rollouts.states import (
    COUPLED,
    FINAL,
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
from tests.fleet.deciding.paper import Paper

Running = tuple[Rollout, Inventory]

STARTED = RolloutEvent(rollout=RolloutHappening.STARTED)
ABORTED = RolloutEvent(rollout=RolloutHappening.ABORTED)


def look(rollout: Rollout, inventory: Inventory) -> Rollout:
    """One pass of the rim that has only looked."""
    return fold(rollout, seen(rollout, inventory))


def states(rollout: Rollout) -> dict[str, str]:
    return {progress.target: str(progress.state) for progress in rollout.targets}


@pytest.fixture
def running(paper: Paper) -> tuple[Rollout, Inventory]:
    """Three targets that were all asked."""
    inventory = paper.inventory(*paper.targets(3))
    rollout, inventory = paper.started(inventory, paper.plan(inventory))
    return look(rollout, inventory), inventory


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


def test_every_unfinished_state_can_be_ended() -> None:
    """No rollout gets stuck where nobody can stop it."""
    for state, row in ROLLOUT.items():
        assert (RolloutHappening.ABORTED in row) is (state not in FINAL)


def test_coupled_rules_are_legal_in_their_tables() -> None:
    """A rule on a pair fires only what one of the two has a row for."""
    for (rollout, wave), happening in COUPLED.items():
        row = ROLLOUT[rollout] if isinstance(happening, RolloutHappening) else WAVE[wave]
        assert happening in row


def test_before_it_starts_nobody_is_asked(paper: Paper) -> None:
    """Planned is only planned."""
    inventory = paper.inventory(*paper.targets(2))
    rollout = begin(paper.plan(inventory), "r-1")

    assert (RolloutState.PLANNED, ()) == (rollout.state, due(rollout))
    assert seen(rollout, inventory) == ()


def test_starting_makes_everybody_due_at_once(paper: Paper) -> None:
    """One wave, and its documents are to be written now; once written, they are not due again."""
    inventory = paper.inventory(*paper.targets(2))
    rollout = fold(begin(paper.plan(inventory), "r-1"), [STARTED])

    assert [WaveState.RUNNING] == [wave.state for wave in rollout.waves]
    assert ["d-1", "d-2"] == [progress.target for progress in due(rollout)]
    asked = look(rollout, paper.carried_out(inventory, paper.plan(inventory)))
    assert (due(asked), states(asked)) == ((), {"d-1": "asked", "d-2": "asked"})


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
    assert seen(rollout, inventory) == ()


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

    assert seen(rollout, inventory) == ()


def test_a_report_of_another_deployment_has_no_effect(paper: Paper, running: Running) -> None:
    """Even with the same revision and digest."""
    rollout, inventory = running
    wake = paper.deployment("wake", revision=1)
    inventory = paper.written(inventory, {"d-1": wake})
    inventory = paper.says(inventory, "d-1", Phase.COMMITTED, name="wake")

    assert seen(rollout, inventory) == ()


def test_a_duplicate_report_has_no_effect(paper: Paper, running: Running) -> None:
    """What has been folded is not seen again."""
    rollout, inventory = running
    inventory = paper.says(inventory, "d-1", Phase.TESTING)
    rollout = look(rollout, inventory)

    assert seen(rollout, inventory) == ()


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

    assert seen(rollout, paper.says(inventory, "d-1", Phase.RETIRED)) == ()


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
    slower = fold(begin(paper.plan(inventory), "r-1"), [STARTED])
    faster = paper.plan(inventory, paper.request("2.0.0"))
    assert faster.steps[0].deployment.revision == slower.targets[0].deployment.revision
    slower = look(slower, paper.carried_out(inventory, faster))

    assert (RolloutState.SUPERSEDED, ()) == (slower.state, due(slower))


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

    assert seen(rollout, before) == ()


def test_being_cut_off_between_store_and_rollout_is_repaired(paper: Paper) -> None:
    """The store holds the documents and the rollout never heard: the next look finds it."""
    inventory = paper.inventory(*paper.targets(2))
    planned = paper.plan(inventory)
    rollout = fold(begin(planned, "r-1"), [STARTED])
    inventory = paper.says(paper.carried_out(inventory, planned), "d-1", Phase.COMMITTED)
    rollout = look(rollout, inventory)

    assert states(rollout) == {"d-1": "committed", "d-2": "asked"}
    assert due(rollout) == ()


@pytest.mark.parametrize("start", [True, False])
def test_an_aborted_rollout_asks_nobody_any_more(paper: Paper, start: bool) -> None:  # noqa: FBT001  # a parameter
    """Before or after its start; what was asked stays asked."""
    inventory = paper.inventory(*paper.targets(2))
    rollout = begin(paper.plan(inventory), "r-1")
    if start:
        rollout = fold(rollout, [STARTED])
    rollout = fold(rollout, [ABORTED])

    assert (RolloutState.ABORTED, ()) == (rollout.state, due(rollout))
    assert [WaveState.ABORTED] == [wave.state for wave in rollout.waves]


def test_waves_start_one_after_the_other(paper: Paper) -> None:
    """The second is due when the first has passed, and never after it failed."""
    inventory = paper.inventory(*paper.targets(2))
    planned = paper.plan(inventory)
    waves = (RolloutWave(number=1, targets=("d-1",)), RolloutWave(number=2, targets=("d-2",)))

    def after_the_first(phase: Phase) -> Rollout:
        fields = {name: getattr(begin(planned, "r-1"), name) for name in Rollout.__slots__}
        rollout = fold(Rollout(**{**fields, "waves": waves}), [STARTED])
        assert ["d-1"] == [progress.target for progress in due(rollout)]
        asked = paper.written(inventory, {"d-1": planned.steps[0].deployment})
        return look(rollout, paper.says(asked, "d-1", phase))

    assert ["d-2"] == [progress.target for progress in due(after_the_first(Phase.COMMITTED))]
    failed = after_the_first(Phase.REFUSED)
    assert ((), RolloutState.FAILED) == (due(failed), failed.state)
    assert [WaveState.FAILED, WaveState.ABORTED] == [wave.state for wave in failed.waves]


def test_an_illegal_event_names_state_and_event(paper: Paper, running: Running) -> None:
    """And nothing of the batch is folded."""
    rollout, inventory = running
    committed = look(rollout, paper.says(inventory, "d-1", Phase.COMMITTED))
    again = TargetEvent(target="d-1", happening=TargetHappening.ASKED)

    with pytest.raises(IllegalEventError, match="d-1 is committed; it can't be asked") as raised:
        fold(committed, [PresenceEvent(target="d-2", online=False), again])
    assert (TargetState.COMMITTED, TargetHappening.ASKED) == (
        raised.value.state,
        raised.value.happening,
    )
    with pytest.raises(IllegalEventError, match="rollout r-1 is running; it can't be started"):
        fold(rollout, [STARTED])
    assert committed.set_aside() == ()


def test_an_event_about_a_stranger_is_a_bug(running: Running) -> None:
    """The rim folds only what was seen of this rollout's targets."""
    rollout, _ = running

    with pytest.raises(KeyError, match="d-9"):
        fold(rollout, [PresenceEvent(target="d-9", online=True)])


def test_a_rollout_and_its_events_survive_being_stored(paper: Paper, running: Running) -> None:
    """Written as JSON and read again, each is what it was: no event is taken for another kind."""
    rollout, inventory = running
    events: list[Event] = [STARTED, PresenceEvent(target="d-1", online=False)]
    events += seen(rollout, paper.says(inventory, "d-1", Phase.REFUSED, reason="LOAD_FAILED"))
    planned = paper.plan(inventory, paper.request("2.0.0", settings=DeploymentSettings()))

    rollouts, plans = TypeAdapter(Rollout), TypeAdapter(Plan)
    several: TypeAdapter[list[Event]] = TypeAdapter(list[Event])
    assert rollout == rollouts.validate_json(rollouts.dump_json(rollout))
    assert events == several.validate_json(several.dump_json(events))
    assert planned == plans.validate_json(plans.dump_json(planned))


class World(RuleBasedStateMachine):
    """Devices that run the wire's own phase table, come and go, and a rim that looks now and then.

    Reports may be lost or late: the centre sees whichever it sees. Twice a newer
    rollout may take some targets away.
    """

    paper: Paper

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.inventory = self.paper.inventory(*self.paper.targets(count))
        planned = self.paper.plan(self.inventory)
        self.rollout, self.inventory = self.paper.started(self.inventory, planned)
        self.wanted = {step.target: step.deployment for step in planned.steps}
        self.phases = dict.fromkeys(self.wanted, Phase.ACCEPTED)
        self.ended: Rollout | None = None
        self.takeovers = 0

    def device(self, number: int) -> str:
        return f"d-{number % len(self.wanted) + 1}"

    @rule(number=st.integers(0, 9), happening=st.sampled_from(Happening), told=st.booleans())
    def moves(self, number: int, happening: Happening, told: bool) -> None:  # noqa: FBT001  # drawn
        device = self.device(number)
        phase = PHASES[self.phases[device]].get(happening)
        if phase is None or happening is Happening.SUPERSEDED:
            return
        self.phases[device] = phase
        if told and device in self.wanted:
            self.tell(device)

    def tell(self, device: str) -> None:
        mine = self.wanted[device]
        target = self.inventory.by_device()[device]
        if target.wanted("digits") == mine:
            self.inventory = self.paper.says(self.inventory, device, self.phases[device])

    @rule(number=st.integers(0, 9), online=st.booleans())
    def comes_or_goes(self, number: int, online: bool) -> None:  # noqa: FBT001  # drawn
        self.inventory = self.paper.change(self.inventory, self.device(number), online=online)

    @rule(number=st.integers(0, 9))
    def is_taken_over(self, number: int) -> None:
        if self.takeovers == 2:
            return
        self.takeovers += 1
        version = f"{self.takeovers + 1}.0.0"
        asked = self.paper.request(version, selector=None, targets=(self.device(number),))
        planned = self.paper.plan(self.inventory, asked)
        self.inventory = self.paper.carried_out(self.inventory, planned)

    @rule()
    def looks(self) -> None:
        before, self.rollout = self.rollout, look(self.rollout, self.inventory)
        assert seen(self.rollout, self.inventory) == ()
        for was, now in zip(before.targets, self.rollout.targets, strict=True):
            assert was.state == now.state or TARGET[was.state]

    @invariant()
    def an_end_is_an_end(self) -> None:
        if self.ended is not None:
            assert self.ended.state == self.rollout.state
        elif self.rollout.state in FINAL:
            self.ended = self.rollout

    @invariant()
    def an_outcome_was_the_devices_own(self) -> None:
        outcomes = {
            TargetState.COMMITTED: Phase.COMMITTED,
            TargetState.REFUSED: Phase.REFUSED,
            TargetState.ROLLED_BACK: Phase.ROLLED_BACK,
        }
        for progress in self.rollout.targets:
            if progress.state in outcomes:
                assert outcomes[progress.state] is self.phases[progress.target]

    def teardown(self) -> None:
        """Everybody returns and settles, and is heard: quiet implies an end."""
        for device, phase in self.phases.items():
            if phase not in SETTLED:
                self.phases[device] = Phase.COMMITTED
            self.inventory = self.paper.change(self.inventory, device, online=True)
            self.tell(device)
        self.rollout = look(self.rollout, self.inventory)
        assert self.rollout.state in FINAL


def test_whatever_is_lost_or_late_a_quiet_world_has_ended(paper: Paper) -> None:
    """No order of reports, absences and takeovers leaves it hanging, or moves it after its end."""

    class PaperWorld(World):
        def __init__(self) -> None:
            super().__init__()
            self.paper = paper

    run_state_machine_as_test(
        PaperWorld, settings=settings(max_examples=60, stateful_step_count=25)
    )


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
