"""The link's conformance suite: in memory always, and against a Mosquitto of the test's own."""

# ruff: noqa: ASYNC110  # what another process has heard can only be polled

import asyncio
import contextlib
import datetime as dt
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.link.memory import MemoryBroker, MemoryLink
from agent.link.mqtt import Address, MqttLink
from agent.ports import (
    Arrived,
    Connected,
    Greeting,
    Link,
    LinkDownError,
    LinkEvent,
    LinkRefusedError,
    Lost,
)
from agent.wire.topics import Kind, Topic

FLEET, DEVICE = "f", "d-1"


def topic(kind: Kind) -> str:
    return str(Topic(FLEET, DEVICE, kind))


class World(Protocol):
    """A broker, seen from the centre's side."""

    def link(self) -> Link: ...
    async def say(self, kind: Kind, payload: bytes, *, retain: bool = False) -> None: ...
    async def heard(self, kind: Kind, payload: bytes) -> None: ...
    async def cut(self) -> None: ...
    async def retained(self, kind: Kind) -> bytes: ...
    async def listen(self, *, to_all: bool) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.broker = MemoryBroker()

    def link(self) -> Link:
        return MemoryLink(self.broker, fleet=FLEET, device=DEVICE)

    async def say(self, kind: Kind, payload: bytes, *, retain: bool = False) -> None:
        self.broker.publish(topic(kind), payload, retain=retain)

    async def heard(self, kind: Kind, payload: bytes) -> None:
        while (topic(kind), payload) not in self.broker.log:
            await asyncio.sleep(0.01)

    async def cut(self) -> None:
        self.broker.cut()

    async def retained(self, kind: Kind) -> bytes:
        return self.broker.retained[topic(kind)]

    async def listen(self, *, to_all: bool) -> None:
        self.broker.centre_listens = to_all


