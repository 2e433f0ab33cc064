"""What the pages and sentences name exists: commands, targets, files."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fleet import sentences
from fleet.cli import WORDS

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
SAID = "\n".join(
    [
        *(page.read_text() for page in PAGES if page.name != "CHANGELOG.md"),
        *(f"{each.meaning}\n{each.next_step}" for each in sentences.REASONS.values()),
    ]
)
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def options() -> dict[str, set[str]]:
    """Return the options of each command, as the reference has them."""
    files = [ROOT / "docs" / "reference" / name for name in ("skerry.md", "skerry-agent.md")]
    text = "\n".join(file.read_text() for file in files)
    _, *parts = re.split(r"^## `?([^`\n]+)`?$", text, flags=re.MULTILINE)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    for title, part in sections.items():
        if "(#which-centre)" in part:
            sections[title] += sections["Which centre"]
    return {
        title: set(re.findall(r"(--?[a-z][a-z-]*)(?=[`,])", part))
        for title, part in sections.items()
    }


OPTIONS = options()


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link inside the repository names a file or folder that is there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())

    assert [] == [link for link in links if not (page.parent / link).exists()]


@every_page
def test_markdown_has_one_sentence_a_line(page: Path) -> None:
    """A change of a sentence is a change of a line; lists and tables may hold more."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    prose = [line for line in text.splitlines() if line[:1].isalpha()]

    assert [] == [line for line in prose if re.search(r"[a-z)`]\. [A-Z]", line)]


def test_every_target_that_is_named_is_in_the_makefile() -> None:
    """`make` does what the pages say it does."""
    named = set(re.findall(r"(?:`|^|sudo )make ([a-z0-9-]+)", SAID, re.MULTILINE))

    assert named
    assert set() == named - TARGETS


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """What a contributor runs and what CI runs is one thing."""
    readme = (ROOT / "README.md").read_text()

    assert "`make test-all`" in readme
    assert "make test-all\n" in (ROOT / ".ci" / "run").read_text()
    assert {"demo", "test", "setup", "check", "test-all", "system-deps", "lock"} <= TARGETS


def test_every_command_that_is_named_exists() -> None:
    """A next step that a person is told to take can be taken."""
    unknown = []
    for word, below in set(re.findall(r"\bskerry ([a-z]+)(?: ([a-z][a-z-]+))?", SAID)):
        if f"`skerry {word}" not in SAID and f": skerry {word}" not in SAID:
            continue  # prose about Skerry, in lower case
        if word not in WORDS:
            unknown.append(f"skerry {word}")
            continue
        command = typer.main.get_command(importlib.import_module(WORDS[word].module).app)
        known = getattr(command, "commands", {})
        if f"skerry {word} {below}" in SAID and below and known and below not in known:
            unknown.append(f"skerry {word} {below}")

    assert [] == sorted(unknown)


@every_page
def test_every_option_that_is_named_is_one_of_its_command(page: Path) -> None:
    """What is copied from a page is taken: the reference of its command has each option."""
    text = page.read_text()
    fenced = re.findall(r"(?ms)^```(?:sh|console)\n(.*?)^```", text)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    lines = [line for block in [*fenced, *spans] for line in block.splitlines()]
    nested = [each for line in lines for each in re.findall(r"\$\(([^)]*)\)", line)]
    outer = [re.sub(r"\$\([^)]*\)", "", line) for line in lines]
    commands = "|".join(sorted(OPTIONS, key=len, reverse=True))
    typed = re.findall(rf"(?<![\w-])({commands})((?: [^|;#&\n]*)?)", "\n".join([*outer, *nested]))

    assert [] == [
        f"{command} {option}"
        for command, rest in typed
        for option in re.findall(r"(?<= )--?[a-z][a-z-]*", rest)
        if option not in {*OPTIONS[command], "--help"}
    ]


def test_every_command_of_the_agent_that_is_named_exists() -> None:
    """So can a step to be taken on a device."""
    said = subprocess.run(
        [Path(sys.executable).parent / "skerry-agent", "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    named = set(re.findall(r"`?skerry-agent ([a-z]+)[`, ]", SAID))

    assert set() == {word for word in named if word not in said}
