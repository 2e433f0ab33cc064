"""The demo's models, made in a child: `python -m fleet.demo.build FOLDER [TFLITE_PYTHON]`.

Trains the float model, quantizes it twice, measures all three on the held-back
rows on every runtime there is, and writes them beside the rows. Prints what it
measured as one JSON line. Scikit-learn and the converter stay out of the demo's
own process, which then starts in no time.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np

from fleet.demo import digits
from models import durable
from models.build.evaluate import Dataset, accuracy
from models.build.quantize import quantize

_SEED, _ITERATIONS, _CALIBRATION = 7, 300, 200
HELD_BACK = "digits, held back"


def main(folder: Path, pythons: list[str]) -> None:
    """Write the three forms of the model, rows and labels; print what was measured."""
    content = digits.load()
    trained = digits.train(content, seed=_SEED, iterations=_ITERATIONS)
    calibration = _npz(pixels=content.train_rows[:_CALIBRATION, None])
    files = {
        "float32": trained,
        "int8": quantize(trained, "int8", calibration=calibration),
        "dynamic-range": quantize(trained, "dynamic-range"),
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
    measured = {
        form: {
            metric.runtime: metric.value
            for metric in (accuracy(raw, held_back, python=python) for python in pythons)
        }
        for form, raw in files.items()
    }
    sys.stdout.write(json.dumps(measured) + "\n")


def _npz(**arrays: object) -> bytes:
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]  # its stub takes the keyword for allow_pickle
    return archive.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [sys.executable, *sys.argv[2:]])
