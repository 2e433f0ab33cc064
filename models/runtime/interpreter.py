"""Both runtimes through their `Interpreter`, which they share.

Rules, each from a measured failure: no `tensor()` views (a held one makes
`invoke` raise), no tensor but inputs and outputs is ever read (resource
variables and sparse tensors crash the process), every exception is caught
(damaged files raise even UnicodeDecodeError), resets build a new interpreter
(`reset_all_variables` leaves resource variables as they are).
"""

import base64
import importlib
import importlib.util
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

import numpy as np

from models.delegate import Delegate
from models.errors import RefusedError
from models.runtime import Array, Slot
from models.values import DISTRIBUTIONS, Library

_MODULES: dict[Library, str] = {
    "litert": "ai_edge_litert.interpreter",
    "tflite": "tflite_runtime.interpreter",
}

_ABS = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA0AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAA"
    "AAAMABQAEAAMAAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAA"
    "AQAAAAEAAAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAAMAAAAAQAAADk////CAAAAAwAAAABAAAAeQAAAAEA"
    "AAABAAAADAAMAAgAAAAAAAQADAAAAAgAAAAMAAAAAQAAAHgAAAABAAAAAQAAAAEAAAAQAAAADAAMAAsAAAAAAAQA"
    "DAAAAGUAAAAAAABl"
)
"""The smallest model: |x| of one float."""


def available() -> tuple[Library, ...]:
    """Return the runtimes installed here, preferred first."""
    return tuple(
        library
        for library, module in _MODULES.items()
        if importlib.util.find_spec(module.partition(".")[0]) is not None
    )


def check(library: Library, delegate: Delegate | None = None) -> str:
    """Build an interpreter of a tiny model, run it, and return the runtime's version.

    Raises:
        RefusedError: RUNTIME_MISSING, RUNTIME_BROKEN or ACCELERATOR_MISSING.
    """
    if library not in available():
        raise RefusedError("RUNTIME_MISSING", f"{DISTRIBUTIONS[library]} is not installed here")
    try:
        interpreter = _build(_ABS, library, 1, delegate=delegate)
        interpreter.set_tensor(0, np.array([-3], np.float32))
        interpreter.invoke()
        answer = float(interpreter.get_tensor(1)[0])
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(
            "RUNTIME_BROKEN",
            f"{DISTRIBUTIONS[library]} with numpy {np.__version__} can't run the smallest model: "
            f"{_said(error)}",
        ) from error
    if answer != 3:  # noqa: PLR2004  # |-3|
        raise RefusedError("RUNTIME_BROKEN", f"{DISTRIBUTIONS[library]} says |-3| is {answer}")
    return _version(library)


