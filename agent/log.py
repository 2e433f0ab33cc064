"""The agent's log: lines of JSON on standard error, and in a ring of files in the device's home.

Rules: the ring never takes more than its limit; no cause takes more than its
ration; no line is long; nothing that a client sent is ever in it, for nobody
hands it over. A line that can't be written is counted and given up: a full disk
stops no device. Unlike all that is durable it is not synced: a log must not wear
out flash, and a power cut may take its last lines.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from agent.wire.ration import Ration

RING_LIMIT_BYTES = 16 * 1024 * 1024
_FILES = 8
_NAME = "agent.log"
_TEXT_LIMIT = 1000
_TRACE_LIMIT = 4000
_LOOK_S = 0.25


class Ring:
    """Appends lines to the newest of a few files; the oldest file goes when a new one is needed."""

    def __init__(self, folder: Path, *, limit_bytes: int = RING_LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes // _FILES
        self._descriptor: int | None = None
        self._size = 0
        self._lost = 0

    def write(self, line: bytes) -> None:
        """Append one line, which ends with a newline. What can't be written is given up."""
        try:
            if self._descriptor is None:
                self._open()
            if self._size + len(line) > self._limit_bytes:
                self._turn()
            if self._lost:
                said = json.dumps({"event": "log lines lost", "count": self._lost}) + "\n"
                self._append(said.encode())
                self._lost = 0
            self._append(line)
        except OSError:
            self._lost += 1
            self.close()

    def close(self) -> None:
        """Let go of the file; the next line opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / _NAME
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        # A power cut, or a full disk, may have left half a line.
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._append(b"\n")

    def _append(self, line: bytes) -> None:
        assert self._descriptor is not None  # noqa: S101  # for the type checker
        written = os.write(self._descriptor, line)
        self._size += written
        if written < len(line):
            raise OSError(f"{written} of {len(line)} bytes written")

    def _turn(self) -> None:
        self.close()
        names = [_NAME, *(f"{_NAME}.{number}" for number in range(1, _FILES))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if (self._folder / newer).exists():
                (self._folder / newer).replace(self._folder / older)
        self._open()


class _Sink:
    """What structlog writes to: a stream for whoever watches, and the ring."""

    def __init__(self, stream: TextIO, ring: Ring) -> None:
        self._stream, self._ring = stream, ring

    def write(self, text: str) -> None:
        self._stream.write(text)
        self._ring.write(text.encode(errors="replace"))

    def flush(self) -> None:
        self._stream.flush()


class _Rationed:
    """Drops what a cause says too often, and says later how much that was."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._ration = now, Ration()
        self._lock = threading.Lock()  # lines come from the threads of the loop's executor, too

    def __call__(self, _logger: WrappedLogger, _name: str, said: EventDict) -> EventDict:
        parts = (said.get(name) for name in ("event", "reason", "deployment"))
        cause = " ".join(str(part) for part in parts if part)
        with self._lock:
            now = self._now()
            if not self._ration.admit(cause, now):
                raise structlog.DropEvent
            if owed := self._ration.owed(now):
                said["held_back"] = owed
        return said


def _shortened(_logger: WrappedLogger, _name: str, said: EventDict) -> EventDict:
    """Keep the beginning of a long text, and the end of a long trace."""
    for name, value in said.items():
        if name == "exception":
            said[name] = str(value)[-_TRACE_LIMIT:]
        elif isinstance(value, str) and len(value) > _TEXT_LIMIT:
            said[name] = value[:_TEXT_LIMIT] + "…"
    return said


def configure(stream: TextIO, ring: Ring, *, now: Callable[[], float] = time.monotonic) -> None:  # noqa: TID251  # lines come from threads that have no loop
    """Send the log of this process to a stream and a ring."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _Rationed(now),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _shortened,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_Sink(stream, ring)),  # type: ignore[arg-type]  # it writes and flushes, all that is used of it
        cache_logger_on_first_use=True,
    )


def read(
    folder: Path,
    *,
    follow: bool = False,
    wait: Callable[[float], None] = time.sleep,  # noqa: TID251  # a command of its own: there is no loop to block
) -> Iterator[str]:
    """Return all lines of the ring, oldest first; then what is appended, for ever, if followed.

    Raises:
        FileNotFoundError: nothing was ever logged here.
        OSError: it can't be read.
    """
    for number in range(_FILES - 1, 0, -1):
        try:
            with _opened(folder / f"{_NAME}.{number}") as file:
                yield from file
        except FileNotFoundError:
            continue
    while True:
        with _opened(folder / _NAME) as file:
            yield from _newest(file, folder / _NAME, follow=follow, wait=wait)
        if not follow:
            return


def _newest(
    file: TextIO, path: Path, *, follow: bool, wait: Callable[[float], None]
) -> Iterator[str]:
    """Return the lines of the newest file, until it is the newest no more."""
    rest, turned = "", False
    while True:
        if said := file.read(65536):
            *whole, rest = (rest + said).split("\n")
            yield from (f"{line}\n" for line in whole)
        elif turned or not follow:
            if rest:
                yield f"{rest}\n"
            return
        elif _turned(file, path):
            turned = True  # and read once more: lines may have come just before
        else:
            wait(_LOOK_S)


def _turned(file: TextIO, path: Path) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False  # in the middle of a turn


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8", errors="replace")
