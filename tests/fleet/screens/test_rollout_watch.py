"""`skerry rollout watch`, run for real: it says each change, and its end is its exit code."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest

from agent.wire.phases import Phase
from fleet.cli.screen import ExitCode
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.screens.conftest import SKERRY
from tests.fleet.screens.quay import AWAY, HERE, Quay, quay_of

LIMIT_S = 30.0
"""Two busy cores: a command takes half a second to start on quiet ones."""


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


@dataclass(frozen=True, kw_only=True)
class Watching:
    """A watch that runs, and has said its first line."""

    process: asyncio.subprocess.Process
    first: str

    async def until(self, text: str) -> str:
        """Return the next line with a text in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while text not in (line := (await self.process.stdout.readline()).decode()):
                assert line, f"it ended before it said {text!r}"
        return line

    async def ended(self) -> tuple[int, str, str]:
        """Return its exit code, the lines that are left, and what it said on stderr."""
        async with asyncio.timeout(LIMIT_S):
            out, said = await self.process.communicate()
        return self.process.returncode or 0, out.decode(), said.decode()


@asynccontextmanager
async def watching(quay: Quay, rollout: str, *words: str) -> AsyncIterator[Watching]:
    """Watch a rollout in a pipe."""
    process = await asyncio.create_subprocess_exec(
        SKERRY,
        *("rollout", "watch", rollout, *words),
        env=environment(quay),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            first = (await process.stdout.readline()).decode()
        yield Watching(process=process, first=first)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def environment(quay: Quay) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "SKERRY_CENTRE": quay.people.url,
        "SKERRY_TOKEN_FILE": str(quay.people.token),
        "SKERRY_HOME": str(quay.people.home.path),
        "LANG": "C.UTF-8",
        "TERM": "xterm",
    }


async def test_done_is_0_and_every_change_is_a_line(quay: Quay) -> None:
    """Time first, in the order in which it happened; nothing on stderr."""
    rollout = await quay.start("1.0.0", "--policy", "all-at-once")
    async with watching(quay, rollout) as watch:
        await quay.say("d-2", phase=Phase.FETCHING)
        updating = await watch.until("updating")
        await quay.say(*HERE)
        code, out, said = await watch.ended()

    assert watch.first.startswith("2026-03-01T12:00:00Z  " + rollout + " running")
    assert "2026-03-01T12:00:00Z  name-d-2 updating\n" == updating
    assert (ExitCode.DONE, "") == (code, said)
    assert f"{rollout} done\n" in out
    assert all(f"name-{device} committed\n" in out for device in HERE)
    assert "\x1b" not in out


async def test_failed_is_1(quay: Quay) -> None:
    """No gate stood behind it, and one refused."""
    rollout = await quay.start("1.0.0", "--policy", "all-at-once")
    async with watching(quay, rollout) as watch:
        await quay.say("d-1", phase=Phase.REFUSED, reason="GOLDEN_MISMATCH")
        await quay.say("d-2", "d-3", "d-4")
        code, out, said = await watch.ended()

    assert ExitCode.BAD == code
    assert "name-d-1 refused: GOLDEN_MISMATCH" in out
    assert f"see why: skerry rollout why {rollout}\n" == said


async def test_stopped_by_a_failed_gate_is_1_too(quay: Quay, tmp_path: Path) -> None:
    """Its policy has it pause, and a person mend it: it is not to be resumed, and says so."""
    await quay.serve_all()
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "kind: policy\nname: forward\non_failure: pause\n"
        "waves:\n  - each_class: 1\n    gate: {soak_s: 0}\n"
    )
    rollout = await quay.start("1.1.0", "--policy-file", str(policy))
    async with watching(quay, rollout) as watch:
        await quay.say("d-4", phase=Phase.REFUSED, reason="GOLDEN_MISMATCH")
        code, out, _ = await watch.ended()
    resumed = await quay.people.skerry("rollout", "resume", rollout)

    assert ExitCode.BAD == code
    assert f"{rollout} paused" in out
    assert ExitCode.CONFLICT == resumed.code
    assert "the gate of a wave failed" in resumed.err


async def test_paused_by_a_person_is_20(quay: Quay) -> None:
    """It ends, because nothing goes on by itself; resumed, it can be watched again."""
    rollout = await quay.start()
    async with watching(quay, rollout) as watch:
        await quay.tell("pause", {"reason": "looks odd"}, of=rollout)
        code, out, _ = await watch.ended()
    await quay.tell("resume", {}, of=rollout)
    async with watching(quay, rollout, "--timeout", "0") as again:
        still, _, _ = await again.ended()

    assert ExitCode.PAUSED == code
    assert "looks odd" in out
    assert ExitCode.STILL_RUNNING == still


async def test_inconclusive_is_21(quay: Quay) -> None:
    """Nobody of a wave could be reached until its deadline: a gate that can't decide says so."""
    rollout = await quay.start("1.0.0", to=f"skerry/device={AWAY}")
    async with watching(quay, rollout) as watch:
        await quay.pass_time(3601)
        code, out, _ = await watch.ended()

    assert ExitCode.INCONCLUSIVE == code
    assert "wave 1 inconclusive: In wave 1, only 0 came to an end" in out


