"""What the demo prints fits a terminal, and is one line a step where nobody looks at it live."""

import pytest

from fleet.cli.marks import Screen
from fleet.demo import screen
from fleet.marks import Mark

TEXT = "every figure of this is measured in the run; " * 8


def test_a_step_is_wrapped_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 92 columns no row wraps, and what goes on is below what it goes on from."""
    monkeypatch.setattr(screen, "_screen", lambda: Screen(columns=92))
    screen.line(Mark.ROLLED_BACK, "bad model", TEXT, 4.25)
    first, *rest = capsys.readouterr().out.splitlines()

    assert first.startswith("  ↶ bad model every figure")
    assert rest
    assert all(line.startswith(" " * 14 + line[14:15].strip()) for line in rest)
    assert all(len(line) <= 92 for line in (first, *rest))
    assert rest[-1].endswith("(4.2 s)")


def test_a_step_is_one_line_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever reads it reads one line a step; a claim that failed keeps its lines."""
    monkeypatch.setattr(screen, "_screen", lambda: Screen(unicode=False))
    screen.line(Mark.OK, "waves", TEXT, 4.25)
    screen.failed("cable", "porto-1 ended with -9\nits last words")

    step, claim, words = capsys.readouterr().out.splitlines()
    assert step.startswith("  + waves     every figure")
    assert "  x cable: porto-1 ended with -9" == claim
    assert "    its last words" == words
