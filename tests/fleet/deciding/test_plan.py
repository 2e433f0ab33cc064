"""A plan decides for each target, with the reason, and leads to where nothing is left to plan."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import facts
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import (
    Active,
    Deployment,
    DeploymentSettings,
    Hold,
    Order,
    Quarantined,
    Reported,
    ReportedDeployment,
)
from fleet.inventory import Inventory
from fleet.rollouts.check import check
from fleet.rollouts.documents import renewed
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.rollouts.plan import Plan, find_policy, plan
from fleet.rollouts.policy import ALL_AT_ONCE, BUILT_IN, CAREFUL, RolloutRequest
from fleet.rollouts.progress import begin
from fleet.selector import parse
from models.card import Requirements
from tests.fleet.deciding.paper import Paper


def reasons(planned: Plan) -> dict[str, str]:
    return {excluded.target: str(excluded.reason) for excluded in planned.excluded}


def test_everybody_who_fits_gets_the_bundle_in_one_wave(paper: Paper) -> None:
    """All at once: one wave, and all of them are the blast radius."""
    inventory = paper.inventory(*paper.targets(3))
    planned = paper.plan(inventory)

    assert ("d-1", "d-2", "d-3") == tuple(step.target for step in planned.steps)
    assert (1, ("d-1", "d-2", "d-3")) == (planned.waves[0].number, planned.waves[0].targets)
    assert (1, 3, 30_000) == (len(planned.waves), planned.blast_radius, planned.fetch_bytes)
    assert planned.steps[0].deployment == paper.deployment(revision=1)
    assert planned.steps[0].order == Order(epoch=0, generation=1)
    assert planned.steps[0].class_name == "litert 2.3.0, x86_64, cpu, int8"
    assert planned.planned_at == "2026-03-01T12:00:00Z"
    assert check(planned, inventory) == ()


def test_only_those_asked_for_are_decided(paper: Paper) -> None:
    """By selector, by name, or both; an id that nobody has is said."""
    oslo = paper.target(1, labels={"shop": "oslo"})
    inventory = paper.inventory(oslo, paper.target(2), paper.target(3))
    asked = paper.request(selector=parse("shop=oslo"), targets=("d-3", "d-9"))
    planned = paper.plan(inventory, asked)

    assert ["d-1", "d-3"] == [step.target for step in planned.steps]
    assert reasons(planned) == {"d-9": "TARGET_UNKNOWN"}
    named_only = paper.plan(inventory, paper.request(selector=None, targets=("d-2",)))
    assert ["d-2"] == [step.target for step in named_only.steps]
    assert check(planned, inventory) == check(named_only, inventory) == ()


def test_an_offline_target_gets_its_step(paper: Paper) -> None:
    """It is set aside while it is away, not left out."""
    planned = paper.plan(paper.inventory(paper.target(1, online=False)))

    assert [False] == [step.online for step in planned.steps]


def test_a_target_that_wants_it_already_is_left_as_it_is(paper: Paper) -> None:
    """No new document, so nothing changes on it."""
    target = paper.target(desired=paper.desired("d-1", paper.deployment(revision=3)))
    inventory = paper.inventory(target)
    planned = paper.plan(inventory)

    assert reasons(planned) == {"d-1": "NO_CHANGE"}
    assert {"revision": "3"} == planned.excluded[0].parameters
    assert ((), (), 0, 0) == (
        planned.steps,
        planned.waves,
        planned.blast_radius,
        planned.fetch_bytes,
    )
    assert check(planned, inventory) == ()


def test_another_bundle_or_other_settings_are_a_new_revision(paper: Paper) -> None:
    """And only those; settings that nobody mentioned stay.

    One number is left free, for an older rollout that is rolled back in between.
    """
    mine = DeploymentSettings(threads=2)
    held = replace(paper.deployment(revision=3), settings=mine, unit="pair")
    target = paper.target(desired=paper.desired("d-1", held, generation=3))
    inventory = paper.inventory(target)

    newer = paper.plan(inventory, paper.request("2.0.0")).steps[0]
    assert newer.deployment.revision == 5
    assert newer.replaces == held
    assert ("pair", mine) == (newer.deployment.unit, newer.deployment.settings)

    tuned = paper.plan(inventory, paper.request(settings=DeploymentSettings())).steps[0]
    assert (5, held.bundle) == (tuned.deployment.revision, tuned.deployment.bundle)
    assert tuned.deployment.settings == DeploymentSettings()
    assert tuned.fetch_bytes == 0

    assert paper.plan(inventory, paper.request(settings=mine)).steps == ()


def test_other_deployments_keep_their_revisions(paper: Paper) -> None:
    """A new generation that leaves a revision alone changes nothing for it."""
    wake = paper.deployment("wake", revision=2)
    target = paper.target(desired=paper.desired("d-1", wake, generation=7))
    inventory = paper.inventory(target)
    planned = paper.plan(inventory)
    after = paper.carried_out(inventory, planned).targets[0]

    assert planned.steps[0].order == paper.held(after).order == Order(epoch=0, generation=8)
    assert after.wanted("wake") == wake
    assert paper.wanted(after).revision == 8


def test_a_revision_never_returns(paper: Paper) -> None:
    """Neither after a removal, nor when generations began again in another epoch."""
    removed = paper.target(desired=paper.desired("d-1", generation=9))
    assert paper.plan(paper.inventory(removed)).steps[0].deployment.revision == 10

    reported = paper.reported(
        paper.target(desired=paper.desired("d-1", paper.deployment(revision=40), generation=2)),
        Phase.COMMITTED,
        revision=41,
    )
    planned = paper.plan(paper.inventory(reported), paper.request("2.0.0"))
    assert planned.steps[0].deployment.revision == 43


def test_a_target_ahead_of_the_store_is_not_driven_back(paper: Paper) -> None:
    """The store was restored: what the device acts on is newer than what is stored."""
    report = Reported(
        fleet=paper.fleet, device="d-1", session=1, observed=Order(epoch=0, generation=8)
    )
    target = paper.target(desired=paper.desired("d-1", generation=7), reported=report)
    planned = paper.plan(paper.inventory(target))

    assert reasons(planned) == {"d-1": "TARGET_AHEAD"}
    assert {"observed": "0.8"} == planned.excluded[0].parameters


def test_a_held_target_is_set_aside_with_the_technicians_reason(paper: Paper) -> None:
    """Their word stands: nobody writes to it, and it is not the one that goes first."""
    hold = Hold(reason="repairing the camera", since="2026-03-01T09:00:00Z")
    report = Reported(fleet=paper.fleet, device="d-1", session=1, hold=hold)
    planned = paper.plan(paper.inventory(paper.target(1, reported=report), paper.target(2)))

    assert {} == reasons(planned)
    assert ["repairing the camera", None] == [step.hold for step in planned.steps]
    rollout = begin(planned, "r-1")
    assert [True, False] == [progress.set_aside for progress in rollout.targets]
    inventory, request = (
        paper.inventory(paper.target(1, reported=report), paper.target(2)),
        paper.request(),
    )
    careful = plan(request, CAREFUL, inventory, paper.cards(request.bundle), paper.now)
    assert ("d-2",) == careful.waves[0].targets


def test_content_in_quarantine_is_not_asked_of_its_target(paper: Paper) -> None:
    """It would be the canary that refuses it; what serves there is asked with other settings."""
    bundle = paper.bundle()
    verdict = Quarantined(
        digest=bundle.digest, reason="WORKER_CRASHED", since="2026-03-01T09:00:00Z"
    )
    report = Reported(fleet=paper.fleet, device="d-1", session=1, quarantined=(verdict,))
    target = paper.target(reported=report)
    planned = paper.plan(paper.inventory(target))

    assert {"d-1": "QUARANTINED"} == reasons(planned)
    assert {"cause": "WORKER_CRASHED", "since": verdict.since} == planned.excluded[0].parameters
    assert () == paper.plan(paper.inventory(target), paper.request("2.0.0")).excluded

    active = Active(
        revision=1, bundle=bundle, variant=bundle.digest, runtime="litert 2.3.0", accelerator="cpu"
    )
    told = ReportedDeployment(
        name="digits", revision=1, digest=bundle.digest, phase=Phase.COMMITTED, active=active
    )
    ailing = paper.target(
        desired=paper.desired("d-1", paper.deployment()),
        reported=replace(report, deployments=(told,)),
    )
    other = paper.request(settings=DeploymentSettings(threads=2))
    assert () == paper.plan(paper.inventory(ailing), other).excluded


@pytest.mark.parametrize("phase", [Phase.REFUSED, Phase.ROLLED_BACK])
def test_what_a_target_has_parted_with_may_be_asked_again(paper: Paper, phase: Phase) -> None:
    """It wants it in vain: only a new revision makes it try once more."""
    wants = paper.target(desired=paper.desired("d-1", paper.deployment()))
    assert {"d-1": "NO_CHANGE"} == reasons(paper.plan(paper.inventory(wants)))

    parted = paper.reported(wants, phase)
    (step,) = paper.plan(paper.inventory(parted)).steps
    assert step.deployment.revision > paper.wanted(wants).revision


def test_a_target_that_has_not_said_what_it_is_is_left_out(paper: Paper) -> None:
    """Nobody guesses what fits."""
    planned = paper.plan(paper.inventory(paper.target(facts={})))

    assert reasons(planned) == {"d-1": "FACTS_UNKNOWN"}


def test_a_target_that_cant_run_it_is_told_all_the_reasons(paper: Paper) -> None:
    """Fit is the models room's word; the plan carries it."""
    needs = Requirements(memory_bytes=1 << 40, operators=(), accelerator="edgetpu")
    small = paper.target()
    planned = paper.plan(paper.inventory(small), needs=needs)

    assert reasons(planned) == {"d-1": "OUT_OF_MEMORY"}
    assert "edgetpu" in planned.excluded[0].message


