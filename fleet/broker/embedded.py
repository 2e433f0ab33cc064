"""The embedded broker (rumqttd in the `iotcore` wheel): one machine, no identity, memory only.

For a first look, the demo and tests where Mosquitto isn't installed. It has no
access rules at all: every client may read and write every topic, so it listens
on loopback only. It runs as a child process that ends when we do, because
rumqttd can't be stopped otherwise. What it holds is gone when it stops: the
centre's marker is missing then, and everything is published again.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent.wire.limits import PACKET_LIMIT_BYTES
from fleet.broker import proof
from fleet.broker.address import Address, is_loopback
from fleet.broker.settings import BrokerSettings
from fleet.ports import BrokerError
from models import durable

if TYPE_CHECKING:
    import iotcore

_LOOK_S = 0.5
_RESTART_S = 2.0

log = structlog.get_logger("fleet.broker")


class Embedded:
    """The `Broker` port over rumqttd."""

    isolates = False
    # rumqttd 0.20 (iotcore 0.4.0): its router thread dies when a member of a shared group, having
    # come back to its session, goes away again; the process stays, and serves nobody.
    shares = False

    def __init__(self, settings: BrokerSettings) -> None:
        if not is_loopback(settings.host):
            raise BrokerError(
                f"the embedded broker has no access rules, so it doesn't listen on {settings.host};"
                " install Mosquitto for devices on a network"
            )
        self._settings = settings
        self._broker: iotcore.Broker | None = None

    @property
    def url(self) -> str:
        """Where devices connect, all on this machine."""
        return str(Address(host=self._settings.host, port=self._settings.port, tls=False))

    @property
    def centre_url(self) -> str:
        """The same: there is nobody to keep out."""
        return self.url

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._broker is not None and self._broker.is_running

    async def start(self) -> None:
        """Start it, return when it accepts a client.

        Raises:
            BrokerError: the wheel isn't installed, the port is in use, or it doesn't answer.
        """
        try:
            import iotcore  # noqa: PLC0415  # an extra, and only this broker needs it
        except ModuleNotFoundError as error:
            raise BrokerError(
                "the embedded broker isn't installed: pip install 'skerry[demo]' (or Mosquitto)"
            ) from error
        path = self._settings.home.absolute() / "rumqttd.toml"
        await asyncio.to_thread(_prepare, path, render(self._settings.host, self._settings.port))
        self._broker = iotcore.Broker(config_path=str(path))
        await self._launch(self._broker)
        log.warning("broker up", url=self.url, why="embedded: no access rules, memory only")

    async def watch(self) -> None:
        """Keep it running until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._broker is not None and not self._broker.is_running:
                log.error("broker died", again_in_s=_RESTART_S)
                await asyncio.sleep(_RESTART_S)
                with contextlib.suppress(BrokerError):  # the next look tries again
                    await self._launch(self._broker)

    async def stop(self) -> None:
        """End it. Idempotent."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await asyncio.to_thread(broker.stop)

    async def _launch(self, broker: "iotcore.Broker") -> None:
        try:
            await asyncio.to_thread(broker.start)
        except (OSError, RuntimeError) as error:
            raise BrokerError(f"the embedded broker can't use {self.url}: {error}") from error
        answered = await asyncio.to_thread(proof.answers, self._settings.host, self._settings.port)
        if not (answered and broker.is_running):
            await asyncio.to_thread(broker.stop)
            raise BrokerError(f"the embedded broker doesn't answer on {self.url}; start it again")


def render(host: str, port: int) -> str:
    """Return rumqttd's configuration: one MQTT 5 listener (it has a section of its own)."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"""\
# Written by Skerry at every start: changes made here are lost.
id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "v5-1"
listen = "{address}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {PACKET_LIMIT_BYTES}
max_inflight_count = 100
dynamic_filters = true
"""


def _prepare(path: Path, text: str) -> None:
    durable.make_directory(path.parent, mode=0o700)
    durable.write(path, text.encode(), mode=0o600)
