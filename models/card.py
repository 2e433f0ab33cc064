"""The model card: what a bundle says of its model, measured, versioned, in the manifest's config blob.

Values only; `models.card_codec` turns them into bytes and back. A card is
written once, by `pack`; devices and the centre only read it. The tensor
signature is the card's, not a variant's: every variant must have it, so that a
client never has to know which one answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.values import Datatype, Digest, ModelRef

SCHEMA = "skerry.card/v1-draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """real = scale * (quantized - zero_point); TFLite 8-bit specification. Per tensor."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output. -1 in `shape` is a dimension that may vary. None: not quantized."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    quantization: Quantization | None = None


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
    """One measurement. `samples` is how many rows of `dataset`; `runtime` is `library version`, `architecture`."""

    name: str
    value: float
    dataset: str
    samples: int
    runtime: str
    architecture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One `.tflite` in the bundle. `format` is `float32`, `int8`, `dynamic-range`, `float16`, …"""

    digest: Digest
    size_bytes: int
    format: str
    requirements: Requirements
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an output may be from its reference, in the output's own element units (LSB for integers).

    `largest` bounds the worst element of any vector; `mean` bounds the mean
    absolute error over all vectors: damage moves the mean long before noise does.
    """

    largest: float
    mean: float


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the files came from: source digest, tools and their versions, calibration set."""

    source_digest: Digest
    tools: Mapping[str, str] = field(default_factory=dict)
    calibration_digest: Digest | None = None
    calibration_samples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReference:
    """How an input or output was spread when the card was written: bin edges (len = shares - 1) and shares."""

    subject: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]


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
