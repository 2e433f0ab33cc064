"""Rollouts are carried out from what the store holds: signed, in order, once, after a crash too."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from agent.wire import codec, v1
from agent.wire.phases import Phase
from fleet import execute
from fleet.chronicle import Chronicle
from fleet.clock import written
from fleet.execute import Executor
from fleet.identity.places import Home
from fleet.kept import Memory
from fleet.roll import Roll
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.fold import IllegalEventError
from fleet.rollouts.gate import GateReason
from fleet.rollouts.policy import (
    Budget,
    Check,
    Count,
    Gate,
    Policy,
    Retry,
    RolloutRequest,
    WaveRule,
)
from fleet.rollouts.progress import Rollout
from fleet.rollouts.states import RolloutHappening, RolloutState, WaveState
from fleet.rollouts.trace import Trace
from fleet.selector import Selector
from fleet.store import arrivals, audit, bundles, changes, desired, devices, health, rollouts
from fleet.store.engine import Store
from fleet.store.errors import NotFoundError
from models import card_codec, dsse
from models.keys import SigningKey, admit, load_public
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.deciding.paper import Paper

ONE, TWO = "d-one", "d-two"
FLEET = "harbour"


@pytest.fixture
def woken() -> list[str]:
    return []


class Clock:
    """A date that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def executor(store: Store, home: Home, woken: list[str], clock: Clock) -> Executor:
    add_devices(store, [ONE, TWO])
    comes(store, ONE)
    comes(store, TWO)
    paper = Paper()
    with store.write() as connection:
        for version in ("1.0.0", "1.1.0"):
            ref = paper.bundle(version)
            published = bundles.PublishedBundle(
                digest=ref.digest,
                name=ref.name,
                version=version,
                card=card_codec.render(paper.card(ref)),
                published_at=written(NOW),
            )
            bundles.add(connection, published)
    return new_executor(store, home, clock, lambda: woken.append("link"))


def new_executor(
    store: Store,
    home: Home,
    clock: Clock,
    changed: Callable[[], None] = lambda: None,
    connected: Callable[[], bool] = lambda: True,
) -> Executor:
    """Return what a new process has: the store, and nothing else."""
    return Executor(
        roll=Roll(store, FLEET),
        store=store,
        key=SigningKey.load(home.desired_key),
        clock=clock,
        changed=changed,
        connected=connected,
        chronicle=Chronicle(store),
    )


def wish(version: str = "1.0.0", deployment: str = "digits", *targets: str) -> RolloutRequest:
    return RolloutRequest(
        bundle=Paper().bundle(version),
        deployment=deployment,
        selector=None if targets else Selector(),
        targets=targets,
        policy="all-at-once",
    )


def careful(version: str = "1.0.0") -> RolloutRequest:
    return replace(wish(version), policy="careful")


def start(executor: Executor, request: RolloutRequest, if_plan: str | None = None) -> str:
    return executor.start(request, if_plan=if_plan, actor="ana", reason="night retrain").id


def wanted(store: Store, device: str) -> v1.Desired:
    with store.read() as connection:
        held = desired.held(connection, device)
    assert held is not None
    return codec.decode(held.payload, v1.Desired)


def comes(store: Store, device: str, session: int = 1) -> None:
    birth = v1.Birth(
        fleet=FLEET,
        device=device,
        session=session,
        agent_version="1",
        at=written(NOW),
        facts=Paper.facts,
    )
    with store.write() as connection:
        arrivals.commit(connection, [birth], now=written(NOW))


def goes(store: Store, device: str, session: int = 1) -> None:
    death = v1.Death(fleet=FLEET, device=device, session=session)
    with store.write() as connection:
        arrivals.commit(connection, [death], now=written(NOW))


