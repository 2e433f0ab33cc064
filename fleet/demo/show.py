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
    """Show the demo; return 0, or 1 when a claim failed. Unless `once`, stay until a signal."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    environment = {**os.environ, "SKERRY_HOME": str(options.folder / "centre")}
    crew = Crew(options.folder, environment)
    stage = Stage(options=options, crew=crew)
    started = loop.time()
    screen.say(
        f"One centre, one broker, {options.devices} devices on this machine. Nothing leaves it."
    )
    if options.tflite_python is None:
        screen.say("No tflite-runtime here (it needs Python 3.11): every device runs litert.")
    failed: list[ClaimError] = []
    try:
        try:
            for name, step in STEPS:
                began = loop.time()
                text = await step(stage)
                screen.line("✓", name, text, loop.time() - began)
                if stopped.is_set():
                    return 130
        except* ClaimError as group:
            failed = leaves(group)
            for error in failed:
                screen.say(f"  ✗ {error.claim}: {error}")
            screen.say(f"Everything it made is kept in {options.folder}")
        if failed:
            return 1
        took = loop.time() - started
        screen.say(
            f"{len(stage.agents)} devices serve digits 1.0.0. "
            f"{stage.answered:,} inferences, 0 failed. {took:.0f} s."
        )
        if once:
            return 0
        home = options.folder / "centre"
        one = stage.agents[0]
        screen.say(f"API    {stage.centre['plain_url']}/docs")
        screen.say(f"Infer  curl http://127.0.0.1:{one.port}/v2/models/digits")
        screen.say(
            f"Next   SKERRY_HOME={home} {Path(sys.executable).with_name('skerry')} device ls"
        )
        screen.say("Stop   Ctrl-C")
        await stopped.wait()
        return 0
    finally:
        await crew.dismiss()


def leaves(group: BaseExceptionGroup[ClaimError]) -> list[ClaimError]:
    """Return every claim that failed."""
    found: list[ClaimError] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += leaves(error)
        else:
            found.append(error)
    return found
