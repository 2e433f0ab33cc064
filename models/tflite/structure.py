"""From bytes to a graph: every part of the file is reached, bounded and numbered right. Pure.

All that the schema names is followed, also what Skerry doesn't use, so that a
file cut off anywhere is noticed. Checks that need only one part (a constant as
long as its shape says, as many scales as channels) are here; those of the graph
as a whole are in `models.tflite.order`.
"""

import math

from models.errors import RefusedError
from models.tflite import schema
from models.tflite.flatbuffer import Flatbuffer, Table, malformed
from models.tflite.graph import Graph, RawOperator, RawTensor, SignatureNames, Subgraph

# No edge model comes near any of these; large language models stay below them.
_TENSORS_LIMIT = 32_768
_OPERATORS_LIMIT = 32_768
_BUFFERS_LIMIT = 65_536
_SUBGRAPHS_LIMIT = 1024
_SMALL_LIMIT = 1024  # operator codes, signatures, metadata, anything else that is a list
_RANK_LIMIT = 16
_TENSOR_LIMIT_BYTES = 1 << 32
_TEXT_SHOWN = 120
_NARROW_BITS = 16

_Buffer = tuple[int, int] | None


def read_graph(raw: bytes) -> Graph:
    """Return the graph in a file.

    Raises:
        RefusedError: `MODEL_MALFORMED`, `MODEL_TOO_LARGE` or `MODEL_UNSUPPORTED`.
    """
    if raw[4:8] != schema.IDENTIFIER:
        raise malformed("it doesn't begin as one" if raw else "it is empty")
    file = Flatbuffer(raw)
    model = file.root()
    version = model.number(0, "I")
    if version != schema.VERSION:
        raise RefusedError("MODEL_UNSUPPORTED", f"schema version {version}; Skerry reads 3")
    buffers = _buffers(model, file)
    codes = [_code(each) for each in model.tables(1, _SMALL_LIMIT)]
    subgraphs = model.tables(2, _SUBGRAPHS_LIMIT)
    if not subgraphs:
        raise malformed("it has no graph")
    if model.tables(8, _SMALL_LIMIT) or model.tables(9, _SMALL_LIMIT):
        raise RefusedError("MODEL_UNSUPPORTED", "its weights are in another file")
    _count(subgraphs, 0, _TENSORS_LIMIT, "tensors")
    _count(subgraphs, 3, _OPERATORS_LIMIT, "operators")
    graph = Graph(
        version=version,
        description=(model.text(3) or "")[:_TEXT_SHOWN],
        runtime_version=_runtime_version(model, raw, buffers),
        subgraphs=tuple(_subgraph(each, buffers, codes, len(subgraphs)) for each in subgraphs),
        signatures=tuple(_signature(each) for each in model.tables(7, _SMALL_LIMIT)),
    )
    model.wholes(5)  # metadata buffers of older writers
    if file.size < (file.end + 3) // 4 * 4:
        raise malformed("its last bytes are missing")
    return graph


def _count(subgraphs: list[Table], field: int, limit: int, what: str) -> None:
    total = sum(subgraph.span(field, 4)[1] for subgraph in subgraphs)
    if total > limit:
        raise RefusedError("MODEL_TOO_LARGE", f"{total} {what}; at most {limit}")


def _buffers(model: Table, file: Flatbuffer) -> list[_Buffer]:
    found: list[_Buffer] = []
    for table in model.tables(4, _BUFFERS_LIMIT):
        start, length = table.span(0)
        # Content past the flatbuffer's own end; 0 and 1 are what writers leave where there is none.
        offset, size = table.number(1, "Q"), table.number(2, "Q")
        if offset > 1 or size > 1:
            if offset < 8 or offset + size > file.size:  # noqa: PLR2004  # not over the file's own head
                raise malformed(f"a constant lies from byte {offset} for {size} bytes")
            start, length = offset, size
            file.end = max(file.end, offset + size)
        found.append((start, length) if length else None)
    return found


