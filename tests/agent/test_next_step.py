"""The plan of a device: whatever is desired and seen, it leads there, and then is empty."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.plan import ATTEMPTS_LIMIT, Action, Plan, Step, condemned, outcome, plan
from agent.sketch import Sketch
from agent.state import (
    GivenUp,
    Installed,
    Observed,
    Quarantined,
    Record,
    Serving,
    Trial,
    accepted,
)
from agent.wire import v1
from agent.wire.phases import Happening, IllegalHappeningError, Phase
from agent.wire.reasons import Reason

AT = "2026-01-02T03:04:05Z"
RUNTIME = "litert 2.3.0"
NAMES = ("cat", "digits", "word")


def deployment(
    name: str = "digits", revision: int = 1, probation_s: float = 0.0, *, shadow: bool = False
) -> v1.Deployment:
    digest = "sha256:" + f"{revision:x}".rjust(64, "0")
    return v1.Deployment(
        name=name,
        revision=revision,
        bundle=v1.BundleRef(digest=digest, name=name, version=f"1.0.{revision}"),
        settings=v1.DeploymentSettings(
            probation_s=probation_s, shadow=v1.ShadowSettings() if shadow else None
        ),
    )


def desired(*deployments: v1.Deployment) -> v1.Desired:
    order = v1.Order(epoch=0, generation=1)
    return v1.Desired(fleet="f", target="d-1", order=order, issued_at=AT, deployments=deployments)


def installed(wanted: v1.Deployment) -> Installed:
    return Installed(deployment=wanted, variant=wanted.bundle.digest, runtime="litert 2.3.0")


class Simulation:
    """Takes steps as the agent does, all of them going well, in a world of values."""

    def __init__(self, observed: Observed) -> None:
        self.records = dict(observed.records)
        self.serving = dict(observed.serving)
        self.trials = dict(observed.trials)
        self.given_up = dict(observed.given_up)
        self.quarantined = dict(observed.quarantined)
        self.restore_waits: dict[str, float] = {}
        self.recoveries: dict[str, float] = {}
        self.rotten = observed.rotten
        self.held = observed.held
        self.hardware = observed.hardware
        self.closed: v1.Problem | None = None
        self.now_s = 0.0

    def observed(self) -> Observed:
        return Observed(
            records=self.records,
            serving=self.serving,
            trials=self.trials,
            given_up=self.given_up,
            quarantined=self.quarantined,
            restore_waits=self.restore_waits,
            recoveries=self.recoveries,
            rotten=self.rotten,
            held=self.held,
            hardware=self.hardware,
            closed=self.closed,
        )

    def seat(self, name: str, what: Installed) -> None:
        self.serving[name] = Serving(revision=what.revision, digest=what.digest)

    def take(self, step: Step) -> None:  # noqa: C901, PLR0912, PLR0915  # one branch an action
        name = step.deployment
        record = self.records.get(name)
        if record is None:
            assert step.wanted is not None
            self.records[name] = accepted(step.wanted, AT)
            return
        match step.action:
            case Action.ACCEPT:
                assert step.wanted is not None
                self.records[name] = record.superseded(step.wanted, AT)
                self.trials.pop(name, None)
            case Action.ADOPT:
                record = self.records[name] = record.adopted(AT)
                if name in self.serving:  # else it is started again by itself
                    assert record.current is not None
                    self.seat(name, record.current)
            case Action.FETCH:
                for happening in (Happening.BEGUN, Happening.FETCHED, Happening.VERIFIED):
                    expected = {
                        Happening.BEGUN: Phase.ACCEPTED,
                        Happening.FETCHED: Phase.FETCHING,
                        Happening.VERIFIED: Phase.VERIFYING,
                    }[happening]
                    if record.phase is expected:
                        record = record.moved(happening, AT)
                self.records[name] = record
            case Action.STAGE:
                self.records[name] = record.staged(installed(record.wanted), AT)
            case Action.TEST:
                chosen = replace(installed(record.wanted), hardware=self.hardware)
                self.records[name] = record.tested(chosen, AT)
                if record.wanted.settings.shadow and name in self.serving:
                    self.records[name] = record.shadowed(chosen, AT)
            case Action.SHADOW:
                assert record.candidate is not None
                self.records[name] = record.agreed(record.candidate, AT)
            case Action.CHOOSE_AGAIN:
                assert record.current is not None
                chosen = replace(record.current, hardware=self.hardware)
                self.records[name] = record.chosen_again(chosen)
            case Action.MEND:
                assert step.bundle is not None
                self.rotten -= {step.bundle.digest}
            case Action.ACTIVATE:
                assert record.candidate is not None
                self.seat(name, record.candidate)
                self.records[name] = record.activated(AT)
                self.trials[name] = Trial(revision=record.wanted.revision, since_s=self.now_s)
            case Action.COMMIT:
                self.records[name] = record.committed(AT)
                self.trials.pop(name, None)
            case Action.FAIL | Action.LET_GO:
                assert step.problem is not None
                assert record.current is not None
                if reason := condemned(step.problem):
                    digest = record.current.digest
                    self.quarantined[digest] = Quarantined(
                        digest=digest, reason=reason, since=AT, message="", runtime=RUNTIME
                    )
                self.records[name] = record.let_go(step.problem, AT)
                self.trials.pop(name, None)
                if self.given_up.pop(name, None) and record.previous is None:
                    self.restore_waits[name] = self.now_s + 2
                    self.recoveries[name] = self.now_s + 600
            case Action.WAIT:
                self.records[name] = replace(record, problem=step.problem)
            case Action.REFUSE:
                self.records[name] = record.moved(Happening.FAILED, AT, step.problem)
            case Action.RECOVER:
                assert record.current is not None
                del self.recoveries[name]
                self.quarantined.pop(record.current.digest, None)
                self.records[name] = replace(record, problem=None)
            case Action.ROLL_BACK:
                if record.previous:
                    self.seat(name, record.previous)
                else:
                    self.serving.pop(name, None)
                self.records[name] = record.restored(AT)
            case Action.RETIRE:
                del self.records[name]
                self.serving.pop(name, None)
                self.trials.pop(name, None)
            case Action.RESTORE:
                assert record.current is not None
                self.restore_waits.pop(name, None)
                self.seat(name, record.current)
                if record.phase is Phase.PROBATION:
                    self.trials[name] = Trial(revision=record.wanted.revision, since_s=self.now_s)

    def converge(self, wanted: v1.Desired | None) -> list[Step]:
        taken: list[Step] = []
        for _ in range(60):
            found = plan(wanted, self.observed(), self.now_s)
            if not found.steps:
                if found.wake_s is None:
                    return taken
                assert found.wake_s > self.now_s
                self.now_s = found.wake_s
            assert len({step.deployment for step in found.steps}) == len(found.steps)
            for step in found.steps:
                self.take(step)
                taken.append(step)
        raise AssertionError(f"no end: {taken[-8:]}")


@st.composite
def records(draw: st.DrawFn, name: str) -> Record:
    """Any record that could have come about, by happenings of the table."""
    record = accepted(deployment(name, draw(st.integers(1, 3))), AT)
    for _ in range(draw(st.integers(0, 14))):
        steps = [Happening.FAILED, Happening.DEFERRED, Happening.SUPERSEDED, "return", "on"]
        happening = draw(st.sampled_from(steps))
        try:
            if happening is Happening.SUPERSEDED:
                newer = deployment(
                    name,
                    record.wanted.revision + 1,
                    draw(st.sampled_from([0.0, 9.0])),
                    shadow=draw(st.booleans()),
                )
                record = record.superseded(newer, AT)
            elif happening == "return":  # to what is committed, under another number
                back = record.previous or record.current
                if back is not None:
                    number = record.wanted.revision + 1
                    record = record.superseded(replace(back.deployment, revision=number), AT)
            elif happening == "on":
                record = further(record)
            else:
                assert isinstance(happening, Happening)
                problem = v1.Problem(reason="NOT_FOUND")
                record = replace(record.moved(happening, AT, problem), candidate=None)
        except IllegalHappeningError:
            continue  # the table says no: another
    return record


def further(record: Record) -> Record:  # noqa: C901, PLR0911  # one row a phase
    if record.phase is Phase.ACCEPTED and record.adoptable:
        return record.adopted(AT)
    match record.phase:
        case Phase.ACCEPTED:
            return record.moved(Happening.BEGUN, AT)
        case Phase.FETCHING:
            return record.moved(Happening.FETCHED, AT)
        case Phase.VERIFYING:
            return record.moved(Happening.VERIFIED, AT)
        case Phase.STAGING:
            return record.staged(installed(record.wanted), AT)
        case Phase.TESTING:
            assert record.candidate is not None
            asked = record.wanted.settings.shadow and record.current
            return (record.shadowed if asked else record.tested)(record.candidate, AT)
        case Phase.SHADOWING:
            assert record.candidate is not None
            return record.agreed(record.candidate, AT)
        case Phase.ACTIVATING:
            return record.activated(AT)
        case Phase.PROBATION:
            return record.committed(AT)
        case Phase.ROLLING_BACK:
            return record.restored(AT)
        case _:
            return record


def returns(record: Record | None) -> list[v1.Deployment]:
    """Return what a rollback may want of a device: what it had, under a number of its own."""
    had = [record.current, record.previous] if record else []
    return [replace(each.deployment, revision=19) for each in had if each]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[v1.Desired, Observed]:
    held = {name: draw(records(name)) for name in draw(st.sets(st.sampled_from(NAMES)))}
    serving = {
        name: Serving(revision=record.current.revision, digest=record.current.digest)
        for name, record in held.items()
        if record.current and draw(st.booleans())  # after a restart nothing serves yet
    }
    trials = {
        name: Trial(revision=record.wanted.revision, since_s=0.0)
        for name, record in held.items()
        if record.phase is Phase.PROBATION and name in serving
    }
    wanted = [
        draw(
            st.sampled_from(
                [
                    deployment(name, 19, draw(st.sampled_from([0.0, 5.0])), shadow=shadow)
                    for shadow in (False, True)
                ]
                + ([held[name].wanted] if name in held else [])
                + returns(held.get(name))
            )
        )
        for name in sorted(draw(st.sets(st.sampled_from(NAMES))))
    ]
    given_up = {
        name: GivenUp(
            revision=record.current.revision,
            digest=record.current.digest,
            reason=draw(st.sampled_from(["WORKER_CRASHED", "WORKER_STUCK", "GOLDEN_MISMATCH"])),
            message="5 deaths",
        )
        for name, record in held.items()
        if record.current and name not in serving and draw(st.booleans())
    }
    revisions = draw(st.sets(st.sampled_from([1, 2, 3, 19])))
    digests = [deployment(revision=revision).bundle.digest for revision in revisions]
    return desired(*wanted), Observed(
        records=held,
        serving=serving,
        trials=trials,
        given_up=given_up,
        quarantined={
            digest: Quarantined(
                digest=digest, reason="GOLDEN_MISMATCH", since=AT, message="", runtime=RUNTIME
            )
            for digest in digests
        },
        rotten=frozenset(
            deployment(revision=revision).bundle.digest
            for revision in draw(st.sets(st.sampled_from([1, 2, 3, 19])))
        ),
        hardware=draw(st.sampled_from(["", "another machine"])),
    )


@given(worlds())
def test_carrying_out_the_plan_reaches_desired_and_replanning_is_empty(
    world: tuple[v1.Desired, Observed],
) -> None:
    """From any state a device can be in, to any document: it ends, and nothing is left to do."""
    wanted, observed = world
    simulation = Simulation(observed)
    simulation.converge(wanted)
    assert plan(wanted, simulation.observed(), simulation.now_s) == Plan()
    assert set(simulation.records) == {each.name for each in wanted.deployments}
    for each in wanted.deployments:
        record = simulation.records[each.name]
        assert record.wanted == each
        assert record.settled
        if record.phase is Phase.COMMITTED:
            assert simulation.serving[each.name] == Serving(
                revision=each.revision, digest=each.bundle.digest
            )
        kept = {back.digest for back in (record.current, record.previous) if back}
        assert not kept & simulation.rotten


@given(worlds(), st.sampled_from(["MAINTENANCE_WINDOW_CLOSED", "CLOCK_WRONG"]))
def test_outside_a_window_only_what_served_before_comes_to_serve(
    world: tuple[v1.Desired, Observed], reason: str
) -> None:
    """It ends in all that waits; and when a window opens, in what is desired, as if without."""
    wanted, observed = world
    simulation = Simulation(observed)
    simulation.closed = v1.Problem(reason=reason, parameters={"opens": AT})
    had = {
        (name, each.digest)
        for name, record in observed.records.items()
        for each in (record.current, record.previous)
        if each
    }
    had |= {(name, seat.digest) for name, seat in simulation.serving.items()}
    steps = simulation.converge(wanted)

    assert had >= {(name, seat.digest) for name, seat in simulation.serving.items()}
    waits = [each for each in simulation.records.values() if each.problem == simulation.closed]
    assert all(each.phase in {Phase.TESTING, Phase.ACTIVATING} for each in waits)
    told = [step.deployment for step in steps if step.action is Action.WAIT]
    assert len(told) == len(set(told)), "what waits says so once"

    simulation.closed = None
    simulation.converge(wanted)
    assert all(simulation.records[each.name].problem is None for each in waits)
    assert {each.name for each in waits} <= set(simulation.serving)
    assert all(each.settled for each in simulation.records.values())


@given(worlds())
def test_what_serves_already_is_not_started_again(world: tuple[v1.Desired, Observed]) -> None:
    """A return to what is committed is a matter of numbers: no fetch, no test, no worker."""
    _, observed = world
    simulation = Simulation(observed)
    simulation.converge(None)
    back = {
        name: replace(record.current.deployment, revision=20)
        for name, record in simulation.records.items()
        if record.current and record.proven
    }
    serving = dict(simulation.serving)
    steps = Simulation(simulation.observed()).converge(desired(*back.values()))

    assert {Action.ADOPT, Action.ACCEPT} >= {
        step.action for step in steps if step.deployment in back
    }
    assert set(back) == {step.deployment for step in steps if step.action is Action.ADOPT}
    assert serving == simulation.serving


@given(worlds())
def test_what_serves_goes_on_serving(world: tuple[v1.Desired, Observed]) -> None:
    """No step but a retirement leaves a name with nobody, where something good was."""
    wanted, observed = world
    simulation = Simulation(observed)
    names = {each.name for each in wanted.deployments}
    served = set(simulation.serving) & names
    good = {
        name for name in served if observed.records[name].proven or observed.records[name].previous
    }
    for _ in range(60):
        found = plan(wanted, simulation.observed(), simulation.now_s)
        for step in found.steps:
            simulation.take(step)
            assert good <= set(simulation.serving), step
        if not found.steps:
            if found.wake_s is None:
                break
            simulation.now_s = found.wake_s


@given(worlds())
def test_with_no_desired_document_nothing_is_accepted_or_retired(
    world: tuple[v1.Desired, Observed],
) -> None:
    """A device that lost its document, or never had one, keeps what it has."""
    _, observed = world
    simulation = Simulation(observed)
    steps = simulation.converge(None)
    assert not {Action.ACCEPT, Action.RETIRE} & {step.action for step in steps}
    assert set(observed.records) == set(simulation.records)


@given(worlds())
def test_deployments_do_not_look_at_each_other(world: tuple[v1.Desired, Observed]) -> None:
    """The step of a deployment is the same whatever stands beside it."""
    wanted, observed = world
    for each in wanted.deployments:
        alone = plan(
            desired(each),
            Observed(
                records={n: r for n, r in observed.records.items() if n == each.name},
                serving=observed.serving,
                trials=observed.trials,
                given_up=observed.given_up,
                quarantined=observed.quarantined,
                hardware=observed.hardware,
            ),
            0.0,
        )
        together = plan(wanted, observed, 0.0)
        assert [s for s in together.steps if s.deployment == each.name] == list(alone.steps)


def committed(revision: int = 1, probation_s: float = 0.0) -> Record:
    record = accepted(deployment(revision=revision, probation_s=probation_s), AT)
    while record.phase is not Phase.COMMITTED:
        record = further(record)
    return record


def seated(record: Record) -> dict[str, Serving]:
    assert record.current is not None
    return {"digits": Serving(revision=record.current.revision, digest=record.current.digest)}


def test_a_newer_generation_that_leaves_a_revision_alone_changes_nothing() -> None:
    """The generation orders documents; it says nothing about deployments."""
    record = committed()
    observed = Observed(records={"digits": record}, serving=seated(record))
    newer = replace(desired(deployment()), order=v1.Order(epoch=0, generation=99))
    assert plan(newer, observed, 0.0) == Plan()


def test_another_machine_is_measured_anew() -> None:
    """What is committed goes on, until it is known how it serves best there; not while held."""
    record = committed()
    observed = Observed(records={"digits": record}, serving=seated(record), hardware="other")
    wanted = desired(deployment())
    [step] = plan(wanted, observed, 0.0).steps
    assert (Action.CHOOSE_AGAIN, "digits") == (step.action, step.deployment)
    assert () == plan(wanted, replace(observed, held=True), 0.0).steps
    waiting = replace(observed, waits={"digits": 5.0})
    assert Plan(wake_s=5.0) == plan(wanted, waiting, 0.0)


def test_the_incumbent_is_started_before_the_candidate_goes_on() -> None:
    """What served comes first; while it can't be started, the candidate goes on."""
    record = committed().superseded(deployment(revision=2), AT)
    wanted = desired(deployment(revision=2))
    down = Observed(records={"digits": record})
    assert [step.action for step in plan(wanted, down, 0.0).steps] == [Action.RESTORE]
    waiting = replace(down, restore_waits={"digits": 10.0})
    assert [step.action for step in plan(wanted, waiting, 0.0).steps] == [Action.FETCH]
    assert plan(wanted, replace(waiting, waits={"digits": 20.0}), 0.0) == Plan(wake_s=10.0)