def report(store: Store, device: str, phase: Phase = Phase.COMMITTED, session: int = 1) -> None:
    """Let a device say how far it is with all that is wanted of it."""
    document = wanted(store, device)
    told = v1.Reported(
        fleet=FLEET,
        device=device,
        session=session,
        observed=document.order,
        deployments=tuple(
            v1.ReportedDeployment(
                name=each.name, revision=each.revision, digest=each.bundle.digest, phase=phase
            )
            for each in document.deployments
        ),
    )
    with store.write() as connection:
        arrivals.commit(connection, [told], now=written(NOW))


def state_of(store: Store, rollout: str) -> RolloutState:
    with store.read() as connection:
        return RolloutState(rollouts.named(connection, rollout).state)


def progress(store: Store, rollout: str) -> Rollout:
    with store.read() as connection:
        return Memory().read(connection, rollout)


def targets(store: Store, rollout: str) -> dict[str, str]:
    return {each.target: str(each.state) for each in progress(store, rollout).targets}


def wants(store: Store) -> set[str]:
    """Return the devices that a document was ever written for."""
    with store.read() as connection:
        ids = [each.id for each in devices.every(connection)]
        return {document.target for document in desired.among(connection, ids)}


def written_so_far(store: Store) -> int:
    with store.read() as connection:
        return changes.head(connection)


def test_every_target_gets_a_document_that_its_device_would_obey(
    executor: Executor, store: Store, home: Home, woken: list[str]
) -> None:
    """Signed by the desired key, for this fleet and device; the audit says who asked and why."""
    rollout = start(executor, wish())
    executor.advance()

    trusted = [load_public(home.desired_public)]
    for device in (ONE, TWO):
        with store.read() as connection:
            held = desired.held(connection, device)
        assert held is not None
        payload, _ = admit(held.envelope, dsse.DESIRED_PAYLOAD_TYPE, trusted, limit_bytes=8 * 1024)
        document = codec.decode(payload, v1.Desired)
        assert (FLEET, device, payload) == (document.fleet, document.target, held.payload)
        assert ["digits"] == [deployment.name for deployment in document.deployments]
    with store.read() as connection:
        said = {entry.subject: entry for entry in audit.latest(connection, limit=9)}
    assert ("ana", "night retrain") == (said[rollout].actor, said[rollout].reason)
    assert rollout == said[ONE].actor
    assert ["link"] == woken


def test_a_rollout_ends_when_its_devices_have_committed(executor: Executor, store: Store) -> None:
    """What devices report moves it; nothing else does."""
    rollout = start(executor, wish())
    executor.advance()
    executor.advance()
    before = state_of(store, rollout)
    report(store, ONE)
    report(store, TWO, Phase.FETCHING)
    executor.advance()
    between = state_of(store, rollout)
    report(store, TWO)
    executor.advance()

    assert [RolloutState.RUNNING, RolloutState.RUNNING, RolloutState.DONE] == [
        before,
        between,
        state_of(store, rollout),
    ]
    with store.read() as connection:
        assert [] == list(rollouts.opened(connection))


def test_looking_again_writes_nothing(executor: Executor, store: Store, woken: list[str]) -> None:
    """A pass over a quiet fleet leaves no new document and wakes nobody."""
    start(executor, wish())
    executor.advance()
    with store.read() as connection:
        before = changes.head(connection)

    executor.advance()

    with store.read() as connection:
        assert before == changes.head(connection)
    assert ["link"] == woken


