"""Landlock by its three system calls: which files this process may still read, and nothing else.

Theory (kernel documentation, userspace-api/landlock): a process gives up rights for
itself and all it starts, without privileges; what is already open stays open. Which
rights there are depends on the kernel's ABI: files from 1 (Linux 5.13), TCP from 4
(6.7), ioctl on devices from 5 (6.10), signals and abstract sockets from 6 (6.12). In
every ABI a confined process can't trace another or look into its memory or
descriptors, so a worker can't read the agent or another worker.

Works on this process only, and can't be undone.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

# One number on all architectures (asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

# linux/landlock.h
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_FILE_RIGHTS_BY_ABI = (0, 13, 14, 15, 15, 16)
"""How many rights over files each ABI knows, from the lowest bit on."""
_TCP_SINCE, _SCOPES_SINCE = 4, 6
_BIND_AND_CONNECT, _ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3
_ABSENT = frozenset({errno.ENOSYS, errno.EOPNOTSUPP})


def abi() -> int:
    """Return the kernel's ABI; 0 where it has no Landlock, or it was not switched on at boot."""
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError as error:
        if error.errno in _ABSENT:
            return 0
        raise


def restrict(readable: Iterable[Path], devices: Iterable[Path] = ()) -> int:
    """Allow reading beneath `readable` and using `devices`, nothing else; return the ABI in force.

    What does not exist is left out. 0: this kernel has none, and nothing was restricted. The
    caller has set `no_new_privs`.

    Raises:
        OSError: the kernel refused.
    """
    level = abi()
    if level == 0:
        return 0
    rights = (1 << _FILE_RIGHTS_BY_ABI[min(level, len(_FILE_RIGHTS_BY_ABI) - 1)]) - 1
    handled = [rights]
    if level >= _TCP_SINCE:
        handled.append(_BIND_AND_CONNECT)
    if level >= _SCOPES_SINCE:
        handled.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in devices:
            _allow(ruleset, path, (_READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL_DEV) & rights)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return level


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= ~_READ_DIR
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
    finally:
        os.close(beneath)


def _call(number: int, *arguments: int | bytes | None) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    given = (
        ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each)
        for each in arguments
    )
    found = int(library.syscall(ctypes.c_long(number), *given))
    if found < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, f"landlock: {os.strerror(failure)}")
    return found
