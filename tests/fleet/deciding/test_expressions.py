"""Checks are read as they are written, or refused with the column; no data decides nothing."""

import math
from operator import add, mul, sub

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollouts.expression import ExpressionError, Name, parse, value
from fleet.rollouts.findings import Against, Evidence, Outcome, found
from fleet.rollouts.measures import MEASURES, NOTHING, Told, together
from fleet.rollouts.policy import Check, Gate
from tests.fleet.deciding.traffic import sketch

READ = {"latency_p50": 2.0, "latency_p95": 8.0, "memory": 0.5}
CONTROL = {"latency_p50": 1.0, "latency_p95": 4.0, "memory": 0.25}


def left(text: str) -> float | None:
    """Return the value of a sum, by the numbers above."""

    def read(name: Name) -> float | None:
        return (CONTROL if name.control else READ).get(name.measure)

    return value(parse(f"{text} < 0 * memory").left, read)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency_p95 / control.latency_p95", 2.0),
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("8 - 4 - 2", 2.0),
        ("8 / 4 / 2", 1.0),
        ("2 * latency_p50 - memory/control.memory", 2.0),
        ("1.5e1", 15.0),
        ("1 / (memory - 0.5)", None),  # by zero
        ("1e308 * 10", None),  # infinity
        ("1e308 * 10 - 1e308 * 10", None),
        ("crashes + 1", None),  # no data
    ],
)
def test_sums_are_what_they_are_at_school(text: str, expected: float | None) -> None:
    """Products before sums, from left to right; what is no number has no value."""
    assert expected == left(text)


@pytest.mark.parametrize(
    ("text", "column", "why"),
    [
        ("", 1, "number, a measure"),
        ("latency_p95", 12, "one of <"),
        ("latency <= 1", 1, "no measure latency; there are error_rate"),
        ("latency_p95 <= control.speed", 16, "no measure control.speed"),
        ("latency_p95 <= (1", 18, "not closed"),
        ("latency_p95 <= 1)", 17, "should end"),
        ("latency_p95 <= 1 <= 2", 17, "should end"),
        ("latency_p95 == 1", 13, "one of <"),
        ("latency_p95 <= -1", 16, "number, a measure"),
        ("latency_p95 <= 1e999", 16, "too large"),
        ("__import__('os') < 1", 1, "number, a measure"),
        ("1 < 2", 1, "no measure of what is rolled out"),
        ("control.memory < 2", 1, "no measure of what is rolled out"),
        ("drift < control.drift", 9, "no control"),
        ("(" * 17 + "memory" + ")" * 17 + " < 1", 18, "brackets"),
    ],
)
def test_what_is_no_check_is_refused_where_it_goes_wrong(text: str, column: int, why: str) -> None:
    """With the column, and what is wanted there."""
    with pytest.raises(ExpressionError, match=rf"column {column}: .*{why}") as error:
        parse(text)
    assert isinstance(error.value, ValueError)


def test_a_check_is_bounded() -> None:
    """However long it is, no more than a little of it is told again."""
    with pytest.raises(ExpressionError, match="200 characters") as error:
        parse("memory < 1" + " " * 10_000)
    assert len(str(error.value)) < 200
    with pytest.raises(ValueError, match="at most 16 checks"):
        Gate(
            success_percent=100,
            error_percent=0,
            checks=tuple(Check(check=f"memory < {number}") for number in range(17)),
        )
    with pytest.raises(ValueError, match="minimum_sample"):
        Check(check="memory < 1", minimum_sample=0)


