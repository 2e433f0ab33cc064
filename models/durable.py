"""The one way a file is written so that it survives a power cut. Blocking.

Temp beside the target, write, fsync, rename, fsync the directory: whoever reads
finds the old content or the new, never neither. Nothing else in Skerry opens a
file for writing, except the database engine, and what may be lost: logs and locks.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write(target: Path, chunks: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Put `chunks` durably at `target`, replacing what is there, or leave it untouched.

    Raises:
        OSError: the disk is full, read-only or failing; `target` is as it was, and nothing
            temporary is left.
    """
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def adopt(temporary: Path, target: Path) -> None:
    """Make a finished file of the same file system durable under its final name.

    For what was written piece by piece (a resumed download): fsync, rename, fsync both directories.

    Raises:
        OSError: as `write`; `target` is as it was.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    sync_directory(target.parent)
    if temporary.parent != target.parent:
        sync_directory(temporary.parent)


def make_directory(path: Path, *, mode: int = 0o755) -> None:
    """Make `path` and its missing parents, each entry durable.

    Raises:
        OSError: it can't be made.
    """
    if path.is_dir():
        return
    make_directory(path.parent, mode=mode)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (POSIX: a rename is not until its directory is)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
