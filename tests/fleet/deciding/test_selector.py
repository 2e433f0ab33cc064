"""Selectors read like Kubernetes' own, say where they are wrong, and survive being written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.selector import (
    TEXT_LIMIT,
    Operator,
    Requirement,
    Selector,
    SelectorError,
    parse,
)

KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True),
    st.sampled_from(["skerry/runtime", "example.org/Tier", "in", "notin", "exists"]),
)
FILLED = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
LISTS = st.lists(FILLED, min_size=1, max_size=4).map(lambda values: tuple(sorted(set(values))))
REQUIREMENTS = st.one_of(
    st.builds(Requirement, key=KEYS, operator=st.sampled_from([Operator.EXISTS, Operator.ABSENT])),
    st.builds(
        Requirement,
        key=KEYS,
        operator=st.sampled_from([Operator.EQUALS, Operator.DIFFERS]),
        values=st.one_of(FILLED, st.just("")).map(lambda value: (value,)),
    ),
    st.builds(
        Requirement,
        key=KEYS,
        operator=st.sampled_from([Operator.IN, Operator.NOT_IN]),
        values=LISTS,
    ),
)
SELECTORS = st.lists(REQUIREMENTS, max_size=5).map(
    lambda requirements: Selector(requirements=tuple(requirements))
)
ATTRIBUTES = st.dictionaries(KEYS, st.one_of(FILLED, st.just("")), max_size=5)


@given(SELECTORS)
def test_what_is_written_reads_back_as_the_same_selector(selector: Selector) -> None:
    """Writing a selector and parsing it again changes nothing."""
    assert selector == parse(str(selector))


@given(SELECTORS, ATTRIBUTES)
def test_a_selector_holds_when_each_requirement_does(
    selector: Selector, attributes: dict[str, str]
) -> None:
    """Requirements are joined by and; each operator has its opposite."""
    opposite = {
        Operator.EQUALS: Operator.DIFFERS,
        Operator.DIFFERS: Operator.EQUALS,
        Operator.IN: Operator.NOT_IN,
        Operator.NOT_IN: Operator.IN,
        Operator.EXISTS: Operator.ABSENT,
        Operator.ABSENT: Operator.EXISTS,
    }
    holds = []
    for each in selector.requirements:
        other = Requirement(key=each.key, operator=opposite[each.operator], values=each.values)
        assert each.matches(attributes) is not other.matches(attributes)
        holds.append(each.matches(attributes))

    assert all(holds) is selector.matches(attributes)


@given(st.text(max_size=60))
def test_any_text_is_a_selector_or_a_located_error(text: str) -> None:
    """Whatever is typed, the answer is a selector or an error inside the text."""
    try:
        selector = parse(text)
    except SelectorError as error:
        position = error.position
    else:
        position = 0
        assert selector == parse(str(selector))

    assert 0 <= position <= len(text)


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("  ", {"a": "b"}, True),
        ("shop=oslo", {"shop": "oslo"}, True),
        ("shop == oslo", {"shop": "bergen"}, False),
        ("shop!=oslo", {"shop": "bergen"}, True),
        ("shop!=oslo", {}, True),
        ("model in (a, b)", {"model": "b"}, True),
        ("model in(a,b)", {"model": "c"}, False),
        ("model in (a)", {}, False),
        ("zone notin (x)", {"zone": "x"}, False),
        ("zone notin (x)", {}, True),
        ("camera", {"camera": ""}, True),
        ("camera", {}, False),
        ("!spare", {}, True),
        ("! spare", {"spare": "yes"}, False),
        ("empty=", {"empty": ""}, True),
        ("skerry/runtime=litert,shop", {"skerry/runtime": "litert", "shop": "x"}, True),
        ("in in (in)", {"in": "in"}, True),
        ("notin notin (notin)", {"notin": "notin"}, False),
        ("inn", {"inn": "1"}, True),
    ],
)
def test_it_reads_as_in_kubernetes(text: str, labels: dict[str, str], expected: bool) -> None:  # noqa: FBT001  # a table
    """The meanings of Kubernetes, absent keys included."""
    assert expected is parse(text).matches(labels)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("=oslo", 0, "expected a label's name, not ''"),
        ("shop=oslo,", 10, "a requirement must follow ','"),
        ("shop=oslo bergen", 10, "expected ',' or the end"),
        ("shop=-oslo", 5, "expected a label's value, not '-oslo'"),
        ("-shop=oslo", 0, "expected a label's name, not '-shop'"),
        ("shop in oslo", 8, "expected '('"),
        ("shop in (oslo", 13, "expected ',' or ')'"),
        ("shop in ()", 9, "expected a value"),
        ("shop in (a,)", 11, "expected a value"),
        ("shop in", 7, "expected '('"),
        ("!", 1, "expected a label's name, not ''"),
        ("shop in (a b)", 11, "expected ',' or ')'"),
        (
            "a" * (TEXT_LIMIT + 1),
            TEXT_LIMIT,
            "longer than 2048 characters; name the targets instead",
        ),
    ],
)
def test_an_error_says_where(text: str, position: int, problem: str) -> None:
    """A person is told the place, and what belongs there."""
    with pytest.raises(SelectorError) as raised:
        parse(text)

    assert (position, problem) == (raised.value.position, raised.value.problem)
    assert f"character {position + 1}" in str(raised.value)


@pytest.mark.parametrize(
    ("key", "operator", "values"),
    [
        ("-a", Operator.EXISTS, ()),
        ("a", Operator.EXISTS, ("b",)),
        ("a", Operator.ABSENT, ("b",)),
        ("a", Operator.EQUALS, ()),
        ("a", Operator.EQUALS, ("b", "c")),
        ("a", Operator.IN, ()),
        ("a", Operator.IN, ("",)),
        ("a", Operator.IN, ("c", "b")),
        ("a", Operator.IN, ("b", "b")),
        ("a", Operator.EQUALS, ("b,c",)),
    ],
)
def test_an_invalid_requirement_cant_be_built(
    key: str, operator: Operator, values: tuple[str, ...]
) -> None:
    """No value exists that could not be written and read again."""
    with pytest.raises(ValueError, match=r"label|sorted|take"):
        Requirement(key=key, operator=operator, values=values)
