"""A card is read back as it was written, and a wrong one is refused."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import card_codec
from models.card import Card, DriftReference, Metric, Quantization, Tolerance
from models.errors import RefusedError

MakeCard = Callable[..., Card]
DRIFT: dict[str, object] = {"subject": "x", "edges": [], "shares": [1.0], "samples": 50}


@pytest.fixture
def card(make_card: MakeCard, model: bytes) -> Card:
    return make_card(model)


def changed(card: Card, *path: str | int, to: object) -> bytes:
    """Return a card's bytes with one field of the document replaced."""
    document = json.loads(card_codec.render(card))
    inner = document["skerry"]
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return json.dumps(document).encode()


def test_what_is_written_is_read(card: Card) -> None:
    """Every field, also floats that have no short decimal form."""
    full = replace(
        card,
        drift=(DriftReference(subject="x", edges=(0.1, 0.2), shares=(0.3, 0.3, 0.4), samples=50),),
        outputs=(replace(card.outputs[0], quantization=Quantization(scale=1 / 3, zero_point=0)),),
    )

    assert full == card_codec.parse(card_codec.render(full))
    assert card == card_codec.parse(card_codec.render(card))


def test_the_blob_is_a_modelpack_configuration(card: Card) -> None:
    """Other tools find name, version, licence, format and layers where the format has them."""
    document = json.loads(card_codec.render(card))

    assert ("digits", "1.0.0", ["Apache-2.0"]) == tuple(
        document["descriptor"][name] for name in ("name", "version", "licenses")
    )
    assert {"format": "tflite", "precision": "int8"} == document["config"]
    assert [card.variants[0].digest, card.golden.digest] == document["modelfs"]["diffIds"]
    assert "layers" == document["modelfs"]["type"]


def test_fields_it_does_not_know_are_let_be(card: Card) -> None:
    """A newer writer may say more."""
    document = json.loads(card_codec.render(card))
    document["new"] = document["skerry"]["new"] = document["skerry"]["golden"]["new"] = [1]

    assert card == card_codec.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("path", "to", "why"),
    [
        (("schema",), "skerry.card/v9", "skerry.card/v9"),
        (("ref", "name"), "Digits", "not a model name"),
        (("ref", "version"), "1", "not a version"),
        (("task",), None, "task"),
        (("inputs",), [], "at least one input"),
        (("variants",), [], "at least one input"),
        (("inputs", 0, "datatype"), "INT5", "datatype"),
        (("inputs", 0, "shape"), [-2], "shape"),
        (("inputs", 0, "shape"), ["1"], "shape"),
        (("inputs", 0, "quantization", "scale"), 0, "above 0"),
        (("variants", 0, "digest"), "sha256:xyz", "not a sha256 digest"),
        (("variants", 0, "size_bytes"), 0, "0 bytes"),
        (("golden", "digest"), "", "not a sha256 digest"),
        (("golden", "vectors"), 0, "no golden vectors"),
        (("golden", "decision"), 3, "output 3 of 1"),
        (("golden", "tolerances"), [], "0 tolerances for 1 outputs"),
        (("golden", "tolerances", 0, "largest"), -1, "at least 0"),
        (("golden", "tolerances", 0, "mean"), float("nan"), "at least 0"),
        (("variants", 0, "metrics", 0, "value"), float("inf"), "accuracy"),
        (("provenance", "source_digest"), "md5:1", "not a sha256 digest"),
        (("drift",), [DRIFT | {"edges": [1.0]}], "1 edges for 1 shares"),
        (("drift",), [DRIFT | {"edges": [2.0, 2.0], "shares": [0.5, 0.5, 0.0]}], "don't rise"),
        (("drift",), [DRIFT | {"samples": 0}], "spread over 0 rows"),
    ],
)
def test_a_wrong_card_is_refused(
    card: Card, path: tuple[str | int, ...], to: object, why: str
) -> None:
    """The message names the field."""
    with pytest.raises(RefusedError, match=why) as caught:
        card_codec.parse(changed(card, *path, to=to))

    assert "CARD_MALFORMED" == caught.value.reason


@given(st.data())
def test_a_damaged_card_is_refused_or_whole(
    make_card: MakeCard, model: bytes, data: st.DataObject
) -> None:
    """Cut off it is always refused; with bytes changed nothing but a refusal may come."""
    raw = card_codec.render(make_card(model))
    with pytest.raises(RefusedError):
        card_codec.parse(raw[: data.draw(st.integers(0, len(raw) - 1))])
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RefusedError):
        assert isinstance(card_codec.parse(bytes(damaged)), Card)


def test_a_card_that_is_too_large_is_neither_written_nor_read(card: Card) -> None:
    """Writer and reader hold to one figure."""
    large = replace(card, labels=tuple(f"label {number}" for number in range(200_000)))

    for attempt in (lambda: card_codec.render(large), lambda: card_codec.parse(b" " * (1 << 21))):
        with pytest.raises(RefusedError) as caught:
            attempt()
        assert "TOO_LARGE" == caught.value.reason


def test_values_that_make_no_sense_cannot_be_built(card: Card) -> None:
    """Not only by the codec: a card in memory is right too."""
    for wrong in (
        lambda: replace(card, inputs=card.inputs * 2),
        lambda: replace(card, variants=card.variants * 2),
        lambda: replace(card.golden, size_bytes=0),
        lambda: Tolerance(largest=float("nan"), mean=0),
        lambda: replace(card.variants[0].metrics[0], samples=-1),
        lambda: Quantization(scale=-1, zero_point=0),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            wrong()
    assert isinstance(card.variants[0].metrics[0], Metric)