@pytest.mark.parametrize(
    ("trial", "action"),
    [
        (Trial(revision=2, since_s=0.0), None),
        (Trial(revision=2, since_s=0.0, crashes=1, requests=100, errors=5), None),
        (Trial(revision=2, since_s=0.0, crashes=2), Action.FAIL),
        (Trial(revision=2, since_s=0.0, mishaps=1), None),
        (Trial(revision=2, since_s=0.0, crashes=1, mishaps=1), Action.FAIL),
        (Trial(revision=2, since_s=0.0, requests=20, errors=2), Action.FAIL),
        (Trial(revision=2, since_s=0.0, requests=19, errors=19), None),
        (Trial(revision=2, since_s=-60.0), Action.COMMIT),
        (Trial(revision=2, since_s=-60.0, crashes=2), Action.FAIL),
        (Trial(revision=1, since_s=-60.0), None),
        (None, None),
    ],
)
def test_probation(trial: Trial | None, action: Action | None) -> None:
    """Judged by crashes, and by errors of enough requests; committed when its time is over."""
    record = committed().superseded(deployment(revision=2, probation_s=60.0), AT)
    while record.phase is not Phase.PROBATION:
        record = further(record)
    observed = Observed(
        records={"digits": record},
        serving=seated(record),
        trials={"digits": trial} if trial else {},
    )
    found = plan(desired(record.wanted), observed, 0.0)
    assert [step.action for step in found.steps] == ([action] if action else [])


