"""Quantizes a float `.tflite` with litert-quantizer, in a child. Blocking.

`int8` quantizes weights and activations, inputs and outputs, and needs rows to
calibrate on; `int8-float-io` leaves inputs and outputs float, so that clients of
the float file notice nothing; `dynamic-range` quantizes weights only. Whether the result is good
enough is measured afterwards (`models.build.evaluate`), and decided by a budget
(`models.build.pack`).
"""

import sys
from typing import Any, Literal, TypeAlias

from models import child, tflite
from models.build import parcel
from models.errors import RefusedError

Recipe: TypeAlias = Literal["int8", "int8-float-io", "dynamic-range"]

_ROWS_LIMIT = 2_000  # calibration reads minima and maxima: more rows only cost time


def quantize(content: bytes, recipe: Recipe, *, calibration: bytes | None = None) -> bytes:
    """Return the quantized file.

    Args:
        content: a float `.tflite`.
        recipe: how.
        calibration: an `.npz` with an array per input, or one for one input; both
            int8 recipes need it.

    Raises:
        RefusedError: MODEL_MALFORMED, MODEL_UNSUPPORTED or LOAD_FAILED; MALFORMED where the rows
            don't fit.
        TransientError: TIMED_OUT.
    """
    if recipe != "dynamic-range" and calibration is None:
        raise RefusedError("MALFORMED", f"{recipe} needs rows to calibrate on")
    tflite.read(content)
    finished = child.run(
        "models.build.quantize",
        [recipe],
        stdin=parcel.wrap({}, [content, calibration or b""]),
    )
    error = finished.error("quantizing the model")
    if error is not None:
        raise error
    fields, parts = parcel.unwrap(finished.stdout)
    if "refused" in fields:
        raise RefusedError(str(fields["refused"]), str(fields["message"]))
    (quantized,) = parts
    tflite.read(quantized)
    return quantized


def _main(recipe: str) -> int:
    content, npz = parcel.unwrap(sys.stdin.buffer.read())[1]
    try:
        answer = parcel.wrap({}, [_quantized(content, recipe, npz)])
    except RefusedError as error:
        answer = parcel.wrap({"refused": error.reason, "message": str(error)})
    except Exception as error:  # noqa: BLE001  # whatever the quantizer raises, it refused this file
        message = f"litert-quantizer can't quantize it: {type(error).__name__}: {error}"[:300]
        answer = parcel.wrap({"refused": "MODEL_UNSUPPORTED", "message": message})
    sys.stdout.buffer.write(answer)
    return 0


def _quantized(content: bytes, recipe: str, npz: bytes) -> bytes:
    try:
        from litert_quantizer import qtyping, quantizer  # noqa: PLC0415  # heavy, only in this child
        from litert_quantizer import recipe as recipes  # noqa: PLC0415  # as above
    except ImportError as error:
        raise RefusedError("RUNTIME_MISSING", "litert-quantizer is not installed here") from error
    work = quantizer.Quantizer(bytearray(content))
    if recipe != "dynamic-range":
        work.load_quantization_recipe(recipes.static_wi8_ai8())
        if recipe == "int8-float-io":
            for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
                work.update_quantization_recipe(
                    regex=".*", operation_name=end, algorithm_key="no_quantize"
                )
        result = work.quantize(work.calibrate(_samples(content, npz)))
    else:
        work.load_quantization_recipe(recipes.dynamic_wi8_afp32())
        result = work.quantize()
    return bytes(result.quantized_model)


def _samples(content: bytes, npz: bytes) -> dict[str, list[dict[str, Any]]]:
    """Return rows as the quantizer wants them: by signature, and by the input's name in it."""
    import io  # noqa: PLC0415  # only in this child, with the next two

    import numpy as np  # noqa: PLC0415  # as above
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  # as above

    signatures = Interpreter(model_content=content).get_signature_list()
    if len(signatures) != 1:
        raise RefusedError(
            "MODEL_UNSUPPORTED",
            f"the file has {len(signatures)} signatures; the quantizer calibrates by exactly one",
        )
    name, signature = next(iter(signatures.items()))
    file = tflite.read(content)
    with np.load(io.BytesIO(npz), allow_pickle=False) as opened:
        arrays = {key: opened[key] for key in opened.files if key != "labels"}
    if len(signature["inputs"]) == 1 and len(arrays) == 1:
        arrays = {signature["inputs"][0]: next(iter(arrays.values()))}
    shapes = {tensor.name: tensor.shape for tensor in file.inputs}
    missing = [key for key in signature["inputs"] if key not in arrays or key not in shapes]
    if missing:
        raise RefusedError("MALFORMED", f"the rows have no array {missing[0]!r}")
    count = min(_ROWS_LIMIT, *(len(array) for array in arrays.values()))
    rows = []
    for place in range(count):
        row = {}
        for key in signature["inputs"]:
            shape = [abs(size) for size in shapes[key]]
            row[key] = np.ascontiguousarray(arrays[key][place].reshape(shape), np.float32)
        rows.append(row)
    return {name: rows}


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
