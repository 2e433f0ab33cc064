"""`skerry token create | ls`: what devices join with."""

from typing import Annotated

import typer

from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.screen import CommandError, ExitCode, Output, note, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Tokens with which devices join."
)

_UNITS = {"m": 60, "h": 3600, "d": 86400}


@app.command()
@at_centre
def create(
    centre: CentreOptions,
    *,
    uses: Annotated[int, typer.Option(help="How many devices may join with it.", min=1)] = 1,
    valid: Annotated[str, typer.Option(help="For how long: 30m, 1h, 7d.")] = "1h",
    site: Annotated[
        str | None, typer.Option(help="The site of the devices that join with it.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="key=value each of them gets; more than once.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a join token. Its text is shown once, alone on stdout."""
    wish = {
        "uses": uses,
        "valid_s": _seconds(valid),
        "site": site,
        "labels": dict(_pair(text) for text in label or []),
    }
    with centre.connect() as api:
        made = api.post("api", "v1", "tokens", body=wish)
    if output is Output.JSON:
        print_json("skerry.token/1", made)
        return
    typer.echo(made["token"])
    note(f"for {uses} device(s) until {made['expires_at']}; it is not shown again")


@app.command()
@at_centre
def ls(
    centre: CentreOptions,
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """List join tokens, the newest first, without their secrets."""
    with centre.connect() as api:
        found = api.get("api", "v1", "tokens")
    if output is Output.JSON:
        print_json("skerry.tokens/1", found)
        return
    print_table(
        ["id", "state", "used", "site", "expires"],
        [
            [
                token["id"],
                token["state"],
                f"{token['uses']} of {token['uses_limit']}",
                token["site"],
                token["expires_at"],
            ]
            for token in found["tokens"]
        ],
    )


def _seconds(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS):
        raise CommandError(
            f"not a time span: {text!r}", "USAGE", "write it like 30m, 1h or 7d", ExitCode.USAGE
        )
    return int(number) * _UNITS[unit]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise CommandError(
            f"not a label: {text!r}", "USAGE", "write it like room=oven", ExitCode.USAGE
        )
    return key, value
