"""Ask a person before something is changed, with the number of devices that it changes.

On a terminal it is asked; `--yes` says it beforehand. Where nobody can be asked, a command
either needs `--yes`, or goes on because its words leave no doubt (`unattended`).
"""

import sys
from typing import Annotated

import typer

from fleet.cli.screen import CommandError, ExitCode

YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask: do it.")]

_MANY = 100
"""Above so many devices a `y` is too easily typed: the number itself is asked for."""


def agree(question: str, affected: int, *, yes: bool, unattended: bool) -> bool:
    """Return if a person agrees, or has done so; say whether they were asked just now.

    Raises:
        CommandError: nobody agreed; nothing has been done.
    """
    if yes:
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if unattended:
            return False
        raise CommandError(
            f"nobody has agreed: {question}",
            "NOT_AGREED: there is no terminal to ask on",
            "say it beforehand: --yes",
            ExitCode.USAGE,
        )
    wanted = str(affected) if affected > _MANY else "y"
    how = f"type {affected} to go on" if affected > _MANY else "y/N"
    sys.stderr.write(f"{question} [{how}] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {wanted, "yes" if wanted == "y" else wanted}:
        raise CommandError(
            "nothing has been done", "NOT_AGREED", "to go on, agree, or say --yes", ExitCode.USAGE
        )
    return True
