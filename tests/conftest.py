"""What holds for every test: nothing outlives it, and what a machine lacks is said aloud.

- No task, child process or thread survives the test that started it.
- A test marked `real` names the programs it needs: `@pytest.mark.real("mosquitto")`.
  Without them it is skipped with the remedy on a person's machine, and fails where
  `CI=true`, because there a skip would hide that nothing was tried. So does any
  other skip of a `real` test.
- Durations are real unless a test asks for loop time: `@pytest.mark.looptime`.
"""

import asyncio
import inspect
import os
import shutil
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
IN_CI = os.environ.get("CI") == "true"
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
GRACE_S = 5.0
"""How long something that is already ending may take to be gone; two busy cores need a moment."""

# Two shared cores make single examples slow at random: no deadline. CI repeats itself.
settings.register_profile("house", deadline=None, derandomize=IN_CI, print_blob=True)
settings.load_profile("house")


def missing(program: str) -> str | None:
    """Return one line that names a missing part and its remedy; None where it is there."""
    if program == "tflite":
        if (ROOT / ".venv-tflite/bin/python").exists():
            return None
        return "tflite-runtime needs Python 3.11: put python3.11 on PATH and run `make setup`"
    if shutil.which(program, path=SYSTEM_PATH):
        return None
    return f"{program} is not on this machine: install it, or run `make system-deps` as root"


def pytest_configure() -> None:
    """Let nobody make an event loop by asking for one: a plugin asks before synchronous tests."""
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every asynchronous test the check on its tasks; a synchronous one needs no loop."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_task_outlives_its_test")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a `real` test whose programs are missing, with the remedy."""
    for marker in item.iter_markers("real"):
        for program in marker.args:
            if why := missing(program):
                pytest.skip(why)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a `real` test into a failure where `CI=true`."""
    report = yield
    if IN_CI and report.skipped and item.get_closest_marker("real"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped in CI. {why}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the minutes of each suite, slowest first."""
    spent: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                suite = "/".join(Path(report.location[0]).parts[:2])
                spent[suite] = spent.get(suite, 0.0) + report.duration
    if not spent:
        return
    terminalreporter.section("minutes per suite")
    for suite, seconds in sorted(spent.items(), key=lambda each: -each[1]):
        terminalreporter.line(f"{seconds / 60:6.2f}  {suite}")


@pytest.fixture
async def no_task_outlives_its_test() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        pytest.fail("tasks outlive their test: " + ", ".join(sorted(map(repr, left))))


@pytest.fixture(autouse=True)
def no_process_or_thread_outlives_its_test() -> Iterator[None]:
    """Fail a test that leaves a child process or a thread.

    Threads of a loop's own executor don't count: the loop ends after this check, and they with it.
    """
    me = psutil.Process()
    children_before = set(me.children(recursive=True))
    threads_before = set(threading.enumerate())
    yield
    children = list(set(me.children(recursive=True)) - children_before)
    _, alive = psutil.wait_procs(children, timeout=GRACE_S)
    names = [f"process {child.pid} {_command_of(child)}" for child in alive]
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, timeout=GRACE_S)
    for thread in set(threading.enumerate()) - threads_before:
        if thread.name.startswith("asyncio_"):
            continue
        thread.join(GRACE_S)
        if thread.is_alive():
            names.append(f"thread {thread.name}")
    if names:
        pytest.fail("left behind by this test: " + ", ".join(names))


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200] or process.status()
    except psutil.Error:
        return "(already gone)"
