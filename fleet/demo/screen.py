"""What the demo prints: a line a step, and at the end where to look."""

import os
import sys

from fleet.cli.marks import Mark, Screen, show
from fleet.cli.screen import Color

_INDENT = 14


def line(mark: Mark, name: str, text: str, took_s: float) -> None:
    """Print one step: its mark, name, what was seen, and how long it took."""
    screen = _screen()
    label = f"  {screen.mark(mark)} {name}"
    show(screen.told(label, f"{text}   {took_s:.1f} s", indent=_INDENT))
    sys.stdout.flush()


def failed(name: str, text: str) -> None:
    """Print a claim that failed, and why."""
    screen = _screen()
    lines = (text.strip() or "no reason was given").splitlines()
    show(
        [
            f"  {screen.mark(Mark.FAILING)} {name}: {lines[0]}",
            *(f"    {each}" for each in lines[1:]),
        ]
    )
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Print lines."""
    show(text.splitlines() or [""])
    sys.stdout.flush()


def _screen() -> Screen:
    return Screen.of(sys.stdout, os.environ, Color.AUTO)
