"""The demo's models, made in a child: `python -m fleet.demo.build FOLDER [TFLITE_PYTHON]`.

Three versions of one digits classifier, all with the same inputs and outputs:
1.0.0 was trained too little, 2.0.0 enough, both int8 within; 3.0.0 is 2.0.0
with dynamic-range weights, which newer runtimes answer rightly and
tflite-runtime at chance, without an error.

Measures each, and the float model behind the last two, on the held-back rows on
every runtime there is, and writes them beside the rows. Prints what it measured
as one JSON line. Scikit-learn and the converter stay out of the demo's own
process, which then starts in no time.
"""

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from fleet.demo import digits
from models import durable
from models.build.evaluate import Dataset, accuracy
from models.build.quantize import quantize

_SEED, _TOO_FEW_ITERATIONS, _ITERATIONS, _CALIBRATION = 7, 20, 300, 200
_AT_ONCE = 2  # children that measure
HELD_BACK = "digits, held back"


def main(folder: Path, pythons: list[str]) -> None:
    """Write the models, rows and labels; print what was measured."""
    content = digits.load()
    calibration = _npz(pixels=content.train_rows[:_CALIBRATION, None])
    early = digits.train(content, seed=_SEED, iterations=_TOO_FEW_ITERATIONS)
    trained = digits.train(content, seed=_SEED, iterations=_ITERATIONS)
    files = {
        "float32": trained,
        "1.0.0": quantize(early, "int8-float-io", calibration=calibration),
        "2.0.0": quantize(trained, "int8-float-io", calibration=calibration),
        "3.0.0": quantize(trained, "dynamic-range"),
    }
    for form, raw in files.items():
        durable.write(folder / f"{form}.tflite", raw)
    rows, labels = content.held_back_rows, content.held_back_answers
    npz = _npz(pixels=rows[:, None], labels=labels)
    durable.write(folder / "rows.npz", npz)
    plain = {"rows": rows.tolist(), "answers": labels.tolist()}
    durable.write(folder / "rows.json", json.dumps(plain).encode())
    durable.write(folder / "labels.txt", "".join(f"{name}\n" for name in digits.CLASSES).encode())
    held_back = Dataset(name=HELD_BACK, npz=npz)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = {
            form: [pool.submit(partial(accuracy, raw, held_back, python=each)) for each in pythons]
            for form, raw in files.items()
        }
    measured = {
        form: {metric.runtime: metric.value for metric in (each.result() for each in all_of_form)}
        for form, all_of_form in asked.items()
    }
    sys.stdout.write(json.dumps(measured) + "\n")


def _npz(**arrays: object) -> bytes:
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]  # its stub takes the keyword for allow_pickle
    return archive.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [sys.executable, *sys.argv[2:]])
