"""Whatever happens in whatever order, a fleet is never made worse than its gates allow.

The world asserts at each step what no step may do (`tests.fleet.deciding.world`);
here it is driven at random, and looked at when it has come to rest.
"""

import contextlib
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.wire.phases import Phase
from fleet.rollouts.fold import IllegalEventError
from fleet.rollouts.gate import Verdict, judge, unproven
from fleet.rollouts.policy import (
    ALL_AT_ONCE,
    CAREFUL,
    Budget,
    Count,
    EachClass,
    Gate,
    Inconclusive,
    Matching,
    OnFailure,
    Percent,
    Policy,
    Retry,
    WaveRule,
)
from fleet.rollouts.progress import Progress, Rollout
from fleet.rollouts.states import (
    BAD,
    ENDED,
    SETTLED,
    TO_APPROVE,
    TO_RETURN,
    UNDER_WAY,
    RolloutHappening,
    RolloutState,
    TargetState,
    WaveState,
)
from fleet.selector import parse
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct, World, with_gates

COUNTED = Policy(
    name="counted",
    waves=(
        WaveRule(size=Count(targets=2), gate=Gate(success_percent=100, error_percent=0, soak_s=30)),
        WaveRule(
            size=Percent(percent=100),
            gate=Gate(success_percent=60, error_percent=40, minimum_sample=2),
        ),
    ),
)
STEPS = Policy(
    name="steps", waves=(WaveRule(size=EachClass(per_class=2)), WaveRule(size=Percent(percent=100)))
)
SKIPPING = with_gates(
    replace(CAREFUL, name="skipping"), inconclusive=Inconclusive.SKIP, minimum_sample=2
)
APPROVED = replace(
    with_gates(CAREFUL, inconclusive=Inconclusive.APPROVE, approval=True), name="approved"
)
STRICT = Policy(
    name="strict",
    per_class=1,
    budgets=(Budget(label="line", targets=1),),
    retry=Retry(times=2, wait_s=30.0),
    waves=(
        WaveRule(
            size=Matching(selector=parse("line=a")),
            gate=Gate(success_percent=100, error_percent=0, everyone=True, soak_s=30),
        ),
        WaveRule(
            size=Percent(percent=100),
            gate=Gate(success_percent=50, error_percent=50, deadline_s=600.0),
        ),
    ),
)
STOPPING = replace(CAREFUL.soaking(0.0), name="stopping", on_failure=OnFailure.PAUSE)
IN_WAVES = replace(COUNTED, name="in-waves", on_failure=OnFailure.ROLL_BACK_IN_WAVES)
ONE_WAVE = Policy(
    name="one-wave",
    per_class=1,
    waves=(
        WaveRule(
            size=Percent(percent=100),
            gate=Gate(success_percent=50, error_percent=50, inconclusive=Inconclusive.SKIP),
        ),
    ),
)
"""Only that canaries go first keeps the rest of their class from a bad one."""
POLICIES = (
    ONE_WAVE,
    CAREFUL,
    STOPPING,
    IN_WAVES,
    CAREFUL.soaking(0.0),
    ALL_AT_ONCE,
    COUNTED,
    STEPS,
    SKIPPING,
    APPROVED,
    STRICT,
    STRICT,
)
WORDS = (
    RolloutHappening.PAUSED,
    RolloutHappening.RESUMED,
    RolloutHappening.ABORTED,
    RolloutHappening.RETURN_ASKED,
    RolloutHappening.APPROVED,
    RolloutHappening.PROMOTED,
    RolloutHappening.RETRIED,
)
NUMBERS = st.integers(0, 9)
CONDUCT = st.sampled_from([Conduct.GOOD, Conduct.GOOD, *Conduct])
NEVER_WELL = (Conduct.REFUSE, Conduct.FALL_BACK, Conduct.MUTE)
"""None that is so ever commits it."""


def stopped(world: World, rollout: Rollout, progress: Progress) -> bool:
    """Tell whether a gate lets this target through no more."""
    classes = unproven(rollout)
    canary = progress.class_name in classes and any(
        each.state in BAD and each.class_name == progress.class_name for each in rollout.targets
    )
    for wave, members in rollout.members():
        if progress.target in wave.targets and wave.gate is not None:
            said = judge(wave, members, classes, world.now).verdict
            return canary or said is Verdict.FAILURE
    return canary


def waits_for_ever(rollout: Rollout) -> bool:
    """Tell whether it waits for a wave that no gate, and so no deadline, stands behind.

    Also for one that a person let pass: its canaries are still the first of their class.
    """
    ungated = [each for each in rollout.members() if each[0].gate is None]
    return any(
        wave.state is WaveState.PASSED and any(each.state in UNDER_WAY for each in members)
        for wave, members in ungated
    ) or any(
        wave.state is WaveState.RUNNING
        and any(each.state in UNDER_WAY or not each.reachable for each in members)
        for wave, members in ungated
    )


