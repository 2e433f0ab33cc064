"""Golden vectors of a bundle: chosen in one child, their tolerance measured in several. Blocking.

The reference is what the default runtime answers here. Every other opinion
widens the tolerance (the file without the default delegates, with its inputs
shaken, the other variants, other interpreters), unless it is no noise at all:
a runtime that answers something else is named to be avoided, and a variant
that does is refused.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from models.build.asking import ask
from models.build.tolerance import Opinion, is_blind, is_noise, tolerance
from models.card import Golden
from models.errors import RefusedError
from models.golden import size_of
from models.limits import BLOB_LIMIT_BYTES
from models.tflite import TfliteFile
from models.values import digest_of

GOLDEN_LIMIT_BYTES = 2 * 1024 * 1024
"""The golden blob: every device fetches it with the model, often over a thin line."""

MOST_VECTORS = 64
FEWEST_VECTORS = 12
"""However large its inputs are: with fewer, the mean of the errors says nothing."""

SEQUENCE_VECTORS = 128
"""A stateful model's sequence: its first answers come from an empty state and say little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Golden vectors with all that was measured of them.

    `copies` is how many harmed copies they were tried on, `avoid` which runtimes
    answer something else, `warnings` what a person should hear.
    """

    golden: Golden
    blob: bytes
    copies: int
    avoid: tuple[str, ...]
    warnings: tuple[str, ...]


def golden_vectors(
    files: Sequence[bytes],
    read: Sequence[TfliteFile],
    decision: int | None,
    rows: bytes | None,
    also: Sequence[str],
) -> Vectors:
    """Choose golden vectors for the first file, and measure tolerances over all of them.

    Args:
        files: the variants; the first is the reference.
        read: what `models.tflite.read` says of each.
        decision: the output whose largest element decides; None for regressions.
        rows: an `.npz` of the engineer's own inputs.
        also: other interpreters to ask for an opinion.

    Raises:
        RefusedError: a file can't be run, or the variants answer differently; see `pack`.
        TransientError: TIMED_OUT.
    """
    first = read[0]
    count = _count(first)
    given = rows or b""
    spans = [(span.offset, span.length) for span in first.weights]
    try:
        chosen, (blob,) = ask(
            "choose", first, [files[0], given], spans=spans, decision=decision, count=count
        )
    except RefusedError as error:
        if error.reason != "LOAD_FAILED":
            raise
        # Perhaps it was one of the copies damaged on purpose that brought the child down.
        chosen, (blob,) = ask(
            "choose", first, [files[0], given], spans=[], decision=decision, count=count
        )
    count = int(chosen["vectors"])
    if decision is not None and chosen["classes_seen"] < 2:  # noqa: PLR2004  # a decision is between two
        warnings = [
            "every input tried is answered with one class: give rows that show another (--inputs)"
        ]
    else:
        warnings = []
    noise = chosen["noise"]
    units = [float(figures["unit"]) for figures in noise]
    opinions = [
        Opinion(
            runtime=str(chosen["runtime"]),
            largest=tuple(float(figures["largest"]) for figures in noise),
            mean=tuple(float(figures["mean"]) for figures in noise),
            spread=tuple(math.inf for _ in noise),
        )
    ]
    avoid = []
    for number, file in enumerate(read[1:], start=1):
        opinion = _opinion(file, files[number], blob, count)
        if not is_noise(opinion, units):
            raise RefusedError(
                "MODEL_UNSUPPORTED",
                f"the {file.format} file answers otherwise than the {first.format} one: "
                "pack it under a name of its own",
            )
        opinions.append(opinion)
    for python in also:
        opinion = _opinion(first, files[0], blob, count, python=python)
        if is_noise(opinion, units):
            opinions.append(opinion)
        else:
            avoid.append(opinion.runtime.replace(" ", "=="))
            warnings.append(f"{opinion.runtime} answers otherwise: devices with it are left out")
    tolerances = tuple(
        tolerance(
            unit=units[place],
            largest=[opinion.largest[place] for opinion in opinions],
            mean=[opinion.mean[place] for opinion in opinions],
            pool_mean=float(noise[place]["pool_mean"]),
            decides=place == decision,
        )
        for place in range(len(first.outputs))
    )
    if not all(math.isfinite(each.largest) and math.isfinite(each.mean) for each in tolerances):
        raise RefusedError(
            "MODEL_UNSUPPORTED", "the model answers near-equal inputs with NaN or infinity"
        )
    warnings += [
        f"the golden vectors say nothing of the output {tensor.name}: what is allowed "
        f"({bound.largest:.4g}, mean {bound.mean:.4g}) is not below what the references differ by "
        f"({width:.4g}, mean {spread:.4g}), so a damaged model may pass: give rows of your own "
        "(--inputs)"
        for tensor, bound, width, spread in (
            (tensor, bound, float(figures["width"]), float(figures["spread"]))
            for tensor, bound, figures in zip(first.outputs, tolerances, noise, strict=True)
        )
        if is_blind(bound, width=width, spread=spread)
    ]
    own = int(chosen["given"])
    return Vectors(
        golden=Golden(
            digest=digest_of(blob),
            size_bytes=len(blob),
            vectors=count,
            origin=_origin(count, own),
            tolerances=tolerances,
            measured_on=tuple(dict.fromkeys(opinion.runtime for opinion in opinions)),
            decision=decision,
            classes_seen=int(chosen["classes_seen"]),
            stateful=first.stateful,
        ),
        blob=blob,
        copies=int(chosen["copies"]),
        avoid=tuple(avoid),
        warnings=tuple(warnings),
    )


def _opinion(
    file: TfliteFile, content: bytes, blob: bytes, count: int, *, python: str = sys.executable
) -> Opinion:
    said, _ = ask("compare", file, [content, blob], vectors=count, python=python)
    errors = said["errors"]
    return Opinion(
        runtime=str(said["runtime"]),
        largest=tuple(float(figures["largest"]) for figures in errors),
        mean=tuple(float(figures["mean"]) for figures in errors),
        spread=tuple(float(figures["spread"]) for figures in errors),
    )


def _count(file: TfliteFile) -> int:
    size = sum(size_of(tensor) for tensor in (*file.inputs, *file.outputs))
    if size * FEWEST_VECTORS > BLOB_LIMIT_BYTES:
        raise RefusedError(
            "MODEL_UNSUPPORTED",
            f"its inputs and outputs are {size} bytes: {FEWEST_VECTORS} golden vectors "
            "are too large",
        )
    most = SEQUENCE_VECTORS if file.stateful else MOST_VECTORS
    return max(FEWEST_VECTORS, min(most, GOLDEN_LIMIT_BYTES // max(1, size)))


def _origin(count: int, given: int) -> str:
    if not given:
        return f"{count} synthetic"
    return f"{given} of the rows given, {count - given} synthetic"
