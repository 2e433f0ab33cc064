"""Listens on TCP and a unix socket inside our own loop, with uvicorn's HTTP protocol on httptools.

uvicorn's protocol is used without uvicorn's server: no signal handlers, no
ticking, no logging set-up, no exit of the process when a port is taken. What
its protocol leaves open is closed here: a request's head has a deadline and a
size, connections are counted, and every refusal is JSON.
"""

import asyncio
import errno
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from agent.serving.oip import Application
from agent.workers.pool import refusal

HEAD_LIMIT_S = 10.0
"""In which a request's head must have come."""

HEAD_LIMIT_BYTES = 32 * 1024
CONNECTIONS_LIMIT = 256
"""One device's clients are a handful; each connection holds a descriptor and some 20 KB."""

IDLE_LIMIT_S = 75.0  # longer than the pools of common clients keep a connection: they close first
LINGER_S = 1.0  # in which what a refused client still sends is dropped
FAREWELL_S = 5.0  # in which requests that are being answered may end when the server stops
_BACKLOG = 128


class ListenError(OSError):
    """The address can't be listened on; the message says which, why, and what to do."""


async def serve(
    application: Application,
    *,
    host: str | None,
    port: int,
    unix_path: Path | None = None,
    on_listening: Callable[[tuple[str, ...]], None] = lambda _addresses: None,
    head_limit_s: float = HEAD_LIMIT_S,
) -> None:
    """Serve until cancelled, then let requests in progress end.

    Args:
        application: the ASGI application.
        host: None: no TCP.
        port: 0: any free one; `on_listening` tells which.
        unix_path: a socket only its owner may open; a stale one is replaced.
        on_listening: called once with the addresses, as `host:port` or `unix:PATH`.
        head_limit_s: in which a request's head must have come.

    Raises:
        ListenError: an address is in use, not ours, or not allowed. Nothing is listened on.
    """
    config = Config(
        application, lifespan="off", ws="none", interface="asgi3", proxy_headers=False,
        log_config=None, access_log=False, timeout_keep_alive=int(IDLE_LIMIT_S),
    )  # fmt: skip
    config.load()
    state = ServerState()

    def protocol() -> asyncio.Protocol:
        return _Protocol(config, state, head_limit_s)

    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    cleanup = ExitStack()
    try:
        if host is not None:
            try:
                servers.append(await loop.create_server(protocol, host, port, backlog=_BACKLOG))
            except OSError as error:
                raise ListenError(_why(f"{host}:{port}", error)) from error
        if unix_path is not None:
            bound = _bind_unix(unix_path)
            cleanup.callback(unix_path.unlink, missing_ok=True)
            servers.append(await loop.create_unix_server(protocol, sock=bound, backlog=_BACKLOG))
        on_listening(tuple(_name(bound) for server in servers for bound in server.sockets))
        await loop.create_future()  # until cancelled
    finally:
        for server in servers:
            server.close()
        cleanup.close()
        await _say_farewell(state)


async def _say_farewell(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    tasks = set(state.tasks)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=FAREWELL_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
    for connection in list(state.connections):
        if connection.transport is not None:
            connection.transport.abort()


def _bind_unix(path: Path) -> socket.socket:
    """Bind a socket that only its owner may connect to: nobody can before it listens.

    Raises:
        ListenError: something else is there, or the path is not allowed.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(
                f"{path} exists and is not a socket: remove it, or choose another path"
            )
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()  # left by a process that was killed
            else:
                taken = OSError(errno.EADDRINUSE, "in use")
                raise ListenError(_why(str(path), taken))
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        bound.close()
        raise ListenError(_why(str(path), error)) from error
    return bound


def _name(bound: socket.socket) -> str:
    address = bound.getsockname()
    return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"


def _why(address: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{address} is in use by another program: stop that, or listen on another address"
    if error.errno == errno.EACCES:
        return f"{address} may not be listened on by this user: choose a port above 1023"
    return f"{address} can't be listened on: {error.strerror or error}"


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline and a size for heads, a count, and refusals in JSON."""

    def __init__(self, config: Config, state: ServerState, head_limit_s: float) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._head_limit_s = head_limit_s
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_LIMIT:
            self._refuse(503, f"{CONNECTIONS_LIMIT} connections are open already")
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._head_timer is not None and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431, f"the head is larger than {HEAD_LIMIT_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def timeout_keep_alive_handler(self) -> None:
        # Not close(): that would wait for a client that never reads its answer.
        self.transport.abort()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_limit_s, self._head_is_late)

    def _head_came(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._head_bytes:
            self._refuse(408, f"the head did not come within {self._head_limit_s:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        self._head_came()
        body = refusal(status, message).body
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self._refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True  # an earlier answer that is still due can't follow this
        self.transport.write(head.encode() + body)
        # Closed with unread data, the kernel would reset the connection under the answer.
        self.transport.write_eof()
        self._head_timer = self.loop.call_later(LINGER_S, self.transport.abort)