def _code(table: Table) -> tuple[str, int, bool]:
    # The first field is what files before 2020 used; it stays at 127 for newer operators.
    number = max(table.number(0, "b"), table.number(3, "i"))
    custom_name = table.text(1)
    version = table.number(2, "i", 1)
    if number < 0 or not 0 <= version <= _SMALL_LIMIT:
        raise malformed(f"an operator has the number {number} and the version {version}")
    if number >= len(schema.OPERATORS):
        raise RefusedError(
            "MODEL_UNSUPPORTED", f"it uses operator {number}, which is newer than Skerry's runtimes"
        )
    if number == schema.CUSTOM:
        if not custom_name:
            raise malformed("a custom operator has no name")
        return custom_name[:_TEXT_SHOWN], version, True
    return schema.OPERATORS[number], version, False


def _subgraph(
    table: Table, buffers: list[_Buffer], codes: list[tuple[str, int, bool]], subgraphs: int
) -> Subgraph:
    tensors = tuple(_tensor(each, buffers) for each in table.tables(0, _TENSORS_LIMIT))
    table.text(4)
    return Subgraph(
        tensors=tensors,
        inputs=table.wholes(1),
        outputs=table.wholes(2),
        operators=tuple(
            _operator(each, codes, subgraphs) for each in table.tables(3, _OPERATORS_LIMIT)
        ),
    )


def _tensor(table: Table, buffers: list[_Buffer]) -> RawTensor:
    name = table.text(3) or ""
    called = f"tensor {name[:_TEXT_SHOWN]!r}"
    shape, signature = table.wholes(0), table.wholes(7)
    kind, buffer = table.number(1, "b"), table.number(2, "I")
    if not 0 <= kind < len(schema.ELEMENTS):
        raise malformed(f"{called} has elements of type {kind}")
    if len(shape) > _RANK_LIMIT or any(dimension < -1 for dimension in shape):
        raise malformed(f"{called} has the shape {list(shape[:_RANK_LIMIT])}")
    if signature and (len(signature) != len(shape) or any(dim < -1 for dim in signature)):
        raise malformed(f"{called} has two shapes that disagree")
    if buffer >= max(len(buffers), 1):
        raise malformed(f"{called} is in buffer {buffer} of {len(buffers)}")
    if table.number(10, "I"):
        raise RefusedError("MODEL_UNSUPPORTED", f"{called} is in another file")
    element = schema.ELEMENTS[kind]
    scales, zero_points = _quantization(table.table(4), shape, called)
    _check_zero_points(zero_points, element, called)
    sparsity = table.table(6)
    if sparsity is not None:
        _follow_sparsity(sparsity)
    for variant in table.tables(9, _SMALL_LIMIT):
        variant.wholes(0)
    tensor = RawTensor(
        name=name,
        element=element,
        shape=shape,
        varying=signature or shape,
        # Buffer 0 is empty by convention; some writers give it a length all the same.
        constant=buffers[buffer] if buffer else None,
        scales=scales,
        zero_points=zero_points,
        variable=bool(table.number(5, "b")),
        sparse=sparsity is not None,
    )
    _check_content(tensor, called)
    return tensor


def _check_content(tensor: RawTensor, called: str) -> None:
    if tensor.size_bytes > _TENSOR_LIMIT_BYTES:
        raise RefusedError("MODEL_TOO_LARGE", f"{called} would have {tensor.size_bytes} bytes")
    if tensor.constant is None or tensor.element not in schema.BITS or tensor.sparse:
        return
    if tensor.constant[1] != tensor.size_bytes:
        raise malformed(
            f"{called} has {tensor.constant[1]} bytes, and its shape wants {tensor.size_bytes}"
        )


