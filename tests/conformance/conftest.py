"""Both brokers, started once for all their tests, and the peers that talk to them."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.broker import mosquitto
from fleet.broker.address import Address
from fleet.broker.embedded import Embedded
from fleet.broker.mosquitto import Mosquitto
from fleet.broker.settings import BrokerSettings
from fleet.ports import Broker
from tests.conformance.peer import Peer
from tests.conformance.trust import TestAuthority

FLEET = "f"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Ground:
    """A running broker and who may talk to it."""

    def __init__(self, broker: Broker, authority: TestAuthority | None) -> None:
        self.broker = broker
        self.authority = authority
        self.peers: list[Peer] = []
        self._peers_made = 0

    def peer(self, name: str | None = None, *, forget: bool = True) -> Peer:
        """Return a client with an identity of that name; by default a device nobody knows yet.

        What the broker remembers of that name is forgotten first, if asked.
        """
        known = name is not None
        if name is None:
            self._peers_made += 1
            name = f"d-{self._peers_made}"
        tls = self.authority.context(name) if self.authority is not None else None
        peer = Peer(Address.parse(self.broker.centre_url), name, tls=tls)
        self.peers.append(peer)
        if known and forget:
            peer.connect(clean=True).leave()
            peer.messages.clear()
        return peer


KINDS = [
    pytest.param("mosquitto", marks=pytest.mark.real("mosquitto")),
    pytest.param("embedded"),
]


def _start(kind: str, folder: Path) -> tuple[Broker, TestAuthority | None]:
    settings = BrokerSettings(fleet=FLEET, home=folder / "broker", port=free_port())
    if kind == "embedded":
        return Embedded(settings), None
    authority = TestAuthority(folder)
    program = mosquitto.find()
    assert program is not None
    return Mosquitto(settings, authority.server(), program), authority


@pytest.fixture(scope="module")
def start_ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Ground]]:
    grounds: dict[str, Ground] = {}
    with asyncio.Runner() as runner:

        def start(kind: str) -> Ground:
            if kind not in grounds:
                broker, authority = _start(kind, tmp_path_factory.mktemp(kind))
                runner.run(broker.start())
                grounds[kind] = Ground(broker, authority)
            return grounds[kind]

        yield start
        for ground in grounds.values():
            runner.run(ground.broker.stop())


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest, start_ground: Callable[[str], Ground]) -> Ground:
    return start_ground(request.param)


@pytest.fixture
def ground(running: Ground) -> Iterator[Ground]:
    """Either broker; whoever connected is gone afterwards."""
    yield running
    while running.peers:
        running.peers.pop().vanish()


@pytest.fixture(scope="module")
def walled_running(start_ground: Callable[[str], Ground]) -> Ground:
    return start_ground("mosquitto")


@pytest.fixture
def walled(walled_running: Ground) -> Iterator[Ground]:
    """The broker that keeps devices apart."""
    yield walled_running
    while walled_running.peers:
        walled_running.peers.pop().vanish()
