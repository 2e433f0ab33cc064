"""What a worker gives up before it reads a model, by means every Linux has. In the worker only.

It dies with its supervisor and of no polite signal, can gain no rights, dumps no core,
opens few files and can't fill a disk; once the launch is known its address space is
bounded.
"""

import ctypes
import os
import resource
import signal

from agent.workers.frames import REGION_LIMIT_BYTES

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_FILES_LIMIT = (
    64  # imports open few at a time; a runtime needs its libraries and our two descriptors
)


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
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_NOFILE, _FILES_LIMIT)
    _bound(resource.RLIMIT_FSIZE, REGION_LIMIT_BYTES)


def bound_memory(limit_bytes: int) -> None:
    """Bound the address space: an allocation above it fails here, not on the whole device."""
    _bound(resource.RLIMIT_AS, limit_bytes)


def _bound(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
