"""The golden blob: raw tensors one after another, and nothing that the card doesn't say."""

from dataclasses import replace

import pytest

from models import golden
from models.card import Card, Golden, Provenance, Tensor, Tolerance
from models.errors import RefusedError
from models.golden import Vector
from models.values import Datatype, ModelRef, digest_of

INPUT = Tensor(name="x", datatype=Datatype.INT8, shape=(-1, 3))
OUTPUT = Tensor(name="y", datatype=Datatype.FP32, shape=(1, 2))
VECTORS = [
    Vector(inputs=(b"abc",), outputs=(b"01234567",)),
    Vector(inputs=(b"def",), outputs=(b"76543210",)),
]


def card_of(blob: bytes, vectors: int = 2) -> Card:
    return Card(
        ref=ModelRef("m", "1.0.0"),
        task="regression",
        inputs=(INPUT,),
        outputs=(OUTPUT,),
        variants=(),
        provenance=Provenance(source_digest=digest_of(b"")),
        golden=Golden(
            digest=digest_of(blob),
            size_bytes=len(blob),
            vectors=vectors,
            origin="test",
            tolerances=(Tolerance(largest=1, mean=1),),
            measured_on=(),
        ),
        licence="",
    )


def test_what_is_written_is_read() -> None:
    """Inputs then outputs, vector after vector; a dimension that may vary is 1."""
    blob = golden.write([INPUT], [OUTPUT], VECTORS)
    read = golden.read(card_of(blob), blob)

    assert b"abc01234567def76543210" == blob
    assert [bytes(vector.inputs[0]) for vector in read] == [b"abc", b"def"]
    assert [bytes(vector.outputs[0]) for vector in read] == [b"01234567", b"76543210"]


@pytest.mark.parametrize("cut", [1, 11, 22])
def test_a_blob_of_another_length_is_refused(cut: int) -> None:
    """No vector is guessed from a blob that is too short or too long."""
    blob = golden.write([INPUT], [OUTPUT], VECTORS)
    for wrong in (blob[:-cut], blob + blob[:cut]):
        with pytest.raises(RefusedError) as refused:
            golden.read(card_of(blob), wrong)
        assert "BUNDLE_MALFORMED" == refused.value.reason


def test_a_tensor_of_the_wrong_length_is_not_written() -> None:
    """A blob that its own card would refuse is never made."""
    with pytest.raises(ValueError, match="x is 3 bytes, not 2"):
        golden.write([INPUT], [OUTPUT], [replace(VECTORS[0], inputs=(b"ab",))])


def test_elements_without_a_size_are_unsupported() -> None:
    """Text tensors have no golden vectors."""
    with pytest.raises(RefusedError) as refused:
        golden.size_of(replace(INPUT, datatype=Datatype.BYTES))
    assert "MODEL_UNSUPPORTED" == refused.value.reason
