"""The screen's language: marks, bars, ages and numbers, and lines that never wrap. Pure but one.

Rules:
- A state is told by its mark's shape and its word; colour only repeats it. The 16 ANSI colours
  are used, so that the reader's own palette rules, and only on a terminal: not in a pipe, not
  with `NO_COLOR`, `TERM=dumb` or `--color never`.
- Without a UTF-8 locale, or with `SKERRY_ASCII=1`, marks and bars are ASCII. All marks are one
  column wide (East-Asian width N, no emoji).
- A terminal's lines are as wide as it is, 60 columns at least: names are cut in the middle,
  numbers never. What goes to a pipe is not cut: a line there is as long as it is.
- Ages (`fleet.clock.age`) are from two times of one clock: the centre's, whose answers are dated.

Use: `screen = Screen.of(sys.stdout, os.environ, color)`, then `screen.state(Mark.OK, "ok")`,
`screen.field("WHY", …)`, `screen.table(…)`; each returns text or lines, `show` prints them. In a
pipe, or when `screen.live` is false, print a line per change instead of drawing over (`over`).
"""

import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TextIO

from fleet.cli.screen import Color
from fleet.marks import Mark

LEAST_COLUMNS = 60
LABEL_COLUMNS = 9
"""The column of `WHY`, `HEALTH`, `DEVICES` and the like, with the gap behind it."""

_LEAST_NAME = 12
_ESCAPE = re.compile(r"\x1b\[(?:0|3[1-5]|90)m")
"""The escapes that are written here: any other came from outside."""

