"""Traps, planted one at a time: a mutant is a patch, the trap in words, and the test that sees it.

Each `NAME.patch` here begins with two lines of its own, and goes on as a unified diff with as
little context as finds its place once:

    Trap: what other fleet managers fell into, or what was nearly built here
    Red: tests/fleet/deciding/test_asking.py::test_it

Places are found by their text and not by their line, so that a patch lives through changes
around it. For one whose place has gone: plant the trap by hand, `git diff -U1`, and those two
lines before it.
"""

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
ROOMS = ("agent", "fleet", "models", "k3s", "tests", "docs", "pyproject.toml")
SEED = 7
"""A test that draws draws the same each time: red today is red tomorrow."""

_TIMEOUT_S = 400.0
_FAILED = 1  # pytest: tests were run, and one failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """What is replaced by what in one file; `before` is there exactly once."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A trap, where it is planted, and the test that must turn red."""

    name: str
    trap: str
    red: str
    hunks: tuple[Hunk, ...]


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "red"
    ALIVE = "STILL GREEN"
    BROKEN = "DID NOT RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a mutant; `told` is what the test's run printed."""

    mutant: Mutant
    fate: Fate
    told: str = ""


class UnfitError(Exception):
    """A patch that can't be read, has no place or more than one, or names no test."""


def mutants() -> tuple[Mutant, ...]:
    """Return all mutants by name.

    Raises:
        UnfitError: a patch can't be read.
    """
    return tuple(read(path.stem, path.read_text()) for path in sorted(HERE.glob("*.patch")))


def read(name: str, text: str) -> Mutant:
    """Return the mutant that a patch describes.

    Raises:
        UnfitError: it has no head, or no hunk.
    """
    head, _, body = text.partition("\n--- ")
    said = dict(line.partition(": ")[::2] for line in head.splitlines())
    if set(said) != {"Trap", "Red"} or not all(said.values()):
        raise UnfitError(f"{name}: its head is not one line `Trap: …` and one `Red: …`")
    hunks = tuple(_hunks(f"--- {body}"))
    if not hunks:
        raise UnfitError(f"{name}: it changes nothing")
    return Mutant(name=name, trap=said["Trap"], red=said["Red"], hunks=hunks)


def _hunks(body: str) -> list[Hunk]:
    found: list[Hunk] = []
    path, before, after = "", "", ""
    for line in [*body.splitlines(keepends=True), "@@"]:
        if line.startswith(("--- ", "+++ ", "@@")):
            if before or after:
                found.append(Hunk(path=path, before=before, after=after))
            before = after = ""
            path = line[6:].strip() if line.startswith("+++ b/") else path
        else:
            before += line[1:] if line[0] in " -" else ""
            after += line[1:] if line[0] in " +" else ""
    return found


def plant(mutant: Mutant, root: Path) -> None:
    """Write a mutant into the tree at `root`.

    Raises:
        UnfitError: a hunk's place is not there exactly once.
    """
    for hunk in mutant.hunks:
        file = root / hunk.path
        text = file.read_text() if file.exists() else ""
        places = text.count(hunk.before)
        if places != 1:
            raise UnfitError(
                f"{mutant.name}: what it changes is in {hunk.path} {places} times; "
                "it must be there once. Make the patch anew from the code as it is now."
            )
        file.write_text(text.replace(hunk.before, hunk.after))


def find_test(mutant: Mutant, root: Path = ROOT) -> None:
    """See that the test a mutant names is there.

    Raises:
        UnfitError: it is not.
    """
    file, _, name = mutant.red.partition("::")
    wanted = name.partition("[")[0]
    path = root / file
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module(body=[], type_ignores=[])
    tests = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    if wanted not in tests:
        raise UnfitError(f"{mutant.name}: there is no test {mutant.red}")


def copied(root: Path) -> Path:
    """Copy the tree to `root`, to be broken there."""
    ignored = shutil.ignore_patterns("__pycache__", "screenshots")
    for room in ROOMS:
        if (ROOT / room).is_dir():
            shutil.copytree(ROOT / room, root / room, ignore=ignored)
        else:
            shutil.copy(ROOT / room, root)
    return root


def run(root: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the tree at `root`, up to the first that fails."""
    options = ["-q", "-x", "-p", "no:cacheprovider", f"--hypothesis-seed={SEED}"]
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *tests],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )


def tried(mutant: Mutant, root: Path) -> Outcome:
    """Plant a mutant in a fresh copy at `root`, run its test there, and say what became of it."""
    try:
        plant(mutant, copied(root))
    except UnfitError as error:
        return Outcome(mutant=mutant, fate=Fate.BROKEN, told=str(error))
    ended = run(root, mutant.red)
    fates = {0: Fate.ALIVE, _FAILED: Fate.KILLED}
    fate = fates.get(ended.returncode, Fate.BROKEN)
    return Outcome(mutant=mutant, fate=fate, told=ended.stdout + ended.stderr)