async def test_rolled_back_is_22(quay: Quay) -> None:
    """It is watched all the way back: first what failed, then that everybody is home."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0")
    async with watching(quay, rollout) as watch:
        await quay.say("d-4", phase=Phase.REFUSED, reason="GOLDEN_MISMATCH")
        await watch.until("rolling-back")
        assert watch.process.returncode is None
        await quay.say("d-1", "d-4")
        code, out, _ = await watch.ended()

    assert ExitCode.ROLLED_BACK == code
    assert f"{rollout} rolled-back" in out
    assert "name-d-4 returned" in out


async def test_aborted_is_23(quay: Quay) -> None:
    """A person ended it elsewhere."""
    rollout = await quay.start()
    async with watching(quay, rollout) as watch:
        await quay.tell("abort", {"reason": "wrong model"}, of=rollout)
        code, out, _ = await watch.ended()

    assert ExitCode.ABORTED == code
    assert "wrong model" in out


async def test_overtaken_is_a_conflict(quay: Quay) -> None:
    """A newer rollout took all of its targets: nothing went wrong, and it never ends well."""
    rollout = await quay.start()
    async with watching(quay, rollout) as watch:
        await quay.start("1.1.0", "--policy", "all-at-once")
        code, out, _ = await watch.ended()

    assert ExitCode.CONFLICT == code
    assert f"{rollout} superseded" in out


async def test_still_running_at_its_time_is_24(quay: Quay) -> None:
    """How to come back is said; the rollout is left alone."""
    rollout = await quay.start()
    async with watching(quay, rollout, "--timeout", "0.2") as watch:
        code, _, said = await watch.ended()

    assert ExitCode.STILL_RUNNING == code
    assert f"it goes on: skerry rollout watch {rollout}" in said
    assert "running" == (await quay.ask(of=rollout))["state"]


async def test_interrupted_it_detaches(quay: Quay) -> None:
    """Ctrl-C ends the watch and not the rollout, and says how to come back."""
    rollout = await quay.start()
    async with watching(quay, rollout) as watch:
        watch.process.send_signal(signal.SIGINT)
        code, _, said = await watch.ended()

    assert ExitCode.INTERRUPTED == code
    assert f"detached; it goes on: skerry rollout watch {rollout}" in said
    assert "running" == (await quay.ask(of=rollout))["state"]


async def test_a_rollout_that_is_none_is_3(quay: Quay) -> None:
    """Three lines, at once."""
    ended = await quay.people.skerry("rollout", "watch", "r-none")

    assert (ExitCode.NOT_FOUND, "") == (ended.code, ended.out)
    assert 3 == len(ended.err.splitlines())


async def test_scripts_get_a_document_a_change(quay: Quay) -> None:
    """One JSON document a line, each with its schema."""
    rollout = await quay.start("1.0.0", "--policy", "all-at-once")
    async with watching(quay, rollout, "-o", "json") as watch:
        await quay.say(*HERE)
        code, out, _ = await watch.ended()
    told = [json.loads(line) for line in [watch.first, *out.splitlines()]]

    assert ExitCode.DONE == code
    assert {"skerry.rollout-change/1"} == {each["schema"] for each in told}
    assert {"schema", "rollout", "at", "subject", "state", "why"} == set(told[0])
    assert ("name-d-1", "committed") in {(each["subject"], each["state"]) for each in told}


@pytest.mark.parametrize("columns", [60, 92])
async def test_a_terminal_shows_one_picture(quay: Quay, columns: int) -> None:
    """Drawn over itself: no other screen, no row that wraps, and the last picture stays."""
    rollout = await quay.start("1.0.0", "--soak", "0")
    parent, child = os.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        SKERRY,
        *("rollout", "watch", rollout),
        env=environment(quay),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=child,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(child)
    terminal = pyte.Screen(columns, 40)
    stream = pyte.Stream(terminal)
    raw = ""
    try:
        os.set_blocking(parent, False)
        async with asyncio.timeout(LIMIT_S):
            for step in (("live,",), ("d-1", "d-4"), ("d-2",), ("d-3",)):
                if step[0].startswith("d-"):
                    await quay.say(*step)
                wanted = step[0] if step[0] == "live," else f"name-{step[0]} committed"
                while wanted not in raw:
                    with contextlib.suppress(OSError):  # nothing new, or the other end is closed
                        raw += (fresh := os.read(parent, 1 << 16).decode())
                        stream.feed(fresh)
                    assert all(len(row.rstrip()) <= columns for row in terminal.display)
                    await asyncio.sleep(0.02)
            _, said = await process.communicate()
            with contextlib.suppress(OSError):
                stream.feed(os.read(parent, 1 << 16).decode())
    finally:
        os.close(parent)
        if process.returncode is None:
            process.kill()
            await process.communicate()
    rows = [row.rstrip() for row in terminal.display if row.strip()]

    assert (ExitCode.DONE, b"") == (process.returncode, said)
    assert "?1049" not in raw
    assert rows[0].startswith("✓ done")
    assert 1 == sum(row.startswith("WAVE") for row in rows)
    assert not any("Ctrl-C" in row for row in rows)
