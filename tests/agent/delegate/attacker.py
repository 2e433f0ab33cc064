"""A program that attacks from inside, confined by what it is told: JSON in, JSON out.

Each attack is made by a process of its own, which confines itself with the
agent's own functions and then calls the C function that the test delegate has.
"""

import ctypes
import errno
import json
import os
import resource
import sys
from pathlib import Path

from agent.workers import landlock, seccomp
from agent.workers.confine import _needed, confine, seal

MEMORY_BYTES = 4 << 30


def main() -> None:
    job = json.load(sys.stdin)
    found = {
        mechanism: {
            name: attempt(job["library"], mechanism, name, path, process)
            for name, (path, process) in job["attacks"].items()
        }
        for mechanism in ("nothing", "every kernel's", "landlock", "seccomp", "all")
    }
    print(json.dumps(found))  # noqa: T201  # the pipe to the test


def attempt(library: str, mechanism: str, name: str, path: str, process: int) -> str:
    """Return what an attack came to, in a process that is confined in one way."""
    aim = Path(path)
    aim.unlink(missing_ok=True)
    if name != "write-outside":
        aim.write_bytes(b"secret")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.write(writer, strike(library, mechanism, name, path, process).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        said = told.read()
    _, status = os.waitpid(child, 0)
    return said or ("SUCCEEDED" if os.waitstatus_to_exitcode(status) == 0 else "killed")


def strike(library: str, mechanism: str, name: str, path: str, process: int) -> str:
    loaded = ctypes.CDLL(library, use_errno=True)
    os.memfd_create("its region")  # what it may write, as a worker may
    if mechanism != "nothing":
        confine(supervisor=os.getppid())
    if mechanism == "all":
        seal((), memory_bytes=MEMORY_BYTES, start_cpu_s=60)
    elif mechanism != "nothing":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if mechanism == "landlock":
        landlock.restrict(_needed())
    if mechanism == "seccomp":
        seccomp.install(seccomp.here(), drives=False)
    done = loaded.attack(name.encode(), path.encode(), process)
    return "SUCCEEDED" if done == 0 else errno.errorcode.get(ctypes.get_errno(), "?")


if __name__ == "__main__":
    main()