@pytest.mark.parametrize(
    ("answers", "budget_s", "fails"),
    [(20, 0.9, True), (19, 0.9, False), (20, 1.2, False), (20, None, False)],
)
def test_a_probation_that_is_slower_than_its_budget_has_failed(
    answers: int, budget_s: float | None, *, fails: bool
) -> None:
    """By the median of enough good answers; with both numbers."""
    settings = v1.DeploymentSettings(probation_s=60.0, latency_budget_s=budget_s)
    record = committed().superseded(replace(deployment(revision=2), settings=settings), AT)
    while record.phase is not Phase.PROBATION:
        record = further(record)
    sketch = Sketch()
    for _ in range(answers):
        sketch.add(1.0)
    observed = Observed(
        records={"digits": record},
        serving=seated(record),
        trials={"digits": Trial(revision=2, since_s=0.0, latency=sketch.to_wire())},
    )
    steps = plan(desired(record.wanted), observed, 0.0).steps
    assert [step.action for step in steps] == ([Action.FAIL] if fails else [])
    if fails:
        assert "900 ms are allowed" in steps[0].reason


@pytest.mark.parametrize(("crashes", "mishaps"), [(3, 0), (4, 0), (3, 1)])
def test_the_machine_may_end_each_worker_once_in_a_probation(crashes: int, mishaps: int) -> None:
    """All three of a pool at once, as one worker alone may die once: the next is the revision's."""
    record = committed().superseded(deployment(revision=2, probation_s=60.0), AT)
    while record.phase is not Phase.PROBATION:
        record = further(record)
    assert record.current is not None
    record = replace(record, current=replace(record.current, workers=3))
    trial = Trial(revision=2, since_s=0.0, crashes=crashes, mishaps=mishaps)
    observed = Observed(
        records={"digits": record}, serving=seated(record), trials={"digits": trial}
    )
    found = plan(desired(record.wanted), observed, 0.0)
    failed = [Action.FAIL] if crashes + mishaps > 3 else []
    assert failed == [step.action for step in found.steps]


