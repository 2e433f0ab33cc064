"""Whether a bundle fits a machine, and by which variant. Pure.

A machine that fits none is told every reason. Where several variants fit, an
accelerator's own goes first, then what measured fastest on this runtime and
architecture, then the order in the card, which is its packer's preference. Which of
them a device runs is decided there, by measurement.
"""

import math
import re
from dataclasses import dataclass

from models.card import Card, Variant
from models.values import DISTRIBUTIONS

_CONSTRAINT = re.compile(r"([a-z0-9-]+)(<=|<|==)([0-9.]+)\Z")
LATENCY_METRIC = "latency_p50_ms"
"""The metric, in a variant, by which two that fit are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a machine has.

    `runtime` is `litert` or `tflite`; `memory_bytes` is what a worker may take.
    """

    architecture: str
    memory_bytes: int
    runtime: str
    runtime_version: str
    accelerators: tuple[str, ...] = ()


Reasons = tuple[tuple[str, str], ...]
"""Reason codes, each with its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """The variants that can run, the likeliest first; `passed_over` says why the others can't."""

    variants: tuple[Variant, ...]
    passed_over: Reasons = ()

    @property
    def variant(self) -> Variant:
        """The likeliest."""
        return self.variants[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfits:
    """No variant runs here; at least one reason each."""

    reasons: Reasons

    @property
    def reason(self) -> str:
        """The code of it all: memory may be free again, the rest stays as it is."""
        only_memory = {code for code, _ in self.reasons} == {"OUT_OF_MEMORY"}
        return "OUT_OF_MEMORY" if only_memory else "NO_VARIANT_FITS"

    @property
    def why(self) -> str:
        """All reasons in words."""
        return "; ".join(text for _, text in self.reasons)


def fit(card: Card, hardware: Hardware) -> Fits | Misfits:
    """Return the variants of a bundle that this machine can run, or why it can run none."""
    fitting = []
    reasons: Reasons = ()
    for position, variant in enumerate(card.variants):
        against = _against(variant, hardware)
        reasons += against
        if not against:
            fitting.append((_preference(variant, hardware), position, variant))
    if not fitting:
        return Misfits(reasons=reasons)
    fitting.sort(key=lambda each: each[:2])
    return Fits(variants=tuple(variant for *_, variant in fitting), passed_over=reasons)


def _against(variant: Variant, hardware: Hardware) -> Reasons:
    needs, version = variant.requirements, hardware.runtime_version
    library = DISTRIBUTIONS.get(hardware.runtime, hardware.runtime)
    what = f"the {variant.format} variant"
    reasons = []
    if needs.memory_bytes > hardware.memory_bytes:
        text = (
            f"{what} wants {needs.memory_bytes} bytes of memory; {hardware.memory_bytes} are left"
        )
        reasons.append(("OUT_OF_MEMORY", text))
    if needs.accelerator != "cpu" and needs.accelerator not in hardware.accelerators:
        text = f"{what} is built for {needs.accelerator!r}, which is not here"
        reasons.append(("ACCELERATOR_MISSING", text))
    reasons += [
        ("MODEL_UNSUPPORTED", f"{what} answers wrongly on {constraint}, and this is {version}")
        for constraint in needs.avoid_runtimes
        if _matches(constraint, library, version)
    ]
    return tuple(reasons)


def _preference(variant: Variant, hardware: Hardware) -> tuple[bool, float]:
    library = DISTRIBUTIONS.get(hardware.runtime, hardware.runtime)
    measured = [
        metric.value
        for metric in variant.metrics
        if metric.name == LATENCY_METRIC
        and metric.architecture == hardware.architecture
        and metric.runtime.partition(" ")[0] == library
    ]
    return variant.requirements.accelerator == "cpu", min(measured, default=math.inf)


def runtime_named(constraint: str) -> str:
    """Return the distribution that a constraint like `tflite-runtime<=2.14.0` is on."""
    found = _CONSTRAINT.match(constraint)
    return found.group(1) if found else constraint


def _matches(constraint: str, library: str, version: str) -> bool:
    """Say whether a runtime is one to avoid. A constraint on it that can't be read counts."""
    found = _CONSTRAINT.match(constraint)
    if not found:
        return constraint.startswith(library)
    name, relation, than = found.groups()
    if name != library:
        return False
    ours, theirs = _numbers(version), _numbers(than)
    return (
        ours == theirs
        if relation == "=="
        else ours < theirs or (relation == "<=" and ours == theirs)
    )


def _numbers(version: str) -> tuple[int, ...]:
    found = [int(part) for part in re.findall(r"\d{1,9}", version)[:4]]
    return tuple(found + [0] * (4 - len(found)))
