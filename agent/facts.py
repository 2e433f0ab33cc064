"""What this device says of itself. Blocking, but for the runtime, which only a child can tell."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import psutil

from agent.children.converse import converse
from agent.errors import PersonError, StepError
from agent.state import Machine
from agent.wire import facts as names
from agent.wire import v1
from agent.wire.limits import TEXT_LIMIT
from agent.wire.reasons import Reason

_PROBE_LIMIT_S = 60.0  # two imports of numpy and a runtime on a slow card


def agent_version() -> str:
    """Return this agent's version."""
    try:
        return version("skerry")
    except PackageNotFoundError:  # run from a checkout
        return "0.0.0"


async def machine(library: str | None) -> Machine:
    """Find what models can run on here; the preferred runtime where none is asked for.

    Raises:
        PersonError: there is no runtime that works.
    """
    try:
        found = await converse("agent.probe", {"library": library}, deadline_s=_PROBE_LIMIT_S)
    except StepError as error:
        raise _without_runtime(Reason(error.reason), str(error)) from error
    if not found:
        raise _without_runtime(Reason.RUNTIME_MISSING, "neither ai-edge-litert nor tflite-runtime")
    name, its_version = next(iter(found.items()))
    return Machine(architecture=platform.machine(), library=name, library_version=its_version)


def facts(of: Machine | None, *, ledger: str | None = None) -> v1.Facts:
    """Return the facts of a birth or a join."""
    found = {
        names.ARCHITECTURE: platform.machine(),
        names.MEMORY_MIB: str(psutil.virtual_memory().total >> 20),
        "skerry/os": f"{platform.system()} {platform.release()}",
        "skerry/python": platform.python_version(),
        "skerry/agent_version": agent_version(),
        "skerry/cpus": str(os.cpu_count() or 1),
    }
    if ledger is not None:
        found[names.LEDGER] = ledger
    if of is not None:
        found |= {names.RUNTIME: of.library, names.RUNTIME_VERSION: of.library_version}
        if special := sorted(set(of.accelerators) - {"cpu"}):
            found[names.ACCELERATORS] = "_".join(special)
    return {name: value[:TEXT_LIMIT] for name, value in found.items()}


def _without_runtime(reason: Reason, why: str) -> PersonError:
    return PersonError(
        "no model can run here",
        reason,
        why,
        "install one: pip install 'skerry[litert]' (or 'skerry[tflite]' on 32-bit ARM)",
        code=1,
    )