def test_the_variant_is_chosen_for_each_target(paper: Paper) -> None:
    """A class is told from another by runtime and hardware."""
    old = paper.target(2, facts={**paper.facts, facts.RUNTIME: "tflite"})
    planned = paper.plan(paper.inventory(paper.target(1), old))

    assert ["litert 2.3.0", "tflite 2.3.0"] == [
        step.class_name.split(",")[0] for step in planned.steps
    ]


def test_a_full_device_gets_no_seventeenth_deployment(paper: Paper) -> None:
    """But one it has can be changed."""
    sixteen = [paper.deployment(f"m{number}") for number in range(16)]
    target = paper.target(desired=paper.desired("d-1", *sixteen))
    inventory = paper.inventory(target)

    full = paper.plan(inventory)
    assert reasons(full) == {"d-1": "DEPLOYMENTS_LIMIT"}
    changed = paper.plan(inventory, paper.request("2.0.0", deployment="m3"))
    assert ["m3"] == [step.deployment.name for step in changed.steps]
    assert [16] == [
        len(paper.held(after).deployments)
        for after in paper.carried_out(inventory, changed).targets
    ]
    assert check(full, inventory) == check(changed, inventory) == ()


def test_a_document_that_would_be_too_large_is_not_planned(paper: Paper) -> None:
    """It could not be sent; the others still get theirs."""
    large = DeploymentSettings(values={f"name{number}": "x" * 250 for number in range(20)})
    held = replace(paper.deployment("wake"), settings=large)
    target = paper.target(desired=paper.desired("d-1", held))
    inventory = paper.inventory(target, paper.target(2))
    some = DeploymentSettings(values={"labels": "x" * 200})
    planned = paper.plan(inventory, paper.request(settings=some))

    assert reasons(planned) == {"d-1": "TOO_LARGE"}
    assert ["d-2"] == [step.target for step in planned.steps]


