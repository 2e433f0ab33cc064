"""Runs the demo's steps and says what happened; ends everything it started."""

import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from fleet.demo import screen
from fleet.demo.crew import ClaimError, Crew
from fleet.demo.stage import Options, Stage
from fleet.demo.steps import STEPS, Step
from fleet.demo.steps.setting import GOOD
from fleet.identity.places import Home


async def show(options: Options, *, once: bool) -> int:
    """Show the demo; return 0, 1 when a claim failed, 130 when it was interrupted before its end.

    Unless `once`, stay until a signal.
    """
    stopped = asyncio.Event()
    environment = {**os.environ, "SKERRY_HOME": str(options.folder / "centre")}
    crew = Crew(options.folder, environment)
    until = ExitStack()
    stage = Stage(options, crew, until)
    screen.say(
        f"One centre, one broker, {options.devices} devices on this machine. Nothing leaves it."
    )
    if options.tflite_python is None:
        screen.say(f"No tflite-runtime: {options.tflite_lacks}. Every device runs litert.")
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
            screen.failed(error.claim, str(error))
        if failed:
            screen.say(f"Everything it made is kept in {options.folder}")
            return 1
        if not once:
            _invite(stage)
            await stopped.wait()
            screen.say("Stopping.")
        return 0
    finally:
        await asyncio.to_thread(until.close)
        await crew.dismiss()


async def _take(stage: Stage) -> None:
    """Take the steps, each as soon as those before it are over, and print a line each, in order.

    Raises:
        ClaimError: what a step claims isn't so.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    over = {step.name: asyncio.Event() for step in STEPS}
    seen: dict[str, tuple[str, float]] = {}
    shown = 0

    async def take(step: Step) -> None:
        nonlocal shown
        for name in step.after:
            await over[name].wait()
        began = loop.time()
        seen[step.name] = await step.take(stage), loop.time() - began
        over[step.name].set()
        while shown < len(STEPS) and STEPS[shown].name in seen:
            text, took_s = seen[STEPS[shown].name]
            screen.line(STEPS[shown].mark, STEPS[shown].name, text, took_s)
            shown += 1

    async with asyncio.TaskGroup() as tasks:
        for step in STEPS:
            tasks.create_task(take(step), name=step.name)
    screen.say()
    screen.devices(stage.devices, stage.as_of)
    for words in (("fleet", "status"), ("fleet", "health"), ("alert", "ls")):
        screen.say()
        screen.say(f"$ skerry {' '.join(words)}")
        await stage.crew.run("health", stage.skerry(*words), shown=True)
    dead = f" {stage.spared} more found a device dead that we had killed." if stage.spared else ""
    screen.say()
    screen.say(
        f"{len(stage.agents)} devices serve digits {GOOD}. {stage.given:,} inferences, "
        f"0 failed.{dead} {loop.time() - started:.0f} s."
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
    token = Home(stage.centre_home).operator_token.read_text(encoding="ascii").strip()
    screen.say(f"Look   {stage.centre['plain_url']}/#t={token}")  # what follows `#` is never sent
    screen.say(f"Infer  curl http://127.0.0.1:{stage.agents[0].port}/v2/models/digits")
    screen.say(f"Next   SKERRY_HOME={stage.centre_home} {skerry} fleet status")
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
