"""What a worker gives up before it reads a model. In the worker only; nothing of it can be undone.

First (`confine`), by means every Linux has: it dies with its supervisor and of no
polite signal, can gain no rights and keeps none, can't be looked into by its kin,
dumps no core, opens few files and can't fill a disk. Then (`seal`), once it is known
what it must read: its address space and its start's computing are bounded, and where
the kernel can, only those files can be read (Landlock) and only those calls made that
a model needs (seccomp). Whoever starts it is told what is in force.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

import agent
import models
from agent.workers import landlock, seccomp
from agent.workers.frames import REGION_LIMIT_BYTES
from models.delegate import Delegate

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_FILES_LIMIT = (
    64  # imports open few at a time; a runtime needs its libraries and our two descriptors
)

ALWAYS = ("no-new-privileges", "no-capabilities", "limits")
"""What is in force on every kernel."""

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_ABOUT_THE_MACHINE = ("/proc", "/sys/devices/system")  # XNNPACK's cpuinfo reads both


def confine(*, supervisor: int) -> None:
    """Give up what no model needs.

    Raises:
        OSError: the kernel refused.
        ProcessLookupError: the supervisor died before we could ask to die with it.
    """
    # A service manager may ask the whole group to end. The supervisor answers what is under way
    # first, with us, and then closes our socket.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        raise ProcessLookupError("the supervisor is gone")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    _prctl(_PR_SET_DUMPABLE, 0)
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_NOFILE, _FILES_LIMIT)
    _bound(resource.RLIMIT_FSIZE, REGION_LIMIT_BYTES)


def seal(
    readable: Iterable[Path],
    *,
    memory_bytes: int,
    start_cpu_s: int,
    delegate: Delegate | None = None,
) -> tuple[str, ...]:
    """Give up all but what this model needs, and return what is in force.

    Args:
        readable: its files; what Python and the runtimes read comes on top.
        memory_bytes: of address space: an allocation above it fails here, not on the whole device.
        start_cpu_s: of computing, after which it is killed; whoever started it lifts that bound
            when it is ready, and from then on ends calls by their deadline.
        delegate: a driver that it loads: it reads `/sys`, hears of USB by netlink, and opens its
            devices for writing.

    Raises:
        OSError: the kernel has what it refused.
    """
    _bound(resource.RLIMIT_AS, memory_bytes)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (start_cpu_s, hard))
    driver = [] if delegate is None else _read_by(delegate)
    devices = [] if delegate is None else [Path(each) for each in delegate.devices]
    level = landlock.restrict([*_needed(), *driver, *readable], devices)
    filtered = seccomp.install(seccomp.here(), drives=delegate is not None)
    return (
        *ALWAYS,
        *([f"landlock-{level}"] if level else []),
        *(["seccomp"] if filtered else []),
    )


def _needed() -> list[Path]:
    """Return what Python itself and the runtimes read; of a checkout, only our two rooms."""
    ours = {Path(room.__file__ or "").parent for room in (agent, models)}
    checkout = {room.parent for room in ours}
    paths = {Path(entry) for entry in sys.path if entry} - checkout
    installed = {room for room in checkout if room.name in {"site-packages", "dist-packages"}}
    prefixes = {Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)}
    fixed = {Path(each) for each in (*_LIBRARIES, *_ABOUT_THE_MACHINE, "/dev/urandom")}
    return sorted(ours | paths | installed | prefixes | fixed)


def _read_by(delegate: Delegate) -> list[Path]:
    return [Path(delegate.library), Path("/sys"), Path("/run/udev")]


def _drop_capabilities() -> None:
    """Keep none of root's rights, should the agent run as root."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)), "capset")


def _bound(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    _checked(library.prctl(option, value, 0, 0, 0), f"prctl {option}")


def _checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
