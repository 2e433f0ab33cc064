"""The child in which the build runs a model: `python -m models.build.probe`, a parcel in, one out.

Four things can be asked: `choose` golden vectors, `compare` this runtime's
answers on given vectors with their references, `evaluate` on labelled rows, and
the `spread` of what is watched for drift over rows.
Imports numpy and a runtime, nothing else beyond the standard library, so that
any interpreter with those two can give its opinion.
"""

import io
import platform
import sys
from dataclasses import asdict
from time import perf_counter
from typing import Any

import numpy as np

from models.build import parcel
from models.build.choice import choose
from models.build.sequence import choose_sequence
from models.card import Quantization, Tensor
from models.drift import Watch, subjects
from models.errors import ModelError, RefusedError
from models.golden import shape_of
from models.judge import DTYPES, distance, margins
from models.runtime import Array, Runner, open_model
from models.values import DISTRIBUTIONS, Datatype

_ROWS_LIMIT = 100_000
_SPREAD_ROWS = 1_000
"""A bin of a tenth of so many rows is known within a tenth of itself."""
_SPREAD_S = 60.0
"""A slow model's spread is over fewer rows."""


def main() -> int:
    """Answer one question; what is refused is an answer, too."""
    asked, parts = parcel.unwrap(sys.stdin.buffer.read())
    try:
        fields, answers = _ASKS[asked["ask"]](asked, parts)
    except ModelError as error:
        fields, answers = {"refused": error.reason, "message": str(error)}, []
    sys.stdout.buffer.write(parcel.wrap(fields, answers))
    return 0


def _choose(asked: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, object], list[bytes]]:
    content, given = parts
    inputs = [_tensor(fields) for fields in asked["inputs"]]
    outputs = [_tensor(fields) for fields in asked["outputs"]]
    runner = open_model(content)
    _same_signature(inputs, outputs, runner)
    rows = _rows(given, inputs)[0] if given else []
    if asked["stateful"]:
        chosen = choose_sequence(content, count=asked["count"], given=rows)
    else:
        chosen = choose(
            content,
            spans=[(int(start), int(length)) for start, length in asked["spans"]],
            decision=asked["decision"],
            count=asked["count"],
            given=rows,
        )
    blob = b"".join(
        np.ascontiguousarray(array).tobytes()
        for row, answer in zip(chosen.inputs, chosen.outputs, strict=True)
        for array in (*row, *answer)
    )
    return {
        "runtime": _runtime(runner),
        "vectors": len(chosen.inputs),
        "noise": [asdict(noise) for noise in chosen.noise],
        "classes_seen": chosen.classes_seen,
        "copies": chosen.copies,
        "given": chosen.given,
    }, [blob]


def _compare(asked: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, object], list[bytes]]:
    content, blob = parts
    inputs = [_tensor(fields) for fields in asked["inputs"]]
    outputs = [_tensor(fields) for fields in asked["outputs"]]
    runner = open_model(content)
    _same_signature(inputs, outputs, runner)
    references: list[list[Array]] = []
    errors: list[list[Array]] = []
    place = 0
    for _ in range(asked["vectors"]):
        arrays = []
        for tensor in (*inputs, *outputs):
            array = np.frombuffer(
                blob, DTYPES[tensor.datatype], int(np.prod(shape_of(tensor), dtype=int)), place
            ).reshape(shape_of(tensor))
            place += array.nbytes
            arrays.append(array)
        wanted = arrays[len(inputs) :]
        answers = runner.run(arrays[: len(inputs)])
        references.append(wanted)
        errors.append([distance(one, two) for one, two in zip(answers, wanted, strict=True)])
    figures = []
    for output in range(len(outputs)):
        apart = np.stack([error[output] for error in errors])
        wanted_all = np.stack([row[output].reshape(-1) for row in references]).astype(np.float64)
        figures.append(
            {
                "largest": _finite(apart.max(initial=0.0)),
                "mean": _finite(apart.mean()),
                # How far answers are from each other at all: noise must be small beside it.
                "spread": _finite(np.abs(wanted_all - wanted_all.mean(axis=0)).mean()),
                "margin": _finite(np.median(margins(wanted_all))),
            }
        )
    return {"runtime": _runtime(runner), "errors": figures}, []


def _evaluate(asked: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, object], list[bytes]]:
    content, dataset = parts
    inputs = [_tensor(fields) for fields in asked["inputs"]]
    runner = open_model(content)
    rows, labels = _rows(dataset, inputs)
    if labels is None or len(labels) != len(rows):
        raise RefusedError(
            "MALFORMED", "the data set has no array `labels` with one integer for each row"
        )
    right = 0
    for row, label in zip(rows, labels, strict=True):
        if asked["stateful"]:
            runner.reset()
        right += int(runner.run(row)[asked["decision"]].reshape(-1).argmax()) == int(label)
    return {
        "runtime": _runtime(runner),
        "architecture": platform.machine(),
        "samples": len(rows),
        "right": right,
    }, []


