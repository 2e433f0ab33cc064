"""What clients call a model's inputs and outputs. Pure.

A signature's names where the file has one, else the tensors' own, freed of what
converters put around them; always unique, in the order the runtime has them.
"""

import re
from collections.abc import Sequence

from models.tflite.graph import Graph, SignatureNames

_PREFIXES = ("serving_default_", "serve_", "signature_wrapper_")
_PORT = re.compile(r":\d+\Z")
_NAME_LIMIT = 120
_PREFERRED = "serving_default"


def input_names(graph: Graph) -> tuple[str, ...]:
    """Return a name for each input of the served graph."""
    signature = _signature(graph)
    served = graph.subgraphs[0]
    own = [served.tensors[number].name for number in served.inputs]
    return _names(served.inputs, signature.inputs if signature else {}, own, "input")


def output_names(graph: Graph) -> tuple[str, ...]:
    """Return a name for each output of the served graph."""
    signature = _signature(graph)
    served = graph.subgraphs[0]
    own = [served.tensors[number].name for number in served.outputs]
    return _names(served.outputs, signature.outputs if signature else {}, own, "output")


def _signature(graph: Graph) -> SignatureNames | None:
    served = [signature for signature in graph.signatures if signature.subgraph == 0]
    for signature in served:
        if signature.key == _PREFERRED:
            return signature
    return served[0] if served else None


def _names(
    numbers: Sequence[int], given: dict[int, str], own: Sequence[str], default: str
) -> tuple[str, ...]:
    taken: list[str] = []
    for position, number in enumerate(numbers):
        name = _plain(given.get(number) or own[position])[:_NAME_LIMIT] or f"{default}_{position}"
        unique, copy = name, 1
        while unique in taken:
            unique, copy = f"{name}_{copy}", copy + 1
        taken.append(unique)
    return tuple(taken)


def _plain(name: str) -> str:
    # "a;b;c" lists the layers that were fused into one tensor.
    plain = _PORT.sub("", name.partition(";")[0])
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return plain
