"""Run a program that dies with us: `python -P -m fleet.broker.tether PARENT PROGRAM ARGUMENT…`.

A centre that is killed outright (SIGKILL, out of memory) can't stop its broker,
and an orphan would hold the port. So the child asks the kernel for a signal at
its parent's death (Linux, prctl), then becomes the program. The request
survives exec as long as the program doesn't change its user.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Tie this process to `arguments[0]`, its parent's process id, and become the rest."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606  # the program was chosen by the caller, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