def test_a_failed_probation_returns_to_what_was_committed() -> None:
    """Not to a candidate that was itself on trial."""
    first = committed()
    second = first.superseded(deployment(revision=2, probation_s=60.0), AT)
    while second.phase is not Phase.PROBATION:
        second = further(second)
    third = second.superseded(deployment(revision=3, probation_s=60.0), AT)
    while third.phase is not Phase.PROBATION:
        third = further(third)
    back = third.let_go(v1.Problem(reason=Reason.PROBATION_FAILED), AT).restored(AT)
    assert back.current == first.current
    assert back.proven
    assert back.phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_ends_in_time_or_waits(reason: Reason) -> None:
    """What passes is tried for ever; what may pass a few times; the rest ends the candidate."""
    first, last = outcome(reason, 1), outcome(reason, ATTEMPTS_LIMIT)
    assert {first, last} <= {Happening.DEFERRED, Happening.FAILED}
    assert not (first is Happening.FAILED and last is Happening.DEFERRED)


def test_what_the_world_does_is_never_the_candidates_end() -> None:
    """Network and disk come back; golden vectors that were missed do not."""
    for reason in ("REGISTRY_UNREACHABLE", "DISK_FULL", "TIMED_OUT", "NOT_FOUND"):
        assert outcome(reason, 10_000) is Happening.DEFERRED
    for reason in ("GOLDEN_MISMATCH", "SIGNATURE_INVALID", "NO_VARIANT_FITS", "A_NEW_CODE"):
        assert outcome(reason, 1) is Happening.FAILED


