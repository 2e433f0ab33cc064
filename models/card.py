"""The model card: what a bundle says of its model, measured and versioned.

Values only; `models.card_codec` turns them into the manifest's config blob and back. A card is
written once, by `pack`; devices and the centre only read it. The tensor
signature is the card's, not a variant's: every variant must have it, so that a
client never has to know which one answers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from models.values import Datatype, Digest, ModelRef, parse_digest

SCHEMA = "skerry.card/v1-draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """real = scale * (quantized - zero_point); TFLite 8-bit specification. Per tensor."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"the scale is {self.scale}; it must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output. -1 in `shape` is a dimension that may vary. None: not quantized."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        if any(dimension < -1 for dimension in self.shape):
            raise ValueError(f"{self.name!r} has the shape {list(self.shape)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator the file uses, by its builtin name (or custom code) and version."""

    name: str
    version: int
    count: int
    custom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a machine must have. `runtime_version` is what the file claims: shown, never trusted.

    `memory_bytes` is weights plus the largest tensors alive at once, estimated
    from the file; the worker's own measure decides on the device.
    `avoid_runtimes` names runtimes known to answer wrongly (a static check).
    """

    memory_bytes: int
    operators: tuple[Operator, ...]
    runtime_version: str | None = None
    accelerator: str = "cpu"
    avoid_runtimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measurement over `samples` rows of `dataset`; `runtime` is a library and its version."""

    name: str
    value: float
    dataset: str
    samples: int
    runtime: str
    architecture: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.samples < 0:
            raise ValueError(f"{self.name} is {self.value} over {self.samples} samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One `.tflite` in the bundle; `format` as `models.tflite` reads it."""

    digest: Digest
    size_bytes: int
    format: str
    requirements: Requirements
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        parse_digest(self.digest)
        if self.size_bytes <= 0:
            raise ValueError(f"the {self.format} variant has {self.size_bytes} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an output may be from its reference, in its own elements' units (LSB for integers).

    `largest` bounds the worst element of any vector; `mean` bounds the mean
    absolute error over all vectors: damage moves the mean long before noise does.
    """

    largest: float
    mean: float

    def __post_init__(self) -> None:
        for value in (self.largest, self.mean):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"a tolerance is {value}; it must be at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Golden vectors: a blob of inputs with reference outputs, and how near an answer must be.

    `origin` says where the inputs came from. `decision` is the index of the
    output whose top-1 must agree on every vector whose reference margin is
    wider than its tolerance; None for regressions. `stateful` vectors are one
    sequence from a fresh state. The tolerances were measured over `measured_on`.
    """

    digest: Digest
    size_bytes: int
    vectors: int
    origin: str
    tolerances: tuple[Tolerance, ...]
    measured_on: tuple[str, ...]
    decision: int | None = None
    classes_seen: int = 0
    stateful: bool = False

    def __post_init__(self) -> None:
        parse_digest(self.digest)
        if self.vectors < 1 or self.size_bytes < 1:
            raise ValueError("there are no golden vectors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the files came from: source digest, tools and their versions, calibration set.

    `allowed_runtimes` are constraints of the static check that a person left out
    of `Requirements.avoid_runtimes`: the devices' golden vectors decide there.
    """

    source_digest: Digest
    tools: Mapping[str, str] = field(default_factory=dict)
    calibration_digest: Digest | None = None
    calibration_samples: int = 0
    allowed_runtimes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parse_digest(self.source_digest)
        if self.calibration_digest is not None:
            parse_digest(self.calibration_digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReference:
    """How a number of a request was spread over `samples` rows when the card was written.

    `subject` says which number (`models.drift`). Bin k reaches from above edge k-1 up to and with
    edge k; the first and the last are open, so that any finite number has its bin.
    """

    subject: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    samples: int

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.shares) - 1:
            raise ValueError(
                f"{self.subject!r} has {len(self.edges)} edges for {len(self.shares)} shares"
            )
        if not all(math.isfinite(value) for value in (*self.edges, *self.shares)):
            raise ValueError(f"{self.subject!r} has an edge or a share that is no number")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"{self.subject!r} has edges that don't rise")
        if self.samples < 1:
            raise ValueError(f"{self.subject!r} is spread over {self.samples} rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All a bundle says of its model."""

    ref: ModelRef
    task: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    variants: tuple[Variant, ...]
    provenance: Provenance
    golden: Golden
    licence: str
    labels: tuple[str, ...] = ()
    preprocessing: str = ""
    postprocessing: str = ""
    stateful: bool = False
    drift: tuple[DriftReference, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        for what, names in (
            ("input", [each.name for each in self.inputs]),
            ("output", [each.name for each in self.outputs]),
            ("variant", [each.digest for each in self.variants]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"the same {what} twice")
        if len(self.golden.tolerances) != len(self.outputs):
            raise ValueError(
                f"{len(self.golden.tolerances)} tolerances for {len(self.outputs)} outputs"
            )
        if self.golden.decision is not None and not 0 <= self.golden.decision < len(self.outputs):
            raise ValueError(
                f"the decision is output {self.golden.decision} of {len(self.outputs)}"
            )
