"""Each command runs with the extra it names and nothing beside it."""

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fleet.cli import WORDS

ROOT = Path(__file__).parent.parent.parent
BLOCKED = """
import importlib, json, sys
allowed, owners, wanted = json.loads(sys.stdin.read())

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in owners and not set(owners[top]) & set(allowed):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
for name in wanted:
    importlib.import_module(name)
"""


def closure(lines: Iterable[str], extras: Iterable[str]) -> set[str]:
    """Return the names of every distribution that some requirements bring."""
    found: set[str] = set()
    wanted = [(line, extra) for line in lines for extra in ("", *extras)]
    while wanted:
        line, extra = wanted.pop()
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        known = {name, *(f"{name}[{each}]" for each in requirement.extras)}
        if known <= found:
            continue
        found |= known
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        wanted += [(line, each) for line in needed for each in ("", *requirement.extras)]
    return found


def imports_with(extras: Iterable[str], modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules where only what some extras bring is installed."""
    allowed = closure([f"skerry[{','.join(extras)}]"], ())
    owners = {
        top: [canonicalize_name(name) for name in names]
        for top, names in importlib.metadata.packages_distributions().items()
    }
    return subprocess.run(
        [sys.executable, "-P", "-c", BLOCKED],
        input=json.dumps([sorted(allowed), owners, modules]),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_skerry_needs_no_more_than_its_extra(word: str) -> None:
    """What the command names as missing is enough, once it is installed."""
    said = imports_with([WORDS[word].extra], [WORDS[word].module])

    assert said.returncode == 0, said.stderr[-2000:]


@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_a_device_needs_its_extra_and_a_runtime(runtime: str) -> None:
    """`skerry[agent,litert]` or `skerry[agent,tflite]` is all that a device installs."""
    children = ["agent.workers.child", "agent.fetch.__main__", "agent.verify"]
    said = imports_with(["agent", runtime], ["agent.cli", "agent.run", *children])

    assert said.returncode == 0, said.stderr[-2000:]


def test_without_its_extra_a_word_names_it() -> None:
    """A person reads what to install, and no stack trace."""
    said = imports_with(["agent"], ["fleet.cli.trust"])

    assert said.returncode != 0
    assert "ModuleNotFoundError" in said.stderr
