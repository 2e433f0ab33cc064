"""A real Mosquitto's life: started, restarted, stopped, never orphaned; its refusals in words."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from fleet.broker import mosquitto, proof
from fleet.broker.address import Address
from fleet.broker.embedded import Embedded
from fleet.broker.mosquitto import Mosquitto
from fleet.broker.settings import BrokerSettings, TlsFiles
from fleet.ports import Broker, BrokerError
from tests.conformance.conftest import KINDS, free_port
from tests.conformance.peer import Peer
from tests.conformance.trust import TestAuthority

REAL = pytest.mark.real("mosquitto")


def make(kind: str, folder: Path, port: int) -> Broker:
    settings = BrokerSettings(fleet="f", home=folder / "broker", port=port)
    if kind == "embedded":
        return Embedded(settings)
    program = mosquitto.find()
    assert program is not None
    return Mosquitto(settings, TestAuthority(folder).server(), program)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    broker = make("mosquitto", tmp_path, free_port())
    assert isinstance(broker, Mosquitto)
    await broker.start()
    yield broker
    await broker.stop()


async def until_dead(pid: int) -> None:
    async with asyncio.timeout(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_port_in_use_is_told_and_nothing_is_left(kind: str, tmp_path: Path) -> None:
    """A second centre on the port hears so, and the first one's listener is untouched."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = make(kind, tmp_path, taken.getsockname()[1])
        with pytest.raises(BrokerError, match=str(taken.getsockname()[1])):
            await broker.start()
        assert not broker.alive
        await broker.stop()
        with socket.create_connection(taken.getsockname()):
            pass


@pytest.mark.parametrize("kind", KINDS)
async def test_it_stops_and_starts_again_on_its_port(kind: str, tmp_path: Path) -> None:
    """Stopping frees the port and may be repeated."""
    port = free_port()
    for _ in range(2):
        broker = make(kind, tmp_path, port)
        await broker.start()
        assert broker.alive
        await broker.stop()
        await broker.stop()
        assert not broker.alive


@REAL
async def test_its_files_are_its_owner_s_alone(broker: Mosquitto, tmp_path: Path) -> None:
    """Configuration and access rules can't be read or changed by other users of the machine."""
    home = tmp_path / "broker"
    modes = {path.name: path.stat().st_mode & 0o777 for path in [home, *home.iterdir()]}
    assert modes == {"broker": 0o700, "mosquitto.conf": 0o600, "access": 0o600}
    assert broker.pid is not None
    assert psutil.Process(broker.pid).uids().effective == os.geteuid()


@REAL
async def test_it_is_restarted_when_it_dies(broker: Mosquitto) -> None:
    """Killed outright, it is back within seconds, as another process, while it is watched."""
    first = broker.pid
    assert first is not None
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(broker.watch(), name="watch")
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(10):
            while broker.pid == first or not broker.alive:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.02)
        watching.cancel()
    assert broker.alive


@REAL
async def test_it_remembers_over_a_stop(tmp_path: Path) -> None:
    """A clean stop saves what is retained; the next start has it."""
    settings = BrokerSettings(fleet="f", home=tmp_path / "broker", port=free_port())
    authority, program = TestAuthority(tmp_path), mosquitto.find()
    assert program is not None
    broker = Mosquitto(settings, authority.server(), program)
    await broker.start()
    tls = authority.context("centre")
    centre = Peer(Address.parse(broker.centre_url), "centre", tls=tls)
    await asyncio.to_thread(centre.connect)
    desired = "skerry/v1/f/d-1/desired"
    await asyncio.to_thread(centre.publish, desired, b"desired", retain=True)
    await asyncio.to_thread(centre.leave)
    await broker.stop()
    await broker.start()
    await asyncio.to_thread(centre.connect)
    await asyncio.to_thread(centre.subscribe, desired)
    await asyncio.to_thread(centre.until, lambda: centre.payloads() == [b"desired"])
    await asyncio.to_thread(centre.leave)
    await broker.stop()


