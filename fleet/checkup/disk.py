"""Room for what a centre writes: its store, its registry, its broker's memory."""

import os
import shutil
from pathlib import Path

from fleet.checkup.finding import Finding, ok, warning, wrong

LEAST_BYTES = 256 * 1_000_000
"""Below this a model may not be published, and a busy store can't grow for long."""

SCARCE_BYTES = 1_000_000_000


def look(home: Path) -> Finding:
    """Look whether the home can be written, and how much room there is."""
    if not os.access(home, os.W_OK | os.X_OK):
        hint = "do it as the user that runs the centre"
        return wrong("disk", f"{home} can't be written", "it is another user's", hint)
    return judge(shutil.disk_usage(home).free, home)


def judge(free_bytes: int, home: Path) -> Finding:
    """Say whether so much room is enough."""
    what = f"{free_bytes // 1_000_000} MB are free at {home}"
    hint = f"make room; the largest is often {home / 'registry'}"
    if free_bytes < LEAST_BYTES:
        why = f"store and registry need {LEAST_BYTES // 1_000_000} MB; without, nothing is kept"
        return wrong("disk", what, why, hint)
    if free_bytes < SCARCE_BYTES:
        return warning("disk", what, "some models more, and it is full", hint)
    return ok("disk", what)
