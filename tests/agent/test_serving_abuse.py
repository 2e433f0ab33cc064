"""What is wrong is refused in JSON, costs no more than its limit, and the next is served."""

import asyncio
import json
import socket
import stat
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from agent.serving import oip, server
from agent.serving.oip import OipApplication
from agent.serving.server import ListenError, serve
from agent.serving.switchboard import Switchboard
from agent.workers.pool import start_worker
from tests.agent.packages import Package
from tests.agent.served import device, digits

POST = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: device\r\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"CONNECT device:80 HTTP/1.1\r\nHost: device\r\n\r\n", 400),
        (b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v2 HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nX: " + b"x" * 400_000 + b"\r\n\r\n", 431),
    ],
)  # fmt: skip
async def test_what_is_no_http_is_refused_in_json(dense: Package, raw: bytes, status: int) -> None:
    """TLS on a plain port, a lying length, a huge head: JSON, closed, and the server goes on."""
    async with digits(dense) as made:
        got, headers, content = await made.speak(raw)

        assert (status, "application/json") == (got, headers["content-type"])
        assert json.loads(content)["error"]
        assert 200 == (await made.http("GET", "/v2/health/live"))[0]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"{", 400),
        ({}, b"", 400),
        ({"Inference-Header-Content-Length": "x"}, b"{}", 400),
        ({"Inference-Header-Content-Length": "-1"}, b"{}", 400),
        ({"Inference-Header-Content-Length": "99"}, b"{}", 400),
        ({"Inference-Header-Content-Length": "9" * 40}, b"{}", 400),
        ({"Content-Encoding": "br"}, b"{}", 415),
        ({"Content-Encoding": "gzip"}, b"{}", 400),
        ({"Content-Type": "text/plain"}, b"{}", 400),
    ],
)
async def test_a_malformed_request_is_refused_in_json(
    dense: Package, headers: dict[str, str], body: bytes, status: int
) -> None:
    """The worker stays; the next request is served by the same process."""
    (array,) = dense.inputs(1, seed=1)
    async with digits(dense) as made:
        worker = made.board.current("digits")
        got, _, content = await made.http("POST", "/v2/models/digits/infer", body, headers)

        assert status == got
        assert json.loads(content)["error"]
        assert 200 == (await made.infer(array))[0]
        assert worker is made.board.current("digits")
        assert [] == made.events


async def test_a_hundred_megabytes_are_refused_unread(dense: Package) -> None:
    """413 after the head alone, whatever the client goes on sending."""
    async with digits(dense) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(POST + b"Content-Length: 100000000\r\n\r\n")
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert (
            "no request to digits needs more"
            in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        )


async def test_endless_chunks_are_cut_off(dense: Package) -> None:
    """Without a length the count decides: some megabytes above the limit are dropped, no more."""
    async with digits(dense) as made:
        before = psutil.Process().memory_info().rss
        _, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        with pytest.raises(OSError, match=r"."):
            await pour(writer, chunk, times=1600)
        writer.close()

        assert psutil.Process().memory_info().rss - before < 20_000_000
        assert 200 == (await made.http("GET", "/v2/health/live"))[0]


async def pour(writer: asyncio.StreamWriter, chunk: bytes, *, times: int) -> None:
    async with asyncio.timeout(10):
        for _ in range(times):
            writer.write(chunk)
            await writer.drain()


async def test_a_body_a_little_too_large_is_told_so(dense: Package) -> None:
    """The real client sends all before it reads: it must still get the sentence."""
    async with digits(dense) as made:
        big = triton.InferInput("x", [1, 200_000], "INT8")
        big.set_data_from_numpy(np.zeros((1, 200_000), np.int8))
        with pytest.raises(InferenceServerException, match="no request to digits needs more"):
            await made.triton(lambda client: client.infer("digits", [big]))


async def test_a_slow_head_is_given_up() -> None:
    """A client that sends a byte now and then holds a connection no longer than the deadline."""
    async with device(head_limit_s=0.2) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"GET /v2 HT")
        begun = time.perf_counter()
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.perf_counter() - begun < 2
        assert b"" == await silent(made.port)