# What died too often


def dead(record: Record, reason: str = "WORKER_CRASHED") -> Observed:
    assert record.current is not None
    gone = GivenUp(
        revision=record.current.revision,
        digest=record.current.digest,
        reason=reason,
        message="5 deaths in 60 s",
    )
    return Observed(records={"digits": record}, given_up={"digits": gone})


def second_committed() -> Record:
    record = committed().superseded(deployment(revision=2), AT)
    while record.phase is not Phase.COMMITTED:
        record = further(record)
    return record


@pytest.mark.parametrize("phase", [Phase.COMMITTED, Phase.REFUSED, Phase.TESTING])
def test_what_died_too_often_gives_way_to_what_was_committed_before(phase: Phase) -> None:
    """Whatever is wanted meanwhile: the revision before it serves, and only it is condemned."""
    record = second_committed()
    wanted = record.wanted
    if phase is not Phase.COMMITTED:
        wanted = deployment(revision=3)
        record = record.superseded(wanted, AT)
        while record.phase is not Phase.TESTING:
            record = further(record)
        if phase is Phase.REFUSED:
            record = record.moved(Happening.FAILED, AT, v1.Problem(reason="LOAD_FAILED"))
    simulation = Simulation(replace(dead(record), held=True))  # with nothing new in between

    steps = [step.action for step in simulation.converge(desired(wanted))]

    after = simulation.records["digits"]
    back = Action.ROLL_BACK if phase is Phase.COMMITTED else Action.RESTORE
    assert steps == [Action.LET_GO, back]
    assert simulation.serving["digits"].revision == 1
    assert after.proven
    assert after.previous is None
    assert after.phase is (Phase.ROLLED_BACK if phase is Phase.COMMITTED else phase)
    assert set(simulation.quarantined) == {deployment(revision=2).bundle.digest}


