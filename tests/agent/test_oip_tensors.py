"""A request is answered exactly, or refused with a sentence that helps."""

import gzip
import json
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.workers.oip import (
    Request,
    Signature,
    Wanted,
    decompress,
    metadata,
    read_request,
    write_answer,
)
from agent.workers.tensors import OipError
from agent.workers.values import Encoding
from models.card import Tensor
from models.values import Datatype


def signature(*inputs: Tensor, outputs: tuple[Tensor, ...] = ()) -> Signature:
    return Signature(
        name="digits", version="1.0.0", inputs=inputs, outputs=outputs or (tensor("y", "FP32", 1),)
    )


def tensor(name: str, datatype: str, *shape: int) -> Tensor:
    return Tensor(name=name, datatype=Datatype(datatype), shape=shape)


IMAGE = tensor("x", "INT8", 1, 4)
ONE = signature(IMAGE)
TWO = signature(
    IMAGE, tensor("k", "FP32", 2), outputs=(tensor("y", "FP32", 1), tensor("z", "INT8", 2))
)


def entry(**changes: object) -> dict[str, Any]:
    whole = {"name": "x", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]} | changes
    return {name: value for name, value in whole.items() if value is not None}


def read(document: object, of: Signature = ONE, blobs: bytes | None = None) -> Request:
    header = document if isinstance(document, bytes) else json.dumps(document).encode()
    body = header + (blobs or b"")
    return read_request(memoryview(body), None if blobs is None else len(header), of)


def refused(document: object, of: Signature = ONE, blobs: bytes | None = None) -> str:
    with pytest.raises(OipError) as caught:
        read(document, of, blobs)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2, 3, 4]]])
