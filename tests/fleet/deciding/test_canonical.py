"""Equal values have equal bytes, whatever order they were built in."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.phases import Phase
from agent.wire.v1 import SecretRef
from fleet.canonical import canonical, digest, plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def test_names_are_sorted_as_rfc_8785_says() -> None:
    """The example of its section 3.2.3: by UTF-16 code units, not by code points."""
    named = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    expected = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]

    assert expected == list(json.loads(canonical(named)).values())


def test_texts_are_escaped_as_rfc_8785_says() -> None:
    """The string of its section 3.2.2."""
    text = '\u20ac$\u000f\nA\'B"\\\\"/'

    assert canonical(text) == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@given(PLAIN)
def test_it_is_json_and_loses_nothing(value: object) -> None:
    """Any JSON reader reads it back."""
    try:
        raw = canonical(value)
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8 form, nor a place on the wire
        return
    assert value == json.loads(raw)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_the_order_of_building_makes_no_difference(value: dict[str, int]) -> None:
    """Equal mappings have equal digests."""
    assert digest(value) == digest(dict(reversed(value.items())))


def test_values_of_ours_have_a_plain_form() -> None:
    """Dataclasses, enums, fractions, tuples; a whole number is not the fraction beside it."""

    @dataclass(frozen=True)
    class Some:
        phase: Phase
        shares: tuple[float, ...]
        secret: SecretRef

    some = Some(Phase.FETCHING, (1.0, 0.5), SecretRef(secret="camera"))  # a name

    assert plain(some) == {
        "phase": "fetching",
        "shares": [{"float": "1.0"}, {"float": "0.5"}],
        "secret": {"secret": "camera"},
    }
    assert digest(1) != digest(1.0)
    assert digest(1) != digest("1")


def test_what_has_no_form_is_refused() -> None:
    """Rather than written by its address."""
    with pytest.raises(TypeError, match="datetime can't be written down"):
        plain([datetime(2026, 1, 1, tzinfo=UTC)])
