"""Whether a bundle fits a machine, and why not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from models.card import Card, Metric, Variant
from models.fit import LATENCY_METRIC, Fits, Hardware, Misfits, fit
from models.values import digest_of

PI = Hardware(
    architecture="aarch64", memory_bytes=1 << 20, runtime="litert", runtime_version="2.3.0"
)
OLD = replace(PI, runtime="tflite", runtime_version="2.14.0")


@pytest.fixture
def card(make_card: Callable[..., Card], model: bytes) -> Card:
    return make_card(model)


def with_variants(card: Card, *variants: Variant) -> Card:
    numbered = tuple(
        replace(variant, digest=digest_of(bytes([number])))
        for number, variant in enumerate(variants)
    )
    return replace(card, variants=numbered)


def needing(card: Card, **needs: object) -> Variant:
    variant = card.variants[0]
    return replace(variant, requirements=replace(variant.requirements, **needs))  # type: ignore[arg-type]  # by name


def measured(variant: Variant, value: float, **where: str) -> Variant:
    said = {"runtime": "ai-edge-litert 2.3.0", "architecture": "aarch64"} | where
    metric = Metric(name=LATENCY_METRIC, value=value, dataset="rows", samples=100, **said)
    return replace(variant, metrics=(*variant.metrics, metric))


def test_the_only_variant_fits(card: Card) -> None:
    """Nothing to pass over."""
    assert Fits(variants=(card.variants[0],)) == fit(card, PI)


def test_too_little_memory_is_said_in_bytes(card: Card) -> None:
    """With what it wants and what there is."""
    found = fit(with_variants(card, needing(card, memory_bytes=1 << 30)), PI)

    assert isinstance(found, Misfits)
    assert [
        ("OUT_OF_MEMORY", "the int8 variant wants 1073741824 bytes of memory; 1048576 are left")
    ] == list(found.reasons)


@pytest.mark.parametrize(
    ("constraint", "runtime", "version", "fits"),
    [
        ("tflite-runtime<=2.14.0", "tflite", "2.14.0", False),
        ("tflite-runtime<=2.14.0", "tflite", "2.13", False),
        ("tflite-runtime<=2.14.0", "tflite", "2.14.1", True),
        ("tflite-runtime<=2.14.0", "litert", "2.3.0", True),
        ("tflite-runtime<2.14", "tflite", "2.14.0", True),
        ("ai-edge-litert==2.3.0", "litert", "2.3.0", False),
        ("ai-edge-litert==2.3.0", "litert", "2.10.0", True),
        ("ai-edge-litert<2.10", "litert", "2.9.0rc1", False),
        ("ai-edge-litert~whatever", "litert", "2.3.0", False),
        ("something-else", "litert", "2.3.0", True),
    ],
)
def test_a_runtime_that_answers_wrongly_is_avoided(
    card: Card, constraint: str, runtime: str, version: str, *, fits: bool
) -> None:
    """By number, not by text; what can't be read counts against it."""
    variant = needing(card, avoid_runtimes=(constraint,))
    found = fit(with_variants(card, variant), replace(PI, runtime=runtime, runtime_version=version))

    assert fits == isinstance(found, Fits)
    if isinstance(found, Misfits):
        assert ["MODEL_UNSUPPORTED"] == [code for code, _ in found.reasons]
        assert constraint in found.reasons[0][1]


def test_an_accelerator_s_variant_goes_first_where_it_is(card: Card) -> None:
    """And where it isn't, the reason is kept beside the choice."""
    both = with_variants(card, card.variants[0], needing(card, accelerator="edgetpu"))
    with_it = fit(both, replace(PI, accelerators=("edgetpu",)))
    without = fit(both, PI)

    assert isinstance(with_it, Fits)
    assert (both.variants[1], both.variants[0]) == with_it.variants
    assert isinstance(without, Fits)
    assert both.variants[0] == without.variant
    assert ["ACCELERATOR_MISSING"] == [code for code, _ in without.passed_over]


def test_the_fastest_as_measured_here_goes_first(card: Card) -> None:
    """Figures from elsewhere say nothing; without any, the card's order holds."""
    plain = card.variants[0]
    elsewhere = measured(plain, 0.01, architecture="x86_64")
    cases = [
        ((measured(plain, 3.0), measured(plain, 2.0)), 1),
        ((elsewhere, measured(plain, 2.0)), 1),
        ((elsewhere, plain), 0),
        ((measured(plain, 0.01, runtime="tflite-runtime 2.14.0"), measured(plain, 2.0)), 1),
    ]
    for variants, best in cases:
        found = fit(with_variants(card, *variants), PI)
        assert isinstance(found, Fits)
        assert digest_of(bytes([best])) == found.variant.digest


def test_a_machine_that_fits_none_is_told_every_reason(card: Card) -> None:
    """One for each variant at least."""
    none = with_variants(
        card,
        needing(card, memory_bytes=1 << 30, avoid_runtimes=("tflite-runtime<=2.14.0",)),
        needing(card, accelerator="edgetpu"),
    )
    found = fit(none, OLD)

    assert isinstance(found, Misfits)
    assert ["OUT_OF_MEMORY", "MODEL_UNSUPPORTED", "ACCELERATOR_MISSING"] == [
        code for code, _ in found.reasons
    ]
