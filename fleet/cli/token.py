"""`skerry token create | ls`: what devices join with."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import typer

from fleet.cli.options import CentreOptions, OutputOption, at_centre, seconds
from fleet.cli.screen import CommandError, ExitCode, Output, note, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Tokens with which devices join."
)


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
    labels = dict(_pair(text) for text in label or [])
    made = new_token(centre, uses=uses, valid=valid, site=site, labels=labels)
    if output is Output.JSON:
        print_json("skerry.token/1", made)
        return
    typer.echo(made["token"])
    who = "1 device" if uses == 1 else f"{uses} devices"
    note(f"for {who} until {made['expires_at']}; it is not shown again")


def new_token(
    centre: CentreOptions,
    *,
    uses: int,
    valid: str,
    site: str | None,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Any:  # noqa: ANN401  # JSON, as the API's reference describes it
    """Return a new join token, with its text.

    Raises:
        CommandError: it can't be made.
    """
    wish = {"uses": uses, "valid_s": seconds(valid), "site": site, "labels": dict(labels)}
    with centre.connect() as api:
        return api.post("api", "v1", "tokens", body=wish)


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


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise CommandError(
            f"not a label: {text!r}", "USAGE", "write it like room=oven", ExitCode.USAGE
        )
    return key, value
