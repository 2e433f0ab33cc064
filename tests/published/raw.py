"""The raw interpreter's answers, and nothing of ours: `python raw.py LIBRARY MODEL COUNT`."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np

library, model, count = sys.argv[1:]
modules = {"litert": "ai_edge_litert.interpreter", "tflite": "tflite_runtime.interpreter"}
interpreter = importlib.import_module(modules[library]).Interpreter(
    model_content=Path(model).read_bytes(), num_threads=1
)
interpreter.allocate_tensors()
random = np.random.default_rng(11)
inputs, outputs = [], []
for _ in range(int(count)):
    row = []
    for detail in interpreter.get_input_details():
        if detail["dtype"].__name__.startswith("float"):
            given = random.random(detail["shape"], np.float32)
        else:
            limits = np.iinfo(detail["dtype"])
            given = random.integers(
                limits.min, limits.max, detail["shape"], detail["dtype"], endpoint=True
            )
        interpreter.set_tensor(detail["index"], given)
        row.append(given.tobytes().hex())
    interpreter.invoke()
    inputs.append(row)
    outputs.append(
        [
            interpreter.get_tensor(detail["index"]).tobytes().hex()
            for detail in interpreter.get_output_details()
        ]
    )
sys.stdout.write(json.dumps({"inputs": inputs, "outputs": outputs}) + "\n")
