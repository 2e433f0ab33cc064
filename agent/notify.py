"""What a service manager hears: ready, alive, stopping. The datagrams of sd_notify(3).

Alive means that the loop goes round: a supervisor that hangs is ended and started
again by the manager, as a worker that hangs is by the supervisor.
"""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Self

_MICRO = 1_000_000


class Notice:
    """What the manager that started this process is told, if it wants to hear of it."""

    def __init__(self, address: str | None, watchdog_s: float | None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s

    @classmethod
    def of_this_process(cls) -> Self:
        """Return what the environment says of it."""
        address = os.environ.get("NOTIFY_SOCKET")
        spent = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID") in {None, str(os.getpid())}
        return cls(address, int(spent) / _MICRO if spent.isdigit() and mine else None)

    def ready(self) -> None:
        """What should serve was started."""
        self._say("READY=1")

    def stopping(self) -> None:
        """It ends in order."""
        self._say("STOPPING=1")

    async def run(self) -> None:
        """Say that the loop goes round, twice as often as asked for, until cancelled."""
        while self._watchdog_s:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _say(self, state: str) -> None:
        if not self._address:
            return
        # @: a name in the abstract namespace. A manager that can't be told is no reason to stop.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)  # noqa: FBT003  # the standard library's own
            line.sendto(state.encode(), address)