def test_what_died_too_often_with_nothing_before_it_is_started_again_later() -> None:
    """It is all there is: it is never refused, and is well again when it has lived for a while."""
    record = committed()
    simulation = Simulation(dead(record))

    steps = [step.action for step in simulation.converge(desired(record.wanted))]

    assert steps == [Action.LET_GO, Action.RESTORE, Action.RECOVER]
    assert seated(record) == simulation.serving
    assert simulation.records["digits"] == record
    assert {} == simulation.quarantined
    assert simulation.now_s >= 600


@pytest.mark.parametrize(
    ("reason", "of_the_content"),
    [("WORKER_CRASHED", True), ("GOLDEN_MISMATCH", True), ("WORKER_STUCK", False)],
)
def test_only_what_content_does_by_itself_condemns_it(reason: str, *, of_the_content: bool) -> None:
    """A deadline is a setting, and memory the machine's: the next revision may try again."""
    [step] = plan(None, dead(second_committed(), reason), 0.0).steps
    assert step.problem is not None
    assert (condemned(step.problem) is not None) == of_the_content


def test_a_probation_that_failed_by_errors_condemns_nothing() -> None:
    """Of the revision; two crashes are of the content."""
    record = committed().superseded(deployment(revision=2, probation_s=60.0), AT)
    while record.phase is not Phase.PROBATION:
        record = further(record)
    causes = []
    for trial in (
        Trial(revision=2, since_s=0.0, requests=20, errors=20),
        Trial(revision=2, since_s=0.0, mishaps=2),
        Trial(revision=2, since_s=0.0, crashes=2),
    ):
        observed = Observed(
            records={"digits": record}, serving=seated(record), trials={"digits": trial}
        )
        [step] = plan(None, observed, 0.0).steps
        assert step.problem is not None
        assert step.problem.reason == Reason.PROBATION_FAILED
        causes.append(condemned(step.problem))
    assert causes == [None, None, "WORKER_CRASHED"]