def _quantization(
    table: Table | None, shape: tuple[int, ...], called: str
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return scales and zero points, if they are as the runtimes want them."""
    if table is None:
        return (), ()
    table.span(0, 4)
    table.span(1, 4)
    scales, zero_points = table.reals(2), table.wholes(3, "q")
    dimension = table.number(6, "i")
    details, kind = table.table(5), table.number(4, "B")
    if details is not None and 1 <= kind <= 3:  # noqa: PLR2004  # the three there are
        details.span(0 if kind == 1 else 3, 1 if kind == 1 else 4)
    if not scales:
        return (), ()
    if len(scales) != len(zero_points):
        raise malformed(f"{called} has {len(scales)} scales and {len(zero_points)} zero points")
    if shape and not 0 <= dimension < len(shape):
        raise malformed(f"{called} is quantized along dimension {dimension} of {len(shape)}")
    if len(scales) > 1 and shape and len(scales) != shape[dimension]:
        raise malformed(f"{called} has {len(scales)} scales for {shape[dimension]} channels")
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        raise malformed(f"{called} has a scale that is none")
    return scales, zero_points


def _check_zero_points(zero_points: tuple[int, ...], element: str, called: str) -> None:
    """Refuse one that its elements can't hold, where they are narrow integers."""
    bits = schema.BITS.get(element, 0)
    if not zero_points or bits > _NARROW_BITS or not element.lstrip("U").startswith("INT"):
        return
    least, most = (0, 1 << bits) if element.startswith("U") else (-(1 << bits - 1), 1 << bits - 1)
    if not all(least <= zero_point < most for zero_point in zero_points):
        raise malformed(f"{called} has a zero point that {element} can't hold")


def _follow_sparsity(table: Table) -> None:
    table.span(0, 4)
    table.span(1, 4)
    for dimension in table.tables(2, _SMALL_LIMIT):
        for kind_field, vector_field in ((2, 3), (4, 5)):
            vector = dimension.table(vector_field)
            width = {1: 4, 2: 2, 3: 1}.get(dimension.number(kind_field, "B"))
            if vector is not None and width is not None:
                vector.span(0, width)


def _operator(table: Table, codes: list[tuple[str, int, bool]], subgraphs: int) -> RawOperator:
    index = table.number(0, "I")
    if index >= len(codes):
        raise malformed(f"a step uses operator {index} of {len(codes)}")
    name, version, custom = codes[index]
    for number, options, last, parts in (
        (table.number(3, "B"), table.table(4), schema.OPTIONS_LAST, schema.OPTIONS_PARTS),
        (table.number(11, "B"), table.table(12), schema.OPTIONS_2_LAST, schema.OPTIONS_2_PARTS),
    ):
        if number > last or (number and options is None):
            raise malformed(f"a step {name} has options of type {number}")
        if options is not None:
            _follow_options(options, parts.get(number, ()))
    _check_calls(table, name, subgraphs)
    table.span(5)
    table.span(7)
    table.span(8, 4)
    return RawOperator(
        name=name, version=version, custom=custom, inputs=table.wholes(1), outputs=table.wholes(2)
    )


def _follow_options(options: Table, parts: tuple[tuple[int, int], ...]) -> None:
    for field, width in parts:
        if width == schema.TEXT:
            options.text(field)
        else:
            options.span(field, width)


def _check_calls(table: Table, name: str, subgraphs: int) -> None:
    options = table.table(4)
    for field in schema.CALLS.get(table.number(3, "B"), ()) if options is not None else ():
        called = options.number(field, "i") if options is not None else 0
        if not 0 <= called < subgraphs:
            raise malformed(f"a step {name} runs graph {called} of {subgraphs}")


def _signature(table: Table) -> SignatureNames:
    return SignatureNames(
        key=table.text(2) or "",
        subgraph=table.number(4, "I"),
        inputs=_names(table, 0),
        outputs=_names(table, 1),
    )


def _names(table: Table, field: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in table.tables(field, _SMALL_LIMIT):
        found.setdefault(entry.number(1, "I"), entry.text(0) or "")
    return found


def _runtime_version(model: Table, raw: bytes, buffers: list[_Buffer]) -> str | None:
    found = None
    for entry in model.tables(6, _SMALL_LIMIT):
        name, index = entry.text(0), entry.number(1, "I")
        if index >= len(buffers):
            raise malformed(f"metadata {(name or '')[:_TEXT_SHOWN]!r} is in buffer {index}")
        content = buffers[index]
        if name == "min_runtime_version" and content is not None:
            start, length = content
            text = raw[start : start + min(length, 32)].split(b"\0")[0]
            found = text.decode("ascii", errors="replace") or None
    return found