def waits_for_a_canary(rollout: Rollout, progress: Progress) -> bool:
    """Tell whether the canaries of its class never end, in a wave without a gate or deadline."""
    return progress.class_name in unproven(rollout) and any(
        wave.gate is None
        and any(
            each.state in UNDER_WAY and each.class_name == progress.class_name for each in members
        )
        for wave, members in rollout.members()
    )


def waits_for_a_person(rollout: Rollout) -> bool:
    """Tell whether nothing goes on before a person has said something."""
    unapproved = any(wave.state in TO_APPROVE for wave in rollout.waves)
    running = rollout.state is RolloutState.RUNNING
    return rollout.state is RolloutState.PAUSED or (running and unapproved)


def assert_at_rest(world: World) -> None:
    """Nothing is due and nothing is under way: then each rollout is where it can be left alone."""
    for name, rollout in world.rollouts.items():
        if waits_for_ever(rollout):
            continue
        assert rollout.state in ENDED or waits_for_a_person(rollout), rollout
        if rollout.state in (RolloutState.PAUSED, RolloutState.FAILED, RolloutState.ABORTED):
            assert rollout.cause is not None
        for progress in rollout.targets:
            device = world.devices[progress.target]
            if device.online and not device.held:
                assert_settled(world, rollout, progress)
        assert_few_took_it(world, name)
        if rollout.state is RolloutState.DONE:
            assert_replanning_is_empty(world, name)
    for device in world.devices.values():
        if device.online and not device.held and device.id in world.desired:
            assert device.document == world.desired[device.id]


def assert_settled(world: World, rollout: Rollout, progress: Progress) -> None:
    """A target in reach has what was approved, or a gate, a person or its own end says why not."""
    if progress.state is TargetState.PLANNED:
        waits = waits_for_a_person(rollout) or waits_for_a_canary(rollout, progress)
        assert waits or stopped(world, rollout, progress), (rollout, progress)
    elif progress.state in UNDER_WAY:
        wave = next(each for each in rollout.waves if progress.target in each.targets)
        assert wave.gate is None, (rollout, progress)
    else:
        assert progress.state in {*SETTLED, *BAD}, (rollout, progress)
    if rollout.state is RolloutState.ROLLED_BACK:
        assert progress.state not in TO_RETURN
    wanted = world.inventory().by_device()[progress.target].wanted(rollout.deployment)
    if progress.state is TargetState.RETURNED and wanted == progress.returning:
        back, device = progress.replaces, world.devices[progress.target]
        expected = None if back is None else back.bundle.version
        dies = world.conducts(expected or "", device.id) is Conduct.CRASH
        assert dies or expected == device.serves(rollout.deployment)


def assert_replanning_is_empty(world: World, name: str) -> None:
    """Only who was never asked, has something newer or parted with it, could get anything."""
    rollout = world.rollouts[name]
    assert rollout.bundle is not None
    targets = rollout.by_target()
    again = world.plan(
        rollout.bundle.version, rollout.deployment, world.policies[name], *sorted(targets)
    )
    for step in again.steps:
        progress = targets[step.target]
        unasked = progress.state in (TargetState.PLANNED, TargetState.SUPERSEDED)
        parted = _has_parted(world, step.target, rollout.deployment)
        assert unasked or parted or not _newest(world, name, step.target), (name, progress)


def _has_parted(world: World, target: str, deployment: str) -> bool:
    """Tell whether a target has settled on not having what it wants: it may be asked again."""
    report = world.reported.get(target)
    return report is not None and any(
        each.name == deployment and each.phase in (Phase.REFUSED, Phase.ROLLED_BACK)
        for each in report.deployments
    )


def _newest(world: World, name: str, target: str) -> bool:
    """Tell whether no later rollout has decided about this target's deployment."""
    deployment = world.rollouts[name].deployment
    later = list(world.rollouts)[list(world.rollouts).index(name) + 1 :]
    return not any(
        world.rollouts[each].deployment == deployment and target in world.rollouts[each].by_target()
        for each in later
    )


def assert_few_took_it(world: World, name: str) -> None:
    """Bad on a whole class, its canaries took it; bad on some, no more than the plan has said.

    Who left the way it was on, or was taken over on it, makes room for one more.
    """
    rollout, made = world.rollouts[name], world.plans[name]
    asked = world.asked.get(name, set())
    begun = sum(wave.started_at is not None for wave in rollout.waves)
    assert len(asked) <= (made.exposure[begun - 1] if begun else 0)
    assert rollout.bundle is not None
    version, classes = rollout.bundle.version, {each.class_name for each in rollout.targets}
    for members in (
        [each for each in rollout.targets if each.class_name == class_name]
        for class_name in classes
    ):
        bad = all(world.conducts(version, each.target) in NEVER_WELL for each in members)
        if bad and rollout.canaries is not None:
            took = [each.state for each in members if each.target in asked]
            taken_over = took.count(TargetState.SUPERSEDED)
            assert len(took) <= rollout.canaries + world.left[name] + taken_over