def _spread(asked: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, object], list[bytes]]:
    content, given = parts
    inputs = [_tensor(fields) for fields in asked["inputs"]]
    outputs = [_tensor(fields) for fields in asked["outputs"]]
    decision = asked["decision"]
    rows, _ = _rows(given, inputs)
    watched = subjects(inputs, outputs, decision)
    said: dict[str, object] = {
        "subjects": [str(each) for each in watched],
        "given": len(rows),
        "classes": 0 if decision is None else int(np.prod(shape_of(outputs[decision]), dtype=int)),
    }
    if len(rows) < asked["fewest"]:
        return said, []
    # From all over the rows, which may be sorted by class; but a sequence is one.
    step = 1 if asked["stateful"] else max(1, len(rows) // _SPREAD_ROWS)
    runner, watch = open_model(content), Watch(inputs, outputs, watched)
    _same_signature(inputs, outputs, runner)
    began = perf_counter()
    numbers: list[list[float]] = []
    for row in rows[: step * _SPREAD_ROWS : step]:
        numbers.append(watch.numbers(row, runner.run(row)))
        if len(numbers) >= asked["fewest"] and perf_counter() - began > _SPREAD_S:
            break
    return {**said, "numbers": [list(column) for column in zip(*numbers, strict=True)]}, []


_ASKS = {"choose": _choose, "compare": _compare, "evaluate": _evaluate, "spread": _spread}


def _rows(npz: bytes, inputs: list[Tensor]) -> tuple[list[list[Array]], Array | None]:
    """Read rows: an array per input by its name, or one array for one input; `labels` beside them.

    Floats meant for a quantized input are quantized by its own scale.
    """
    try:
        with np.load(io.BytesIO(npz), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise RefusedError("MALFORMED", f"the rows are no .npz file: {error}") from error
    labels = arrays.pop("labels", None)
    if len(inputs) == 1 and len(arrays) == 1:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    columns = []
    for tensor in inputs:
        if tensor.name not in arrays:
            raise RefusedError(
                "MALFORMED", f"the rows have no array {tensor.name!r}; they have {sorted(arrays)}"
            )
        columns.append(_column(arrays[tensor.name], tensor))
    if len({len(column) for column in columns}) != 1 or not len(columns[0]):
        raise RefusedError("MALFORMED", "the rows' arrays are empty or of different lengths")
    count = min(len(columns[0]), _ROWS_LIMIT)
    return [[column[place] for column in columns] for place in range(count)], labels


def _column(values: Array, tensor: Tensor) -> Array:
    shape = shape_of(tensor)
    size = int(np.prod(shape, dtype=int))
    if not values.size or values.size % size or (values.size // size != len(values)):
        raise RefusedError(
            "MALFORMED",
            f"{tensor.name} takes rows of {list(shape)}; the array given is {list(values.shape)}",
        )
    rows = values.reshape(len(values), *shape)
    wanted = np.dtype(DTYPES[tensor.datatype])
    if rows.dtype.kind == "f" and wanted.kind in "iu" and tensor.quantization is not None:
        limits = np.iinfo(wanted)
        rows = np.round(rows / tensor.quantization.scale) + tensor.quantization.zero_point
        rows = np.clip(rows, limits.min, limits.max)
    return np.ascontiguousarray(rows.astype(wanted))


def _same_signature(inputs: list[Tensor], outputs: list[Tensor], runner: Runner) -> None:
    for tensors, slots in ((inputs, runner.inputs), (outputs, runner.outputs)):
        said = [(np.dtype(DTYPES[tensor.datatype]), shape_of(tensor)) for tensor in tensors]
        if said != [(slot.dtype, slot.shape) for slot in slots]:
            raise RefusedError(
                "MODEL_UNSUPPORTED",
                "the runtime allocates other inputs or outputs than the file says: "
                + ", ".join(f"{slot.name} {slot.dtype} {list(slot.shape)}" for slot in slots),
            )


def _tensor(fields: dict[str, Any]) -> Tensor:
    quantization = fields["quantization"]
    return Tensor(
        name=fields["name"],
        datatype=Datatype(fields["datatype"]),
        shape=tuple(fields["shape"]),
        quantization=None if quantization is None else Quantization(**quantization),
    )


def _runtime(runner: Runner) -> str:
    return f"{DISTRIBUTIONS[runner.library]} {runner.version}"


def _finite(value: Any) -> float:  # noqa: ANN401  # any of numpy's numbers
    return min(float(value), 1e300) if not np.isnan(value) else 1e300


if __name__ == "__main__":
    sys.exit(main())
