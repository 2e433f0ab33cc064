"""Which system calls a model's process may still make: a list of what it needs, all else is absent.

Theory (seccomp(2)): a small program in the kernel reads the number and the
arguments of each call. What is not in the list answers ENOSYS, as on a kernel
that lacks it: libraries then fall back to an older way, where a refusal would
end them. The list is what Python, numpy and both runtimes were seen to call
while they load, judge and answer, with the kin of those calls on other C
libraries. What could reach beyond the process is bounded by its arguments: new
threads but no process, signals to itself only, limits read but not set, no file
opened for writing.

Numbers are of the kernel's own tables; a test compares them with libseccomp's.
`program` is pure.
"""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

_PR_SET_SECCOMP, _FILTER = 22, 2  # linux/prctl.h, linux/seccomp.h
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06  # linux/bpf_common.h: LD|W|ABS, JMP|JEQ|K …
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


@dataclass(frozen=True, slots=True)
class Bound:
    """A call that is allowed when `argument & mask` is one of `values` (lower 32 bits)."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "armv7l": 0x40000028}
"""AUDIT_ARCH_… of those machines whose tables are here (linux/audit.h)."""

_COLUMNS = tuple(ARCHITECTURES)

# fmt: off
CALLS: dict[str, tuple[int | None, int | None, int | None]] = {
    # what it does most comes first
    "futex": (202, 98, 240), "recvfrom": (45, 207, 292), "sendto": (44, 206, 290),
    "read": (0, 63, 3), "write": (1, 64, 4), "mmap": (9, 222, None), "mmap2": (None, None, 192),
    "munmap": (11, 215, 91), "mremap": (25, 216, 163), "brk": (12, 214, 45),
    "madvise": (28, 233, 220), "mprotect": (10, 226, 125), "futex_time64": (None, None, 422),
    "recv": (None, None, 291), "send": (None, None, 289),
    # files, for reading
    "close": (3, 57, 6), "lseek": (8, 62, 19), "_llseek": (None, None, 140),
    "fstat": (5, 80, 108), "fstat64": (None, None, 197), "stat": (4, None, 106),
    "stat64": (None, None, 195), "lstat": (6, None, 107), "lstat64": (None, None, 196),
    "newfstatat": (262, 79, None), "fstatat64": (None, None, 327), "statx": (332, 291, 397),
    "getdents64": (217, 61, 217), "pread64": (17, 67, 180), "readv": (19, 65, 145),
    "access": (21, None, 33), "faccessat": (269, 48, 334), "faccessat2": (439, 439, 439),
    "readlink": (89, None, 85), "readlinkat": (267, 78, 332), "getcwd": (79, 17, 183),
    "statfs": (137, 43, 99), "statfs64": (None, None, 266),
    "fstatfs": (138, 44, 100), "fstatfs64": (None, None, 267),
    # its region and its last words
    "pwrite64": (18, 68, 181), "writev": (20, 66, 146),
    "ftruncate": (77, 46, 93), "ftruncate64": (None, None, 194),
    "getsockopt": (55, 209, 295), "getsockname": (51, 204, 286),
    "dup": (32, 23, 41), "dup3": (292, 24, 358),
    # waiting, threads, time
    "poll": (7, None, 168), "ppoll": (271, 73, 336), "ppoll_time64": (None, None, 414),
    "select": (23, None, None), "_newselect": (None, None, 142), "pselect6": (270, 72, 335),
    "pselect6_time64": (None, None, 413), "epoll_create1": (291, 20, 357),
    "epoll_ctl": (233, 21, 251), "epoll_wait": (232, None, 252), "epoll_pwait": (281, 22, 346),
    "eventfd2": (290, 19, 356), "timerfd_create": (283, 85, 350),
    "timerfd_settime": (286, 86, 353), "timerfd_settime64": (None, None, 411),
    "futex_waitv": (449, 449, 449), "futex_wait": (455, 455, 455), "futex_wake": (454, 454, 454),
    "set_robust_list": (273, 99, 338), "get_robust_list": (274, 100, 339),
    "rseq": (334, 293, 398), "set_tid_address": (218, 96, 256), "membarrier": (324, 283, 389),
    "arch_prctl": (158, None, None), "set_tls": (None, None, 983045),
    "cacheflush": (None, None, 983042),
    "sched_yield": (24, 124, 158), "sched_getaffinity": (204, 123, 242),
    "sched_getparam": (143, 121, 155), "sched_getscheduler": (145, 120, 157),
    "getcpu": (309, 168, 345), "clock_gettime": (228, 113, 263),
    "clock_gettime64": (None, None, 403), "clock_getres": (229, 114, 264),
    "clock_nanosleep": (230, 115, 265), "clock_nanosleep_time64": (None, None, 407),
    "nanosleep": (35, 101, 162), "gettimeofday": (96, 169, 78), "time": (201, None, None),
    # itself
    "rt_sigaction": (13, 134, 174), "rt_sigprocmask": (14, 135, 175),
    "rt_sigreturn": (15, 139, 173), "sigreturn": (None, None, 119),
    "sigprocmask": (None, None, 126), "sigaltstack": (131, 132, 186),
    "restart_syscall": (219, 128, 0), "getpid": (39, 172, 20), "gettid": (186, 178, 224),
    "getuid": (102, 174, 24), "getuid32": (None, None, 199),
    "geteuid": (107, 175, 49), "geteuid32": (None, None, 201),
    "getgid": (104, 176, 47), "getgid32": (None, None, 200),
    "getegid": (108, 177, 50), "getegid32": (None, None, 202),
    "getrandom": (318, 278, 384), "getrusage": (98, 165, 77), "uname": (63, 160, 122),
    "sysinfo": (99, 179, 116), "mbind": (237, 235, 319), "get_mempolicy": (239, 236, 320),
    "getrlimit": (97, 163, None), "ugetrlimit": (None, None, 191),
    "exit": (60, 93, 1), "exit_group": (231, 94, 248),
    # only with the arguments below
    "openat": (257, 56, 322), "open": (2, None, 5), "fcntl": (72, 25, 55),
    "fcntl64": (None, None, 221), "ioctl": (16, 29, 54), "prctl": (157, 167, 172),
    "clone": (56, 220, 120), "tgkill": (234, 131, 268), "prlimit64": (302, 261, 369),
    # only where a driver needs them
    "socket": (41, 198, 281), "bind": (49, 200, 282), "recvmsg": (47, 212, 297),
    "sendmsg": (46, 211, 296), "setsockopt": (54, 208, 294),
}
# fmt: on
"""Each call's number on each of `ARCHITECTURES`; None: it is not there."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CLONE_THREAD = 0x00010000
_READS_ONLY = {"openat": Bound(2, (0,), _WRITES), "open": Bound(1, (0,), _WRITES)}
_FCNTL = Bound(1, (0, 1, 2, 3, 4, 1030))  # F_DUPFD to F_SETFL, F_DUPFD_CLOEXEC: no owner, no signal
_OWNERS = (0x8901, 0x8902, 0x5452)  # FIOSETOWN, SIOCSPGRP, FIOASYNC: a signal to somebody else
_NAMES = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_NETLINK = 16  # AF_NETLINK: how libusb hears of devices. No other family, so no way out
_DRIVERS = frozenset({"socket", "bind", "recvmsg", "sendmsg", "setsockopt"})


