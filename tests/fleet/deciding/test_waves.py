"""Targets are put into waves by the sizes of a policy, and what will stop them is foretold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import facts
from fleet.inventory import Inventory
from fleet.rollouts.check import check
from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.plan import Plan, plan
from fleet.rollouts.policy import (
    ALL_AT_ONCE,
    CAREFUL,
    Count,
    EachClass,
    Gate,
    Matching,
    Percent,
    Policy,
    Size,
    WaveRule,
)
from fleet.rollouts.waves import Member, compose
from fleet.selector import parse
from tests.fleet.deciding.paper import Paper
from tests.fleet.deciding.world import with_gates

GATE = Gate(success_percent=100, error_percent=0)
SIZES = st.one_of(
    st.integers(1, 5).map(lambda count: Count(targets=count)),
    st.integers(1, 100).map(lambda share: Percent(percent=share)),
    st.integers(1, 3).map(lambda count: EachClass(per_class=count)),
    st.sampled_from(["", "shop=oslo"]).map(lambda text: Matching(selector=parse(text))),
)
MEMBERS = st.lists(
    st.tuples(st.sampled_from("ab"), st.booleans(), st.sampled_from([{}, {"shop": "oslo"}])),
    max_size=12,
).map(
    lambda drawn: [
        Member(target=f"d-{number}", class_name=name, reachable=online, attributes=attributes)
        for number, (name, online, attributes) in enumerate(drawn, 1)
    ]
)


def policy(*sizes: Size) -> Policy:
    return Policy(name="mine", waves=tuple(WaveRule(size=size, gate=GATE) for size in sizes))


def members(*classes: str, away: str = "") -> list[Member]:
    return [
        Member(target=f"d-{number}", class_name=name, reachable=str(number) not in away)
        for number, name in enumerate(classes, 1)
    ]


def targets(planned: Plan) -> list[tuple[str, ...]]:
    return [wave.targets for wave in planned.waves]


@given(everybody=MEMBERS, sizes=st.lists(SIZES, min_size=1, max_size=4))
def test_everybody_is_in_exactly_one_wave(everybody: list[Member], sizes: list[Size]) -> None:
    """Whatever the sizes; none is empty, they are numbered, and who can be reached comes first."""
    waves = compose(everybody, policy(*sizes))
    online = {member.target: member.reachable for member in everybody}
    waved = [target for wave in waves for target in wave.targets]

    assert sorted(waved) == sorted(online)
    assert [wave.number for wave in waves] == list(range(1, len(waves) + 1))
    for wave in waves:
        here = [online[target] for target in wave.targets]
        assert here
        assert here == sorted(here, reverse=True)
        assert wave.gate is not None


@given(everybody=MEMBERS, count=st.integers(1, 3))
def test_canaries_are_reachable_ones_of_each_class(everybody: list[Member], count: int) -> None:
    """As many as asked for, or as there are; a class that is all away has none."""
    waves = compose(everybody, policy(EachClass(per_class=count)))
    by_target = {member.target: member for member in everybody}
    here = [member.class_name for member in everybody if member.reachable]
    first = [by_target[target] for target in waves[0].targets] if here else []

    assert all(member.reachable for member in first)
    for name in "ab":
        chosen = sum(member.class_name == name for member in first)
        assert min(count, here.count(name)) == chosen


def test_shares_add_up_and_are_rounded_up() -> None:
    """Ten percent then half of five are one and then three; the rest is a wave of its own."""
    waves = compose(members(*"aaaaa"), policy(Percent(percent=10), Percent(percent=50)))

    assert [1, 2, 2] == [len(wave.targets) for wave in waves]
    assert ["to 10 %", "to 50 %", "the rest"] == [wave.title for wave in waves]


def test_a_wave_that_nobody_is_left_for_is_dropped() -> None:
    """One device has one wave, two have two, under the default policy."""
    assert [("d-1",)] == [wave.targets for wave in compose(members("a"), CAREFUL)]
    two = compose(members("a", "a"), CAREFUL)
    assert [(1, ("d-1",)), (2, ("d-2",))] == [(wave.number, wave.targets) for wave in two]


def test_careful_goes_from_a_canary_of_each_class_over_half_to_all() -> None:
    """A class that is all away is in no canary wave, and is not skipped."""
    waves = compose(members(*"aaaabbcc", away="78"), CAREFUL)

    assert [("d-1", "d-5"), ("d-2", "d-3"), ("d-4", "d-6", "d-7", "d-8")] == [
        wave.targets for wave in waves
    ]
    assert ["one of each class", "to 50 %", "the rest"] == [wave.title for wave in waves]


def careful(paper: Paper, inventory: Inventory, policy: Policy = CAREFUL) -> Plan:
    request = paper.request(policy=policy.name)
    planned = plan(request, policy, inventory, paper.cards(request.bundle), paper.now)
    assert check(planned, inventory) == ()
    return planned


def test_the_blast_radius_ends_at_the_first_gate(paper: Paper) -> None:
    """Who serves it before anything decides: the canaries; without a gate, everybody."""
    inventory = paper.inventory(*paper.targets(5))

    assert 1 == careful(paper, inventory).blast_radius
    assert 5 == careful(paper, inventory, ALL_AT_ONCE).blast_radius


def test_what_will_stop_a_rollout_is_said_beforehand(paper: Paper) -> None:
    """A wave that is all away, a class that is, a gate that can't have its sample."""
    tflite = {**paper.facts, facts.RUNTIME: "tflite"}
    inventory = paper.inventory(
        paper.target(1),
        paper.target(2, online=False),
        paper.target(3, facts=tflite, online=False),
    )
    planned = careful(paper, inventory)
    assert [("d-1",), ("d-2",), ("d-3",)] == targets(planned)
    assert [
        (ObstacleReason.WAVE_AWAY, 2, {"targets": "1", "sample": "1", "then": "pause"}),
        (ObstacleReason.WAVE_AWAY, 3, {"targets": "1", "sample": "1", "then": "pause"}),
        (
            ObstacleReason.CLASS_AWAY,
            None,
            {"class_name": "tflite 2.3.0, x86_64, cpu, int8", "targets": "1"},
        ),
    ] == [(each.reason, each.wave, each.parameters) for each in planned.obstacles]

    demanding = careful(paper, inventory, with_gates(CAREFUL, minimum_sample=2))
    assert [(1, {"targets": "1", "sample": "2", "then": "pause"})] == [
        (each.wave, each.parameters) for each in demanding.obstacles if each.wave == 1
    ]


def test_nothing_is_foretold_where_nothing_is_in_the_way(paper: Paper) -> None:
    """Some away beside others that are here stop nobody; without a gate nothing stops."""
    two_away = [paper.target(number, online=number not in (3, 6)) for number in range(1, 7)]

    assert () == careful(paper, paper.inventory(*two_away)).obstacles
    gone = paper.inventory(*paper.targets(3, online=False))
    assert () == careful(paper, gone, ALL_AT_ONCE).obstacles


@pytest.mark.parametrize("soak_s", [0.0, 300.0])
def test_a_request_may_bring_its_own_soak(paper: Paper, soak_s: float) -> None:
    """It is in every gate of the plan, and in its digest."""
    inventory = paper.inventory(*paper.targets(3))
    cards = paper.cards(paper.bundle())
    usual, own = (
        plan(
            paper.request(policy="careful", soak_s=each),
            CAREFUL,
            inventory,
            cards,
            paper.now,
        )
        for each in (None, soak_s)
    )

    assert {60.0} == {wave.gate.soak_s for wave in usual.waves if wave.gate}
    assert {soak_s} == {wave.gate.soak_s for wave in own.waves if wave.gate}
    assert usual.digest != own.digest
