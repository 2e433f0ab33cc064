"""Options that several commands share, each in one place with its default and its meaning."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fleet.cli.screen import Output
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

CentreOption = Annotated[
    str | None,
    typer.Option(
        "--centre",
        envvar="SKERRY_CENTRE",
        help="The centre's URL; by default the one that runs on --home.",
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="SKERRY_TOKEN_FILE",
        help="A file with the operator token; by default the one in --home.",
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        envvar="SKERRY_CA",
        help="The CA certificate to know the centre by; by default the one in --home.",
    ),
]


def connect(home: Path, centre: str | None, token_file: Path | None, ca: Path | None) -> Centre:
    """Return a client of the centre that the options name.

    Raises:
        CommandError: no centre or token can be found.
    """
    return Centre(Connection.find(home=home, url=centre, token_file=token_file, ca=ca))
