"""A service manager hears that the agent is ready and alive, and that it stops."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from agent.notify import Notice


def heard(line: socket.socket) -> list[str]:
    found = []
    line.settimeout(0.5)
    while True:
        try:
            found.append(line.recv(100).decode())
        except TimeoutError:
            return found
        line.settimeout(0.05)


@pytest.mark.parametrize("abstract", [False, True])
async def test_it_hears_of_the_start_the_loop_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    """By a socket in a folder or without one, as systemd names it; not another's watchdog."""
    name = f"@skerry-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setenv("WATCHDOG_USEC", "40000")
        notice = Notice.of_this_process()
        notice.ready()
        async with asyncio.TaskGroup() as group:
            alive = group.create_task(notice.run(), name="alive")
            await asyncio.sleep(0.15)
            alive.cancel()
        notice.stopping()
        first, *between, last = await asyncio.to_thread(heard, line)
        assert ("READY=1", "STOPPING=1") == (first, last)
        assert {"WATCHDOG=1"} == set(between)
        assert len(between) > 2

        monkeypatch.setenv("WATCHDOG_PID", "1")
        await Notice.of_this_process().run()  # it is not asked, and ends at once


async def test_without_a_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with one that has gone."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await Notice.of_this_process().run()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    Notice.of_this_process().ready()
