"""The real client, a real server, a real worker: what is served conforms to the protocol."""

import json
from itertools import product
from typing import Any

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from agent.serving.oip import route
from agent.workers.pool import start_worker
from tests.agent.packages import Array, Package
from tests.agent.served import device, digits


def tensor(array: Array, *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput("x", list(array.shape), "INT8")
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def output(*, binary: bool = True) -> triton.InferRequestedOutput:
    return triton.InferRequestedOutput("y", binary_data=binary)


async def test_the_real_client_finds_health_and_metadata(dense: Package) -> None:
    """Every question tritonclient can put, but those of extensions we don't claim."""
    async with digits(dense) as made:
        about = await made.triton(lambda client: client.get_server_metadata())
        model = await made.triton(lambda client: client.get_model_metadata("digits"))
        version = await made.triton(lambda client: client.get_model_metadata("digits", "1.0.0"))

        assert await made.triton(lambda client: client.is_server_live())
        assert await made.triton(lambda client: client.is_server_ready())
        assert await made.triton(lambda client: client.is_model_ready("digits"))
        assert await made.triton(lambda client: client.is_model_ready("digits", "1.0.0"))
        assert not await made.triton(lambda client: client.is_model_ready("digits", "2.0.0"))
        assert not await made.triton(lambda client: client.is_model_ready("letters"))
        assert {
            "name": "skerry", "version": "0.0.1", "extensions": ["binary_tensor_data"]
        } == about  # fmt: skip
        assert {
            "name": "digits",
            "versions": ["1.0.0"],
            "platform": "tensorflowlite_tflite",
            "inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 64]}],
            "outputs": [{"name": "y", "datatype": "INT8", "shape": [1, 10]}],
        } == model == version  # fmt: skip


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_the_real_client_gets_the_raw_interpreter_s_bytes(
    dense: Package, compression: str | None
) -> None:
    """JSON or binary, in and out, compressed or not: bit for bit the same."""
    raw = dense.raw()
    arrays = dense.inputs(6, seed=5)
    forms = list(product(["binary", "json"], ["anything", "binary", "json"]))

    def ask(client: triton.InferenceServerClient) -> list[triton.InferResult]:
        return [
            client.infer(
                "digits",
                [tensor(array, binary=given == "binary")],
                outputs=None if asked == "anything" else [output(binary=asked == "binary")],
                request_id="r-1",
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )
            for array, (given, asked) in zip(arrays, forms, strict=True)
        ]

    async with digits(dense) as made:
        for array, result in zip(arrays, await made.triton(ask), strict=True):
            answer, expected = result.as_numpy("y"), raw(array)
            document = result.get_response()

            assert expected.tobytes() == answer.tobytes()
            assert expected.dtype == answer.dtype
            assert ("digits", "1.0.0", "r-1") == (
                document["model_name"],
                document["model_version"],
                document["id"],
            )


async def test_a_published_stateful_model_streams(jarvis: Package) -> None:
    """The state goes on from request to request as in the raw interpreter."""
    raw = jarvis.raw()
    async with digits(jarvis) as made:
        for array in jarvis.inputs(8, seed=9):
            assert (200, raw(array).tobytes()) == await made.infer(array)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/v2", 200, {"name": "skerry", "version": "0.0.1", "extensions": ["binary_tensor_data"]}),
        ("/v2/", 200, {"name": "skerry", "version": "0.0.1", "extensions": ["binary_tensor_data"]}),
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 200, {"live": True, "ready": True}),
        ("/v2/models/digits/ready", 200, {"name": "digits", "ready": True}),
        ("/v2/models/%64igits/ready", 200, {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/1.0.0/ready", 200, {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/2/ready", 404, "digits serves version 1.0.0, not 2"),
        ("/v2/models/letters", 404, "'letters' here; this device serves digits"),
        ("/v2/models/letters/ready", 404, "no deployment is called 'letters'"),
        ("/v2/models/digits%2Fready", 404, "no deployment is called 'digits/ready'"),
        ("/v2/models/", 404, "nothing is at /v2/models/"),
        ("/", 404, "nothing is at /"),
        ("/v2/repository/index", 404, "nothing is at"),
        ("/v2/models/digits/infer", 405, "takes POST only"),
        ("/v2/../etc/passwd", 404, "nothing is at"),
    ],
)  # fmt: skip
async def test_every_path_answers_in_json(
    dense: Package, path: str, status: int, body: dict[str, Any] | str
) -> None:
    """Health is never empty, and every error is an object with `error`."""
    async with digits(dense) as made:
        got, headers, content = await made.http("GET", path)

        assert (status, "application/json") == (got, headers["content-type"])
        if isinstance(body, str):
            assert body in json.loads(content)["error"]
        else:
            assert body == json.loads(content)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_a_wrong_method_is_refused_in_json(dense: Package, method: str) -> None:
    """405 with an error, and the server goes on."""
    async with digits(dense) as made:
        status, _, content = await made.http(method, "/v2/health/live")

        assert 405 == status
        assert "takes GET only" in json.loads(content)["error"]
        assert 200 == (await made.http("GET", "/v2/health/live"))[0]


