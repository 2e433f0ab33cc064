"""Order, phases, topics: the rules both sides live by, one table each."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import v1
from agent.wire.codec import decode, encode
from agent.wire.order import Admission, Held, admit
from agent.wire.phases import (
    PHASES,
    SERVING,
    SETTLED,
    Happening,
    IllegalHappeningError,
    Phase,
    after,
)
from agent.wire.topics import (
    DEVICE_READS,
    DEVICE_WRITES,
    RETAINED,
    SIGNED,
    Kind,
    Topic,
    every_device,
    marker,
)
from tests.contract.samples import AT, BUNDLE, OLDER

orders = st.builds(v1.Order, epoch=st.integers(0, 3), generation=st.integers(1, 5))
digests = st.sampled_from(["sha256:" + "0" * 64, "sha256:" + "1" * 64])
phases = pytest.mark.parametrize("phase", Phase)


# Order


@given(st.none() | st.builds(Held, order=orders, payload_digest=digests), orders, digests)
def test_an_arriving_document_is_newer_identical_stale_or_in_conflict(
    held: Held | None, order: v1.Order, digest: str
) -> None:
    """The epoch goes before the generation; the same number with other content is a conflict."""
    rank = (order.epoch, order.generation)
    before = (-1, 0) if held is None else (held.order.epoch, held.order.generation)
    if rank > before:
        expected = Admission.NEWER
    elif rank < before:
        expected = Admission.STALE
    else:
        assert held is not None
        same = digest == held.payload_digest
        expected = Admission.IDENTICAL if same else Admission.CONFLICT

    assert expected is admit(held, order, digest)


@given(st.lists(st.tuples(orders, digests), max_size=12))
def test_a_target_never_goes_backwards(arrivals: list[tuple[v1.Order, str]]) -> None:
    """Whatever arrives in whatever order, what is held only rises."""
    held: Held | None = None
    for order, digest in arrivals:
        before = held
        if admit(held, order, digest) is Admission.NEWER:
            held = Held(order=order, payload_digest=digest)

        assert before is None or (held is not None and held.order >= before.order)


# Two deployments on one device change independently


def test_a_newer_generation_leaves_a_deployment_it_does_not_name_as_it_was() -> None:
    """Changing one deployment changes nothing about the other: not its revision, not a byte."""
    reader = v1.Deployment(name="reader", bundle=OLDER, revision=7)
    wake = v1.Deployment(name="wake", bundle=OLDER, revision=1)
    first = v1.Desired(
        fleet="north",
        target="d-7f3a",
        order=v1.Order(epoch=0, generation=41),
        issued_at=AT,
        deployments=(reader, wake),
    )
    second = replace(
        first,
        order=v1.Order(epoch=0, generation=42),
        deployments=(replace(reader, bundle=BUNDLE, revision=8), wake),
    )
    back = replace(
        second,
        order=v1.Order(epoch=0, generation=43),
        deployments=(replace(reader, revision=9), wake),
    )
    documents = [decode(encode(each), v1.Desired) for each in (first, second, back)]
    parts = [json.loads(encode(each))["deployments"] for each in (first, second, back)]

    assert [wake] * 3 == [each.deployments[1] for each in documents]
    assert parts[0][1] == parts[1][1] == parts[2][1]
    assert [7, 8, 9] == [each.deployments[0].revision for each in documents]
    assert documents[0].deployments[0].bundle == documents[2].deployments[0].bundle
    assert documents[0].order < documents[1].order < documents[2].order


def test_a_report_speaks_of_each_deployment_by_its_own_revision_and_digest() -> None:
    """One deployment may be refused while the other serves, in one report."""
    report = v1.Reported(
        fleet="north",
        device="d-7f3a",
        session=1,
        observed=v1.Order(epoch=0, generation=42),
        deployments=(
            v1.ReportedDeployment(
                name="reader", revision=8, digest=BUNDLE.digest, phase=Phase.REFUSED
            ),
            v1.ReportedDeployment(
                name="wake", revision=1, digest=OLDER.digest, phase=Phase.COMMITTED
            ),
        ),
    )
    read = decode(encode(report), v1.Reported)

    assert {"reader": (8, BUNDLE.digest, "refused"), "wake": (1, OLDER.digest, "committed")} == {
        each.name: (each.revision, each.digest, each.phase) for each in read.deployments
    }


def test_one_name_stands_for_one_deployment() -> None:
    """The same name twice is refused, in desired and in reported."""
    twice = (v1.Deployment(name="reader", bundle=BUNDLE, revision=1),) * 2
    with pytest.raises(ValueError, match="the same deployment twice"):
        v1.Desired(
            fleet="north",
            target="d-7f3a",
            order=v1.Order(epoch=0, generation=1),
            issued_at=AT,
            deployments=twice,
        )


# Phases


def test_every_phase_has_its_row() -> None:
    """The table is complete: terminal rows are written out."""
    assert list(Phase) == list(PHASES)


def test_every_phase_can_be_reached_from_the_first() -> None:
    """No row is dead."""
    reached = {Phase.ACCEPTED}
    while found := {to for phase in reached for to in PHASES[phase].values()} - reached:
        reached |= found

    assert set(Phase) == reached


def test_every_happening_is_in_the_table() -> None:
    """No word is dead."""
    assert set(Happening) == {happening for row in PHASES.values() for happening in row}


@phases
def test_only_retired_is_the_end(phase: Phase) -> None:
    """From every other phase, a newer desired document retires the revision at once."""
    assert (phase is Phase.RETIRED) == (not PHASES[phase])
    if phase is not Phase.RETIRED:
        assert Phase.RETIRED is after(phase, Happening.SUPERSEDED)


@phases
def test_a_settled_revision_moves_only_when_something_newer_is_wanted(phase: Phase) -> None:
    """Settled means: nothing but `superseded` may happen, or a committed one fails after all."""
    may_fail = {Happening.FAILED} if phase is Phase.COMMITTED else set()
    waits = set(PHASES[phase]) <= {Happening.SUPERSEDED, *may_fail}

    assert waits == (phase in SETTLED)


@phases
def test_a_revision_that_has_served_is_rolled_back_and_never_just_refused(phase: Phase) -> None:
    """`refused` says that it never served: no way leads there from a phase that serves."""
    reached = set(PHASES[phase].values())
    if phase in SERVING | {Phase.ROLLING_BACK}:
        assert not reached & {Phase.REFUSED, Phase.ACCEPTED}
    if Phase.ROLLED_BACK in reached:
        assert Phase.ROLLING_BACK is phase


@phases
def test_a_revision_serves_only_after_all_steps_before(phase: Phase) -> None:
    """The one way into serving is by `activated`; the one way to `committed` by probation.

    But for a revision that is, but for its number, what was committed before and serves.
    """
    for happening, to in PHASES[phase].items():
        if happening is Happening.ADOPTED:
            assert (Phase.ACCEPTED, Phase.COMMITTED) == (phase, to)
            continue
        if to in SERVING and phase not in SERVING:
            assert (Phase.ACTIVATING, Happening.ACTIVATED) == (phase, happening)
        if to is Phase.COMMITTED:
            assert Phase.PROBATION is phase


@given(st.lists(st.sampled_from(Happening), max_size=30))
def test_a_revision_is_where_the_table_says_or_the_error_names_both_words(
    happenings: list[Happening],
) -> None:
    """An illegal happening is an error that names phase and happening, and moves nothing."""
    phase = Phase.ACCEPTED
    for happening in happenings:
        if happening in PHASES[phase]:
            phase = after(phase, happening)
            continue
        with pytest.raises(IllegalHappeningError) as caught:
            after(phase, happening)
        assert (phase, happening) == (caught.value.phase, caught.value.happening)
        assert phase in str(caught.value)
        assert happening in str(caught.value)


# Topics


@pytest.mark.parametrize("kind", Kind)
def test_a_topic_comes_back_as_it_was(kind: Kind) -> None:
    """Parsing undoes writing."""
    topic = Topic("north", "d-7f3a", kind)

    assert f"skerry/v1/north/d-7f3a/{kind}" == str(topic)
    assert topic == Topic.parse(str(topic))


def test_a_device_reads_or_writes_each_kind_and_never_both() -> None:
    """The broker's rules need no exception."""
    assert sorted(Kind) == sorted([*DEVICE_READS, *DEVICE_WRITES])
    assert set(DEVICE_READS) >= SIGNED
    assert {Kind.HEALTH, Kind.EVENT, Kind.COMMAND, Kind.RESULT} == set(Kind) - RETAINED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "skerry/v1/north/d-7f3a",
        "skerry/v1/north/d-7f3a/desired/",
        "skerry/v2/north/d-7f3a/desired",
        "skerry/v1/+/d-7f3a/desired",
        "skerry/v1/north/+/desired",
        "skerry/v1/north/#",
        "skerry/v1/north/x-7f3a/desired",
        "skerry/v1/north/d-7F3A/desired",
        "skerry/v1/north/d-7f3a/Desired",
        "skerry/v1/north/d-7f3a/desired\n",
        "$SYS/broker/uptime",
    ],
)
def test_what_is_no_topic_of_ours_is_refused(text: str) -> None:
    """Wildcards, other cases, other roots and line ends are no topics."""
    with pytest.raises(ValueError, match="not a"):
        Topic.parse(text)


def test_only_the_centre_uses_wildcards() -> None:
    """The centre's subscription has one `+`, for the device; its marker is no device's topic."""
    assert "skerry/v1/north/+/reported" == every_device("north", Kind.REPORTED)
    assert "skerry/v1/north/centre/marker" == marker("north")
    with pytest.raises(ValueError, match="not a fleet id"):
        every_device("+", Kind.REPORTED)