@REAL
async def test_a_centre_killed_outright_leaves_no_broker(tmp_path: Path) -> None:
    """SIGKILL to the centre: the kernel ends the broker too, so no orphan holds the port."""
    files = TestAuthority(tmp_path).server()
    script = f"""
import asyncio
from pathlib import Path
from fleet.broker import mosquitto
from fleet.broker.mosquitto import Mosquitto
from fleet.broker.settings import BrokerSettings, TlsFiles
async def main():
    home, port = Path({str(tmp_path / "broker")!r}), {free_port()}
    settings = BrokerSettings(fleet="f", home=home, port=port)
    tls = TlsFiles(ca=Path({str(files.ca)!r}), certificate=Path({str(files.certificate)!r}),
                   key=Path({str(files.key)!r}))
    broker = Mosquitto(settings, tls, mosquitto.find())
    await broker.start()
    print("pid", broker.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    centre = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert centre.stdout is not None
    pid = 0
    async for line in centre.stdout:
        if line.startswith(b"pid "):
            pid = int(line.split()[1])
            break
    assert psutil.Process(pid).name() == "mosquitto"
    centre.kill()
    await centre.communicate()
    await until_dead(pid)


@REAL
async def test_what_is_wrong_with_it_is_told(tmp_path: Path) -> None:
    """A missing key, a key that isn't the certificate's, a program that isn't Mosquitto."""
    program = mosquitto.find()
    assert program is not None
    settings = BrokerSettings(fleet="f", home=tmp_path / "broker", port=free_port())
    authority = TestAuthority(tmp_path)
    good, other = authority.server(), authority.issue("other")
    missing = TlsFiles(ca=good.ca, certificate=good.certificate, key=tmp_path / "none.key")
    with pytest.raises(BrokerError, match=r"none\.key"):
        await Mosquitto(settings, missing, program).start()
    assert not (tmp_path / "broker").exists()
    unfit = TlsFiles(ca=good.ca, certificate=good.certificate, key=other[1])
    with pytest.raises(BrokerError, match="ended with code"):
        await Mosquitto(settings, unfit, program).start()
    with pytest.raises(BrokerError, match=r"no Mosquitto 2\.0"):
        await Mosquitto(settings, good, Path("/bin/echo")).start()
    with pytest.raises(BrokerError, match="can't be run"):
        await Mosquitto(settings, good, tmp_path / "none").start()


async def test_an_open_port_alone_is_not_up(tmp_path: Path) -> None:
    """A broker that opens its port and dies without serving is told as dead."""
    port = free_port()
    program = tmp_path / "opens-and-dies"
    program.write_text(f"""#!{sys.executable}
import socket, sys, time
if sys.argv[1] == "-h":
    sys.exit("mosquitto version 2.0.18")
with socket.create_server(("127.0.0.1", {port})):
    time.sleep(0.5)
sys.exit(3)
""")
    program.chmod(0o700)
    settings = BrokerSettings(fleet="f", home=tmp_path / "broker", port=port)
    broker = Mosquitto(settings, TestAuthority(tmp_path).server(), program)
    with pytest.raises(BrokerError, match="ended with code 3"):
        await broker.start()
    assert not broker.alive
    assert broker.pid is None


@REAL
async def test_only_its_own_certificate_proves_a_broker(broker: Mosquitto, tmp_path: Path) -> None:
    """Another server on the port isn't taken for ours, nor is ours disturbed by the question."""
    port = Address.parse(broker.url).port
    other = TestAuthority(tmp_path, "another CA").server().certificate
    assert await asyncio.to_thread(proof.shows, "127.0.0.1", port, tmp_path / "test-CA-broker.pem")
    assert not await asyncio.to_thread(proof.shows, "127.0.0.1", port, other)
    assert not await asyncio.to_thread(proof.shows, "127.0.0.1", port, tmp_path / "none")
    assert broker.alive


async def test_only_an_mqtt_answer_proves_a_broker() -> None:
    """A server that hangs up isn't taken for a broker, and neither is nothing at all."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert not await asyncio.to_thread(proof.answers, "127.0.0.1", port)
    server.close()
    await server.wait_closed()
    assert not await asyncio.to_thread(proof.answers, "127.0.0.1", port)