_UNSAFE = re.compile(
    r"(?!\x1b\[(?:0|3[1-5]|90)m)[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Control characters, and those that turn the direction of writing."""


_GREEN, _YELLOW, _RED, _BLUE, _MAGENTA, _GREY = 32, 33, 31, 34, 35, 90
_DRAWN: Mapping[Mark, tuple[str, str, int]] = {
    Mark.OK: ("✓", "+", _GREEN),
    Mark.UPDATING: ("◌", "~", _BLUE),
    Mark.WAITING: ("◷", ".", _MAGENTA),
    Mark.DEGRADED: ("!", "!", _YELLOW),
    Mark.FAILING: ("✗", "x", _RED),
    Mark.OFFLINE: ("⊘", "-", _GREY),
    Mark.UNKNOWN: ("?", "?", _GREY),
    Mark.PAUSED: ("◫", "=", _YELLOW),
    Mark.ROLLED_BACK: ("↶", "<", _RED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: numbers stand right, names may be cut.

    `spare`: it may be left out where there is no room, the highest number first; 0: never.
    """

    title: str
    right: bool = False
    name: bool = False
    spare: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What is written to. `columns` None: a pipe or a file, where nothing is cut."""

    columns: int | None = None
    unicode: bool = True
    color: bool = False
    live: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str], color: Color) -> Self:
        """Return how to write to a stream: the one look at the terminal."""
        tty = stream.isatty()
        dumb = environment.get("TERM") == "dumb"
        return cls(
            columns=max(shutil.get_terminal_size().columns, LEAST_COLUMNS) if tty else None,
            unicode=_speaks_utf8(stream.encoding, environment),
            color=tty and not dumb and not environment.get("NO_COLOR") and color is Color.AUTO,
            live=tty and not dumb,
        )

    def mark(self, mark: Mark) -> str:
        """Return a mark alone."""
        drawn, plain, color = _DRAWN[mark]
        return self._colored(drawn if self.unicode else plain, color)

    def state(self, mark: Mark, text: str) -> str:
        """Return a mark and what it says, in the mark's colour."""
        drawn, plain, color = _DRAWN[mark]
        return self._colored(f"{drawn if self.unicode else plain} {text}", color)

    def bar(self, part: float, whole: float, *, cells: int = 10) -> str:
        """Return a bar: full only when all is done, and not empty when something is."""
        share = min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0
        full = int(share * cells) or int(share > 0)
        on, off = "▰▱" if self.unicode else "#."
        return on * full + off * (cells - full)

    def cut(self, name: str, columns: int) -> str:
        """Return a name that fits, its middle left out: the ends tell names apart."""
        gap = "…" if self.unicode else ".."
        left = len(name)
        shown = name
        while visible(shown) > columns and left > 2:  # noqa: PLR2004  # one letter at each end
            left -= 1
            shown = name[: (left + 1) // 2] + gap + name[len(name) - left // 2 :]
        return shown

    def field(
        self,
        label: str,
        parts: Iterable[str],
        *,
        gap: str = "   ",
        indent: int = LABEL_COLUMNS,
    ) -> list[str]:
        """Return a labelled paragraph; parts stay whole, and more lines are indented."""
        room = None if self.columns is None else self.columns - indent
        lines, line = [], ""
        for each in parts:
            part = self._spoken(each)
            text = part if room is None or visible(part) <= room else self.cut(part, room)
            longer = f"{line}{gap}{text}" if line else text
            if room is not None and visible(longer) > room:
                lines.append(line)
                line = text
            else:
                line = longer
        return labelled(label, [*lines, line], indent=indent)

    def told(self, label: str, sentence: str, *, indent: int = LABEL_COLUMNS) -> list[str]:
        """Return a labelled sentence, broken between words."""
        return self.field(label, sentence.split(), gap=" ", indent=indent)

    def inside(self, indent: int = LABEL_COLUMNS) -> "Screen":
        """Return the screen that is left beside labels: for a table with a label."""
        return self if self.columns is None else replace(self, columns=self.columns - indent)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
        """Return rows under their titles (if any has one), cut to the terminal's width."""
        kept = list(range(len(columns)))
        cells = [[column.title.upper() for column in columns], *rows]
        widths = [max(visible(row[index]) for row in cells) for index in kept]
        if self.columns is not None:
            kept, widths = _fitted(columns, widths, self.columns)
        return [
            "  ".join(
                self._cell(columns[index], row[index], widths[index]) for index in kept
            ).rstrip()
            for row in (cells if any(column.title for column in columns) else cells[1:])
        ]

    def over(self, count: int) -> str:
        """Return what puts the cursor back over `count` lines and clears them, where it may."""
        return f"\x1b[{count}A\x1b[J" if self.live and count else ""

    def _cell(self, column: Column, text: str, width: int) -> str:
        shown = self._spoken(text) or "-"
        if visible(shown) > width:
            shown = self.cut(shown, width)
        space = " " * (width - visible(shown))
        return space + shown if column.right else shown + space

    def _spoken(self, text: str) -> str:
        """Return a text as far as the terminal can show it."""
        if self.unicode or text.isascii():
            return text
        return text.replace("…", "..").encode("ascii", "replace").decode()

    def _colored(self, text: str, color: int) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self.color else text


def show(lines: Iterable[str]) -> None:
    """Print lines on stdout. What devices and people wrote moves no cursor: it is only text."""
    sys.stdout.write("".join(f"{_UNSAFE.sub('?', line)}\n" for line in lines))


def labelled(label: str, lines: Iterable[str], *, indent: int = LABEL_COLUMNS) -> list[str]:
    """Return lines beside a label."""
    first = label + " " * max(indent - visible(label), int(bool(label)))
    return [
        f"{' ' * indent if number else first}{line}".rstrip() for number, line in enumerate(lines)
    ]


def visible(text: str) -> int:
    """Return how many columns a text takes: escapes take none, East Asian letters two."""
    bare = _ESCAPE.sub("", text)
    if bare.isascii():
        return len(bare)
    wide = sum(unicodedata.east_asian_width(letter) in {"W", "F"} for letter in bare)
    return len(bare) + wide - sum(unicodedata.combining(letter) > 0 for letter in bare)


def _speaks_utf8(encoding: str | None, environment: Mapping[str, str]) -> bool:
    if environment.get("SKERRY_ASCII", "") not in ("", "0"):
        return False
    # Python writes UTF-8 under a C locale, too (it even sets LC_CTYPE to C.UTF-8 itself):
    # what the terminal shows is what the person's locale says, where it says something.
    names = ["LC_ALL", "LANG"] if environment.get("LC_CTYPE") == "C.UTF-8" else []
    told = [environment.get(name) for name in names or ("LC_ALL", "LC_CTYPE", "LANG")]
    locale = next((name for name in told if name), "utf-8").lower().replace("-", "")
    return "utf8" in locale and (encoding or "").lower().replace("-", "") == "utf8"


def _fitted(columns: Sequence[Column], widths: list[int], room: int) -> tuple[list[int], list[int]]:
    """Return which columns stay and how wide: names give way first, then the spare go."""
    kept = list(range(len(columns)))
    while True:
        fitted = list(widths)
        over = sum(fitted[index] for index in kept) + 2 * (len(kept) - 1) - room
        while over > 0:
            wide = [each for each in kept if columns[each].name and fitted[each] > _LEAST_NAME]
            if not wide:
                break
            widest = max(wide, key=lambda index: fitted[index])
            fitted[widest] -= 1
            over -= 1
        spare = [index for index in kept if columns[index].spare]
        if over <= 0 or not spare:
            return kept, fitted
        kept.remove(max(spare, key=lambda index: columns[index].spare))