async def test_the_id_is_echoed_only_when_given(dense: Package) -> None:
    """The specification wants it back; clients without one don't want a null."""
    (array,) = dense.inputs(1, seed=1)
    given = {"name": "x", "datatype": "INT8", "shape": [1, 64], "data": array.tolist()}
    async with digits(dense) as made:
        without = await made.http(
            "POST", "/v2/models/digits/infer", json.dumps({"inputs": [given]}).encode()
        )
        with_one = await made.http(
            "POST", "/v2/models/digits/infer", json.dumps({"id": "7", "inputs": [given]}).encode()
        )

        assert "id" not in json.loads(without[2])
        assert "7" == json.loads(with_one[2])["id"]


async def test_mistakes_reach_the_real_client_as_sentences(dense: Package) -> None:
    """The client reads `error` from the body; what it shows helps."""
    (array,) = dense.inputs(1, seed=1)
    async with digits(dense) as made:
        wrong = triton.InferInput("x", [1, 10], "INT8")
        wrong.set_data_from_numpy(array[:, :10])
        with pytest.raises(InferenceServerException, match=r"has shape \[1, 64\], not \[1, 10\]"):
            await made.triton(lambda client: client.infer("digits", [wrong]))
        with pytest.raises(InferenceServerException, match="no deployment is called 'letters'"):
            await made.triton(lambda client: client.infer("letters", [tensor(array)]))
        with pytest.raises(InferenceServerException, match=r"serves version 1\.0\.0"):
            await made.triton(
                lambda client: client.infer("digits", [tensor(array)], model_version="9")
            )


async def test_what_is_expected_is_not_ready_yet(dense: Package) -> None:
    """After a boot, a deployment that is still being loaded is 503, not unknown."""
    async with device() as made:
        made.board.expect("digits")
        server_ready = await made.http("GET", "/v2/health/ready")
        model_ready = await made.http("GET", "/v2/models/digits/ready")

        assert (503, False) == (server_ready[0], json.loads(server_ready[2])["ready"])
        assert 503 == model_ready[0]
        assert "still being loaded" in json.loads(model_ready[2])["error"]
        assert 200 == (await made.http("GET", "/v2/health/live"))[0]
        await made.board.install(await start_worker(dense.launch()), "digits")
        assert 200 == (await made.http("GET", "/v2/health/ready"))[0]
        await made.board.install(None, "digits")
        assert 404 == (await made.http("GET", "/v2/models/digits/ready"))[0]


@pytest.mark.parametrize(
    "path", [b"", b"/", b"//v2", b"/v2/models", b"/v2/models/m/versions/", b"/v3"]
)
def test_what_is_not_there_is_no_route(path: bytes) -> None:
    """Only what the protocol names."""
    assert route(path) is None
