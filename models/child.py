"""Runs one module of ours in a Python child with limits, and looks at how it ended. Blocking.

For what must not happen in this process: loading a model (a model is a
program), and whatever needs another interpreter than ours. The child gets
bytes on its standard input and answers on its standard output; it has a limit
of address space, CPU and output, no core file, few open files and an almost
empty environment, and its whole process group is killed at the deadline. It is
not cut off from the network or the disk: that is an agent's worker's business.
"""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError, RefusedError, TransientError

GIB = 1024**3

_BOOT = """
import importlib.util, resource, runpy, sys
root, memory, cpu, output = sys.argv[1], *map(int, sys.argv[2:5])
for kind, limit in (
    (resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, cpu), (resource.RLIMIT_FSIZE, output),
    (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 256),
):
    resource.setrlimit(kind, (limit, limit))
spec = importlib.util.spec_from_file_location(
    "models", root + "/__init__.py", submodule_search_locations=[root]
)
sys.modules["models"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["models"])
sys.argv[:] = sys.argv[5:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# The room is found by its own path, not by PYTHONPATH: another interpreter needs only numpy and a
# runtime, and must not meet the packages that lie beside ours.

_STDERR_TAIL_BYTES = 4096
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may use. The defaults are far above what any packed model needs.

    A damaged file took 5.3 GB and 8 s before it was refused; the largest real
    edge models need under 1 GB of address space beside the runtime's own.
    """

    memory_bytes: int = 4 * GIB
    cpu_s: int = 120
    wall_s: float = 180.0
    output_bytes: int = GIB // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a child ended. `signal` is what killed it (None: it exited); `late` that we did."""

    returncode: int
    signal: int | None
    late: bool
    stdout: bytes
    stderr_tail: str

    def error(self, doing: str) -> ModelError | None:
        """Return why it failed, as the error to raise; None where it did not.

        A child that died by a signal was killed by the model it ran, unless it asked for too much.
        """
        if self.late or self.signal == signal.SIGXCPU:
            return TransientError("TIMED_OUT", f"{doing} took too long and was stopped")
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            return RefusedError("LOAD_FAILED", f"{doing} crashed the runtime ({name})")
        if self.returncode == 0:
            return None
        if "MemoryError" in self.stderr_tail or "bad_alloc" in self.stderr_tail:
            return RefusedError("OUT_OF_MEMORY", f"{doing} needs more memory than it may have")
        last = (self.stderr_tail.strip().splitlines() or ["it said nothing"])[-1]
        return RefusedError("LOAD_FAILED", f"{doing} failed: {last[:300]}")


def run(
    module: str,
    arguments: Sequence[str] = (),
    *,
    stdin: bytes = b"",
    python: str = sys.executable,
    limits: Limits | None = None,
) -> Finished:
    """Run `module` of the models room as a child's `__main__`, to its end or its deadline.

    Args:
        module: a full name, like `models.build.probe`.
        arguments: its `sys.argv[1:]`.
        stdin: what it can read.
        python: the interpreter, ours or another with numpy and a runtime.
        limits: None is the defaults of `Limits`.

    Raises:
        RefusedError: RUNTIME_MISSING, there is no such interpreter.
        OSError: no process can be made.
    """
    limits = limits or Limits()
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # its threads would reserve memory by the gigabyte
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    memory = (
        limits.memory_bytes if hard == resource.RLIM_INFINITY else min(limits.memory_bytes, hard)
    )
    command = [
        python, "-P", "-c", _BOOT, str(Path(__file__).parent),
        str(memory), str(limits.cpu_s), str(limits.output_bytes), module, *arguments,
    ]  # fmt: skip
    # Files without a name instead of pipes: nothing to pump, and the kernel bounds what is written.
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as answered,
        tempfile.TemporaryFile() as complained,
    ):
        given.write(stdin)
        given.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603  # our own module, no shell
                command,
                stdin=given,
                stdout=answered,
                stderr=complained,
                env=environment,
                start_new_session=True,
                cwd="/",
            )
        except FileNotFoundError as error:
            raise RefusedError("RUNTIME_MISSING", f"there is no Python at {python}") from error
        late = False
        try:
            process.wait(limits.wall_s)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        answered.seek(0)
        size = complained.seek(0, os.SEEK_END)
        complained.seek(max(0, size - _STDERR_TAIL_BYTES))
        return Finished(
            returncode=process.returncode,
            signal=-process.returncode if process.returncode < 0 else None,
            late=late,
            stdout=answered.read(limits.output_bytes),
            stderr_tail=complained.read().decode(errors="replace"),
        )