def test_a_rollback_that_cannot_be_finished_yet_keeps_nobody_waiting() -> None:
    """What serves meanwhile is started again, and a newer revision is accepted."""
    record = second_committed().let_go(v1.Problem(reason="WORKER_CRASHED"), AT)
    assert record.phase is Phase.ROLLING_BACK
    waiting = Observed(records={"digits": record}, waits={"digits": 9.0})
    assert [s.action for s in plan(None, waiting, 0.0).steps] == [Action.RESTORE]
    serving = replace(waiting, serving=seated(record))
    assert plan(desired(record.wanted), serving, 0.0) == Plan(wake_s=9.0)
    [step] = plan(desired(deployment(revision=3)), serving, 0.0).steps
    assert step.action is Action.ACCEPT
    third = record.superseded(deployment(revision=3), AT)
    while third.phase is not Phase.COMMITTED:
        third = further(third)
    assert third.previous is not None
    assert third.previous.revision == 1  # not the one that died


# Quarantine and hold


def test_content_in_quarantine_is_refused_before_it_is_fetched() -> None:
    """With why it is there."""
    record = committed().superseded(deployment(revision=2), AT)
    digest = record.wanted.bundle.digest
    verdict = Quarantined(
        digest=digest, reason="GOLDEN_MISMATCH", since=AT, message="0 of 8", runtime=RUNTIME
    )
    observed = Observed(
        records={"digits": record}, serving=seated(record), quarantined={digest: verdict}
    )
    [step] = plan(desired(record.wanted), observed, 0.0).steps
    assert step.action is Action.REFUSE
    assert step.problem == v1.Problem(
        reason="QUARANTINED",
        message="0 of 8",
        parameters={"cause": "GOLDEN_MISMATCH", "since": AT},
    )


