"""Mosquitto as a supervised child: TLS, a certificate for everyone, generated access rules.

Its files (configuration, access rules, what it remembers) are in `home`, which
is written anew at every start. It runs as whoever runs the centre. It is
restarted with back-off when it dies, stopped by SIGTERM (it saves what it
remembers) and killed after a while, and dies with us if we are killed.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections import deque
from pathlib import Path

import structlog

from fleet.broker import mosquitto_files, proof
from fleet.broker.address import Address
from fleet.broker.settings import BrokerSettings, TlsFiles
from fleet.ports import BrokerError
from models import durable

_READY_LIMIT_S = 20.0  # 100,000 retained documents load in under a second
_STOP_LIMIT_S = 20.0  # it saves its memory first
_HELP_LIMIT_S = 10.0
_POLL_S = 0.02
_LINE_LIMIT_BYTES = 64 * 1024
_RESTART_FIRST_S = 0.5
_RESTART_CAP_S = 30.0
_GOOD_RUN_S = 60.0  # having run so long, the next death starts the back-off anew
_ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # not in everyone's PATH
_PLUGIN_FOLDERS = ("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu")

log = structlog.get_logger("fleet.broker")


def find() -> Path | None:
    """Return the mosquitto program of this machine, also outside PATH."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_ELSEWHERE])
    found = shutil.which("mosquitto", path=path)
    return Path(found) if found else None


class Mosquitto:
    """The `Broker` port over a mosquitto process of ours."""

    isolates = True
    shares = True

    def __init__(self, settings: BrokerSettings, tls: TlsFiles, program: Path) -> None:
        self._settings = settings
        self._tls = tls
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._ready = False
        self._last_lines: deque[str] = deque(maxlen=20)

    @property
    def url(self) -> str:
        """Where devices connect."""
        host = self._settings.public_host or self._settings.host
        return str(Address(host=host, port=self._settings.port, tls=True))

    @property
    def centre_url(self) -> str:
        """Where the centre connects: over loopback if it listens on every address."""
        return str(Address(host=_near(self._settings.host), port=self._settings.port, tls=True))

    @property
    def alive(self) -> bool:
        """Whether the process runs and has shown its certificate."""
        return self._ready and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process, for whoever measures or kills it."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Write its files, start it, return when it serves with its certificate.

        Raises:
            BrokerError: the port is in use, the version too old, a file missing; in its words.
        """
        version = await self._version()
        await asyncio.to_thread(self._prepare, version)
        await self._launch()

    async def watch(self) -> None:
        """Keep it running until cancelled."""
        loop = asyncio.get_running_loop()
        wait_s = _RESTART_FIRST_S
        while True:
            since = loop.time()
            code = await self._until_death()
            if loop.time() - since > _GOOD_RUN_S:
                wait_s = _RESTART_FIRST_S
            log.error("broker died", code=code, last=list(self._last_lines)[-3:], again_in_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(_RESTART_CAP_S, wait_s * 2)
            try:
                await self._launch()
            except BrokerError as error:
                # Not the end: the port may come free, and devices keep serving meanwhile.
                log.warning("broker didn't start", why=str(error))

    async def stop(self) -> None:
        """End the process, politely first. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await self._drain(process)
                await process.wait()
        except TimeoutError:
            log.warning("broker killed", why=f"it didn't stop within {_STOP_LIMIT_S} s")
            process.kill()
            await process.wait()

    async def _version(self) -> mosquitto_files.Version:
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                "-h",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise BrokerError(f"{self._program} can't be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(_HELP_LIMIT_S):
                text, _ = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise BrokerError(f"{self._program} -h doesn't answer") from error
        version = mosquitto_files.parse_version(text.decode(errors="replace"))
        if version is None or version < mosquitto_files.OLDEST:
            raise BrokerError(f"{self._program} is no Mosquitto 2.0 or newer")
        return version

    def _prepare(self, version: mosquitto_files.Version) -> None:
        home = self._settings.home.absolute()
        tls = TlsFiles(
            ca=self._tls.ca.absolute(),
            certificate=self._tls.certificate.absolute(),
            key=self._tls.key.absolute(),
        )
        for path in (tls.ca, tls.certificate, tls.key):
            if not os.access(path, os.R_OK):
                raise BrokerError(f"the broker can't read {path}; run 'skerry trust init' first")
        try:
            files = mosquitto_files.render(
                fleet=self._settings.fleet,
                home=home,
                host=self._settings.host,
                port=self._settings.port,
                tls=tls,
                version=version,
                acl_plugin=_plugin(self._program),
                as_root=os.geteuid() == 0,
            )
        except ValueError as error:
            raise BrokerError(f"no configuration for {self._program}: {error}") from error
        durable.make_directory(home, mode=0o700)
        # Owner only: Mosquitto refuses to start (from 2.1 on) with files that others can write.
        durable.write(home / "mosquitto.conf", files.configuration.encode(), mode=0o600)
        durable.write(home / "access", files.access.encode(), mode=0o600)

    async def _launch(self) -> None:
        host, port = self._settings.host, self._settings.port
        await asyncio.to_thread(_check_free, host, port)
        self._last_lines.clear()
        self._ready = False
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "fleet.broker.tether",
            str(os.getpid()),
            str(self._program),
            "-c",
            str(self._settings.home.absolute() / "mosquitto.conf"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT_BYTES,
            # A Ctrl-C at our terminal is for us; we stop it in our order.
            start_new_session=True,
        )
        self._process = process
        try:
            async with asyncio.timeout(_READY_LIMIT_S):
                while not await asyncio.to_thread(
                    proof.shows, _near(host), port, self._tls.certificate
                ):
                    if process.returncode is not None:
                        break
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await self.stop()
            raise BrokerError(
                f"Mosquitto doesn't show its certificate on {host}:{port}; {self._said()}"
            ) from None
        except BaseException:
            await self.stop()
            raise
        if process.returncode is not None:
            await self._drain(process)
            self._process = None
            raise BrokerError(f"Mosquitto ended with code {process.returncode}: {self._said()}")
        self._ready = True
        log.info("broker up", url=self.url, pid=process.pid)

    async def _until_death(self) -> int:
        process = self._process
        if process is None:
            return -1
        await self._drain(process)
        return await process.wait()

    async def _drain(self, process: asyncio.subprocess.Process) -> None:
        """Read what it says until it says no more; keep the last lines for whoever asks why."""
        assert process.stderr is not None  # noqa: S101  # for the type checker: it was made with a pipe
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # a line longer than the limit: what is left of it follows
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._last_lines.append(text[:500])
            log.debug("mosquitto", says=text[:500])

    def _said(self) -> str:
        return " / ".join(list(self._last_lines)[-3:]) or "it said nothing"


def _near(host: str) -> str:
    """Return the address by which this machine reaches a listener of its own."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound


def _check_free(host: str, port: int) -> None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Mosquitto does
            probe.bind(address)
    except OSError as error:
        raise BrokerError(
            f"the broker can't listen on {host}:{port}: {error.strerror or error};"
            " is another centre running? Stop it, or choose another port"
        ) from error


def _plugin(program: Path) -> Path | None:
    prefix = program.resolve().parent.parent
    for folder in _PLUGIN_FOLDERS:
        path = prefix / folder / "mosquitto_acl_file.so"
        if path.is_file():
            return path
    return None
