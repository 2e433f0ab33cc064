"""Runs the demo's steps and says what happened; ends everything it started."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from fleet.demo import screen
from fleet.demo.crew import ClaimError, Crew
from fleet.demo.stage import Options, Stage
from fleet.demo.steps import STEPS


async def show(options: Options, *, once: bool) -> int:
    """Show the demo; return 0, 1 when a claim failed, 130 when it was interrupted before its end.

    Unless `once`, stay until a signal.
    """
    stopped = asyncio.Event()
    environment = {**os.environ, "SKERRY_HOME": str(options.folder / "centre")}
    crew = Crew(options.folder, environment)
    stage = Stage(options=options, crew=crew)
    screen.say(
        f"One centre, one broker, {options.devices} devices on this machine. Nothing leaves it."
    )
    if options.tflite_python is None:
        screen.say("No tflite-runtime here (it needs Python 3.11): every device runs litert.")
    failed: list[ClaimError] = []
    try:
        try:
            async with asyncio.TaskGroup() as tasks:
                steps = tasks.create_task(_take(stage), name="steps")
                _on_signals(stopped, steps)
        except* ClaimError as group:
            failed = leaves(group)
        if stopped.is_set():
            screen.say("Stopped before its end.")
            return 130
        for error in failed:
            screen.say(f"  ✗ {error.claim}: {error}")
        if failed:
            screen.say(f"Everything it made is kept in {options.folder}")
            return 1
        if not once:
            _invite(stage)
            await stopped.wait()
            screen.say("Stopping.")
        return 0
    finally:
        await crew.dismiss()


async def _take(stage: Stage) -> None:
    """Take the steps, a line each.

    Raises:
        ClaimError: what a step claims isn't so.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    for name, step in STEPS:
        began = loop.time()
        text = await step(stage)
        screen.line("✓", name, text, loop.time() - began)
    screen.say(
        f"{len(stage.agents)} devices serve digits 1.0.0. "
        f"{stage.answered:,} inferences, 0 failed. {loop.time() - started:.0f} s."
    )


def _on_signals(stopped: asyncio.Event, steps: asyncio.Task[None]) -> None:
    def stop() -> None:
        stopped.set()
        steps.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _invite(stage: Stage) -> None:
    """Say where to look now."""
    skerry = Path(sys.executable).with_name("skerry")
    screen.say(f"API    {stage.centre['plain_url']}/openapi.json")
    screen.say(f"Infer  curl http://127.0.0.1:{stage.agents[0].port}/v2/models/digits")
    screen.say(f"Next   SKERRY_HOME={stage.centre_home} {skerry} device ls")
    screen.say("Stop   Ctrl-C")


def leaves(group: BaseExceptionGroup[ClaimError]) -> list[ClaimError]:
    """Return every claim that failed."""
    found: list[ClaimError] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += leaves(error)
        else:
            found.append(error)
    return found