@pytest.mark.parametrize("serves", [True, False])
def test_what_is_committed_is_started_again_and_set_anew_whatever_is_said_of_it(
    *, serves: bool
) -> None:
    """Quarantine keeps content from coming, not what serves from serving."""
    record = committed()
    digest = record.wanted.bundle.digest
    observed = Observed(
        records={"digits": record},
        serving=seated(record) if serves else {},
        quarantined={
            digest: Quarantined(
                digest=digest, reason="WORKER_CRASHED", since=AT, message="", runtime=RUNTIME
            )
        },
    )
    again = replace(deployment(), revision=2, settings=v1.DeploymentSettings(threads=2))
    simulation = Simulation(observed)

    simulation.converge(desired(again))

    after = simulation.records["digits"]
    assert (after.phase, after.wanted) == (Phase.COMMITTED, again)
    assert simulation.serving["digits"].revision == 2


NEW = {
    Action.ACCEPT, Action.FETCH, Action.STAGE, Action.TEST, Action.ACTIVATE, Action.RETIRE,
    Action.REFUSE,
}  # fmt: skip


@given(worlds())
def test_while_a_device_is_held_nothing_new_is_begun(world: tuple[v1.Desired, Observed]) -> None:
    """What serves is kept up, trials and rollbacks end, and afterwards it goes on as if nothing."""
    wanted, observed = world
    simulation = Simulation(replace(observed, held=True))
    names = set(observed.records)

    steps = simulation.converge(wanted)

    assert not NEW & {step.action for step in steps}
    assert set(simulation.records) == names
    for name, record in simulation.records.items():
        assert record.wanted == observed.records[name].wanted
        assert record.phase not in {Phase.PROBATION, Phase.ROLLING_BACK}
        assert record.current is None or name in simulation.serving
    simulation.held = False
    simulation.converge(wanted)
    assert plan(wanted, simulation.observed(), simulation.now_s) == Plan()
    assert set(simulation.records) == {each.name for each in wanted.deployments}


def test_a_step_belongs_to_the_rollout_whose_revision_it_is_about() -> None:
    """Another trace alone is nothing new; what serves is restored in its own rollout's name."""
    old = replace(deployment(revision=1), trace_id="a" * 32)
    new = replace(deployment(revision=2), trace_id="b" * 32)
    serving = replace(accepted(old, AT), phase=Phase.COMMITTED, current=installed(old), proven=True)
    wanting = serving.superseded(new, AT)
    seen = Observed(
        records={"digits": serving},
        serving={"digits": Serving(revision=1, digest=old.bundle.digest)},
    )

    def step(action: Action, wanted: v1.Deployment | None = None) -> Step:
        return Step(deployment="digits", action=action, reason="", wanted=wanted)

    assert () == plan(desired(replace(old, trace_id="c" * 32)), seen, 0.0).steps
    assert "b" * 32 == step(Action.ACCEPT, new).trace_id(serving)
    assert "b" * 32 == step(Action.FETCH).trace_id(wanting)
    assert "a" * 32 == step(Action.RESTORE).trace_id(wanting)
    assert step(Action.RETIRE).trace_id(None) is None
    assert ["a" * 32, "b" * 32, None] == [wanting.trace_of(number) for number in (1, 2, 3)]
