"""From a graph that was checked to what a `TfliteFile` says of it. Pure."""

from models.card import Quantization, Tensor
from models.errors import RefusedError
from models.limits import BLOB_LIMIT_BYTES
from models.tflite import analysis, naming, schema
from models.tflite.graph import Graph, RawTensor
from models.tflite.order import check_order
from models.tflite.structure import read_graph
from models.tflite.values import TfliteFile, WeightSpan
from models.values import digest_of

_TEXT_SHOWN = 120


def read(raw: bytes) -> TfliteFile:
    """Return what the file in `raw` says of itself.

    Raises:
        RefusedError: `MODEL_MALFORMED`: it is damaged, or no TFLite file. `MODEL_TOO_LARGE`: it is,
            or it asks for, more than any edge device has. `MODEL_UNSUPPORTED`: it is whole, and
            beyond what Skerry serves.
    """
    if len(raw) > BLOB_LIMIT_BYTES:
        raise RefusedError(
            "MODEL_TOO_LARGE", f"the file has {len(raw)} bytes; at most {BLOB_LIMIT_BYTES}"
        )
    graph = read_graph(raw)
    check_order(graph)
    served = graph.subgraphs[0]
    return TfliteFile(
        digest=digest_of(raw),
        size_bytes=len(raw),
        version=graph.version,
        description=graph.description,
        runtime_version=graph.runtime_version,
        inputs=tuple(
            _tensor(name, served.tensors[number])
            for name, number in zip(naming.input_names(graph), served.inputs, strict=True)
        ),
        outputs=tuple(
            _tensor(name, served.tensors[number])
            for name, number in zip(naming.output_names(graph), served.outputs, strict=True)
        ),
        operators=analysis.operators(graph),
        format=analysis.numeric_format(graph),
        stateful=analysis.is_stateful(graph),
        memory_bytes=analysis.memory_bytes(graph),
        avoid_runtimes=analysis.avoid_runtimes(graph),
        weights=_weights(graph),
    )


def _tensor(name: str, tensor: RawTensor) -> Tensor:
    datatype = schema.DATATYPES.get(tensor.element)
    if datatype is None:
        raise RefusedError(
            "MODEL_UNSUPPORTED", f"{name!r} has elements no client can send: {tensor.element}"
        )
    if len(tensor.scales) > 1:
        raise RefusedError("MODEL_UNSUPPORTED", f"{name!r} is quantized per channel")
    quantization = None
    if tensor.scales and tensor.element not in {"FLOAT32", "FLOAT16", "FLOAT64"}:
        if tensor.scales[0] == 0:
            raise RefusedError("MODEL_MALFORMED", f"{name!r} has a scale of 0")
        quantization = Quantization(scale=tensor.scales[0], zero_point=tensor.zero_points[0])
    return Tensor(name=name, datatype=datatype, shape=tensor.varying, quantization=quantization)


def _weights(graph: Graph) -> tuple[WeightSpan, ...]:
    """Return where constants lie, in the file's order; one that tensors share is named once."""
    spans = {
        tensor.constant: WeightSpan(
            tensor=tensor.name[:_TEXT_SHOWN],
            datatype=tensor.element,
            offset=tensor.constant[0],
            length=tensor.constant[1],
        )
        for subgraph in graph.subgraphs
        for tensor in subgraph.tensors
        if tensor.constant is not None
    }
    return tuple(sorted(spans.values(), key=lambda span: span.offset))
