"""A worker's process as the supervisor sees it: spawned, spoken to, listened to, killed, reaped.

Rules: no shell; the worker inherits three descriptors and a minimal
environment; it can't outlive us; what it prints goes into a small ring that
explains its death and never onto our own output. A process is signalled
through its pidfd, so a number that was used again is never hit. The shared
region is sealed before it is mapped: a worker that shrank it later could kill
us with SIGBUS.
"""

import asyncio
import errno
import fcntl
import mmap
import os
import resource
import signal
import site
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import agent
from agent.workers.frames import FRAME_LIMIT_BYTES, REGION_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS_LIMIT_BYTES = 4096
_REAP_S = 5.0  # after SIGKILL; longer takes only a process stuck in a driver
_NICE = 10
"""What nobody waits for: a busy core gives it a tenth of what others get."""

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class ProcessGoneError(Exception):
    """The process is dead, or its socket is closed, which it does not survive."""


class Process:
    """One worker process. `gone` turns true once, before anyone who waits for it is told."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        region_number: int,
        words_number: int,
    ) -> None:
        self.pid = process.pid
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self._process = process
        self._channel = channel
        self._region_number = region_number
        self._words_number = words_number
        self._words = bytearray()
        self._released = False
        self._pending: asyncio.Future[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_end)
        self._loop.add_reader(channel, self._on_frame)
        self._loop.add_reader(words_number, self._on_words)

    @classmethod
    def spawn(cls) -> Self:
        """Start a worker that waits for its launch.

        Raises:
            OSError: no process, descriptor or memory is left.
        """
        with ExitStack() as on_failure, ExitStack() as theirs:
            ours, their_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            on_failure.enter_context(ours)
            theirs.enter_context(their_channel)
            ours.setblocking(False)  # noqa: FBT003  # the standard library's own
            region_number = os.memfd_create("skerry-worker", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            on_failure.callback(os.close, region_number)
            words_number, their_words = os.pipe()
            on_failure.callback(os.close, words_number)
            theirs.callback(os.close, their_words)
            os.set_blocking(words_number, False)  # the standard library's own
            numbers = (their_channel.fileno(), region_number)
            process = subprocess.Popen(  # noqa: S603  # our own module, no shell
                [
                    *(sys.executable, "-P", "-m", "agent.workers.child"),
                    *(str(number) for number in (*numbers, os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=their_words,
                stderr=their_words,
                pass_fds=numbers,
                env=_environment(),
                cwd="/",
                start_new_session=True,  # an interrupt at the terminal is ours to handle
            )
            on_failure.callback(process.wait)
            on_failure.callback(process.kill)
            spawned = cls(process, ours, region_number, words_number)
            on_failure.pop_all()
        return spawned

    def put(self, content: bytes) -> None:
        """Write into the region before it is mapped: the launch."""
        os.pwrite(self._region_number, content, 0)

    def map_region(self) -> mmap.mmap:
        """Seal the region as the worker has sized it, and map it.

        Raises:
            ValueError: it has no size, or one no model needs.
        """
        fcntl.fcntl(self._region_number, fcntl.F_ADD_SEALS, _SEALS)
        size = os.fstat(self._region_number).st_size
        if not 0 < size <= REGION_LIMIT_BYTES:
            raise ValueError(f"a region of {size} bytes")
        return mmap.mmap(self._region_number, size)

    def ask(self, frame: bytes) -> asyncio.Future[bytes]:
        """Send a frame; the future holds the answer frame, or ProcessGoneError. One at a time.

        Raises:
            ProcessGoneError: it was gone already; the frame was not sent.
        """
        if self.gone:
            raise ProcessGoneError
        try:
            self._channel.send(frame)
        except OSError as error:
            self._leave()
            raise ProcessGoneError from error
        self._pending = self._loop.create_future()
        return self._pending

    def forget_words(self) -> None:
        """Forget what it printed so far: greetings of libraries explain no later death."""
        self._on_words()
        self._words.clear()

    def lift_start_limit(self) -> None:
        """Let it compute on: from now on a call that does not end is ended by its deadline."""
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_CPU)
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (hard, hard))

    def step_back(self) -> None:
        """Let every other process go first, from now on.

        Each thread has a niceness of its own, which those that it starts have, too; and where
        the kernel shares a core among sessions (autogroups), that of a thread says nothing
        beyond its session's.
        """
        process = Path(f"/proc/{self.pid}")
        with suppress(OSError):  # it died; or there are no such groups here
            for thread in (process / "task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), _NICE)
            (process / "autogroup").write_text(str(_NICE))

    def kill(self) -> None:
        """End the process now. Idempotent."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def ended(self) -> str:
        """Wait until the process is dead and say how it died, with its last words."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_REAP_S):
                await asyncio.shield(self._ended)
        if not self._released:
            self._on_words()
        words = " ".join(self._words.decode(errors="replace").split())[-500:]
        return f"{self._how()}{': … ' if words else ''}{words}"

    async def release(self, *, grace_s: float = 0.0) -> None:
        """End the process (by itself within `grace_s`, else killed); give all back. Idempotent."""
        if self._released:
            return
        self._released = True
        self.on_gone = None
        self._note_gone()
        self._channel.close()  # asks it to end
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await asyncio.shield(self._ended)
        finally:
            self.kill()
            # A process stuck in a driver is left to the kernel: it ends when the driver lets go.
            with suppress(TimeoutError):
                async with asyncio.timeout(_REAP_S):
                    await asyncio.shield(self._ended)
            self._loop.remove_reader(self._words_number)
            self._loop.remove_reader(self._pidfd)
            for number in (self._words_number, self._region_number, self._pidfd):
                os.close(number)

    def _how(self) -> str:
        if not self._ended.done():
            return "it can't be killed: it hangs in a driver"
        code = self._ended.result()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def _on_frame(self) -> None:
        try:
            raw = self._channel.recv(FRAME_LIMIT_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if not raw or self._pending is None or self._pending.done():  # closed, or out of turn
            self._leave()
            return
        self._pending.set_result(raw)

    def _on_end(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        self._ended.set_result(code)
        if not self.gone:
            self._on_frame()  # what it said just before it ended
            self._leave()

    def _leave(self) -> None:
        """End a process that nothing will be heard from any more, and tell of it once."""
        if self.gone:
            return
        self._note_gone()
        self.kill()
        if self.on_gone is not None:
            self.on_gone()

    def _note_gone(self) -> None:
        self.gone = True
        self._loop.remove_reader(self._channel)
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(ProcessGoneError())

    def _on_words(self) -> None:
        try:
            heard = os.read(self._words_number, 65536)
        except BlockingIOError:
            return
        if not heard:
            self._loop.remove_reader(self._words_number)
            return
        self._words += heard
        del self._words[:-_WORDS_LIMIT_BYTES]


def _environment() -> dict[str, str]:
    """Return what a worker needs: one thread for linear algebra, and the way to a checkout."""
    needed = {
        "OPENBLAS_NUM_THREADS": "1",  # numpy would start a pool that only takes address space
        "LC_ALL": "C.UTF-8",
    }
    root = str(Path(agent.__file__).parent.parent)
    if root not in site.getsitepackages():
        needed["PYTHONPATH"] = root
    return needed


def no_memory(error: OSError) -> bool:
    """Return whether the system had no process or memory left."""
    return error.errno in {errno.ENOMEM, errno.EAGAIN}
