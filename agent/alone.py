"""One agent a home: the lock that the running one holds, with its process id in it. Blocking.

A process id means something only in its own namespace: seen from the host, the agent of a
container that says it is process 1 is not. So the namespace stands beside it.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.errors import PersonError

_SAID_LIMIT_BYTES = 64
_NAMESPACE = Path("/proc/self/ns/pid")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Be the only agent of a home.

    Raises:
        PersonError: another one runs.
    """
    descriptor, writable = _open(lock)
    try:
        if not _take(descriptor):
            raise PersonError(
                "the agent can't start",
                "HOME_IN_USE",
                f"another agent runs with the home {lock.parent}",
                "stop it first, or give this one its own with --home DIR",
                code=1,
            )
        # Who reads this looks at the lock first: it needs no more care than the lock itself.
        if writable:
            os.ftruncate(descriptor, 0)
            with suppress(OSError):  # a full disk: nobody will know our number, that is all
                os.pwrite(descriptor, f"{os.getpid()} {_namespace()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(lock: Path) -> tuple[int, bool]:
    """Open the lock, and say whether it can be written: a disk that gave up can still be locked."""
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), True
    except OSError as error:
        if error.errno != errno.EROFS or not lock.exists():
            raise
        return os.open(lock, os.O_RDONLY | os.O_CLOEXEC), False


def _take(descriptor: int) -> bool:
    """Take the lock; whoever only looks whether it is held has it for a moment."""
    for wait_s in (0.01, 0.05, 0.1, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait_s is not None:
                time.sleep(wait_s)  # noqa: TID251  # before there is anything that could wait
        else:
            return True
    return False


def running(lock: Path) -> bool:
    """Tell whether an agent runs with a home."""
    return _look(lock) is not None


def running_pid(lock: Path) -> int | None:
    """Return the process id of the agent that runs with a home.

    None: none does, an old one, or one in another container, which we have no name for.
    """
    pid, _, namespace = (_look(lock) or "").partition(" ")
    return int(pid) if pid.isdigit() and namespace == _namespace() else None


def _look(lock: Path) -> str | None:
    """Return what its holder wrote into the lock; None when nobody holds it."""
    try:
        file = lock.open("rb")
    except FileNotFoundError:
        return None
    with file:
        said = file.read(_SAID_LIMIT_BYTES).decode(errors="replace").strip()
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return said
    return None


def _namespace() -> str:
    try:
        return str(_NAMESPACE.readlink())
    except OSError:  # no /proc: then there are no containers that matter, either
        return ""
