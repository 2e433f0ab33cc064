"""The screen's language: one column a mark, no wrapped row, numbers whole, quiet where asked."""

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.words import age, latency, span
from fleet.cli.marks import Column, Screen, labelled, show, visible
from fleet.cli.screen import Color
from fleet.marks import ROLLOUT_MARKS, Mark
from fleet.rollouts.states import RolloutState
from fleet.wording import percent

WIDE = Screen(columns=92, color=True)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("mark", list(Mark))
def test_a_mark_is_one_column_wide(mark: Mark) -> None:
    """Columns hold in every terminal: no mark is wide, ambiguous or an emoji."""
    assert 1 == len(Screen().mark(mark))
    assert unicodedata.east_asian_width(Screen().mark(mark)) in {"N", "Na"}
    assert Screen(unicode=False).mark(mark).isascii()
    assert Screen(unicode=False).bar(1, 2).isascii()


def test_no_two_marks_are_alike() -> None:
    """What is told by shape alone is told apart, also in ASCII."""
    for screen in (Screen(), Screen(unicode=False)):
        assert len(Mark) == len({screen.mark(mark) for mark in Mark})


@pytest.mark.parametrize(
    ("environment", "choice", "colored"),
    [
        ({}, Color.AUTO, True),
        ({"NO_COLOR": "1"}, Color.AUTO, False),
        ({"NO_COLOR": ""}, Color.AUTO, True),
        ({"TERM": "dumb"}, Color.AUTO, False),
        ({}, Color.NEVER, False),
    ],
)
def test_colour_is_for_terminals_that_may(
    environment: dict[str, str], choice: Color, *, colored: bool
) -> None:
    """`NO_COLOR`, a dumb terminal and `--color never` are obeyed; a pipe has none at all."""
    assert colored == Screen.of(Terminal(), environment, choice).color
    assert not Screen.of(io.StringIO(), environment, choice).color


@pytest.mark.parametrize(
    ("environment", "drawn"),
    [
        ({}, True),
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "C.UTF-8"}, True),
        ({"LC_ALL": "C"}, False),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, True),
        ({"SKERRY_ASCII": "1", "LANG": "de_DE.UTF-8"}, False),
    ],
)
def test_what_a_locale_can_not_show_is_ascii(environment: dict[str, str], *, drawn: bool) -> None:
    """Also where Python itself has put UTF-8 over a C locale."""
    assert drawn == Screen.of(Terminal(), environment, Color.AUTO).unicode


@given(
    columns=st.integers(60, 200),
    rows=st.lists(
        st.tuples(st.text("abc-01港é", max_size=80), st.integers(0, 10**9), st.text(max_size=0)),
        max_size=8,
    ),
)
def test_a_table_never_wraps_and_cuts_no_number(
    columns: int, rows: list[tuple[str, int, str]]
) -> None:
    """However narrow the terminal and long the names."""
    screen = Screen(columns=columns)
    titles = [
        Column(title="name", name=True),
        Column(title="requests", right=True),
        Column(title="spare", spare=1),
    ]
    lines = screen.table(titles, [[name, f"{number}", empty] for name, number, empty in rows])

    assert all(visible(line) <= columns for line in lines)
    for line, (_, number, _) in zip(lines[1:], rows, strict=True):
        assert str(number) in line.split()


def test_what_finds_no_room_is_left_out_by_rank() -> None:
    """Spare columns go before a number or a name's ends do."""
    titles = [
        Column(title="name", name=True),
        Column(title="more", spare=2),
        Column(title="site", spare=1),
    ]
    lines = Screen(columns=60).table(titles, [["n" * 40, "m" * 30, "s" * 30]])

    assert ["NAME", "SITE"] == lines[0].split()
    assert 60 >= len(lines[1])


def test_a_pipe_gets_whole_lines() -> None:
    """A script reads names as they are."""
    name = "n" * 300
    assert name in Screen().table([Column(title="name", name=True)], [[name]])[1]
    assert [f"WHY      {name}"] == Screen().told("WHY", name)