def program(machine: str, *, process: int, drives: bool) -> bytes:
    """Return the filter for a machine of `ARCHITECTURES`, as the kernel takes it.

    Args:
        machine: as `platform.machine()` says it.
        process: the process that may be signalled: itself.
        drives: whether it talks to a device, so opens it for writing and hears of USB.
    """
    column = _COLUMNS.index(machine)
    deny = _instruction(_RETURN, _ERRNO | errno.ENOSYS)
    allow = _instruction(_RETURN, _ALLOW)
    bounds = {
        "fcntl": _FCNTL,
        "fcntl64": _FCNTL,
        "prctl": Bound(0, _NAMES),
        "clone": Bound(0, (_CLONE_THREAD,), _CLONE_THREAD),
        "tgkill": Bound(0, (process,)),
        "prlimit64": Bound(2, (0,)),  # read only; where pointers are 64 bits, so is the upper half
        "socket": Bound(0, (_NETLINK,)),
    } | ({} if drives else _READS_ONLY)
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, ARCHITECTURES[machine], matched=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
    ]
    for name, numbers in CALLS.items():
        number = numbers[column]
        if number is None or (name in _DRIVERS and not drives):
            continue
        if name == "ioctl":
            block = [_instruction(_LOAD, _ARGUMENTS + 8)]
            block += [
                each for owner in _OWNERS for each in (_instruction(_EQUAL, owner, other=1), deny)
            ]
            block.append(allow)
        elif name in bounds:
            block = _bounded(bounds[name], allow)
            if name == "prlimit64":
                block = _upper_half_too(block, bounds[name])
            block.append(deny)
        else:
            block = [allow]
        code += [_instruction(_EQUAL, number, other=len(block)), *block]
    return b"".join([*code, deny])


def install(machine: str, *, drives: bool) -> bool:
    """Filter this process's calls from now on; it can't be undone.

    Returns whether it is in force: not on a kernel without filters, nor on a machine whose table
    is not here. The caller has set `no_new_privs`, and there is one thread.

    Raises:
        OSError: the kernel refused.
    """
    if machine not in ARCHITECTURES or struct.calcsize("P") * 8 != _bits(machine):
        return False
    code = program(machine, process=os.getpid(), drives=drives)

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    given = Program(len(code) // 8, code)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(given), 0, 0) == 0:
        return True
    failure = ctypes.get_errno()
    if failure in {errno.EINVAL, errno.ENOSYS}:  # not built into this kernel
        return False
    raise OSError(failure, f"seccomp: {os.strerror(failure)}")


def here() -> str:
    """Return this machine's name in `ARCHITECTURES`, or one that is not in it."""
    return platform.machine()


def _bits(machine: str) -> int:
    return 32 if machine == "armv7l" else 64


def _bounded(bound: Bound, allow: bytes) -> list[bytes]:
    block = [_instruction(_LOAD, _ARGUMENTS + 8 * bound.argument)]
    if bound.mask != 0xFFFFFFFF:  # noqa: PLR2004  # all of it
        block.append(_instruction(_AND, bound.mask))
    for value in bound.values:
        block += [_instruction(_EQUAL, value, other=1), allow]
    return block


def _upper_half_too(block: list[bytes], bound: Bound) -> list[bytes]:
    """Let a pointer's upper half be compared as well: what is left of the block, and a refusal."""
    upper = _instruction(_LOAD, _ARGUMENTS + 8 * bound.argument + 4)
    skip = _instruction(_EQUAL, 0, other=len(block))
    return [upper, skip, *block]


def _instruction(code: int, value: int, *, matched: int = 0, other: int = 0) -> bytes:
    """Return one struct sock_filter; the jumps are counts of instructions to leave out."""
    return struct.pack("=HBBI", code, matched, other, value)
