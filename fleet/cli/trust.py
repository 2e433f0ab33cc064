"""`skerry trust init`: a fleet's authority, certificates, signing keys and operator token."""

from typing import Annotated

import typer

from fleet import clock
from fleet.cli.options import HomeOption
from fleet.cli.screen import CommandError, ExitCode, note, print_fields
from fleet.identity.authority import Authority
from fleet.identity.authority import init as make
from fleet.identity.errors import TrustExistsError
from fleet.identity.places import Home

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Keys and certificates of a fleet."
)


@app.callback()
def trust() -> None:
    """Keys and certificates of a fleet."""


@app.command()
def init(
    *,
    home: HomeOption,
    fleet: Annotated[
        str, typer.Option(help="The fleet's id: lower-case letters, digits and '-'.")
    ] = "fleet",
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name or address devices will reach the centre by; may be given more than once."
        ),
    ] = None,
) -> None:
    """Make a fleet's keys and certificates in a new home. Keys that are there are not touched."""
    try:
        make(home, fleet=fleet, hosts=host or [], now=clock.now())
    except TrustExistsError as error:
        raise CommandError(
            str(error),
            "TRUST_EXISTS: devices that joined trust them",
            "use another folder: skerry trust init --home DIR",
            ExitCode.CONFLICT,
        ) from error
    except ValueError as error:
        raise CommandError(
            str(error), "USAGE", "see: skerry trust init --help", ExitCode.USAGE
        ) from error
    made = Home(home)
    authority = Authority.load(home)
    print_fields(
        {
            "fleet": authority.fleet,
            "home": home,
            "ca": f"{made.ca} (sha256 {authority.ca_sha256})",
            "bundle key": made.bundle_key,
            "token": made.operator_token,
        }
    )
    note(f"keep {made.trust} secret and backed up; next: skerry up --home {home}")
