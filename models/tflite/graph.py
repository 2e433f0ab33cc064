"""The graph in a file: its tensors, operators and subgraphs as values. Pure."""

from dataclasses import dataclass

from models.tflite.schema import BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTensor:
    """One tensor as the file has it. `constant` is where its content lies: (offset, length).

    `varying` is `shape` with -1 where a dimension may vary.
    """

    name: str
    element: str
    shape: tuple[int, ...]
    varying: tuple[int, ...]
    constant: tuple[int, int] | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    variable: bool
    sparse: bool

    @property
    def elements(self) -> int:
        """How many elements it has; a dimension that may vary counts as it stands."""
        count = 1
        for dimension in self.shape:
            count *= max(dimension, 0)
        return count

    @property
    def size_bytes(self) -> int:
        """Bytes of its content, dense; 0 where elements have no fixed size."""
        return (self.elements * BITS.get(self.element, 0) + 7) // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RawOperator:
    """One step: what it is, the tensors it takes (-1: left out) and those it makes."""

    name: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgraph:
    """Tensors, and the steps over them in the order they run."""

    tensors: tuple[RawTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[RawOperator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureNames:
    """What a signature calls the inputs and outputs of one subgraph, by tensor number."""

    key: str
    subgraph: int
    inputs: dict[int, str]
    outputs: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A whole file. The first subgraph is the one that is served."""

    version: int
    description: str
    runtime_version: str | None
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[SignatureNames, ...]
