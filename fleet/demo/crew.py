"""The demo's child processes: started with a log each, and never left behind."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


class ClaimError(Exception):
    """Something the demo claims isn't so; `claim` names it."""

    def __init__(self, claim: str, message: str) -> None:
        super().__init__(message)
        self.claim = claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A long-lived child and where it writes its log."""

    name: str
    process: asyncio.subprocess.Process
    log: Path


class Crew:
    """Starts the demo's commands and long-lived children; `dismiss` ends all it started."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._children: dict[str, Child] = {}

    @property
    def children(self) -> Mapping[str, Child]:
        """Return the long-lived children by name."""
        return self._children

    async def run(
        self, claim: str, argv: Sequence[str | Path], *, limit_s: float = 60, shown: bool = False
    ) -> str:
        """Run one command to its end and return what it printed; `shown`: to the screen instead.

        Raises:
            ClaimError: it failed, or took longer than `limit_s`; the message has its last lines.
        """
        process = await asyncio.create_subprocess_exec(
            *map(str, argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=None if shown else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._folder,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for the demo, which ends them in order
            preexec_fn=_die_with_parent,  # one C call; the child execs at once
        )
        try:
            async with asyncio.timeout(limit_s):
                out, err = await process.communicate()
        except TimeoutError:
            raise ClaimError(claim, f"`{_shown(argv)}` took longer than {limit_s:g} s") from None
        finally:
            if process.returncode is None:
                _signal(process, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            tail = "\n".join(err.decode(errors="replace").strip().splitlines()[-6:])
            raise ClaimError(claim, f"`{_shown(argv)}` ended with {process.returncode}\n{tail}")
        return (out or b"")[:_OUTPUT_LIMIT_BYTES].decode(errors="replace")

    async def start(self, name: str, argv: Sequence[str | Path]) -> Child:
        """Start a long-lived child; its output goes to `NAME.log` in the demo's folder."""
        log = self._folder / f"{name}.log"
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            process = await asyncio.create_subprocess_exec(
                *map(str, argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,  # as above
                preexec_fn=_die_with_parent,  # one C call; the child execs at once
            )
        finally:
            os.close(descriptor)
        child = Child(name=name, process=process, log=log)
        self._children[name] = child
        return child

    def check_alive(self, claim: str) -> None:
        """Raise where a long-lived child has ended.

        Raises:
            ClaimError: it has; the message has its last lines.
        """
        for child in self._children.values():
            if child.process.returncode is not None:
                tail = "\n".join(child.log.read_text(errors="replace").splitlines()[-6:])
                raise ClaimError(
                    claim, f"{child.name} ended with {child.process.returncode}\n{tail}"
                )

    async def kill(self, name: str) -> None:
        """End a long-lived child as a power cut would, with all that it has started."""
        child = self._children.pop(name)
        theirs = offspring(child.process.pid)
        _signal(child.process, signal.SIGKILL)  # first: it would start them again
        for each in theirs:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        await child.process.wait()

    async def dismiss(self) -> None:
        """End every child, newest first: ask, wait 10 s, then kill."""
        for child in reversed(self._children.values()):
            if child.process.returncode is None:
                _signal(child.process, signal.SIGTERM)
        for child in reversed(self._children.values()):
            try:
                async with asyncio.timeout(10):
                    await child.process.wait()
            except TimeoutError:
                _signal(child.process, signal.SIGKILL)
                await child.process.wait()
        self._children.clear()


def offspring(pid: int, *, running: str = "") -> list[psutil.Process]:
    """Return the processes that a process has started, or those of them that run a module."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for each in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if not running or running in each.cmdline():
                    found.append(each)
    return found


def free_port(preferred: int = 0) -> int:
    """Return `preferred` where nobody listens on it on loopback, else some free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _shown(argv: Sequence[str | Path]) -> str:
    return " ".join(
        Path(part).name if number == 0 else str(part) for number, part in enumerate(argv)
    )


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal to a child that may have ended just now.

    The process's own methods would poll it first, and so take its end from asyncio.
    """
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _die_with_parent() -> None:
    """Linux: a demo that is killed takes its children along."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