class Loaded:
    """One loaded model, on one of the two runtimes (a `models.runtime.Runner`)."""

    def __init__(
        self,
        content: bytes,
        *,
        library: Library | None,
        threads: int,
        reference: bool = False,
        delegate: Delegate | None = None,
    ) -> None:
        if library is None:
            library = next(iter(available()), None)
            if library is None:
                raise RefusedError(
                    "RUNTIME_MISSING", "neither ai-edge-litert nor tflite-runtime is installed here"
                )
        elif library not in available():
            raise RefusedError("RUNTIME_MISSING", f"{DISTRIBUTIONS[library]} is not installed here")
        self._content = content
        self._threads = threads
        self._reference = reference
        self._delegate = delegate
        self.library: Library = library
        self.version = _version(library)
        self._load()

    def _load(self) -> None:
        try:
            interpreter = _build(
                self._content,
                self.library,
                self._threads,
                reference=self._reference,
                delegate=self._delegate,
            )
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
            self.inputs = tuple(_slot(detail) for detail in inputs)
            self.outputs = tuple(_slot(detail) for detail in outputs)
            self._varying = [_signature(detail) for detail in inputs]
            self._places = [int(detail["index"]) for detail in inputs]
            self._answers = [int(detail["index"]) for detail in outputs]
        except RefusedError:
            raise
        except Exception as error:
            check(self.library)  # a runtime that can run nothing is not the file's fault
            raise RefusedError(
                "LOAD_FAILED",
                f"{self._named} can't load this file: {_said(error)}",
            ) from error
        self._interpreter = interpreter
        self._fresh = True

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Answer one set of inputs, in the file's order.

        Raises:
            RefusedError: LOAD_FAILED, the inputs don't fit or the runtime failed on them.
        """
        if len(inputs) != len(self.inputs):
            raise RefusedError(
                "LOAD_FAILED", f"{len(inputs)} inputs were given; the model has {len(self.inputs)}"
            )
        for slot, varying, array in zip(self.inputs, self._varying, inputs, strict=True):
            if array.dtype != slot.dtype or not _fits(array.shape, varying):
                raise RefusedError(
                    "LOAD_FAILED",
                    f"input {slot.name} is {slot.dtype} {list(varying)}; "
                    f"{array.dtype} {list(array.shape)} was given",
                )
        self._fresh = False
        try:
            self._allocate(inputs)
            for place, array in zip(self._places, inputs, strict=True):
                self._interpreter.set_tensor(place, array)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(answer) for answer in self._answers]
        except Exception as error:
            raise RefusedError(
                "LOAD_FAILED",
                f"{self._named} failed on these inputs: {_said(error)}",
            ) from error

    def _allocate(self, inputs: Sequence[Array]) -> None:
        """Allocate for these shapes where a dimension may vary and now does."""
        if all(slot.shape == array.shape for slot, array in zip(self.inputs, inputs, strict=True)):
            return
        for place, array in zip(self._places, inputs, strict=True):
            self._interpreter.resize_tensor_input(place, array.shape, strict=True)
        self._interpreter.allocate_tensors()
        self.inputs = tuple(_slot(detail) for detail in self._interpreter.get_input_details())
        self.outputs = tuple(_slot(detail) for detail in self._interpreter.get_output_details())

    @property
    def delegated(self) -> int:
        """How many nodes stand for what a delegate took over."""
        # Neither runtime says it in its public API; both have had this since 2020.
        listed = self._interpreter._get_ops_details()  # noqa: SLF001  # as above
        return sum(each["op_name"] == "DELEGATE" for each in listed)

    @property
    def _named(self) -> str:
        on = "" if self._delegate is None else f" on {self._delegate.accelerator}"
        return f"{DISTRIBUTIONS[self.library]} {self.version}{on}"

    def reset(self) -> None:
        """Forget all state, as if just loaded. Idempotent."""
        if not self._fresh:
            self._load()


def _build(
    content: bytes,
    library: Library,
    threads: int,
    *,
    reference: bool = False,
    delegate: Delegate | None = None,
) -> Any:  # noqa: ANN401  # neither runtime has types
    module = importlib.import_module(_MODULES[library])
    kind = module.OpResolverType
    interpreter = module.Interpreter(
        model_content=content,
        num_threads=threads,
        experimental_op_resolver_type=kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        if reference
        else kind.AUTO,
        experimental_delegates=[] if delegate is None else [_driver(module, delegate)],
    )
    interpreter.allocate_tensors()
    return interpreter


def _driver(module: Any, delegate: Delegate) -> Any:  # noqa: ANN401  # as above
    try:
        return module.load_delegate(delegate.library, dict(delegate.options))
    except Exception as error:
        # A missing file is an OSError, a library that is no delegate an AttributeError, a missing
        # device a ValueError, often without a word.
        raise RefusedError(
            "ACCELERATOR_MISSING",
            f"{delegate.accelerator}: {Path(delegate.library).name} can't be used: {_said(error)}",
        ) from error


def _slot(detail: dict[str, Any]) -> Slot:
    return Slot(
        name=str(detail["name"]),
        dtype=np.dtype(detail["dtype"]),
        shape=tuple(int(size) for size in detail["shape"]),
    )


def _signature(detail: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape with -1 where it may vary; old files say nothing of that."""
    named = tuple(int(size) for size in detail["shape_signature"])
    return named or tuple(int(size) for size in detail["shape"])


def _fits(shape: tuple[int, ...], varying: tuple[int, ...]) -> bool:
    """Return whether a shape is allowed. Sizes below 1 never are: one runtime divides by them."""
    return len(shape) == len(varying) and all(
        size > 0 and own in (-1, size) for own, size in zip(varying, shape, strict=True)
    )


def _version(library: Library) -> str:
    try:
        return distribution_version(DISTRIBUTIONS[library])
    except PackageNotFoundError:
        return "unknown"


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
