"""`pack`: from `.tflite` files to a bundle, measured, with golden vectors. Blocking.

The order is the safety: `models.tflite.read` refuses a damaged or hostile file
before any runtime sees it; only then is it loaded, in a child with limits;
nothing is written before every figure is there. All a person must give is the
file, a name and a version; everything else is read, measured or left empty.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from models import bundle as bundles
from models import tflite
from models.build.reference import spread
from models.build.vectors import golden_vectors
from models.bundle import Bundle
from models.card import Card, Metric, Provenance, Requirements, Tensor, Variant
from models.errors import RefusedError
from models.fit import runtime_named
from models.layout import Layout
from models.tflite import TfliteFile
from models.values import Digest, ModelRef

CLASSIFICATION = "classification"
REGRESSION = "regression"

_CLASSES_LIMIT = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What quantizing may cost: no variant's metric falls below `before` by more than `loss`."""

    before: Metric
    loss: float

    def __post_init__(self) -> None:
        if not 0 <= self.loss < math.inf:
            raise ValueError(f"not a loss: {self.loss}")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the file can't say. Empty is allowed everywhere."""

    task: str = ""
    labels: tuple[str, ...] = ()
    licence: str = ""
    description: str = ""
    preprocessing: str = ""
    postprocessing: str = ""
    metrics: Mapping[Digest, tuple[Metric, ...]] | None = None
    provenance: Provenance | None = None
    budget: Budget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All of a bundle before it is written, and what a person should hear about it.

    `copies` is how many harmed copies its golden vectors were tried on.
    """

    card: Card
    files: Mapping[Digest, bytes]
    golden: bytes
    copies: int
    warnings: tuple[str, ...]

    def write(self, layout: Layout) -> Bundle:
        """Write the bundle into a layout under its `name:version`.

        Raises:
            RefusedError: as `models.bundle.write`.
            TransientError: DISK_FULL.
        """
        return bundles.write(layout, self.card, self.files, self.golden)


def pack(
    files: Sequence[bytes],
    ref: ModelRef,
    *,
    about: About | None = None,
    rows: bytes | None = None,
    usual: bytes | None = None,
    also: Sequence[str] = (),
    allow: Collection[str] = (),
) -> Prepared:
    """Read, run and measure one model's files, and return the bundle to write.

    Args:
        files: its variants, all of one signature; the first is the reference.
        ref: its name and version.
        about: what the files can't say.
        rows: an `.npz` of the engineer's own inputs; half of the golden vectors come from it.
        usual: an `.npz` of rows as devices will see them, for the drift reference; None: `rows`.
        also: other Python interpreters with numpy and a runtime, to measure the tolerance on, too.
        allow: distributions like `tflite-runtime` that the static check must not exclude: a
            person's word against a rule. What `also` measured stays excluded.

    Raises:
        RefusedError: MODEL_MALFORMED, MODEL_TOO_LARGE, MODEL_UNSUPPORTED before any runtime saw it;
            LOAD_FAILED, OUT_OF_MEMORY, RUNTIME_…; ACCURACY_BUDGET;
            CARD_MALFORMED: what was said about it can't be.
        TransientError: TIMED_OUT.
    """
    about = about or About()
    if not files:
        raise RefusedError("MODEL_UNSUPPORTED", "there is no file to pack")
    read = [tflite.read(content) for content in files]
    _check_one_signature(read)
    _check_budget(read, about)
    first = read[0]
    decision = _decision(first, about)
    vectors = golden_vectors(files, read, decision, rows, also)
    usually = spread(files[0], first, decision, rows if usual is None else usual)
    allowed = _allowed(read, allow)
    provenance = about.provenance or Provenance(source_digest=first.digest, tools=_tools())
    try:
        card = Card(
            ref=ref,
            task=about.task or (REGRESSION if decision is None else CLASSIFICATION),
            inputs=first.inputs,
            outputs=first.outputs,
            variants=tuple(_variant(file, about, vectors.avoid, allowed) for file in read),
            provenance=replace(provenance, allowed_runtimes=allowed),
            golden=vectors.golden,
            licence=about.licence,
            labels=about.labels,
            preprocessing=about.preprocessing,
            postprocessing=about.postprocessing,
            stateful=first.stateful,
            drift=usually.references,
            description=about.description or first.description,
        )
    except ValueError as error:
        raise RefusedError("CARD_MALFORMED", f"its card can't be written: {error}") from error
    return Prepared(
        card=card,
        files={file.digest: content for file, content in zip(read, files, strict=True)},
        golden=vectors.blob,
        copies=vectors.copies,
        warnings=(
            *vectors.warnings,
            *usually.warnings,
            *(
                f"by your word {constraint} is not excluded, where a rule says that it answers "
                "wrongly: each device's golden vectors decide"
                for constraint in allowed
            ),
        ),
    )


def _allowed(read: Sequence[TfliteFile], allow: Collection[str]) -> tuple[str, ...]:
    """Return the static check's constraints that are on one of these distributions."""
    found = dict.fromkeys(constraint for file in read for constraint in file.avoid_runtimes)
    return tuple(each for each in found if runtime_named(each) in allow)


