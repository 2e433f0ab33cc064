"""A damaged or hostile `.tflite` is refused with the reason, fast; nothing else ever happens."""

import tracemalloc
from collections.abc import Callable
from time import process_time

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tflite
from models.errors import RefusedError

Make = Callable[..., bytes]
Change = Callable[[schema.ModelT], object]

LONGEST_S = 10.0
"""What the worst file may cost on two busy cores; the usual is milliseconds."""


def refused_or_read(raw: bytes) -> str:
    """Return the reason code, or `read`. Anything but a refusal fails the test that asks."""
    try:
        tflite.read(raw)
    except RefusedError as error:
        return error.reason if 0 < len(str(error)) < 600 else "a message of no use"
    return "read"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0",
        b"TFL3",
        b"\x18\0\0\0TFL3",
        b"\x08\0\0\0TFL3",
        b"\0" * 64,
        b"\xff" * 64,
        b"PK\x03\x04" * 9,
    ],
    ids=["empty", "byte", "mark", "crasher", "self", "zeros", "ones", "archive"],
)
def test_what_is_no_model_is_refused(raw: bytes) -> None:
    """Eight bytes with the right mark crashed a loader once."""
    assert "MODEL_MALFORMED" == refused_or_read(raw)


def test_a_file_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything else is looked at."""
    monkeypatch.setattr("models.tflite.reading.BLOB_LIMIT_BYTES", 8)

    assert "MODEL_TOO_LARGE" == refused_or_read(b"\0" * 9)


def test_a_model_cut_off_anywhere_is_refused(model: bytes) -> None:
    """Every length short of the whole, down to the last byte."""
    for length in range(len(model)):
        assert "read" != refused_or_read(model[:length]), length


def test_every_flipped_bit_is_read_or_refused(model: bytes) -> None:
    """No flip makes the reader fail in another way, or name bytes outside the file."""
    refused = 0
    for at in range(len(model)):
        for bit in range(8):
            raw = bytearray(model)
            raw[at] ^= 1 << bit
            try:
                file = tflite.read(bytes(raw))
            except RefusedError:
                refused += 1
            else:
                assert all(span.offset + span.length <= len(raw) for span in file.weights)
    assert refused > len(model)


@settings(max_examples=300)
@given(st.binary(max_size=2000))
def test_random_bytes_are_refused(raw: bytes) -> None:
    """With and without the mark of the format."""
    assert "read" != refused_or_read(raw)
    assert "read" != refused_or_read(raw[:4] + b"TFL3" + raw[4:])


@settings(max_examples=500)
@given(st.data())
def test_words_overwritten_are_read_or_refused(model: bytes, data: st.DataObject) -> None:
    """Offsets, lengths and counts at their extremes, several at once."""
    raw = bytearray(model)
    extremes = st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(model)])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(model) // 4 - 1)) * 4
        raw[at : at + 4] = data.draw(extremes).to_bytes(4, "little")
    refused_or_read(bytes(raw))


@settings(max_examples=300)
@given(st.data())
def test_pieces_moved_are_read_or_refused(model: bytes, data: st.DataObject) -> None:
    """A part of a file copied over another, as a bad disk or a bad merge does."""
    raw = bytearray(model)
    length = data.draw(st.integers(1, 256))
    source = data.draw(st.integers(0, len(model) - length))
    target = data.draw(st.integers(0, len(model) - length))
    raw[target : target + length] = raw[source : source + length]
    refused_or_read(bytes(raw))


def _served(model: schema.ModelT) -> schema.SubGraphT:
    return model.subgraphs[0]


def _set(table: object, name: str, value: object) -> object:
    """Set one field of a table, as part of a lambda."""
    setattr(table, name, value)
    return table


HOSTILE: dict[str, tuple[Change, str]] = {
    "weights in another file": (
        lambda m: _set(m, "externalBufferGroups", [schema.ExternalBufferGroupT()]),
        "its weights are in another file",
    ),
    "a tensor in another file": (
        lambda m: _set(_served(m).tensors[1], "externalBuffer", 7),
        "is in another file",
    ),
    "input quantized per channel": (
        lambda m: (
            _set(_served(m).tensors[0].quantization, "scale", [0.5] * 8),
            _set(_served(m).tensors[0].quantization, "zeroPoint", [0] * 8),
            _set(_served(m).tensors[0].quantization, "quantizedDimension", 1),
        ),
        "is quantized per channel",
    ),
    "no graph": (lambda m: _set(m, "subgraphs", []), "no graph"),
    "schema version 9": (lambda m: _set(m, "version", 9), "schema version 9"),
    "buffer index": (lambda m: _set(_served(m).tensors[1], "buffer", 99), "buffer 99 of 4"),
    "element type": (lambda m: _set(_served(m).tensors[1], "type", 99), "type 99"),
    "negative shape": (lambda m: _set(_served(m).tensors[1], "shape", [-4, 8]), "the shape"),
    "rank": (lambda m: _set(_served(m).tensors[1], "shape", [1] * 40), "the shape"),
    "two shapes": (
        lambda m: _set(_served(m).tensors[0], "shapeSignature", [1]),
        "two shapes that disagree",
    ),
    "constant too short": (
        lambda m: _set(_served(m).tensors[1], "shape", [4, 9]),
        "has 32 bytes, and its shape wants 36",
    ),
    "enormous tensor": (
        lambda m: _set(_served(m).tensors[2], "shape", [1 << 20, 1 << 20]),
        "would have",
    ),
    "scales without zero points": (
        lambda m: _set(_served(m).tensors[1].quantization, "zeroPoint", []),
        "1 scales and 0 zero points",
    ),
    "scales for no channel": (
        lambda m: (
            _set(_served(m).tensors[1].quantization, "scale", [0.1] * 3),
            _set(_served(m).tensors[1].quantization, "zeroPoint", [0] * 3),
        ),
        "3 scales for 4 channels",
    ),
    "scale is not a number": (
        lambda m: _set(_served(m).tensors[1].quantization, "scale", [float("nan")]),
        "a scale that is none",
    ),
    "scale of zero": (
        lambda m: _set(_served(m).tensors[0].quantization, "scale", [0.0]),
        "a scale of 0",
    ),
    "zero point out of range": (
        lambda m: _set(_served(m).tensors[0].quantization, "zeroPoint", [300]),
        "a zero point that INT8 can't hold",
    ),
    "quantized dimension": (
        lambda m: _set(_served(m).tensors[1].quantization, "quantizedDimension", 7),
        "along dimension 7 of 2",
    ),
    "operator index": (
        lambda m: _set(_served(m).operators[0], "opcodeIndex", 9),
        "operator 9 of 2",
    ),
    "unknown operator": (
        lambda m: _set(m.operatorCodes[0], "builtinCode", 5000),
        "operator 5000",
    ),
    "nameless custom operator": (
        lambda m: (
            _set(m.operatorCodes[0], "builtinCode", 32),
            _set(m.operatorCodes[0], "deprecatedBuiltinCode", 32),
        ),
        "has no name",
    ),
    "step takes a tensor there isn't": (
        lambda m: _set(_served(m).operators[0], "inputs", [0, 77]),
        "tensor 77 of 5",
    ),
    "step takes a negative tensor": (
        lambda m: _set(_served(m).operators[0], "inputs", [0, -2]),
        "tensor -2 of 5",
    ),
    "step writes a tensor there isn't": (
        lambda m: _set(_served(m).operators[0], "outputs", [-1]),
        "tensor -1 of 5",
    ),
    "step writes weights": (
        lambda m: _set(_served(m).operators[0], "outputs", [1]),
        "which isn't its own",
    ),
    "step writes an input": (
        lambda m: _set(_served(m).operators[1], "outputs", [0]),
        "which isn't its own",
    ),
    "steps in the wrong order": (
        lambda m: _served(m).operators.reverse(),
        "before it is made",
    ),
    "output never made": (lambda m: _served(m).operators.pop(), "is never made"),
    "input is fixed": (lambda m: _set(_served(m), "inputs", [1]), "is fixed"),
    "one input twice": (lambda m: _set(_served(m), "inputs", [0, 0]), "one input twice"),
    "no output": (lambda m: _set(_served(m), "outputs", []), "nothing comes out"),
    "signature of no graph": (
        lambda m: _set(m.signatureDefs[0], "subgraphIndex", 5),
        "is of no graph",
    ),
    "signature of no tensor": (
        lambda m: _set(m.signatureDefs[0].inputs[0], "tensorIndex", 500),
        "tensors there aren't",
    ),
    "metadata of no buffer": (
        lambda m: _set(m.metadata[0], "buffer", 44),
        "is in buffer 44",
    ),
    "complex input": (
        lambda m: _set(_served(m).tensors[0], "type", schema.TensorType.COMPLEX64),
        "COMPLEX64",
    ),
    "options of no kind": (
        lambda m: (
            _set(_served(m).operators[0], "builtinOptions", None),
            _set(_served(m).operators[0], "builtinOptionsType", 250),
        ),
        "options of type 250",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_whole_flatbuffer_that_lies_is_refused(name: str, make_model: Make) -> None:
    """The refusal says what is wrong, so that whoever exported the file can mend it."""
    change, why = HOSTILE[name]

    with pytest.raises(RefusedError, match=why):
        tflite.read(make_model(change))


def _repeating(tensors: int, subgraphs: int, steps: int, takes: int) -> bytes:
    """Return a small file that refers to the same tensor, step and subgraph again and again."""
    builder = flatbuffers.Builder(1 << 20)

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in offsets:
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def table(*fields: int) -> int:
        builder.StartObject(len(fields))
        for number, field in enumerate(fields):
            if field:
                builder.PrependUOffsetTRelativeSlot(number, field, 0)
        return int(builder.EndObject())

    builder.StartVector(4, takes, 4)
    for _ in range(takes):
        builder.PrependInt32(-1)
    taken = int(builder.EndVector())
    builder.StartVector(4, tensors, 4)
    for number in range(tensors):
        builder.PrependInt32(tensors - 1 - number)
    numbers = int(builder.EndVector())
    tensor, step, code = table(), table(0, taken), table()
    graph = table(vector([tensor] * tensors), numbers, numbers, vector([step] * steps))
    codes, graphs = vector([code]), vector([graph] * subgraphs)
    builder.StartObject(3)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(1, codes, 0)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("tensors", "subgraphs", "steps", "takes"),
    [
        (30_000, 1, 0, 0),
        (1_000, 1_000, 0, 0),
        (1, 1, 30_000, 100),
        (1, 1, 1_000, 200_000),
        (10, 60_000, 0, 0),
    ],
)
def test_a_file_that_repeats_itself_costs_little(
    tensors: int, subgraphs: int, steps: int, takes: int
) -> None:
    """Small files whose parts, if followed one by one, would be many times the file."""
    raw = _repeating(tensors, subgraphs, steps, takes)
    started = process_time()
    found = refused_or_read(raw)
    took_s = process_time() - started
    tracemalloc.start()
    try:
        refused_or_read(raw)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "MODEL_TOO_LARGE" == found
    assert took_s < LONGEST_S
    assert peak_bytes < 64 * 1024 * 1024
