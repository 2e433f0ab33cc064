"""A village with a centre that serves it, and a terminal to look at it."""

import asyncio
import datetime as dt
import fcntl
import os
import struct
import sys
import termios
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest

from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.centre.served import TOKEN, serving
from tests.fleet.screens.village import FLEET, pause, settle

SKERRY = Path(sys.executable).with_name("skerry")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Village:
    """A centre with the village in its store."""

    url: str
    home: Home
    store: Store
    token: Path

    async def skerry(self, *words: str) -> Ended:
        """Run a command with its output in a pipe."""
        return await self._run(words, {}, None)

    async def screen(
        self,
        *words: str,
        columns: int = 92,
        environment: Mapping[str, str] | None = None,
        code: int = 0,
    ) -> pyte.Screen:
        """Run a command in a terminal, and return what it shows; it ends with `code`."""
        parent, child = os.openpty()
        try:
            size = struct.pack("HHHH", 60, columns, 0, 0)
            fcntl.ioctl(child, termios.TIOCSWINSZ, size)
            ended = await self._run(words, environment or {}, (parent, child))
        finally:
            os.close(parent)
            os.close(child)
        assert code == ended.code, ended.err
        terminal = pyte.Screen(columns, 60)
        pyte.Stream(terminal).feed(ended.out)
        # What was fed is what is shown: no row was wrapped, none is cut off.
        shown = [row.rstrip() for row in terminal.display]
        rows = ended.out.replace("\r\n", "\n").splitlines()
        assert len(rows) == len([row for row in shown if row]), ended.out
        return terminal

    async def _run(
        self, words: tuple[str, ...], environment: Mapping[str, str], pty: tuple[int, int] | None
    ) -> Ended:
        keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        ours = {
            "SKERRY_CENTRE": self.url,
            "SKERRY_TOKEN_FILE": str(self.token),
            "SKERRY_HOME": str(self.home.path),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }
        process = await asyncio.create_subprocess_exec(
            SKERRY,
            *words,
            env={**keep, **ours, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if pty is None else pty[1],
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            piped, said = await process.communicate()
        # A terminal's buffer holds these screens whole: nothing reads it until the end.
        out = piped or b""
        if pty is not None:
            os.set_blocking(pty[0], False)
            try:
                out = os.read(pty[0], 1 << 16)
            except BlockingIOError:
                out = b""
        return Ended(code=process.returncode or 0, out=out.decode(), err=said.decode())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    today = dt.datetime.now(dt.UTC)  # noqa: TID251  # TLS reads the clock
    identity.init(tmp_path / "home", fleet=FLEET, hosts=[], now=today)
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.store)
    yield opened
    opened.close()


@pytest.fixture
async def village(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Village]:
    settle(store)
    pause(store)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with serving(home, Authority.load(home.path), store) as centre:
        yield Village(url=centre.plain, home=home, store=store, token=token)