def _check_one_signature(read: Sequence[TfliteFile]) -> None:
    first = read[0]
    for number, file in enumerate(read[1:], start=2):
        if file.digest in {other.digest for other in read[: number - 1]}:
            raise RefusedError("MODEL_UNSUPPORTED", f"file {number} is given twice")
        if (
            _nameless(file.inputs) != _nameless(first.inputs)
            or _nameless(file.outputs) != _nameless(first.outputs)
            or file.stateful != first.stateful
        ):
            raise RefusedError(
                "MODEL_UNSUPPORTED",
                f"file {number} ({file.format}) has other inputs or outputs than the first "
                f"({first.format}): pack it under a name of its own",
            )
    for file in read:
        if file.custom_operators:
            raise RefusedError(
                "MODEL_UNSUPPORTED",
                f"the {file.format} file needs operators no stock runtime has: "
                + ", ".join(file.custom_operators),
            )


def _nameless(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [replace(tensor, name="") for tensor in tensors]


def _check_budget(read: Sequence[TfliteFile], about: About) -> None:
    if about.budget is None:
        return
    before, loss = about.budget.before, about.budget.loss
    for file in read:
        measured = {
            metric.name: metric
            for metric in (about.metrics or {}).get(file.digest, ())
            if metric.dataset == before.dataset
        }
        after = measured.get(before.name)
        if after is None:
            raise RefusedError(
                "ACCURACY_BUDGET",
                f"there is a budget on {before.name}, and the {file.format} file's was not "
                f"measured on {before.dataset}",
            )
        if before.value - after.value > loss + 1e-12:  # the last bits of a float are no loss
            raise RefusedError(
                "ACCURACY_BUDGET",
                f"{before.name} on {before.dataset} falls from {before.value:.4g} to "
                f"{after.value:.4g} in the {file.format} file; the budget is {loss:.4g}",
            )


def _decision(file: TfliteFile, about: About) -> int | None:
    """Return the output whose largest element decides: by the task, the labels, or a softmax."""
    wide = [
        place
        for place, tensor in enumerate(file.outputs)
        if 2 <= math.prod(abs(size) for size in tensor.shape) <= _CLASSES_LIMIT  # noqa: PLR2004  # two classes
        and sum(1 for size in tensor.shape if abs(size) > 1) == 1
    ]
    if about.labels:
        for place in wide:
            if math.prod(abs(size) for size in file.outputs[place].shape) == len(about.labels):
                return place
        raise RefusedError(
            "MODEL_UNSUPPORTED",
            f"{len(about.labels)} labels are given, and no output has as many elements",
        )
    if about.task == REGRESSION or file.stateful:
        return None
    asked = CLASSIFICATION in about.task
    has_softmax = any(operator.name == "SOFTMAX" for operator in file.operators)
    if wide and (asked or (has_softmax and not about.task)):
        return wide[0]
    if asked:
        raise RefusedError(
            "MODEL_UNSUPPORTED",
            f"the task is {about.task}, and no output has one score for each of several classes",
        )
    return None


def _variant(
    file: TfliteFile, about: About, measured: tuple[str, ...], allowed: tuple[str, ...]
) -> Variant:
    static = [constraint for constraint in file.avoid_runtimes if constraint not in allowed]
    return Variant(
        digest=file.digest,
        size_bytes=file.size_bytes,
        format=file.format,
        requirements=Requirements(
            memory_bytes=file.memory_bytes,
            operators=file.operators,
            runtime_version=file.runtime_version,
            avoid_runtimes=tuple(dict.fromkeys((*static, *measured))),
        ),
        metrics=(about.metrics or {}).get(file.digest, ()),
    )


def _tools() -> dict[str, str]:
    tools = {}
    for name in ("skerry", "ai-edge-litert"):
        try:
            tools[name] = version(name)
        except PackageNotFoundError:
            continue
    return tools
