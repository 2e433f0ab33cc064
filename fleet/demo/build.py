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
from models.build.evaluate import evaluate
from models.build.quantize import quantize

_SEED, _ITERATIONS, _CALIBRATION = 7, 300, 200


def main(folder: Path, tflite_python: Path | None) -> None:
    """Write the three forms of the model, rows and labels; print what was measured."""
    content = digits.load()
    trained = digits.train(content, seed=_SEED, iterations=_ITERATIONS)
    files = {
        "float32": trained,
        "int8": quantize(trained, "int8", content.train_rows[:_CALIBRATION]),
        "dynamic-range": quantize(trained, "dynamic-range"),
    }
    for form, raw in files.items():
        durable.write(folder / f"{form}.tflite", raw)
    durable.write(folder / "labels.txt", "".join(f"{name}\n" for name in digits.CLASSES).encode())
    rows, answers = content.held_back_rows.tolist(), content.held_back_answers.tolist()
    durable.write(folder / "rows.json", json.dumps({"rows": rows, "answers": answers}).encode())
    archive = io.BytesIO()
    np.savez(archive, rows=content.held_back_rows, answers=content.held_back_answers)
    durable.write(folder / "rows.npz", archive.getvalue())
    pythons = [Path(sys.executable), *([tflite_python] if tflite_python else [])]
    measured = {
        form: {
            metric.runtime: metric.value
            for metric in (
                evaluate(raw, content.held_back_rows, content.held_back_answers, python=python)
                for python in pythons
            )
        }
        for form, raw in files.items()
    }
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)  # noqa: PLR2004  # see the charter