def test_a_plain_secret_is_refused_before_anybody_gets_it(paper: Paper) -> None:
    """It is the request that is wrong, not a target."""
    secret = DeploymentSettings(values={"api_key": "abc"})

    with pytest.raises(PlanError, match="api_key") as raised:
        paper.plan(paper.inventory(paper.target()), paper.request(settings=secret))

    assert raised.value.reason is Reason.SECRET_IN_DOCUMENT


def active(deployment: Deployment) -> Active:
    digest = deployment.bundle.digest
    return Active(
        revision=deployment.revision,
        bundle=deployment.bundle,
        variant=digest,
        runtime="litert",
        accelerator="cpu",
    )


@pytest.mark.parametrize(
    ("phase", "serves", "told", "expected"),
    [
        (Phase.COMMITTED, "2.0.0", 5, "2.0.0"),
        (Phase.PROBATION, "2.0.0", 5, "2.0.0"),
        (Phase.FETCHING, "1.0.0", 5, "1.0.0"),
        (Phase.REFUSED, "1.0.0", 5, "1.0.0"),
        (Phase.ROLLED_BACK, "1.0.0", 5, "1.0.0"),
        (Phase.COMMITTED, "1.0.0", 3, "1.0.0"),
        (Phase.COMMITTED, "1.0.0", 4, "2.0.0"),
        (Phase.FETCHING, None, 5, "2.0.0"),
        (Phase.REFUSED, None, 5, None),
        (Phase.ROLLED_BACK, None, 5, None),
    ],
    ids=[
        "what it has committed",
        "what serves on trial is what it wants",
        "not yet here: what serves meanwhile",
        "refused: what serves instead",
        "rolled back: what serves instead",
        "it has not heard yet: what serves",
        "it is on its way back: where it goes",
        "its first one, on the way",
        "its first one, refused: nothing",
        "its first one, rolled back: nothing",
    ],
)
def test_a_target_goes_back_to_what_it_has_proven(
    paper: Paper, phase: Phase, serves: str | None, told: int, expected: str | None
) -> None:
    """Not to what it merely wants, nor to what it has refused."""
    wanted = paper.deployment(revision=5, version="2.0.0")
    target = paper.target(desired=paper.desired("d-1", wanted, generation=9))
    said = ReportedDeployment(
        name="digits",
        revision=told,
        digest=paper.bundle("2.0.0" if told == 5 else "1.0.0").digest,
        phase=phase,
        active=None if serves is None else active(paper.deployment(version=serves)),
    )
    report = Reported(fleet=paper.fleet, device="d-1", session=1, deployments=(said,))
    step = paper.plan(
        paper.inventory(replace(target, reported=report)), paper.request("3.0.0")
    ).steps[0]

    assert expected == (None if step.replaces is None else step.replaces.bundle.version)


