"""Every known trap is planted where it belongs, and caught by the test that names it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.__main__ import main
from tests.mutants.planted import (
    ROOT,
    Fate,
    Hunk,
    Mutant,
    UnfitError,
    find_test,
    mutants,
    plant,
    read,
    tried,
)

KNOWN = {mutant.name: mutant for mutant in mutants()}
SOME = ("ended-is-enough", "failed-is-only-paused", "stale-report-advances")
"""Those that others have shipped; `make mutants` runs all."""

PATCH = """Trap: it is not what it was
Red: tests/mutants/test_planted.py::test_what_cannot_be_read_is_refused
--- a/a.txt
+++ b/a.txt
@@ -1,3 +1,3 @@
 one
-two
+three
 four
@@ -9 +9,2 @@
 nine
+ten
"""


@pytest.mark.parametrize("mutant", KNOWN.values(), ids=KNOWN)
def test_a_trap_has_its_place_in_the_code_and_its_test(mutant: Mutant, tmp_path: Path) -> None:
    """What it changes is there exactly once, and so is the test that it names."""
    for hunk in mutant.hunks:
        copy = tmp_path / hunk.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / hunk.path).read_text())
    plant(mutant, tmp_path)
    find_test(mutant)


@pytest.mark.parametrize("name", SOME)
def test_a_planted_trap_is_seen(name: str, tmp_path: Path) -> None:
    """Its test turns red, and not because it could not run."""
    outcome = tried(KNOWN[name], tmp_path)
    assert outcome.fate is Fate.KILLED, outcome.told


def test_what_no_test_sees_is_told_as_that(tmp_path: Path) -> None:
    """A change of nothing leaves the test green: nothing else turns it red in the copy."""
    known = KNOWN[SOME[0]]
    (hunk,) = known.hunks
    idle = replace(known, hunks=(replace(hunk, after=f"{hunk.before}# nothing\n"),))
    outcome = tried(idle, tmp_path)
    assert outcome.fate is Fate.ALIVE, outcome.told


def test_a_patch_is_read_and_planted_wherever_its_lines_are(tmp_path: Path) -> None:
    """By their text: what was written above them since plays no part."""
    mutant = read("some", PATCH)
    assert mutant.hunks == (
        Hunk(path="a.txt", before="one\ntwo\nfour\n", after="one\nthree\nfour\n"),
        Hunk(path="a.txt", before="nine\n", after="nine\nten\n"),
    )
    file = tmp_path / "a.txt"
    file.write_text("zero\none\ntwo\nfour\nnine\n")
    plant(mutant, tmp_path)
    assert file.read_text() == "zero\none\nthree\nfour\nnine\nten\n"


@pytest.mark.parametrize("text", ["one\nfour\nnine\n", "one\ntwo\nfour\none\ntwo\nfour\nnine\n"])
def test_a_place_that_is_not_there_once_is_named(text: str, tmp_path: Path) -> None:
    """The code moved on, or there is too little context: nobody plants it somewhere else."""
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UnfitError, match=r"some: what it changes is in a\.txt [02] times"):
        plant(read("some", PATCH), tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", PATCH.replace("Trap", "Trick"), PATCH.partition("@@")[0], PATCH.partition("\n")[2]],
    ids=["empty", "another head", "no hunk", "no trap"],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """A patch says what the trap is and which test sees it, or it is none."""
    with pytest.raises(UnfitError, match="some: "):
        read("some", text)


def test_a_test_that_is_not_there_is_named() -> None:
    """A test that was renamed sees nothing."""
    there = read("some", PATCH)
    find_test(there)
    with pytest.raises(UnfitError, match="there is no test"):
        find_test(replace(there, red=f"{there.red}_any_more"))


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """With the trap in words, and its test."""
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    for mutant in KNOWN.values():
        assert f"{mutant.name}\n    {mutant.trap}\n    {mutant.red}\n" in told
    with pytest.raises(SystemExit):
        main(["no-such-trap"])
