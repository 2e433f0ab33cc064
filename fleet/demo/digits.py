"""A digits classifier, trained here on real data, as a float `.tflite` without a converter.

1,797 images of 8 by 8 pixels (UCI optical recognition of handwritten digits),
70 % to train and 30 % held back. The flatbuffer is written with the object API
that ships with `ai-edge-litert`; quantizing it is the build pipeline's job.

Heavy imports stand inside the functions: the demo's own process starts fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]
    Answers = NDArray[np.int64]

CLASSES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Rows are pixels, (n, 64) float32 in 0…1; answers are 0…9."""

    train_rows: Rows
    train_answers: Answers
    held_back_rows: Rows
    held_back_answers: Answers


def load() -> Digits:
    """Return the data, split the same way every time (stratified, seed 7)."""
    import numpy as np  # noqa: PLC0415  # see the charter
    from sklearn.datasets import load_digits  # noqa: PLC0415  # see the charter
    from sklearn.model_selection import train_test_split  # noqa: PLC0415  # see the charter

    rows, answers = load_digits(return_X_y=True)
    train_rows, held_rows, train_answers, held_answers = train_test_split(
        (rows / 16).astype(np.float32), answers, test_size=0.3, stratify=answers, random_state=7
    )
    return Digits(
        train_rows=train_rows,
        train_answers=train_answers,
        held_back_rows=held_rows,
        held_back_answers=held_answers,
    )


def train(digits: Digits, *, seed: int, iterations: int) -> bytes:
    """Train a multi-layer perceptron (64 → 64 → 32 → 10) and return it as a float `.tflite`."""
    import warnings  # noqa: PLC0415  # see the charter

    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # see the charter
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415  # see the charter

    classifier = MLPClassifier((64, 32), random_state=seed, max_iter=iterations)
    with warnings.catch_warnings():
        # Few iterations on purpose: a first version that a second one improves upon.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(digits.train_rows, digits.train_answers)
    return _flatbuffer(list(zip(classifier.coefs_, classifier.intercepts_, strict=True)))


def _flatbuffer(layers: list[tuple[Any, Any]]) -> bytes:
    """Write fully connected layers, ReLU between them and softmax behind, as one TFLite model."""
    import flatbuffers  # noqa: PLC0415  # see the charter
    import numpy as np  # noqa: PLC0415  # see the charter
    from ai_edge_litert import schema_py_generated as tfl  # noqa: PLC0415  # see the charter

    model, graph = tfl.ModelT(), tfl.SubGraphT()
    model.version, model.description, model.buffers = 3, "digits", [tfl.BufferT()]
    graph.name, graph.tensors, graph.operators = "main", [], []

    def tensor(name: str, shape: tuple[int, ...], content: Any = None) -> int:  # noqa: ANN401  # an array of any shape
        made = tfl.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), tfl.TensorType.FLOAT32, 0
        if content is not None:
            buffer = tfl.BufferT()
            buffer.data = np.frombuffer(
                np.ascontiguousarray(content, np.float32).tobytes(), np.uint8
            )
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(code: int, inputs: list[int], output: int, kind: int, options: Any) -> None:  # noqa: ANN401  # any options table
        made = tfl.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        graph.operators.append(made)

    model.operatorCodes = []
    for builtin in (tfl.BuiltinOperator.FULLY_CONNECTED, tfl.BuiltinOperator.SOFTMAX):
        code = tfl.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, builtin, 1
        model.operatorCodes.append(code)

    value = tensor("pixels", (1, layers[0][0].shape[0]))
    graph.inputs = [value]
    for number, (weights, bias) in enumerate(layers):
        dense = tfl.FullyConnectedOptionsT()
        if number < len(layers) - 1:
            dense.fusedActivationFunction = tfl.ActivationFunctionType.RELU
        inputs = [
            value,
            tensor(f"weights{number}", weights.T.shape, weights.T),
            tensor(f"bias{number}", bias.shape, bias),
        ]
        value = tensor(f"dense{number}", (1, weights.shape[1]))
        operator(0, inputs, value, tfl.BuiltinOptions.FullyConnectedOptions, dense)
    softmax = tfl.SoftmaxOptionsT()
    softmax.beta = 1.0
    scores = tensor("scores", (1, layers[-1][0].shape[1]))
    operator(1, [value], scores, tfl.BuiltinOptions.SoftmaxOptions, softmax)
    graph.outputs = [scores]
    model.subgraphs = [graph]

    def named(name: str, index: int) -> Any:  # noqa: ANN401  # a generated table
        made = tfl.TensorMapT()
        made.name, made.tensorIndex = name, index
        return made

    signature = tfl.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [named("pixels", graph.inputs[0])]
    signature.outputs = [named("scores", scores)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(64 * 1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