class RealWorld:
    """Mosquitto, behind a relay that can be cut, with a listener of its own for the centre."""

    def __init__(self, port: int, centre_port: int, tls: ssl.SSLContext | None) -> None:
        self._port, self._tls = port, tls
        self._log: list[tuple[str, bytes]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._centre = paho.Client(CallbackAPIVersion.VERSION2, "centre", protocol=paho.MQTTv5)
        self._centre.on_message = lambda _c, _u, m: self._log.append((m.topic, bytes(m.payload)))
        self._centre.connect("127.0.0.1", centre_port)
        self._centre.subscribe("skerry/v1/f/+/#", qos=1)
        self._centre.loop_start()

    async def listen(self, *, to_all: bool) -> None:
        """Subscribe to what devices say, or to nothing; return when the broker has granted it."""
        done = threading.Event()
        everything = "skerry/v1/f/+/#"
        if to_all:
            self._centre.on_subscribe = lambda *_: done.set()
            self._centre.subscribe(everything, qos=1)
        else:
            self._centre.on_unsubscribe = lambda *_: done.set()
            self._centre.unsubscribe(everything)
        assert await asyncio.to_thread(done.wait, 10)

    async def open(self) -> None:
        self._relay = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.relay_port = self._relay.sockets[0].getsockname()[1]

    async def close(self) -> None:
        await self.cut()
        self._relay.close()
        await self._relay.wait_closed()
        await asyncio.sleep(0.05)
        await asyncio.to_thread(self._centre.loop_stop)
        self._centre.disconnect()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while chunk := await source.read(65536):
                    sink.write(chunk)
                    await sink.drain()
            sink.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(pump(reader, far_writer), name="up")
            group.create_task(pump(far_reader, writer), name="down")

    def link(self) -> Link:
        return MqttLink(
            Address(host="127.0.0.1", port=self.relay_port, tls=self._tls),
            fleet=FLEET,
            device=DEVICE,
            reconnect_cap_s=lambda: 0.05,
        )

    async def say(self, kind: Kind, payload: bytes, *, retain: bool = False) -> None:
        self._centre.publish(topic(kind), payload, qos=1, retain=retain)

    async def heard(self, kind: Kind, payload: bytes) -> None:
        while (topic(kind), payload) not in self._log:
            await asyncio.sleep(0.01)

    async def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def retained(self, kind: Kind) -> bytes:
        await asyncio.sleep(0.05)
        return [payload for name, payload in self._log if name == topic(kind)][-1]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def make_certificates(folder: Path) -> ssl.SSLContext:
    """A CA, a server and a device, and the device's context."""
    now = dt.datetime.now(dt.UTC)  # noqa: TID251  # a certificate needs a date

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    ca_key = ec.generate_private_key(ec.SECP256R1())

    def issue(who: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> bytes:
        alternative = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name(who))
            .issuer_name(name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(alternative, critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    (folder / "ca.pem").write_bytes(issue("ca", ca_key, ca=True))
    for who in ("server", DEVICE):
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{who}.key").write_bytes(pem(key))
        (folder / f"{who}.pem").write_bytes(issue(who, key, ca=False))
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.check_hostname = False
    context.load_cert_chain(folder / f"{DEVICE}.pem", folder / f"{DEVICE}.key")
    return context


@contextlib.contextmanager
def mosquitto(folder: Path, *, tls: bool) -> Iterator[tuple[int, int, ssl.SSLContext | None]]:
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    port, centre_port = free_port(), free_port()
    context = make_certificates(folder) if tls else None
    lines = [
        "per_listener_settings true",
        f"listener {centre_port} 127.0.0.1",
        "allow_anonymous true",
    ]
    lines.append(f"listener {port} 127.0.0.1")
    if tls:
        lines += [f"cafile {folder}/ca.pem", f"certfile {folder}/server.pem"]
        lines += [f"keyfile {folder}/server.key", "require_certificate true"]
        lines += ["use_identity_as_username true"]
    else:
        lines.append("allow_anonymous true")
    if os.geteuid() == 0:
        lines.append("user root")  # else it can't read the test's folder
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=log
        )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", centre_port)):
                break
            assert process.poll() is None, (folder / "mosquitto.log").read_text()
            time.sleep(0.02)  # noqa: TID251  # before the loop; a real program starts
        yield port, centre_port, context
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(
    params=[
        "memory",
        *(pytest.param(each, marks=pytest.mark.real("mosquitto")) for each in ("plain", "tls")),
    ]
)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    with mosquitto(tmp_path, tls=request.param == "tls") as (port, centre_port, tls):
        real = RealWorld(port, centre_port, tls)
        await real.open()
        yield real
        await real.close()


class Greeter:
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> Greeting:
        self.count += 1
        return Greeting(birth=b"birth %d" % self.count, death=b"death %d" % self.count)


Running = Callable[[Link], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def running(
    link: Link, greet: Callable[[], Awaitable[Greeting]] | None = None
) -> AsyncIterator[None]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(link.run(greet or Greeter()), name="link")
        yield
        task.cancel()


async def expect(link: Link, what: type[LinkEvent]) -> LinkEvent:
    event = await link.next_event()
    assert isinstance(event, what), event
    return event


async def arrival(link: Link) -> Arrived:
    event = await link.next_event()
    assert isinstance(event, Arrived), event
    return event


async def test_birth_is_with_the_broker_when_connected(world: World) -> None:
    """Who hears Connected knows that the centre can see the device."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        await world.heard(Kind.PRESENCE, b"birth 1")


async def test_messages_arrive_in_order_with_their_kind(world: World) -> None:
    """Each kind a device reads arrives, in the order it was said."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        for kind in (Kind.DESIRED, Kind.ACKED, Kind.SITE_DESIRED, Kind.COMMAND):
            await world.say(kind, kind.encode())
        got = [await arrival(link) for _ in range(4)]
    assert [each.kind for each in got] == ["desired", "acked", "site-desired", "command"]
    assert [each.payload for each in got] == [b"desired", b"acked", b"site-desired", b"command"]


async def test_a_retained_document_waits_for_the_device(world: World) -> None:
    """What was said before the device was there reaches it."""
    await world.say(Kind.DESIRED, b"before", retain=True)
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        assert (await arrival(link)).payload == b"before"


async def test_what_was_not_acknowledged_comes_again(world: World) -> None:
    """A message is the broker's until its reader says it is durable; then it doesn't come again."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        await world.say(Kind.COMMAND, b"one")
        await world.say(Kind.COMMAND, b"two")
        first, _second = await arrival(link), await arrival(link)
        first.acknowledge()
        await asyncio.sleep(0.1)
        await world.cut()
        await expect(link, Lost)
        await expect(link, Connected)
        again = await arrival(link)
        again.acknowledge()
    assert again.payload == b"two"


async def test_what_is_said_while_away_arrives_later(world: World) -> None:
    """A session outlives its connection."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
    await world.say(Kind.COMMAND, b"meanwhile")
    await asyncio.sleep(0.05)
    async with running(link):
        while not isinstance(event := await link.next_event(), Arrived):
            pass
    assert event.payload == b"meanwhile"


async def test_a_broken_connection_says_the_death_and_greets_anew(world: World) -> None:
    """The will is of the connection that broke; the next one's birth is the last word."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        await world.cut()
        await world.heard(Kind.PRESENCE, b"death 1")
        await expect(link, Lost)
        await expect(link, Connected)
        await world.heard(Kind.PRESENCE, b"birth 2")
        assert await world.retained(Kind.PRESENCE) == b"birth 2"


async def test_publishing_reaches_the_centre(world: World) -> None:
    """Every kind a device writes arrives, health too."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        for kind in (Kind.REPORTED, Kind.EVENT, Kind.HEALTH, Kind.RESULT):
            await link.publish(kind, b"said " + kind.encode())
            await world.heard(kind, b"said " + kind.encode())


async def test_what_nobody_hears_is_said_to_be_that(world: World) -> None:
    """A broker that knows of no subscriber says so: its receipt alone is worth nothing."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        assert await link.publish(Kind.EVENT, b"heard")
        await world.listen(to_all=False)
        assert not await link.publish(Kind.EVENT, b"into the wind")
        await world.listen(to_all=True)
        assert await link.publish(Kind.EVENT, b"heard again")
        await world.heard(Kind.EVENT, b"heard again")


async def test_many_at_once(world: World) -> None:
    """More than may be under way at once are passed on in order, none lost."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        async with asyncio.TaskGroup() as group:
            for index in range(200):
                group.create_task(link.publish(Kind.EVENT, b"%03d" % index), name=str(index))
        await world.heard(Kind.EVENT, b"199")


async def test_nothing_is_kept_while_there_is_no_connection(world: World) -> None:
    """A publish without a connection fails at once, so that its owner keeps it."""
    link = world.link()
    with pytest.raises(LinkDownError):
        await link.publish(Kind.EVENT, b"too early")
    async with running(link):
        await expect(link, Connected)
        await link.publish(Kind.EVENT, b"in time")
    with pytest.raises(LinkDownError):
        await link.publish(Kind.EVENT, b"too late")


async def test_too_large_is_refused_here_and_survived_from_there(world: World) -> None:
    """What the broker won't take is refused here; what is too large for us never arrives."""
    link = world.link()
    async with running(link):
        await expect(link, Connected)
        with pytest.raises(LinkRefusedError):
            await link.publish(Kind.REPORTED, bytes(64 * 1024))
        await world.say(Kind.DESIRED, bytes(1024 * 1024), retain=True)
        await world.say(Kind.DESIRED, b"small")
        assert (await arrival(link)).payload == b"small"
        await link.publish(Kind.REPORTED, b"still here")


async def test_closing_says_the_death_once(world: World) -> None:
    """A device that leaves on purpose says so itself, and its run ends."""
    link = world.link()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(link.run(Greeter()), name="link")
        await expect(link, Connected)
        await link.close(b"goodbye")
        await world.heard(Kind.PRESENCE, b"goodbye")
        await link.close(b"goodbye")
    assert await world.retained(Kind.PRESENCE) == b"goodbye"


@pytest.mark.parametrize("where", ["refused", "silent"])
async def test_no_broker_is_survived(where: str) -> None:
    """Nobody listens, or never answers: the link goes on trying, and ends when told to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if where == "silent":
            listener.listen()
        port = listener.getsockname()[1]
        greeter = Greeter()
        link = MqttLink(
            Address(host="127.0.0.1", port=port, tls=None),
            fleet=FLEET,
            device=DEVICE,
            reconnect_cap_s=lambda: 0.01,
        )
        async with running(link, greeter):
            await asyncio.sleep(0.3)
    assert greeter.count > (5 if where == "refused" else 0)