async def silent(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_slow_body_is_given_up(dense: Package) -> None:
    """The worker never hears of it."""
    async with device(read_limit_s=0.2) as made:
        await made.board.install(await start_worker(dense.launch()), "digits")
        status, _, content = await made.speak(
            b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: d\r\nContent-Length: 64\r\n\r\nhalf"
        )

        assert 408 == status
        assert "did not come within 0.2 s" in json.loads(content)["error"]
        assert () == made.board.take_counts()


async def test_a_client_that_leaves_is_nobody_s_problem(dense: Package) -> None:
    """Gone in the middle of its body, or before its answer: the next is served."""
    (array,) = dense.inputs(1, seed=1)
    async with digits(dense) as made:
        for body in (b"half", array.tobytes()):
            _, writer = await asyncio.open_connection("127.0.0.1", made.port)
            writer.write(
                b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: d\r\nContent-Length: 64\r\n"
                b"Inference-Header-Content-Length: 0\r\n\r\n" + body
            )
            await writer.drain()
            writer.transport.abort()

        assert 200 == (await made.infer(array))[0]


async def test_connections_are_counted(dense: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is refused in JSON; when others leave there is room again."""
    monkeypatch.setattr(server, "CONNECTIONS_LIMIT", 3)
    async with digits(dense) as made:
        others = [await asyncio.open_connection("127.0.0.1", made.port) for _ in range(3)]
        refused = await made.http("GET", "/v2/health/live")
        for _, writer in others:
            writer.close()
        await asyncio.sleep(0.05)

        assert 503 == refused[0]
        assert "3 connections are open already" in json.loads(refused[2])["error"]
        assert 200 == (await made.http("GET", "/v2/health/live"))[0]


async def test_bodies_held_at_one_time_are_bounded(
    dense: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many slow senders can't fill the memory."""
    monkeypatch.setattr(oip, "HELD_LIMIT_BYTES", 100_000)
    async with digits(dense) as made:
        head = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: d\r\nContent-Length: 60000\r\n\r\n"
        _, slow = await asyncio.open_connection("127.0.0.1", made.port)
        slow.write(head)
        await asyncio.sleep(0.05)
        refused = await made.speak(head)
        slow.close()

        assert 503 == refused[0]
        assert "too many large requests" in json.loads(refused[2])["error"]


async def test_a_port_in_use_is_a_clear_error() -> None:
    """Which address, why, and what to do; nothing else is touched."""
    async with device() as made:
        with pytest.raises(ListenError) as caught:
            await serve(made.board, host="127.0.0.1", port=made.port)  # type: ignore[arg-type]

        assert (
            f"127.0.0.1:{made.port} is in use by another program: "
            "stop that, or listen on another address"
        ) == str(caught.value)
        assert 200 == (await made.http("GET", "/v2/health/live"))[0]


async def test_a_host_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    """Names that don't resolve, and paths that can't be."""
    async with Switchboard() as board:
        application = OipApplication(board, version="0")
        with pytest.raises(ListenError, match="can't be listened on"):
            await serve(application, host="192.0.2.1", port=0)
        taken = tmp_path / "file"
        taken.write_text("precious")
        with pytest.raises(ListenError, match="exists and is not a socket"):
            await serve(application, host=None, port=0, unix_path=taken)
        with pytest.raises(ListenError, match="can't be listened on"):
            await serve(application, host=None, port=0, unix_path=tmp_path / "none/socket")

        assert "precious" == taken.read_text()


async def test_a_unix_socket_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Mode 0600; one left by a killed process is replaced; one in use is not; gone at the end."""
    path = tmp_path / "oip.socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with device(unix_path=path) as made:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /v2/health/live HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        with pytest.raises(ListenError, match="in use by another program"):
            await serve(made.board, host=None, port=0, unix_path=path)  # type: ignore[arg-type]

        assert answer.endswith(b'{"live": true}')
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert f"unix:{path}" == made.addresses[1]
    assert not path.exists()
