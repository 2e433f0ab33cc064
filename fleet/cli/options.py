"""Options that several commands share, each in one place with its default and its meaning."""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec

import typer

from fleet.cli.screen import Color, CommandError, ExitCode, Output
from fleet.client import Centre, Connection


def default_home() -> Path:
    """Return where a centre lives when nobody says otherwise."""
    return Path(os.environ.get("SKERRY_HOME") or Path.home() / ".skerry")


HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        default_factory=default_home,
        show_default="SKERRY_HOME, else ~/.skerry",
        help="The centre's folder.",
    ),
]

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How data is printed.")]
ColorOption = Annotated[
    Color, typer.Option("--color", help="Colour on a terminal without NO_COLOR, or never.")
]

_CentreOption = Annotated[
    str | None,
    typer.Option(
        "--centre",
        envvar="SKERRY_CENTRE",
        help="The centre's URL; by default the one that runs on --home.",
    ),
]
_TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="SKERRY_TOKEN_FILE",
        help="A file with the operator token; by default the one in --home.",
    ),
]
_CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        envvar="SKERRY_CA",
        help="The CA certificate to know the centre by; by default the one in --home.",
    ),
]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreOptions:
    """Which centre a person means, as they typed it."""

    home: Path
    url: str | None
    token_file: Path | None
    ca: Path | None

    def connect(self) -> Centre:
        """Return a client of this centre.

        Raises:
            CommandError: no centre or token can be found.
        """
        return Centre(
            Connection.find(home=self.home, url=self.url, token_file=self.token_file, ca=self.ca)
        )

    def typed(self) -> list[str]:
        """Return the words that name this centre in another command, to be copied.

        What the environment says already needs none.
        """
        given = {
            "--home": (self.home, str(default_home())),
            "--centre": (self.url, os.environ.get("SKERRY_CENTRE")),
            "--token-file": (self.token_file, os.environ.get("SKERRY_TOKEN_FILE")),
            "--ca": (self.ca, os.environ.get("SKERRY_CA")),
        }
        return [
            word
            for option, (value, known) in given.items()
            if value is not None and str(value) != known
            for word in (option, str(value))
        ]


def at_centre(command: Callable[Concatenate[CentreOptions, _P], None]) -> Callable[..., None]:
    """Give a command the options that say which centre; it gets them as its first argument."""

    @functools.wraps(command, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def asked(
        *,
        home: HomeOption,
        centre: _CentreOption = None,
        token_file: _TokenFileOption = None,
        ca: _CaOption = None,
        **rest: object,
    ) -> None:
        where = CentreOptions(home=home, url=centre, token_file=token_file, ca=ca)
        command(where, **rest)  # type: ignore[call-arg,arg-type]  # by the signature below

    _, *own = inspect.signature(command).parameters.values()
    shared = inspect.signature(asked, follow_wrapped=False).parameters.values()
    named = [each for each in shared if each.kind is each.KEYWORD_ONLY]
    # typer reads a command's options off its signature.
    asked.__signature__ = inspect.Signature([*own, *named])  # type: ignore[attr-defined]
    return asked


def seconds(text: str) -> int:
    """Return a time span that a person typed.

    Raises:
        CommandError: it is none.
    """
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 10 and unit in _UNITS):  # noqa: PLR2004  # thirty years of seconds
        raise CommandError(
            f"not a time span: {text[:40]!r}",
            "USAGE",
            "write it like 30s, 5m, 1h or 7d",
            ExitCode.USAGE,
        )
    return int(number) * _UNITS[unit]
