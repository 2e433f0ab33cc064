"""What follows from a graph: how it computes, its memory, the runtimes that get it wrong. Pure."""

from collections import Counter
from collections.abc import Iterator

from models.card import Operator
from models.tflite.graph import Graph, RawTensor, Subgraph

_EIGHT_BITS = frozenset({"INT8", "UINT8", "INT4", "UINT4", "INT2"})
_FLOATS = frozenset({"FLOAT32", "FLOAT16", "BFLOAT16", "FLOAT64"})
_MATRIX_RANK = 2  # from here on a constant is a kernel, not a bias or a factor
_CONVERTING = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST", "DENSIFY"})
_KEEPING_STATE = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})

# tflite-runtime 2.14.0 reads per-channel weights of this operator with one scale, and says nothing.
_FULLY_CONNECTED = "FULLY_CONNECTED"
_WRONG_ON_PER_CHANNEL = "tflite-runtime<=2.14.0"


def operators(graph: Graph) -> tuple[Operator, ...]:
    """Return the operators of all subgraphs, counted, the most frequent first."""
    counts = Counter(
        (operator.name, operator.version, operator.custom)
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
    )
    return tuple(
        Operator(name=name, version=version, count=count, custom=custom)
        for (name, version, custom), count in sorted(
            counts.items(), key=lambda each: (-each[1], each[0])
        )
    )


def is_stateful(graph: Graph) -> bool:
    """Say whether a call leaves something behind that the next one sees."""
    return any(
        tensor.variable for subgraph in graph.subgraphs for tensor in subgraph.tensors
    ) or any(
        operator.name in _KEEPING_STATE
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
    )


def numeric_format(graph: Graph) -> str:
    """Return how a model computes; `TfliteFile` says what each word means."""
    steps = [step for subgraph in graph.subgraphs for step in _weighted_steps(subgraph)]
    kernels = [step for step in steps if len(step[1].shape) >= _MATRIX_RANK]
    kinds = {_step_format(*step) for step in kernels or steps} or {_format_of_tensors(graph)}
    for name in ("dynamic-range", "float16"):
        # Layers too small to be worth it stay float beside the others.
        if name in kinds and kinds <= {name, "float32"}:
            return name
    return kinds.pop() if len(kinds) == 1 else "mixed"


def memory_bytes(graph: Graph) -> int:
    """Return about how much memory a model takes: weights, and the largest tensors at once."""
    constants = {
        tensor.constant
        for subgraph in graph.subgraphs
        for tensor in subgraph.tensors
        if tensor.constant is not None
    }
    return sum(length for _, length in constants) + sum(
        _peak_bytes(subgraph) for subgraph in graph.subgraphs
    )


def avoid_runtimes(graph: Graph) -> tuple[str, ...]:
    """Return the runtimes that are known to answer wrongly, without an error, on this graph."""
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            taken = operator.inputs[:2]
            if operator.name != _FULLY_CONNECTED or len(taken) < _MATRIX_RANK or min(taken) < 0:
                continue
            activations, weights = (subgraph.tensors[number] for number in taken)
            if (
                activations.element in _FLOATS
                and weights.element in _EIGHT_BITS
                and len(weights.scales) > 1
            ):
                return (_WRONG_ON_PER_CHANNEL,)
    return ()


def _weighted_steps(subgraph: Subgraph) -> Iterator[tuple[RawTensor, RawTensor]]:
    """Yield, for each step with weights, a tensor it computes on and its weights as stored."""
    stored = {
        number: tensor
        for number, tensor in enumerate(subgraph.tensors)
        if tensor.constant is not None
    }
    for operator in subgraph.operators:
        if operator.name in _CONVERTING:
            # float16 weights, and weight-only 8-bit ones, reach their step through one of these.
            for number in operator.outputs if operator.inputs[:1] else ():
                if operator.inputs[0] in stored:
                    stored[number] = stored[operator.inputs[0]]
            continue
        moving = [number for number in operator.inputs if number >= 0 and number not in stored]
        fixed = [stored[number] for number in operator.inputs if number in stored]
        weights = next((each for each in fixed if each.element in _FLOATS | _EIGHT_BITS), None)
        if moving and weights is not None:
            yield subgraph.tensors[moving[0]], weights


def _step_format(activations: RawTensor, weights: RawTensor) -> str:
    if activations.element in _FLOATS:
        if weights.element in _EIGHT_BITS:
            return "dynamic-range"
        return "float16" if weights.element == "FLOAT16" else "float32"
    if weights.element in _EIGHT_BITS:
        return {"INT16": "int16x8"}.get(activations.element, "int8")
    return "mixed"


def _format_of_tensors(graph: Graph) -> str:
    """Return the format of a graph without weights: that of what it works on."""
    elements = {
        subgraph.tensors[number].element
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
        if operator.name not in _CONVERTING
        for number in operator.outputs
    } or {graph.subgraphs[0].tensors[number].element for number in graph.subgraphs[0].inputs}
    if elements <= _EIGHT_BITS:
        return "int8"
    return "float32" if elements <= _FLOATS else "mixed"


def _peak_bytes(subgraph: Subgraph) -> int:
    """Return the most bytes of tensors alive at once, each from its making to its last use."""
    tensors, steps = subgraph.tensors, subgraph.operators
    last = {
        number: at for at, operator in enumerate(steps) for number in operator.inputs if number >= 0
    }
    last.update(dict.fromkeys(subgraph.outputs, len(steps)))
    ending: dict[int, list[int]] = {}
    for number, at in last.items():
        ending.setdefault(at, []).append(number)
    kept = sum(each.size_bytes for each in tensors if each.variable and each.constant is None)
    alive = {number: tensors[number].size_bytes for number in subgraph.inputs}
    total = kept + sum(alive.values())
    peak = total
    for at, operator in enumerate(steps):
        for number in operator.outputs:
            alive[number] = tensors[number].size_bytes
            total += alive[number]
        peak = max(peak, total)
        for number in (*operator.outputs, *ending.get(at, ())):
            if last.get(number, at) <= at:
                total -= alive.pop(number, 0)
    return peak