class AnyWorld(RuleBasedStateMachine):
    """Devices and people do anything, the centre is cut off at will."""

    @initialize(
        runtimes=st.lists(st.sampled_from([LITERT, TFLITE]), min_size=1, max_size=6),
        away=st.sets(st.integers(1, 6)),
    )
    def begins(self, runtimes: list[str], away: set[int]) -> None:
        self.world = World([])
        for number, runtime in enumerate(runtimes):
            self.world.join(runtime, line="ab"[number % 2])
        for number in away:
            if number <= len(runtimes):
                self.world.goes(number)
        self.versions = 0

    def number(self, drawn: int) -> int:
        return drawn % len(self.world.devices) + 1

    @precondition(lambda self: len(self.world.rollouts) <= 5)
    @rule(
        deployment=st.sampled_from(["digits", "digits", "digits", "wake"]),
        policy=st.sampled_from(POLICIES),
        conduct=st.tuples(CONDUCT, CONDUCT),
        some=st.sets(NUMBERS, max_size=2),
        ailing=st.dictionaries(NUMBERS, st.sampled_from(NEVER_WELL), max_size=2),
    )
    def a_rollout_starts(
        self,
        deployment: str,
        policy: Policy,
        conduct: tuple[Conduct, Conduct],
        some: set[int],
        ailing: dict[int, Conduct],
    ) -> None:
        self.versions += 1
        version = f"{self.versions}.0.0"
        for runtime, how in zip((LITERT, TFLITE), conduct, strict=True):
            self.world.conduct[version, runtime] = how
        for number, how in ailing.items():
            self.world.conduct[version, f"d-{self.number(number)}"] = how
        targets = sorted({f"d-{self.number(each)}" for each in some})
        self.world.start(version, deployment, policy, *targets)

    @precondition(lambda self: self.versions and len(self.world.rollouts) <= 5)
    @rule(policy=st.sampled_from(POLICIES), which=NUMBERS)
    def an_old_version_is_wanted_again(self, policy: Policy, which: int) -> None:
        self.world.start(f"{which % self.versions + 1}.0.0", "digits", policy)

    @precondition(lambda self: self.world.rollouts)
    @rule(which=NUMBERS, word=st.sampled_from(WORDS))
    def a_person_says(self, which: int, word: RolloutHappening) -> None:
        name = list(self.world.rollouts)[-1 - which % len(self.world.rollouts)]
        before = self.world.rollouts[name]
        with contextlib.suppress(IllegalEventError):
            self.world.say(name, word)
            return
        assert before == self.world.rollouts[name]

    @rule(number=NUMBERS, steps=st.integers(1, 6), told=st.booleans())
    def a_device_moves(self, number: int, steps: int, told: bool) -> None:  # noqa: FBT001  # drawn
        for _ in range(steps):
            self.world.moves(self.world.device(self.number(number)), told=told)

    @rule(rounds=st.integers(1, 6))
    def all_move(self, rounds: int) -> None:
        self.world.works(rounds)

    @rule(number=NUMBERS)
    def a_device_comes_or_goes(self, number: int) -> None:
        number = self.number(number)
        if self.world.device(number).online:
            self.world.goes(number)
        else:
            self.world.returns(number)

    @rule(number=NUMBERS, held=st.booleans())
    def its_owner_holds_it(self, number: int, held: bool) -> None:  # noqa: FBT001  # drawn
        self.world.holds(self.number(number), held=held)

    @rule(runtime=st.sampled_from([LITERT, TFLITE]))
    def a_device_joins(self, runtime: str) -> None:
        if len(self.world.devices) < 6:
            self.world.join(runtime)

    @rule(which=NUMBERS)
    def an_old_report_comes_again(self, which: int) -> None:
        if self.world.said:
            old = self.world.said[-1 - which % len(self.world.said)]
            newest = self.world.reported[old.device]
            if old.hold is not None:
                self.world.leaves(old.device)
            self.world.reported[old.device] = old
            self.world.advance()
            self.world.reported[old.device] = newest

    @rule()
    def the_centre_is_restarted(self) -> None:
        self.world.is_restarted()

    @precondition(lambda self: self.world.rollouts)
    @rule(which=NUMBERS)
    def the_centre_dies_between_two_passes(self, which: int) -> None:
        name = list(self.world.rollouts)[-1 - which % len(self.world.rollouts)]
        self.world.dies_midway(name)

    @rule(seconds=st.sampled_from([1.0, 40.0, 70.0, 600.0, 4000.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.world.waits(seconds)

    @rule()
    def the_centre_looks(self) -> None:
        self.world.advance()

    def teardown(self) -> None:
        """Left alone, it comes to rest; and again when everybody is back."""
        if not hasattr(self, "world"):
            return
        self.world.settles()
        assert_at_rest(self.world)
        for number in range(1, len(self.world.devices) + 1):
            self.world.holds(number, held=False)
            self.world.returns(number)
        self.world.settles()
        assert_at_rest(self.world)


def test_whatever_happens_quiet_implies_converged() -> None:
    """Any order of rollouts, words, absences, holds, old reports and restarts comes to rest."""
    run_state_machine_as_test(AnyWorld, settings=settings(max_examples=120, stateful_step_count=30))
