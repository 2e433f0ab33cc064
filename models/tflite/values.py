"""What a `.tflite` file says of itself, as values. Pure."""

from dataclasses import dataclass

from models.card import Operator, Tensor
from models.values import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSpan:
    """Where a constant tensor's bytes lie. `datatype` is TFLite's name for its elements."""

    tensor: str
    datatype: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteFile:
    """A file that was read whole.

    `format` is how it computes: `float32`; `int8` (8-bit weights and activations, whatever its
    inputs are); `dynamic-range` (8-bit weights, float activations); `float16`; `int16x8`;
    `mixed`. `runtime_version` is the least one that the file claims to need: shown, never
    trusted. `memory_bytes` is weights plus the largest tensors alive at once, estimated.
    `stateful` models answer differently after each call.
    """

    digest: Digest
    size_bytes: int
    version: int
    description: str
    runtime_version: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    format: str
    stateful: bool
    memory_bytes: int
    avoid_runtimes: tuple[str, ...]
    weights: tuple[WeightSpan, ...]

    @property
    def custom_operators(self) -> tuple[str, ...]:
        """Names of the operators no stock runtime has."""
        return tuple(operator.name for operator in self.operators if operator.custom)
