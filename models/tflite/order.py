"""Whether a graph can run: what a step takes is there by then, what is fixed stays. Pure.

The rules are those of the official verifier, which runtimes of some versions
leave out (they crash instead).
"""

from models.errors import RefusedError
from models.tflite.flatbuffer import malformed
from models.tflite.graph import Graph, RawOperator, RawTensor, Subgraph

_TEXT_SHOWN = 120
_PORTS_LIMIT = 256  # what a client would have to name in one request


def check_order(graph: Graph) -> None:
    """Return if every subgraph can run as it is written.

    Raises:
        RefusedError: `MODEL_MALFORMED`, `MODEL_TOO_LARGE`, or `MODEL_UNSUPPORTED`: nothing goes in
            or comes out.
    """
    for subgraph in graph.subgraphs:
        _check_subgraph(subgraph)
    for signature in graph.signatures:
        if signature.subgraph >= len(graph.subgraphs):
            raise malformed(f"signature {signature.key[:_TEXT_SHOWN]!r} is of no graph")
        tensors = len(graph.subgraphs[signature.subgraph].tensors)
        if any(number >= tensors for number in (*signature.inputs, *signature.outputs)):
            raise malformed(f"signature {signature.key[:_TEXT_SHOWN]!r} names tensors there aren't")
    for numbers in (graph.subgraphs[0].inputs, graph.subgraphs[0].outputs):
        if len(numbers) > _PORTS_LIMIT:
            raise RefusedError(
                "MODEL_TOO_LARGE", f"{len(numbers)} inputs or outputs; at most {_PORTS_LIMIT}"
            )
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
    fixed = {number for number, tensor in enumerate(tensors) if tensor.constant is not None}
    made = _made(subgraph, given, fixed | set(subgraph.inputs))
    for number in subgraph.outputs:
        if number not in given and number not in made:
            raise malformed(f"output {tensors[number].name[:_TEXT_SHOWN]!r} is never made")


def _made(subgraph: Subgraph, given: set[int], kept: set[int]) -> set[int]:
    """Return what the steps make, each from what is there by then, and none of it in `kept`."""
    made: set[int] = set()
    for operator in subgraph.operators:
        for number in operator.inputs:
            if number != -1:
                tensor = _tensor(subgraph.tensors, number)
                if number not in given and number not in made:
                    raise _misstep(operator, "takes", tensor, "before it is made")
        for number in operator.outputs:
            tensor = _tensor(subgraph.tensors, number)
            if number in made or number in kept:
                raise _misstep(operator, "writes", tensor, "which isn't its own")
            made.add(number)
    return made


def _misstep(operator: RawOperator, does: str, tensor: RawTensor, how: str) -> RefusedError:
    return malformed(f"a step {operator.name} {does} {tensor.name[:_TEXT_SHOWN]!r}, {how}")


def _is_there(tensor: RawTensor) -> bool:
    """Say whether a tensor has its content before any step: fixed, kept between calls, or none."""
    return tensor.constant is not None or tensor.variable or tensor.elements == 0


def _tensor(tensors: tuple[RawTensor, ...], number: int) -> RawTensor:
    if not 0 <= number < len(tensors):
        raise malformed(f"tensor {number} of {len(tensors)}")
    return tensors[number]
