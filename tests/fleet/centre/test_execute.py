"""Rollouts are carried out from what the store holds: signed, in order, once, after a crash too."""

from collections.abc import Callable

import pytest

from agent.wire import codec, v1
from agent.wire.phases import Phase
from fleet.clock import written
from fleet.execute import Executor, progress_of
from fleet.identity.places import Home
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.policy import RolloutRequest
from fleet.rollouts.states import RolloutState, TargetState
from fleet.selector import Selector
from fleet.store import arrivals, audit, bundles, desired, rollouts
from fleet.store.engine import Store
from models import card_codec, dsse
from models.keys import SigningKey, admit, load_public
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.deciding.paper import Paper

ONE, TWO = "d-one", "d-two"
FLEET = "harbour"


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def executor(store: Store, home: Home, woken: list[str]) -> Executor:
    add_devices(store, [ONE, TWO])
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
    return new_executor(store, home, lambda: woken.append("link"))


def new_executor(store: Store, home: Home, changed: Callable[[], None]) -> Executor:
    return Executor(
        fleet=FLEET,
        store=store,
        key=SigningKey.load(home.desired_key),
        clock=lambda: NOW,
        changed=changed,
    )


def wish(version: str = "1.0.0", deployment: str = "digits", *targets: str) -> RolloutRequest:
    return RolloutRequest(
        bundle=Paper().bundle(version),
        deployment=deployment,
        selector=None if targets else Selector(),
        targets=targets,
        policy="all-at-once",
    )


def start(executor: Executor, request: RolloutRequest, if_plan: str | None = None) -> str:
    return executor.start(request, if_plan=if_plan, actor="ana", reason="night retrain").id


def wanted(store: Store, device: str) -> v1.Desired:
    with store.read() as connection:
        held = desired.held(connection, device)
    assert held is not None
    return codec.decode(held.payload, v1.Desired)


def report(store: Store, device: str, phase: Phase = Phase.COMMITTED) -> None:
    """Let a device say that it is here, and how far it is with all that is wanted of it."""
    document = wanted(store, device)
    told = v1.Reported(
        fleet=FLEET,
        device=device,
        session=1,
        observed=document.order,
        deployments=tuple(
            v1.ReportedDeployment(
                name=each.name, revision=each.revision, digest=each.bundle.digest, phase=phase
            )
            for each in document.deployments
        ),
    )
    birth = v1.Birth(
        fleet=FLEET, device=device, session=1, agent_version="1", at=written(NOW), facts=Paper.facts
    )
    with store.write() as connection:
        arrivals.commit(connection, [birth, told], now=written(NOW))


def state_of(store: Store, rollout: str) -> RolloutState:
    with store.read() as connection:
        return RolloutState(rollouts.named(connection, rollout).state)


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
        before = desired.head(connection)

    executor.advance()

    with store.read() as connection:
        assert before == desired.head(connection)
    assert ["link"] == woken


def test_a_centre_that_was_cut_off_goes_on_where_the_store_is(
    executor: Executor, store: Store, home: Home
) -> None:
    """Started, and killed before it wrote a document: the next process writes them, once."""
    rollout = start(executor, wish())

    new_executor(store, home, lambda: None).advance()

    assert 1 == wanted(store, ONE).order.generation == wanted(store, TWO).order.generation
    with store.read() as connection:
        progress = progress_of(rollouts.named(connection, rollout))
    assert {TargetState.ASKED} == {each.state for each in progress.targets}


def test_a_device_that_is_away_is_set_aside_and_told_when_it_returns(
    executor: Executor, store: Store
) -> None:
    """The rollout ends by who is here; who comes later still counts as an outcome of its own."""
    rollout = start(executor, wish())
    executor.advance()
    report(store, ONE)
    executor.advance()
    with store.read() as connection:
        kept = rollouts.named(connection, rollout)
    assert (TWO,) == progress_of(kept).set_aside()
    assert RolloutState.DONE == kept.state
    assert kept.is_open

    report(store, TWO)
    executor.advance()

    with store.read() as connection:
        kept = rollouts.named(connection, rollout)
    assert {TargetState.COMMITTED} == {each.state for each in progress_of(kept).targets}
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
        assert 0 == desired.head(connection)
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
