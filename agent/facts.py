"""What this device says of itself. Blocking, but for the runtime, which only a child can tell."""

import os
import platform
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from agent.children.converse import converse
from agent.errors import PersonError, StepError
from agent.state import Machine
from agent.wire import facts as names
from agent.wire import v1
from agent.wire.limits import TEXT_LIMIT
from agent.wire.reasons import Reason
from models.delegate import KNOWN, Delegate

_PROBE_LIMIT_S = 60.0  # two imports of numpy and a runtime on a slow card
_DRIVER_LIMIT_S = 30.0  # one import, and a device that may want its firmware first


def agent_version() -> str:
    """Return this agent's version."""
    try:
        return version("skerry")
    except PackageNotFoundError:  # run from a checkout
        return "0.0.0"


def machine_boot() -> dict[str, str]:
    """Return what names this start of the machine, so that its restarts are told from the agent's.

    Nothing where the kernel does not say it.
    """
    try:
        return {"machine_boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]}
    except OSError:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A driver that is installed here, or asked for, and does not work."""

    delegate: Delegate
    reason: str
    message: str


async def machine(
    library: str | None,
    delegates: Iterable[Delegate] = (),
    refused: Callable[[Refused], None] = lambda _refused: None,
) -> Machine:
    """Find what models can run on here; the preferred runtime where none is asked for.

    Args:
        library: the runtime asked for.
        delegates: drivers asked for; those known and installed are tried as well.
        refused: hears of each that does not work; the machine is without it then.

    Raises:
        PersonError: there is no runtime that works.
    """
    try:
        found = await converse("agent.probe", {"library": library}, deadline_s=_PROBE_LIMIT_S)
    except StepError as error:
        raise _without_runtime(Reason(error.reason), str(error)) from error
    if not found["libraries"]:
        raise _without_runtime(Reason.RUNTIME_MISSING, "neither ai-edge-litert nor tflite-runtime")
    name, its_version = next(iter(found["libraries"].items()))
    return Machine(
        architecture=platform.machine(),
        library=name,
        library_version=its_version,
        cores=len(os.sched_getaffinity(0)),
        delegates=tuple([each async for each in _working(name, delegates, refused)]),
        sandbox=tuple(found["sandbox"]),
    )


async def _working(
    library: str, asked: Iterable[Delegate], refused: Callable[[Refused], None]
) -> AsyncIterator[Delegate]:
    """Yield the drivers that load and find their device; one that hangs or crashes does not."""
    wanted = {each.accelerator: each for each in KNOWN if _is_installed(each)}
    wanted |= {each.accelerator: each for each in asked}
    for delegate in wanted.values():
        job = {"library": library, "delegate": delegate.to_json()}
        try:
            await converse("agent.probe", job, deadline_s=_DRIVER_LIMIT_S)
        except StepError as error:
            refused(Refused(delegate=delegate, reason=error.reason, message=str(error)))
        else:
            yield delegate


def _is_installed(delegate: Delegate) -> bool:
    folders = [Path("/usr/local/lib"), *Path("/usr/lib").glob("*-linux-gnu*")]
    return any((folder / delegate.library).exists() for folder in [Path("/usr/lib"), *folders])


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
        if of.sandbox:
            found[names.SANDBOX] = "_".join(of.sandbox)
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
