"""Whether a graph can run: every tensor a step takes is there by then, and nobody writes what is fixed. Pure.

The rules are those of the official verifier, which runtimes of some versions
leave out (they crash instead).
"""

from models.errors import RefusedError
from models.tflite.flatbuffer import malformed
from models.tflite.graph import Graph, RawTensor, Subgraph

_TEXT_SHOWN = 120


def check_order(graph: Graph) -> None:
    """Return if every subgraph can run as it is written.

    Raises:
        RefusedError: `MODEL_MALFORMED`, or `MODEL_UNSUPPORTED`: nothing goes in or nothing comes out.
    """
    for subgraph in graph.subgraphs:
        _check_subgraph(subgraph)
    for signature in graph.signatures:
        if signature.subgraph >= len(graph.subgraphs):
            raise malformed(f"signature {signature.key[:_TEXT_SHOWN]!r} is of no graph")
        tensors = len(graph.subgraphs[signature.subgraph].tensors)
        if any(number >= tensors for number in (*signature.inputs, *signature.outputs)):
            raise malformed(f"signature {signature.key[:_TEXT_SHOWN]!r} names tensors there aren't")
    if not graph.subgraphs[0].inputs or not graph.subgraphs[0].outputs:
        raise RefusedError("MODEL_UNSUPPORTED", "nothing goes into the model, or nothing comes out")


def _check_subgraph(subgraph: Subgraph) -> None:
    tensors = subgraph.tensors
    for number in (*subgraph.inputs, *subgraph.outputs):
        _tensor(tensors, number)
    if len(set(subgraph.inputs)) != len(subgraph.inputs):
        raise malformed("one input twice")
    given = {number for number, tensor in enumerate(tensors) if _is_there(tensor)}
    for number in subgraph.inputs:
        if tensors[number].constant is not None:
            raise malformed(f"input {tensors[number].name[:_TEXT_SHOWN]!r} is fixed")
        given.add(number)
    made: set[int] = set()
    for operator in subgraph.operators:
        for number in operator.inputs:
            if number == -1:
                continue
            tensor = _tensor(tensors, number)
            if number not in given and number not in made:
                raise malformed(
                    f"a step {operator.name} takes {tensor.name[:_TEXT_SHOWN]!r} before it is made"
                )
        for number in operator.outputs:
            tensor = _tensor(tensors, number)
            if number in made or tensor.constant is not None or number in subgraph.inputs:
                raise malformed(
                    f"a step {operator.name} writes {tensor.name[:_TEXT_SHOWN]!r}, which isn't its own"
                )
            made.add(number)
    for number in subgraph.outputs:
        if number not in given and number not in made:
            raise malformed(f"output {tensors[number].name[:_TEXT_SHOWN]!r} is never made")


def _is_there(tensor: RawTensor) -> bool:
    """Say whether a tensor has its content before any step ran: fixed, kept between calls, or none at all."""
    return tensor.constant is not None or tensor.variable or tensor.elements == 0


def _tensor(tensors: tuple[RawTensor, ...], number: int) -> RawTensor:
    if not 0 <= number < len(tensors):
        raise malformed(f"tensor {number} of {len(tensors)}")
    return tensors[number]