def test_data_may_be_nested_or_flat(data: object) -> None:
    """Both forms the protocol knows give the same tensor."""
    (array,) = read({"inputs": [entry(data=data)]}).arrays

    assert [[1, 2, 3, 4]] == array.tolist()
    assert np.int8 == array.dtype


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
        ([], "not a JSON object"),
        ({}, '"inputs" must be a list'),
        ({"inputs": {}}, '"inputs" must be a list'),
        ({"inputs": [1]}, 'an object with a "name"'),
        ({"inputs": []}, "'x' is missing; the model takes x: INT8 [1, 4]"),
        ({"inputs": [entry(name="w")]}, "the model has no input 'w'; it has x"),
        ({"inputs": [entry(), entry()]}, "given twice"),
        ({"inputs": [entry(datatype="FP32")]}, "is INT8, not FP32"),
        ({"inputs": [entry(datatype="BF16")]}, "is INT8, not BF16"),
        ({"inputs": [entry(datatype="BYTES", data=["a"])]}, "is INT8, not BYTES"),
        ({"inputs": [entry(datatype=None)]}, "is INT8, not None"),
        ({"inputs": [entry(shape=[4])]}, "has shape [1, 4], not [4]"),
        ({"inputs": [entry(shape=[1, 5])]}, "has shape [1, 4], not [1, 5]"),
        ({"inputs": [entry(shape=[1, -4])]}, "whole numbers above 0"),
        ({"inputs": [entry(shape=[1, 0])]}, "whole numbers above 0"),
        ({"inputs": [entry(shape=[True, 4])]}, "whole numbers above 0"),
        ({"inputs": [entry(shape="1,4")]}, "whole numbers above 0"),
        ({"inputs": [entry(shape=None)]}, "whole numbers above 0"),
        ({"inputs": [entry(data=[1, 2, 3])]}, "has 3 elements; shape [1, 4] has 4"),
        ({"inputs": [entry(data=[])]}, "has 0 elements"),
        ({"inputs": [entry(data=[[1, 2], [3, 4]])]}, "nested as [2, 2]"),
        ({"inputs": [entry(data=[[1, 2], [3]])]}, "ragged"),
        ({"inputs": [entry(data=5)]}, 'needs "data", a list'),
        ({"inputs": [entry(data=None)]}, 'needs "data", a list'),
        ({"inputs": [entry(data=[1, 2, 3, 300])]}, "between -128 and 127"),
        ({"inputs": [entry(data=[1, 2, 3, 10**30])]}, "no such number"),
        ({"inputs": [entry(data=[1, 2, 3, 4.5])]}, "no such number"),
        ({"inputs": [entry(data=["1", "2", "3", "4"])]}, "no such number"),
        ({"inputs": [entry(data=[True, False, True, True])]}, "no such number"),
        ({"inputs": [entry(data=[1, 2, None, 4])]}, "no such number"),
        ({"inputs": [entry(data=[1, 2, {}, 4])]}, "no such number"),
        ({"inputs": [entry(parameters=[])]}, '"parameters" must be an object'),
        ({"inputs": [entry(parameters={"shared_memory_region": "r"})]}, "not offered here"),
        ({"inputs": [entry(data=None, parameters={"binary_data_size": 4})]}, "Inference-Header"),
        ({"inputs": [entry()], "id": 7}, '"id" must be a string'),
        ({"inputs": [entry()], "id": "i" * 1025}, '"id" must be a string'),
        ({"inputs": [entry()], "outputs": [{"name": "q"}]}, "no output 'q'; it has y"),
        ({"inputs": [entry()], "outputs": "y"}, '"outputs" must be a list'),
        (
            {"inputs": [entry()], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            "'classification' is an extension that is not offered here",
        ),
        ({"inputs": [entry()], "parameters": {"binary_data_output": 1}}, "true or false"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_a_sentence_that_helps(document: object, says: str) -> None:
    """The client learns what is wrong and what would be right."""
    assert says in refused(document)


@pytest.mark.parametrize(
    ("parameters", "blobs", "says"),
    [
        ({"binary_data_size": 3}, b"abc", "has 3 bytes; INT8 [1, 4] takes 4"),
        ({"binary_data_size": 4}, b"abc", "said to have 4 bytes, but only 3 are left"),
        ({"binary_data_size": 4}, b"abcde", "1 bytes of the body belong to no input"),
        ({"binary_data_size": -1}, b"abcd", "whole number of bytes"),
        ({"binary_data_size": "4"}, b"abcd", "whole number of bytes"),
        ({"binary_data_size": True}, b"a", "whole number of bytes"),
        ({"binary_data_size": 10**18}, b"abcd", "but only 4 are left"),
        ({}, b"abcd", "4 bytes of the body belong to no input"),
    ],
)
def test_binary_sizes_must_add_up(parameters: object, blobs: bytes, says: str) -> None:
    """No byte of the body is unaccounted for."""
    assert says in refused({"inputs": [entry(data=None, parameters=parameters)]}, ONE, blobs)


def test_data_and_binary_exclude_each_other() -> None:
    """Two truths for one tensor are refused."""
    assert 'both "data"' in refused(
        {"inputs": [entry(parameters={"binary_data_size": 4})]}, ONE, b"abcd"
    )


def test_binary_and_json_tensors_mix_in_any_order() -> None:
    """Blobs follow the order of the request; arrays come in the order of the model."""
    k = {"name": "k", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    x = entry(data=None, parameters={"binary_data_size": 4})
    blobs = np.array([0.5, -2], "<f4").tobytes() + b"\x01\xff\x02\xfe"
    request = read({"inputs": [k, x]}, TWO, blobs)
    mixed = read({"inputs": [k, entry()]}, TWO, blobs[:8])

    assert [[1, -1, 2, -2]] == request.arrays[0].tolist()
    assert [0.5, -2] == request.arrays[1].tolist()
    assert [[1, 2, 3, 4]] == mixed.arrays[0].tolist()


def test_the_spec_s_own_bool_example_is_refused() -> None:
    """Shape [3] with one element is a size mismatch, though the specification prints it."""
    flags = signature(tensor("b", "BOOL", 3))
    document = {"inputs": [{"name": "b", "datatype": "BOOL", "shape": [3], "data": [True]}]}

    assert "has 1 elements; shape [3] has 3" in refused(document, flags)


def test_bool_takes_true_and_false_only() -> None:
    """Neither 1 nor a byte of 2 is a truth value."""
    flags = signature(tensor("b", "BOOL", 2))
    good = {"inputs": [{"name": "b", "datatype": "BOOL", "shape": [2], "data": [True, False]}]}
    ones = {"inputs": [{"name": "b", "datatype": "BOOL", "shape": [2], "data": [1, 0]}]}
    binary = {
        "inputs": [
            {"name": "b", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}
        ]
    }

    assert [True, False] == read(good, flags).arrays[0].tolist()
    assert [True, False] == read(binary, flags, b"\x01\x00").arrays[0].tolist()
    assert "no such number" in refused(ones, flags)
    assert "each byte must be 0 or 1" in refused(binary, flags, b"\x02\x00")


def test_fp16_is_binary_only() -> None:
    """JSON has no agreed form for it, in either direction."""
    half = signature(tensor("h", "FP16", 2), outputs=(tensor("y", "FP16", 1),))
    json_form = {"inputs": [{"name": "h", "datatype": "FP16", "shape": [2], "data": [1, 2]}]}
    binary = {
        "inputs": [
            {"name": "h", "datatype": "FP16", "shape": [2], "parameters": {"binary_data_size": 4}}
        ]
    }
    blobs = np.array([1, 2], "<f2").tobytes()

    assert "send it as binary" in refused(json_form, half)
    assert "FP16, which JSON can't carry" in refused(binary, half, blobs)
    asked = binary | {"parameters": {"binary_data_output": True}}
    assert [1, 2] == read(asked, half, blobs).arrays[0].tolist()


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        ("UINT8", [0, 255], [-1, 0]),
        ("INT16", [-32768, 32767], [0, 32768]),
        ("UINT64", [0, 2**64 - 1], [-1, 2]),
        ("INT64", [-(2**63), 2**63 - 1], [0, 2**63]),
        ("FP32", [1, 2.5], [0, 1e39]),
        ("FP64", [1, 1e308], ["a", "b"]),
    ],
)
def test_every_number_has_its_place_or_is_refused(datatype: str, good: object, bad: object) -> None:
    """Bounds of each datatype are kept exactly."""
    of = signature(tensor("n", datatype, 2))
    document = {"name": "n", "datatype": datatype, "shape": [2]}

    assert good == read({"inputs": [document | {"data": good}]}, of).arrays[0].tolist()
    refused({"inputs": [document | {"data": bad}]}, of)


def test_a_dimension_that_varies_takes_any_size_above_zero() -> None:
    """-1 in the model's shape is the client's to choose."""
    of = signature(tensor("x", "FP32", -1, 2))
    document = {"name": "x", "datatype": "FP32", "shape": [3, 2], "data": [1, 2, 3, 4, 5, 6]}

    assert (3, 2) == read({"inputs": [document]}, of).arrays[0].shape


def test_a_raw_body_is_the_one_input() -> None:
    """No JSON at all; outputs come back binary; a varying dimension follows from the size."""
    request = read_request(memoryview(b"\x01\x02\x03\xff"), 0, ONE)
    rows = read_request(memoryview(bytes(24)), 0, signature(tensor("x", "FP32", -1, 2)))

    assert [[1, 2, 3, -1]] == request.arrays[0].tolist()
    assert (Wanted(index=0, binary=True),) == request.wanted
    assert (3, 2) == rows.arrays[0].shape


@pytest.mark.parametrize(
    ("of", "body", "says"),
    [
        (TWO, b"\x01\x02\x03\x04", "models with one input"),
        (ONE, b"\x01\x02\x03", "has 3 bytes; INT8 [1, 4] takes 4"),
        (ONE, b"", "has 0 bytes"),
        (signature(tensor("x", "FP32", -1, 2)), b"12345", "no whole number of rows"),
        (signature(tensor("x", "FP32", -1, 2)), b"", "no whole number of rows"),
        (signature(tensor("x", "FP32", -1, -1)), b"1234", "can't say the shape"),
    ],
)
def test_a_raw_body_that_can_t_be_right_is_refused(of: Signature, body: bytes, says: str) -> None:
    """Its size is all there is to check, so that is checked."""
    with pytest.raises(OipError, match=r".") as caught:
        read_request(memoryview(body), 0, of)

    assert says in str(caught.value)


def test_a_header_longer_than_the_body_is_refused() -> None:
    """A lie about the header's length reads nothing outside the body."""
    with pytest.raises(OipError, match="but the body has 2 bytes"):
        read_request(memoryview(b"{}"), 3, ONE)


def answer_of(request: Request, results: list[Any], of: Signature) -> tuple[Any, bytes]:
    region = memoryview(bytearray(4096))
    length, json_length = write_answer(region, request, results, of)
    split = length if json_length is None else json_length
    return json.loads(bytes(region[:split])), bytes(region[split:length])


def test_the_answer_keeps_to_what_was_asked() -> None:
    """Only the outputs asked for, in that order and form; the id only when one was given."""
    k = {"name": "k", "datatype": "FP32", "shape": [2], "data": [1, 2]}
    outputs = [{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}]
    results = [np.array([0.1], np.float32), np.array([1, -1], np.int8)]
    asked = read({"id": "", "inputs": [entry(), k], "outputs": outputs}, TWO)
    header, blobs = answer_of(asked, results, TWO)
    plain, nothing = answer_of(read({"inputs": [entry(), k]}, TWO), results, TWO)

    assert "" == header["id"]
    assert b"\x01\xff" == blobs
    assert [
        {"name": "z", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
        {"name": "y", "datatype": "FP32", "shape": [1], "data": [0.1]},
    ] == header["outputs"]
    assert ("digits", "1.0.0") == (plain["model_name"], plain["model_version"])
    assert "id" not in plain
    assert ["y", "z"] == [output["name"] for output in plain["outputs"]]
    assert b"" == nothing


def test_a_default_for_all_outputs_is_overridden_by_one() -> None:
    """binary_data_output is the request's default, binary_data the output's own word."""
    outputs = [{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}]
    k = {"name": "k", "datatype": "FP32", "shape": [2], "data": [1, 2]}
    document = {"inputs": [entry(), k], "parameters": {"binary_data_output": True}}

    assert (True, True) == tuple(wanted.binary for wanted in read(document, TWO).wanted)
    assert (True, False) == tuple(
        wanted.binary for wanted in read(document | {"outputs": outputs}, TWO).wanted
    )


def test_nan_is_not_written_as_json() -> None:
    """JSON would carry null, and a client would read it as a number that is none."""
    request = read({"inputs": [entry()]})
    with pytest.raises(OipError, match="NaN or infinity"):
        answer_of(request, [np.array([np.nan], np.float32)], ONE)


def test_an_answer_larger_than_the_region_is_an_error() -> None:
    """Nothing is cut short."""
    request = read({"inputs": [entry()]})
    with pytest.raises(OipError, match="ask for fewer outputs"):
        write_answer(memoryview(bytearray(16)), request, [np.zeros(1, np.float32)], ONE)


def test_metadata_says_what_the_model_takes() -> None:
    """The platform is our choice: the protocol's list has no TFLite."""
    assert {
        "name": "digits",
        "versions": ["1.0.0"],
        "platform": "tensorflowlite_tflite",
        "inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    } == json.loads(metadata(ONE))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (Encoding.IDENTITY, b"a body"),
        (Encoding.GZIP, gzip.compress(b"a body", mtime=0)),
        (Encoding.DEFLATE, zlib.compress(b"a body")),
    ],
)
def test_compressed_bodies_are_read(encoding: Encoding, packed: bytes) -> None:
    """What the real clients send."""
    assert b"a body" == bytes(decompress(memoryview(packed), encoding, limit_bytes=6))


@pytest.mark.parametrize("encoding", [Encoding.GZIP, Encoding.DEFLATE])
def test_a_bomb_is_refused_before_it_unfolds(encoding: Encoding) -> None:
    """A gigabyte of nothing in a megabyte costs no more than the limit."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding is Encoding.GZIP else 15)
    bomb = b"".join(pack.compress(bytes(1 << 20)) for _ in range(64)) + pack.flush()
    with pytest.raises(OipError) as caught:
        decompress(memoryview(bomb), encoding, limit_bytes=1000)

    assert 413 == caught.value.status


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"plain",
        gzip.compress(b"abc", mtime=0)[:-1],
        gzip.compress(b"abc", mtime=0) + b"x",
        zlib.compress(b"abc"),
    ],
)
def test_damaged_compression_is_refused(damaged: bytes) -> None:
    """Cut, foreign or with something behind: never half a body."""
    with pytest.raises(OipError) as caught:
        decompress(memoryview(damaged), Encoding.GZIP, limit_bytes=1000)

    assert 400 == caught.value.status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "inputs", "outputs", "data", "shape", "datatype", "parameters", "id", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.none() | st.integers(0, 60), st.binary(max_size=40))
def test_whatever_comes_is_answered_or_refused(
    document: object, json_length: int | None, tail: bytes
) -> None:
    """No document, however odd, is anything but a request or an OipError."""
    body = json.dumps(document).encode() + tail
    with suppress(OipError):
        read_request(memoryview(body), json_length, TWO)


@given(st.dictionaries(st.sampled_from(list(entry())), JSON, max_size=4))
def test_whatever_an_input_says_is_answered_or_refused(changes: dict[str, Any]) -> None:
    """Damage one field at a time: nothing but a request or an OipError."""
    with suppress(OipError):
        (array,) = read({"inputs": [entry() | changes]}).arrays

        assert (1, 4) == array.shape
