"""A short-lived child of ours: a job as JSON in, lines of JSON out, one of which is the verdict.

What is big, parses what strangers sent, or holds a key runs there: the memory
goes back, and a crash is a verdict like any other. The child and all it started
are killed at the deadline, when we are cancelled, and when we die.
"""

import asyncio
import json
import os
import signal
import site
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import agent
from agent.errors import StepError
from agent.wire.reasons import Reason

_LINE_LIMIT_BYTES = 256 * 1024
_WORDS_LIMIT_BYTES = 4096
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")

Line = Mapping[str, Any]
"""One line of a child: `{"progress": …}` or the verdict, `{"done": …}` or `{"failed": …}`."""


async def converse(
    module: str,
    job: Mapping[str, object],
    *,
    deadline_s: float,
    progress: Callable[[Any], Awaitable[None]] | None = None,
) -> Any:  # noqa: ANN401  # as JSON is
    """Run a module of ours to its verdict, and return what it is done with.

    Raises:
        StepError: its own verdict; `TIMED_OUT`; `INTERRUPTED` when somebody killed it, `INTERNAL`
            when it died without one otherwise.
        OSError: no process can be made.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT_BYTES,
        env=_environment(),
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(deadline_s):
            verdict, words = await _exchange(process, json.dumps(job).encode(), progress)
    except TimeoutError:
        raise StepError(Reason.TIMED_OUT, f"{module} took longer than {deadline_s:g} s") from None
    finally:
        _kill(process)
        await process.wait()
        # Its pipes are ours to close; asyncio would only do it when collected.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
    if verdict is None and process.returncode == -signal.SIGKILL:
        why = f"{module} was killed from outside: by somebody, or for want of memory"
        raise StepError(Reason.INTERRUPTED, why)
    if verdict is None:
        said = words.strip().splitlines()[-1:] or ["it said nothing"]
        why = f"{module} died (status {process.returncode}): {said[0]}"
        raise StepError(Reason.INTERNAL, why[:250])
    if "failed" in verdict:
        failed = verdict["failed"]
        raise StepError(failed["reason"], failed["message"], failed.get("parameters"))
    return verdict["done"]


async def _exchange(
    process: asyncio.subprocess.Process,
    job: bytes,
    progress: Callable[[Any], Awaitable[None]] | None,
) -> tuple[Line | None, str]:
    failure: Exception | None = None
    verdict: Line | None = None
    async with asyncio.TaskGroup() as group:
        words = group.create_task(_last_words(process), name="a child's stderr")
        group.create_task(_tell(process, job), name="a child's stdin")
        try:
            verdict = await _listen(process, progress)
        except Exception as error:  # noqa: BLE001  # raised below: here the group would wrap it
            failure = error
            _kill(process)
        await process.wait()
    if failure is not None:
        raise failure
    return verdict, words.result()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _tell(process: asyncio.subprocess.Process, job: bytes) -> None:
    assert process.stdin is not None  # noqa: S101  # for the type checker: a pipe was asked for
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(job)
        await process.stdin.drain()
    process.stdin.close()


async def _listen(
    process: asyncio.subprocess.Process, progress: Callable[[Any], Awaitable[None]] | None
) -> Line | None:
    assert process.stdout is not None  # noqa: S101  # as above
    verdict: Line | None = None
    while True:
        try:
            raw = await process.stdout.readline()
            if not raw:
                return verdict
            line = json.loads(raw)
        except ValueError as error:
            raise StepError(
                Reason.INTERNAL, "a child said something we don't understand"
            ) from error
        if "progress" not in line:
            verdict = line
        elif progress is not None:
            await progress(line["progress"])


async def _last_words(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None  # noqa: S101  # as above
    words = b""
    while chunk := await process.stderr.read(_WORDS_LIMIT_BYTES):
        words = (words + chunk)[-_WORDS_LIMIT_BYTES:]
    return words.decode(errors="replace")


def _environment() -> dict[str, str]:
    needed = {name: os.environ[name] for name in _KEPT if name in os.environ}
    root = str(Path(agent.__file__).parent.parent)
    if root not in site.getsitepackages():
        needed["PYTHONPATH"] = root
    return needed
