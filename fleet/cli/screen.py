"""What the commands print: data on stdout, three lines on stderr when something is wrong.

Hints and progress go to stderr, too. JSON carries a schema id, so
that a script can tell what it reads. No colour, no cursor here: a line is a line in
a terminal, a file and a log alike. What is drawn for people is in `fleet.cli.marks`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What a command's end means to a script (`skerry help exit-codes`)."""

    DONE = 0
    BAD = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNREACHABLE = 5
    CONFLICT = 6
    REFUSED = 7
    DIFFERENCES = 10
    PAUSED = 20
    INCONCLUSIVE = 21
    ROLLED_BACK = 22
    ABORTED = 23
    STILL_RUNNING = 24
    INTERRUPTED = 130


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


class Color(StrEnum):
    """Whether colour is used: where it can be seen and nobody said no, or never."""

    AUTO = "auto"
    NEVER = "never"


class CommandError(Exception):
    """A command can't do what was asked: what, why (begins with a code), what next."""

    def __init__(
        self, what: str, why: str, next_step: str, exit_code: ExitCode = ExitCode.BAD
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step
        self.exit_code = exit_code


def complain(error: CommandError) -> None:
    """Print what is wrong in three lines on stderr."""
    for line in (error.what, error.why, error.next_step):
        sys.stderr.write(" ".join(line.split()) + "\n")


def note(line: str) -> None:
    """Tell a person something on stderr, where it doesn't get between the data."""
    sys.stderr.write(line + "\n")


def print_json(schema: str, content: Mapping[str, object]) -> None:
    """Print one JSON document with its schema id first."""
    sys.stdout.write(json.dumps({"schema": schema, **content}, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under upper-case column names, as wide as they need."""
    cells = [[name.upper() for name in columns]]
    cells += [["-" if cell in (None, "") else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one thing as name and value, a line each."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        shown = "-" if value in (None, "") else value
        sys.stdout.write(f"{name.upper():<{width}}  {shown}\n")