@given(st.text(max_size=60) | st.text(alphabet="latency_p95control.<>=+-*/() 0123e", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else comes of it."""
    try:
        assert parse(text).names()
    except ExpressionError as error:
        told = str(error)
    else:
        told = "column"
    assert "column" in told


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), max_size=8))
def test_sums_agree_with_arithmetic(parts: list[tuple[str, int]]) -> None:
    """Any sum of whole numbers is what it is, with products first."""
    text = "1" + "".join(f" {sign} {number}" for sign, number in parts)
    terms: list[tuple[str, int]] = [("+", 1)]
    for sign, number in parts:
        if sign == "*":
            before, product = terms.pop()
            terms.append((before, mul(product, number)))
        else:
            terms.append((sign, number))
    expected = 0
    for sign, number in terms:
        expected = (add if sign == "+" else sub)(expected, number)

    assert expected == left(text)


told = st.builds(
    lambda requests, share, seconds, restarts, memory: Told(
        documents=1,
        period_s=60.0,
        requests=requests,
        errors=int(requests * share),
        restarts=restarts,
        latency=sketch(seconds, requests - int(requests * share)),
        memory=memory,
    ),
    st.integers(0, 5000),
    st.floats(0, 1),
    st.floats(0.0001, 10),
    st.integers(0, 5),
    st.none() | st.floats(0, 1),
)
names = st.sampled_from(sorted(MEASURES))


@given(st.lists(told, min_size=1, max_size=6), st.randoms())
def test_what_is_added_up_in_any_order_is_the_same(parts: list[Told], random: object) -> None:
    """Devices tell when they tell."""
    other = list(parts)
    random.shuffle(other)  # type: ignore[attr-defined]
    whole, half = together(parts), len(parts) // 2

    assert whole == together(other)
    assert whole == together([together(parts[:half]), together(parts[half:])])


@given(names, told, told, st.integers(1, 3000))
def test_a_check_holds_or_fails_only_with_enough_of_all_it_names(
    name: str, serving: Told, control: Told, least: int
) -> None:
    """Below its sample, on either side, it is inconclusive: never a pass, never a failure."""
    text = f"{name} <= 1" if MEASURES[name].alone else f"{name} - control.{name} <= 0.1"
    check = Check(check=text, minimum_sample=least)
    evidence = Evidence(until="", serving={"a": serving}, control={"a": control})
    (said,) = found((check,), evidence, {"a"})

    sides = [serving] if MEASURES[name].alone else [serving, control]
    enough = all(MEASURES[name].sample(each) >= least for each in sides)
    known = all(MEASURES[name].read(each) is not None for each in sides)
    assert (said.outcome is not Outcome.UNKNOWN) is (enough and known)
    assert said.observed is None or math.isfinite(said.observed)


def test_a_class_nobody_heard_of_leaves_it_open() -> None:
    """All classes must be heard of; one that fails fails it, whatever the others say."""
    check = Check(check="error_rate <= 0.1")
    good, bad = Told(requests=1000), Told(requests=1000, errors=500)

    def said(classes: set[str], **serving: Told) -> tuple[Outcome, str]:
        (one,) = found((check,), Evidence(until="", serving=serving), classes)
        return one.outcome, one.class_name

    assert (Outcome.HOLDS, "a") == said({"a"}, a=good)
    assert (Outcome.UNKNOWN, "b") == said({"a", "b"}, a=good)
    assert (Outcome.FAILS, "b") == said({"a", "c"}, a=good, b=bad)
    assert (Outcome.HOLDS, "a") == said({"a"}, a=good, b=NOTHING)  # nobody of it has committed
    assert (Outcome.UNKNOWN, "") == said(set())


def test_the_control_is_the_first_that_told_enough() -> None:
    """Who was not asked yet, else what was told before; and the finding says which."""
    check = Check(check="error_rate - control.error_rate <= 0", minimum_sample=100)
    serving, few = {"a": Told(requests=500)}, {"a": Told(requests=99)}
    many = {"a": Told(requests=100)}

    def against(**known: dict[str, Told]) -> tuple[Outcome, Against]:
        (one,) = found((check,), Evidence(until="", serving=serving, **known), {"a"})
        return one.outcome, one.against

    assert (Outcome.HOLDS, Against.CONTROL) == against(control=many, before=many)
    assert (Outcome.HOLDS, Against.BEFORE) == against(control=few, before=many)
    assert (Outcome.UNKNOWN, Against.CONTROL) == against(control=few, before=few)
    assert (Outcome.UNKNOWN, Against.CONTROL) == against(control={"b": Told(requests=100)})