def test_policies_are_found_by_name() -> None:
    """And an unknown one is told which there are."""
    assert find_policy("all-at-once") is ALL_AT_ONCE
    with pytest.raises(PlanError, match="all-at-once, careful") as raised:
        find_policy("bold")
    assert raised.value.reason is PlanReason.POLICY_UNKNOWN


def test_a_bundle_must_be_published_and_be_what_it_is_called(paper: Paper) -> None:
    """The digest decides; a name that says otherwise is refused."""
    request = paper.request()
    inventory = paper.inventory(paper.target())
    other = {request.bundle.digest: paper.card(paper.bundle("9.9.9"))}

    for cards in ({}, other):
        with pytest.raises(PlanError, match=r"digits:1\.0\.0") as raised:
            plan(request, ALL_AT_ONCE, inventory, cards, paper.now)
        assert raised.value.reason is PlanReason.BUNDLE_UNKNOWN


def test_the_digest_is_of_the_world_and_not_of_the_time(paper: Paper) -> None:
    """The same plan an hour later has the same digest; another presence has not."""
    target = paper.target()
    request, cards = paper.request(), paper.cards(paper.bundle())

    def planned(hours: int = 0, **changes: object) -> Plan:
        inventory = paper.inventory(replace(target, **changes))  # type: ignore[arg-type]
        return plan(request, ALL_AT_ONCE, inventory, cards, paper.now + timedelta(hours=hours))

    assert planned().digest == planned(hours=1).digest
    assert planned(hours=1).planned_at == "2026-03-01T13:00:00Z"
    assert planned().digest == planned(last_seen="2026-03-01T11:00:00Z").digest
    assert planned().digest != planned(online=False).digest


def test_a_late_step_changes_nothing(paper: Paper) -> None:
    """Somebody else was first: the document that is there stays."""
    inventory = paper.inventory(paper.target())
    slow, fast = paper.plan(inventory), paper.plan(inventory, paper.request("2.0.0"))
    after = paper.carried_out(inventory, fast)
    held = after.targets[0].desired

    with pytest.raises(PlanError, match="wants revision 1 of digits already") as raised:
        renewed(
            held,
            slow.steps[0].deployment,
            fleet=paper.fleet,
            target="d-1",
            epoch=0,
            issued_at="2026-03-01T12:00:00Z",
        )

    assert raised.value.reason is PlanReason.OVERTAKEN
    assert held == after.targets[0].desired


