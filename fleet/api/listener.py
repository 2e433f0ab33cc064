"""Serve the application: our sockets, TLS with optional client certificates, uvicorn in our loop.

A client certificate is asked for, and must be of this fleet's CA when one is
shown; its common name goes into the request's state as `peer`. Without one a
request is served too: who may do what is `fleet.api.access`'s business.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fleet.identity.places import Home

HEADERS_LIMIT_BYTES = 64 * 1024
"""A request's line and headers: a bearer token and some names need far less."""

HEADERS_LIMIT_S = 20.0
"""How long they may take, and how long a new connection may say nothing."""

_GRACE_S = 5
_BACKLOG = 512


class AddressInUseError(Exception):
    """Somebody listens there already, or the address is not this machine's."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(f"can't listen on {host}:{port}: {cause}")
        self.host = host
        self.port = port


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes any that is free.

    Raises:
        AddressInUseError: it can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise AddressInUseError(host, port, error.strerror or str(error)) from error
    bound.setblocking(False)  # noqa: FBT003  # the standard library's signature
    return bound


def server_context(home: Home) -> ssl.SSLContext:
    """Return the TLS side of a listener for devices and operators.

    Raises:
        OSError: the files can't be read, or don't belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(home.ca))
    context.load_cert_chain(home.server, home.server_key)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol that also says whose certificate was shown, and bounds headers.

    `fleet.api.bounds` holds bodies to their size and time; what comes before a
    body is held here: so many bytes, so many seconds from the connection or from
    the first byte of a further request.
    """

    _peer: str | None = None
    _header_bytes = 0
    _in_headers = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # uvicorn's own narrows it like this
        self, transport: asyncio.Transport
    ) -> None:
        """Remember whose certificate was shown and verified, if any."""
        super().connection_made(transport)
        self._peer = _common_name(transport.get_extra_info("peercert"))
        self._deadline = self.loop.call_later(HEADERS_LIMIT_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline with the connection."""
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before a body."""
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > HEADERS_LIMIT_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request, with the peer in its state."""
        super().on_message_begin()
        state: dict[str, Any] = dict(self.scope.get("state", {}))
        state["peer"] = self._peer
        self.scope["state"] = state
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_LIMIT_S, self.transport.close)

    def on_headers_complete(self) -> None:
        """Take the headers as come in time and size."""
        self._in_headers = False
        self._in_time()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the headers of the next request."""
        self._in_headers, self._header_bytes = True, 0
        super().on_message_complete()

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Listener(Server):
    """One socket served. `ready` is set when it accepts; `should_exit` ends it gracefully."""

    def __init__(self, app: ASGIApp, context: ssl.SSLContext | None = None) -> None:
        super().__init__(
            Config(
                app,
                http=PeerProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_context_factory=None if context is None else lambda _config, _make: context,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, and say so."""
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever composes the process."""
        yield


def _common_name(certificate: dict[str, Any] | None) -> str | None:
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return None
