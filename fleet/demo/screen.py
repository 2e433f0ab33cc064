"""What the demo prints: a line a step, how each device is, and at the end where to look."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from agent.wire.words import age, latency
from fleet.cli.marks import Column, Screen, show
from fleet.cli.screen import Color
from fleet.marks import Mark

_INDENT = 14


def line(mark: Mark, name: str, text: str, took_s: float) -> None:
    """Print one step: its mark, name, what was seen, and how long it took."""
    screen = _screen()
    label = f"  {screen.mark(mark)} {name}"
    show(screen.told(label, f"{text} ({took_s:.1f} s)", indent=_INDENT))
    sys.stdout.flush()


def devices(found: Sequence[Mapping[str, Any]], now: str) -> None:
    """Print a row for each device: what it runs, how fast, and when it was last heard."""
    screen = _screen()
    columns = [Column(title=title) for title in ("state", "name", "serves", "runtime")]
    columns += [Column(title=title, right=True) for title in ("p50", "p95", "p99", "heard")]
    show(screen.table(columns, [_row(screen, device, now) for device in found]))
    sys.stdout.flush()


def _row(screen: Screen, device: Mapping[str, Any], now: str) -> list[str]:
    (served,), (deployment,) = device["serves"], device["deployments"]
    quantiles = [latency(device["numbers"][name]) for name in ("p50_s", "p95_s", "p99_s")]
    return [
        screen.state(Mark(device["state"]["word"]), device["state"]["word"]),
        device["name"],
        f"{served['name']} {served['version']}",
        deployment["active"]["runtime"],
        *quantiles,
        age(device["heard_at"], now),
    ]


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