def test_a_centre_that_was_killed_goes_on_where_the_store_is(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """Started, and killed before it wrote a document: the next process writes them, once."""
    rollout = start(executor, wish())

    new_executor(store, home, clock).advance()

    assert 1 == wanted(store, ONE).order.generation == wanted(store, TWO).order.generation
    assert {"asked"} == set(targets(store, rollout).values())


def test_a_centre_killed_after_each_pass_finishes_all_the_same(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """Every pass is done by another process; each document is written once."""
    rollout = start(executor, careful())
    for _ in range(12):
        new_executor(store, home, clock).advance()
        for device in (ONE, TWO):
            if device in wants(store):
                report(store, device)
        clock.now += timedelta(seconds=45)

    assert RolloutState.DONE == state_of(store, rollout)
    assert 2 == written_so_far(store)


def test_a_soak_goes_on_while_the_centre_is_away(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """It is held to dates: devices have served meanwhile."""
    rollout = start(executor, careful())
    executor.advance()
    report(store, ONE)
    executor.advance()
    assert WaveState.SOAKING == progress(store, rollout).waves[0].state
    clock.now += timedelta(seconds=59)
    another = new_executor(store, home, clock)
    assert 1.0 == another.advance()
    assert TWO not in wants(store)
    clock.now += timedelta(seconds=1)
    another.advance()

    assert TWO in wants(store)


def test_nobody_is_late_because_the_centre_was_away(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """A night without a centre: what devices did is still to be heard; then the time is theirs."""
    rollout = start(executor, careful())
    executor.advance()
    clock.now += timedelta(hours=9)
    another = new_executor(store, home, clock)
    another.advance()
    assert {ONE: "asked", TWO: "planned"} == targets(store, rollout)
    clock.now += timedelta(hours=1)
    another.advance()

    assert RolloutState.ROLLING_BACK == state_of(store, rollout)
    assert () == wanted(store, ONE).deployments


async def test_nobody_is_late_because_the_broker_was_away(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """A night without a broker: the centre hears nobody, decides nothing, and turns nobody back."""
    rollout = start(executor, careful())
    heard = False
    executor = new_executor(store, home, clock, connected=lambda: heard)
    executor.advance()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(executor.run(), name="executor")
        await asyncio.sleep(0.1)
        clock.now += timedelta(hours=9)
        executor.wake()
        await asyncio.sleep(0.7)
        assert {ONE: "asked", TWO: "planned"} == targets(store, rollout)
        heard = True
        await asyncio.sleep(1.0)
        running.cancel()
    assert {ONE: "asked", TWO: "planned"} == targets(store, rollout)
    clock.now += timedelta(hours=1)
    executor.advance()

    assert RolloutState.ROLLING_BACK == state_of(store, rollout)


def test_a_device_that_is_away_is_set_aside_and_told_when_it_returns(
    executor: Executor, store: Store
) -> None:
    """The rollout ends by who is here; who comes later still counts as an outcome of its own."""
    goes(store, TWO)
    rollout = start(executor, wish())
    executor.advance()
    report(store, ONE)
    executor.advance()
    with store.read() as connection:
        kept = rollouts.named(connection, rollout)
    assert (TWO,) == progress(store, rollout).set_aside()
    assert RolloutState.DONE == kept.state
    assert kept.is_open
    assert TWO not in wants(store)

    comes(store, TWO, session=2)
    executor.advance()
    report(store, TWO, session=2)
    executor.advance()

    with store.read() as connection:
        kept = rollouts.named(connection, rollout)
    assert {"committed"} == set(targets(store, rollout).values())
    assert not kept.is_open


def test_a_bad_model_fails_its_rollout_and_keeps_its_reason(
    executor: Executor, store: Store
) -> None:
    """A refusal by a device is the rollout's failure."""
    rollout = start(executor, wish())
    executor.advance()
    report(store, ONE, Phase.REFUSED)
    report(store, TWO)
    executor.advance()

    assert RolloutState.FAILED == state_of(store, rollout)


def test_two_rollouts_of_two_deployments_do_not_touch_each_other(
    executor: Executor, store: Store
) -> None:
    """Each target's document has both; the first one's revision stays as it was."""
    first = start(executor, wish("1.0.0", "digits"))
    second = start(executor, wish("1.1.0", "other"))
    executor.advance()

    document = wanted(store, ONE)
    assert {"digits": "1.0.0", "other": "1.1.0"} == {
        each.name: each.bundle.version for each in document.deployments
    }
    assert 2 == document.order.generation
    before = {each.name: each.revision for each in document.deployments}
    third = start(executor, wish("1.1.0", "digits"))
    executor.advance()
    after = {each.name: each.revision for each in wanted(store, ONE).deployments}
    assert before["other"] == after["other"]
    assert before["digits"] < after["digits"]

    report(store, ONE)
    report(store, TWO)
    executor.advance()
    assert [RolloutState.SUPERSEDED, RolloutState.DONE, RolloutState.DONE] == [
        state_of(store, rollout) for rollout in (first, second, third)
    ]


def test_a_plan_that_moved_is_not_started(executor: Executor, store: Store) -> None:
    """Who asked for one plan is told what changed, and nothing is written."""
    seen = executor.plan(wish())
    add_devices(store, ["d-three"])

    with pytest.raises(PlanError, match="d-three") as refused:
        start(executor, wish(), if_plan=seen.digest.removeprefix("sha256:")[:12])

    assert PlanReason.PLAN_CHANGED == refused.value.reason
    with store.read() as connection:
        assert [] == list(rollouts.every(connection))
        assert 0 == changes.head(connection)
    start(executor, wish(), if_plan=executor.plan(wish()).digest)


@pytest.mark.parametrize("digest", ["", "sha256:", "0", "x" * 64])
def test_a_digest_that_is_none_starts_nothing(
    executor: Executor, store: Store, digest: str
) -> None:
    """An empty or short prefix doesn't match whatever the plan is."""
    with pytest.raises(PlanError):
        start(executor, wish(), if_plan=digest)

    with store.read() as connection:
        assert [] == list(rollouts.every(connection))


def test_a_rollout_that_changes_nobody_is_not_started(executor: Executor, store: Store) -> None:
    """Everyone has it already: said so, with the reason."""
    start(executor, wish())
    executor.advance()

    with pytest.raises(PlanError) as refused:
        start(executor, wish())

    assert PlanReason.NO_CHANGE == refused.value.reason
    with store.read() as connection:
        assert 1 == len(rollouts.every(connection))


def test_a_bad_model_takes_its_canary_back_by_itself(executor: Executor, store: Store) -> None:
    """The gate's verdict writes a newer document without it; the other never got one."""
    rollout = start(executor, careful())
    executor.advance()
    report(store, ONE, Phase.REFUSED)
    executor.advance()
    assert ((), 2) == (wanted(store, ONE).deployments, wanted(store, ONE).order.generation)
    assert RolloutState.ROLLING_BACK == state_of(store, rollout)
    report(store, ONE)
    executor.advance()

    assert RolloutState.ROLLED_BACK == state_of(store, rollout)
    assert {ONE} == wants(store)


WORDS = [
    (RolloutHappening.PAUSED, RolloutState.PAUSED, "rollout.pause"),
    (RolloutHappening.ABORTED, RolloutState.ABORTED, "rollout.abort"),
    (RolloutHappening.RETURN_ASKED, RolloutState.ROLLING_BACK, "rollout.rollback"),
]


@pytest.mark.parametrize(("word", "state", "action"), WORDS)
def test_a_persons_word_is_obeyed_and_audited(
    executor: Executor, store: Store, word: RolloutHappening, state: RolloutState, action: str
) -> None:
    """Who, what, why, before and after; and nobody new is asked."""
    rollout = start(executor, careful())
    executor.advance()
    after = executor.say(rollout, word, actor="bo", reason="smoke")
    executor.advance()

    assert state == after.state
    with store.read() as connection:
        said = [each for each in audit.latest(connection, limit=9) if each.action == action]
    assert [("bo", rollout, "smoke", {"state": "running"}, {"state": state.value})] == [
        (each.actor, each.subject, each.reason, each.before, each.after) for each in said
    ]
    assert {ONE} == wants(store)


def ends(executor: Executor, store: Store, request: RolloutRequest) -> str:
    """Start a rollout to both devices, and let them take it."""
    rollout = start(executor, request)
    executor.advance()
    report(store, ONE)
    report(store, TWO)
    executor.advance()
    assert RolloutState.DONE is state_of(store, rollout)
    return rollout


def test_an_old_rollouts_return_leaves_what_a_newer_one_brought_again(
    executor: Executor, store: Store
) -> None:
    """The same content, but wanted since by somebody else: those devices are not the old one's."""
    old = ends(executor, store, wish("1.0.0"))
    ends(executor, store, wish("1.1.0"))
    newest = ends(executor, store, wish("1.0.0"))
    before = wanted(store, ONE)
    executor.say(old, RolloutHappening.RETURN_ASKED, actor="bo", reason="tidy")
    executor.advance()

    assert {ONE: "superseded", TWO: "superseded"} == targets(store, old)
    assert {ONE: "committed", TWO: "committed"} == targets(store, newest)
    assert before == wanted(store, ONE)


def test_an_old_rollouts_return_reaches_whom_a_newer_one_gave_back(
    executor: Executor, store: Store
) -> None:
    """What came after was rolled back: they are the old one's again, under a newer revision."""
    old = ends(executor, store, wish("1.0.0"))
    newer = ends(executor, store, wish("1.1.0"))
    for rollout in (newer, old):
        executor.say(rollout, RolloutHappening.RETURN_ASKED, actor="bo", reason="worse")
        executor.advance()
        report(store, ONE)
        report(store, TWO)
        executor.advance()

    assert () == wanted(store, ONE).deployments
    assert {ONE: "returned", TWO: "returned"} == targets(store, old)


@pytest.mark.parametrize(
    "word", [RolloutHappening.PAUSED, RolloutHappening.RESUMED, RolloutHappening.ABORTED]
)
def test_a_word_that_comes_too_late_changes_nothing(
    executor: Executor, store: Store, word: RolloutHappening
) -> None:
    """It names the state and the word; the store and the audit are as before."""
    rollout = start(executor, wish())
    executor.advance()
    report(store, ONE)
    report(store, TWO)
    executor.advance()
    with store.read() as connection:
        before = rollouts.named(connection, rollout), audit.latest(connection, limit=99)

    with pytest.raises(IllegalEventError, match=f"is done; it can't be {word}"):
        executor.say(rollout, word, actor="bo", reason="")

    with store.read() as connection:
        assert before == (rollouts.named(connection, rollout), audit.latest(connection, limit=99))


def test_a_word_about_no_rollout_is_refused(executor: Executor) -> None:
    """By its id."""
    with pytest.raises(NotFoundError, match="r-none"):
        executor.say("r-none", RolloutHappening.PAUSED, actor="bo", reason="")


def test_a_word_between_two_passes_misses_nobody(executor: Executor, store: Store) -> None:
    """A document was written and no pass has seen it yet: it is taken back all the same."""
    rollout = start(executor, wish())
    executor._pass(rollout)
    assert {"planned"} == set(targets(store, rollout).values())
    executor.say(rollout, RolloutHappening.RETURN_ASKED, actor="bo", reason="")
    executor.advance()

    assert {"returning"} == set(targets(store, rollout).values())
    assert ((), ()) == (wanted(store, ONE).deployments, wanted(store, TWO).deployments)


def test_a_start_overtakes_what_is_under_way(executor: Executor, store: Store) -> None:
    """In the same transaction: whoever was not asked by the older one never is."""
    older = start(executor, careful("1.0.0"))
    executor.advance()
    newer = start(executor, careful("1.1.0"))
    assert {ONE: "asked", TWO: "superseded"} == targets(store, older)
    assert {"planned"} == set(targets(store, newer).values())
    executor.advance()
    executor.advance()

    assert RolloutState.SUPERSEDED == state_of(store, older)
    assert "1.1.0" == wanted(store, ONE).deployments[0].bundle.version
    assert {ONE} == wants(store)


@pytest.mark.usefixtures("executor")
def test_what_a_start_plans_keeps_no_writer_waiting(store: Store, home: Home) -> None:
    """A plan of a large fleet takes seconds; reports are committed meanwhile."""
    asked: list[datetime] = []

    class Looking(Clock):
        def __call__(self) -> datetime:
            with sqlite3.connect(home.store, timeout=0.1) as other:
                other.execute("BEGIN IMMEDIATE")  # locked, where somebody writes
            other.close()
            asked.append(self.now)
            return self.now

    start(new_executor(store, home, Looking()), careful("1.0.0"))
    assert asked


def test_a_start_between_two_passes_takes_nobody_for_one_who_was_not_asked(
    executor: Executor, store: Store
) -> None:
    """Whoever has the older one's document is on the way with it, until the newer one asks."""
    older = start(executor, careful("1.0.0"))
    executor._pass(older)
    assert {"planned"} == set(targets(store, older).values())
    start(executor, careful("1.1.0"))

    assert {ONE: "asked", TWO: "superseded"} == targets(store, older)


def test_a_pass_writes_no_more_than_one_transaction_may_hold(
    executor: Executor, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of documents are written in parts, so that reports are committed in between."""
    monkeypatch.setattr(execute, "_AT_ONCE", 40)
    many = [f"d-{number}" for number in range(98)]
    add_devices(store, many)
    for device in many:
        comes(store, device)
    rollout = start(executor, wish())
    heads = []
    for _ in range(4):
        executor._pass(rollout)
        heads.append(written_so_far(store))

    assert [40, 80, 100, 100] == heads
    executor.advance()
    assert 100 == len(wants(store)) == written_so_far(store)


def test_two_centres_on_one_store_write_each_document_once(
    executor: Executor, store: Store, home: Home, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By mistake there may be two: their passes alternate, and what one wrote the other sees."""
    monkeypatch.setattr(execute, "_AT_ONCE", 1)
    other = new_executor(store, home, clock)
    rollout = start(executor, wish())
    for _ in range(3):
        executor._pass(rollout)
        other._pass(rollout)

    assert 2 == written_so_far(store)
    assert 1 == wanted(store, ONE).order.generation == wanted(store, TWO).order.generation


def test_two_centres_at_the_same_time_write_each_document_once(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """In two threads: the store lets one write at a time, and each looks again before it does."""
    start(executor, wish())
    centres = [executor, *(new_executor(store, home, clock) for _ in range(3))]
    with ThreadPoolExecutor(len(centres)) as pool:
        for done in [pool.submit(centre.advance) for centre in centres]:
            done.result(timeout=30)

    assert 2 == written_so_far(store)


def test_all_that_a_rollout_asks_is_in_its_trace_also_on_the_way_back(
    executor: Executor, store: Store
) -> None:
    """A caller's, or one of its own; what another rollout brought keeps the one it came with."""
    old = ends(executor, store, wish("1.0.0"))
    ends(executor, store, wish("1.0.0", "words"))
    mine = Trace(id="a" * 32, parent="b" * 16)
    newer = executor.start(wish("1.1.0"), if_plan=None, actor="ana", reason="night", trace=mine)
    executor.advance()
    there = traces(store)
    executor.say(newer.id, RolloutHappening.RETURN_ASKED, actor="bo", reason="worse")
    executor.advance()
    own = progress(store, old).trace

    assert own is not None
    assert own.id not in (mine.id, there["words"])
    assert (mine, mine) == (newer.trace, progress(store, newer.id).trace)
    assert (mine.id, 2) == (there["digits"], len(set(there.values())))
    assert there == traces(store), "the content from before, in the trace of who went back"
    assert "1.0.0" == wanted(store, ONE).deployments[0].bundle.version


def traces(store: Store) -> dict[str, str | None]:
    return {each.name: each.trace_id for each in wanted(store, ONE).deployments}


def test_who_failed_is_asked_again_under_a_newer_revision(executor: Executor, store: Store) -> None:
    """By a person's word, audited; whoever a later rollout decided about is left to that one."""
    rollout = start(executor, wish())
    executor.advance()
    report(store, ONE, Phase.REFUSED)
    report(store, TWO, Phase.REFUSED)
    executor.advance()
    before = wanted(store, ONE).deployments[0]
    later = start(executor, wish("1.1.0", "digits", TWO))
    executor.say(rollout, RolloutHappening.RETRIED, actor="ana", reason="cleaned up")
    executor.advance()

    after = wanted(store, ONE).deployments[0]
    assert (after.bundle, after.revision) == (before.bundle, before.revision + 2)
    assert wanted(store, TWO).deployments[0].bundle.version == "1.1.0"
    report(store, ONE)
    report(store, TWO)
    executor.advance()
    assert {ONE: "committed", TWO: "refused"} == targets(store, rollout)
    assert RolloutState.DONE == state_of(store, later)
    with store.read() as connection:
        assert audit.latest(connection, limit=9, about=rollout)[0].action == "rollout.retry"
    with pytest.raises(IllegalEventError, match="no later rollout has decided"):
        executor.say(rollout, RolloutHappening.RETRIED, actor="ana", reason="")


def test_a_policy_of_ones_own_is_kept_with_its_rollout(executor: Executor, store: Store) -> None:
    """Budgets, retries and approvals are read again from the store as they were said."""
    gate = Gate(success_percent=100, error_percent=0, approval=True)
    own = Policy(
        name="mine",
        waves=(WaveRule(size=Count(targets=2), gate=gate),),
        per_class=2,
        budgets=(Budget(label="skerry/site", percent=50),),
        retry=Retry(times=1),
    )
    rollout = start(executor, replace(wish(), policy="mine", own_policy=own))
    kept = progress(store, rollout)
    assert (kept.budgets, kept.retry, kept.canaries) == (own.budgets, own.retry, 2)
    assert all(each.groups.keys() == {"skerry/site"} for each in kept.targets)
    executor.advance()
    assert len(wants(store)) == 1, "one at a time"
    (first,) = wants(store)
    report(store, first)
    executor.advance()
    report(store, ({ONE, TWO} - {first}).pop())
    executor.advance()
    assert [WaveState.TO_APPROVE] == [wave.state for wave in progress(store, rollout).waves]
    executor.say(rollout, RolloutHappening.APPROVED, actor="ana", reason="")
    assert RolloutState.DONE == state_of(store, rollout)


def feels(store: Store, device: str, errors: int, at: datetime) -> None:
    """Let a device tell how a minute of what it serves was."""
    document = v1.Health(
        fleet=FLEET,
        device=device,
        session=1,
        at=written(NOW),
        period_s=60.0,
        deployments=tuple(
            v1.DeploymentHealth(
                name=each.name,
                revision=each.revision,
                digest=each.bundle.digest,
                requests=100,
                errors=errors,
            )
            for each in wanted(store, device).deployments
        ),
    )
    with store.write() as connection:
        health.put(connection, [document], now=written(at))


def test_what_devices_measured_is_kept_with_the_rollout_and_turns_it_back(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """A document counts once, in whichever process; half a sample before a restart is half."""
    check = Check(check="error_rate <= 0.1", minimum_sample=200)
    gate = Gate(success_percent=100, error_percent=0, soak_s=600.0, checks=(check,))
    policy = Policy(name="checked", waves=(WaveRule(size=Count(targets=1), gate=gate),))
    rollout = start(executor, replace(wish(), policy=policy.name, own_policy=policy))
    executor.advance()
    (asked,) = wants(store)
    report(store, asked)
    executor.advance()
    said = []
    for _ in range(2):
        again = new_executor(store, home, clock)
        again.advance()
        clock.now += timedelta(seconds=60)
        feels(store, asked, 20, clock.now - timedelta(seconds=1))
        for _ in range(3):
            again.advance()
        evidence = progress(store, rollout).waves[0].evidence
        assert evidence is not None
        said.append(sum(each.requests for each in evidence.serving.values()))
    after = progress(store, rollout)
    assert [100, 200] == said
    assert after.cause is not None
    assert GateReason.CHECK_FAILED == after.cause.code
    assert "0.2" == after.cause.parameters["observed"]
    assert RolloutState.ROLLING_BACK is after.state
