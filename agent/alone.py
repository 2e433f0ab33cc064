"""One agent a home: the lock that the running one holds, with its process id in it. Blocking.

A process id means something only in its own namespace: seen from the host, the agent of a
container that says it is process 1 is not. So the namespace stands beside it. On a disk that can't
be written the lock says who ran before: it tells that an agent runs, and not which one. What an
agent writes for others to read has its `signature`, by which they see whether it has ended.
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
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SIGNATURE_PARTS = 4
_START = 19  # in what the kernel says of a process, after its name


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


def signature() -> str:
    """Return what names this process as long as it lives, and no other one ever."""
    pid = os.getpid()
    return " ".join((_said(_BOOT) or "-", _namespace() or "-", str(pid), _start(pid) or "-"))


def has_ended(signed: str) -> bool:
    """Say whether who signed is known to have ended; one in another container is not known."""
    parts = signed.split(" ")
    if len(parts) != _SIGNATURE_PARTS or not parts[2].isdigit():
        return True
    boot, namespace, pid, start = parts
    if boot != (_said(_BOOT) or "-"):
        return True
    return namespace == (_namespace() or "-") and start != (_start(int(pid)) or "-")


def _start(pid: int) -> str:
    """Return when a process started, by the kernel's count; "" where there is none."""
    fields = _said(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[_START] if len(fields) > _START else ""


def _said(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


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
