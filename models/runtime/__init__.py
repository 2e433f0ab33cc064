"""The runtime port: one loaded `.tflite`, behind whichever runtime this machine has.

A model is a program: these modules are imported only in a child with limits
(an agent's worker, a step of the build), never in a supervisor. Models are
loaded from bytes whose digest was checked, never from a path that may change
underneath. `ai-edge-litert` and `tflite-runtime` are behind the same few
methods; that one loads says nothing about whether it answers rightly, which
golden vectors alone decide (`models.judge`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from models.delegate import Delegate
from models.values import Library

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
else:
    Array = Any  # the port can be imported where numpy isn't installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One input or output as the runtime has allocated it."""

    name: str
    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]


class Runner(Protocol):
    """One loaded model. Not thread safe: one per thread, nothing else while `run` works."""

    @property
    def library(self) -> Library:
        """Which runtime it is."""

    @property
    def version(self) -> str:
        """The runtime's version."""

    @property
    def inputs(self) -> tuple[Slot, ...]:
        """The inputs, in the file's order."""

    @property
    def outputs(self) -> tuple[Slot, ...]:
        """The outputs, in the file's order."""

    def run(self, inputs: "Sequence[Array]") -> "list[Array]":
        """Answer one set of inputs, in the file's order; the answers are the caller's own.

        Raises:
            RefusedError: LOAD_FAILED, the inputs don't fit or the runtime failed on them.
        """

    def reset(self) -> None:
        """Forget all state, as if just loaded. Idempotent."""


class Opened(Runner, Protocol):
    """A loaded model that can say who runs it."""

    @property
    def delegated(self) -> int:
        """How many nodes stand for what a delegate took over, the runtime's own for CPUs too."""


def available() -> tuple[Library, ...]:
    """Return the runtimes installed here, preferred first; whether one works, `check` says."""
    from models.runtime.interpreter import available as installed  # noqa: PLC0415  # numpy, on first need only

    return installed()


def check(library: Library, delegate: Delegate | None = None) -> str:
    """Build an interpreter of a tiny model, run it, and return the runtime's version.

    Importing proves nothing: tflite-runtime 2.14.0 imports under numpy 2 and fails at the first
    model.

    Raises:
        RefusedError: RUNTIME_MISSING or RUNTIME_BROKEN; ACCELERATOR_MISSING, the delegate can't be
            loaded or finds no device.
    """
    from models.runtime.interpreter import check as tried  # noqa: PLC0415  # numpy, on first need only

    return tried(library, delegate)


def open_model(
    content: bytes,
    *,
    library: Library | None = None,
    threads: int = 1,
    reference: bool = False,
    delegate: Delegate | None = None,
) -> Opened:
    """Load a model from bytes and allocate it.

    Args:
        content: the whole file; the caller has checked its digest.
        library: which runtime; None is the first of `available()`.
        threads: one, unless measured on this machine: two make tflite-runtime slower on some.
        reference: without the default delegates; for second opinions, never for serving.
        delegate: of an accelerator; what it does not claim, or all of it, runs on the CPU.

    Raises:
        RefusedError: LOAD_FAILED, the runtime or the delegate refuses this file;
            ACCELERATOR_MISSING, the delegate can't be loaded or finds no device; RUNTIME_MISSING
            or RUNTIME_BROKEN.
    """
    from models.runtime.interpreter import Loaded  # noqa: PLC0415  # numpy, on first need only

    return Loaded(content, library=library, threads=threads, reference=reference, delegate=delegate)