@given(st.integers(60, 120), st.lists(st.text("ab", min_size=1, max_size=150), max_size=12))
def test_a_field_never_wraps(columns: int, parts: list[str]) -> None:
    """Parts that don't fit beside each other go below, indented."""
    lines = Screen(columns=columns).field("SERVING", parts)

    assert all(len(line) <= columns for line in lines)
    assert lines[0].startswith("SERVING")


def test_escapes_take_no_room() -> None:
    """A coloured cell is as wide as it looks."""
    told = WIDE.state(Mark.FAILING, "failing")

    assert told != "✗ failing"
    assert len("✗ failing") == visible(told)
    assert "\x1b" not in Screen(columns=92).state(Mark.FAILING, "failing")


def test_a_bar_is_full_only_when_all_is_done() -> None:
    """And not empty when something is."""
    screen = Screen(unicode=False)
    bars = [screen.bar(part, 1000) for part in (0, 1, 500, 999, 1000, 2000)]

    assert ["." * 10, "#.........", "#####.....", "#########.", "#" * 10, "#" * 10] == bars
    assert "." * 10 == screen.bar(0, 0)


def test_numbers_are_for_people() -> None:
    """Spans in one or two units, latencies in three digits, shares honest at their ends."""
    spans = {
        0: "0 s",
        59.9: "59 s",
        60: "1 min",
        3599: "59 min",
        9600: "2 h 40 min",
        12 * 3600 + 60: "12 h",
        3 * 86400 + 4 * 3600: "3 d 4 h",
        12 * 86400 + 3600: "12 d",
        -5: "0 s",
    }
    latencies = {
        None: "",
        0.0: "0.00 ms",
        0.000312: "0.31 ms",
        0.0021: "2.10 ms",
        0.0116: "11.6 ms",
        0.4001: "400 ms",
        0.9999: "1.00 s",
        12.34: "12.3 s",
    }

    assert spans == {seconds: span(seconds) for seconds in spans}
    assert latencies == {seconds: latency(seconds) for seconds in latencies}
    assert ["0 %", "0.1 %", "92.9 %", "99.9 %", "100 %", ""] == [
        percent(0, 9),
        percent(1, 10**6),
        percent(929, 1000),
        percent(10**6 - 1, 10**6),
        percent(9, 9),
        percent(0, 0),
    ]
    assert "8 min" == age("2026-03-01T11:52:00Z", "2026-03-01T12:00:00Z")
    assert "never" == age(None, "2026-03-01T12:00:00Z")


def test_drawing_over_is_for_live_terminals() -> None:
    """In a pipe a line stays where it is."""
    assert "\x1b[3A\x1b[J" == Screen(columns=92, live=True).over(3)
    assert "" == Screen(columns=92, live=True).over(0)
    assert "" == Screen().over(3)


def test_what_devices_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """A device's message is text: no escape, no control, no turned writing reaches the terminal."""
    told = WIDE.state(Mark.OK, "ok")
    show([f"{told} \x1b[2J\x1b[8m\x1b]0;x\x07 a\nb\u202ec\x9b1m"])
    printed = capsys.readouterr().out

    assert f"{told} ?[2J?[8m?]0;x? a?b?c?1m\n" == printed
    assert {"\x1b[32m", "\x1b[0m"} == set(re.findall(r"\x1b\[[0-9;]*m", printed))


def test_every_state_of_a_rollout_has_a_mark() -> None:
    """And no word has one that is no state."""
    assert set(RolloutState) == set(ROLLOUT_MARKS)


def test_a_table_beside_a_label_fits_too() -> None:
    """Without titles there is no line for them."""
    screen = Screen(columns=60)
    names = [Column(title="", name=True), Column(title="", right=True)]
    lines = labelled("SERVING", screen.inside().table(names, [["n" * 90, "12"], ["m", "3"]]))

    assert 2 == len(lines)
    assert 60 >= max(map(len, lines))
    assert lines[0].startswith("SERVING  n")
    assert lines[1].startswith("         m")