def test_two_rollouts_of_two_deployments_dont_undo_each_other(paper: Paper) -> None:
    """Both were planned on the same world; each changes its own deployment."""
    inventory = paper.inventory(paper.target())
    digits, wake = paper.plan(inventory), paper.plan(inventory, paper.request(deployment="wake"))
    after = paper.carried_out(paper.carried_out(inventory, digits), wake).targets[0]

    assert after.wanted("digits") == digits.steps[0].deployment
    assert after.wanted("wake") == wake.steps[0].deployment
    assert paper.held(after).order == Order(epoch=0, generation=2)


NAMES = st.sampled_from(["digits", "wake", "gauge"])
VERSIONS = st.sampled_from(["1.0.0", "2.0.0"])
PHASES = st.sampled_from([Phase.FETCHING, Phase.COMMITTED, Phase.REFUSED])


@st.composite
def inventories(draw: st.DrawFn, paper: Paper) -> Inventory:
    """Draw a small fleet in any state: wanting some, having said some, away, unknown, held."""
    targets = []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        names = draw(st.lists(NAMES, unique=True, max_size=3))
        generation = draw(st.integers(1, 9))
        deployments = [
            paper.deployment(name, draw(st.integers(1, generation)), draw(VERSIONS))
            for name in names
        ]
        target = paper.target(
            number,
            labels=draw(st.sampled_from([{}, {"shop": "oslo"}])),
            facts=draw(st.sampled_from([paper.facts, {}])),
            online=draw(st.booleans()),
            desired=draw(
                st.sampled_from(
                    [None, paper.desired(f"d-{number}", *deployments, generation=generation)]
                )
            ),
        )
        if target.desired is not None and names and draw(st.booleans()):
            target = paper.reported(target, draw(PHASES), name=names[0])
        targets.append(target)
    return Inventory(fleet=paper.fleet, targets=tuple(targets), epoch=draw(st.integers(0, 2)))


@st.composite
def requests(draw: st.DrawFn, paper: Paper) -> RolloutRequest:
    """Draw a request that any target may be meant by."""
    settings = st.sampled_from([None, DeploymentSettings(), DeploymentSettings(threads=3)])
    return paper.request(
        draw(VERSIONS),
        deployment=draw(NAMES),
        selector=parse(draw(st.sampled_from(["", "shop=oslo", "!shop"]))),
        targets=tuple(draw(st.lists(st.sampled_from(["d-1", "d-7"]), unique=True))),
        settings=draw(settings),
    )


@given(st.data())
def test_planning_again_from_where_a_plan_leads_yields_no_step(
    paper: Paper, data: st.DataObject
) -> None:
    """The property worth having first; and every plan on the way has a clean bill."""
    inventory = data.draw(inventories(paper))
    request = data.draw(requests(paper))
    policy = data.draw(st.sampled_from(list(BUILT_IN.values())))
    cards = paper.cards(request.bundle)
    planned = plan(request, policy, inventory, cards, paper.now)
    after = paper.carried_out(inventory, planned)
    again = plan(request, policy, after, cards, paper.now)

    assert again.steps == ()
    assert check(planned, inventory) == check(again, after) == ()
    assert {step.target for step in planned.steps} <= {
        excluded.target for excluded in again.excluded if excluded.reason == PlanReason.NO_CHANGE
    }


@given(st.data())
def test_no_number_goes_back_over_any_history(paper: Paper, data: st.DataObject) -> None:
    """Orders rise with each document, and a revision rises when its deployment changes."""
    inventory = data.draw(inventories(paper))
    for _ in range(data.draw(st.integers(1, 4))):
        planned = paper.plan(inventory, data.draw(requests(paper)))
        after = paper.carried_out(inventory, planned)
        for before, now in zip(inventory.targets, after.targets, strict=True):
            if before.desired != now.desired:
                assert before.desired is None or paper.held(now).order > paper.held(before).order
            for name in ("digits", "wake", "gauge"):
                was, wanted = before.wanted(name), now.wanted(name)
                assert (
                    was is None or wanted == was or paper.wanted(now, name).revision > was.revision
                )
        inventory = after
