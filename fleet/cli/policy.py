"""`skerry policy ls | show | rm`: the policies that a rollout may name."""

from typing import Annotated

import typer
import yaml

from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.rollout_words import ReasonOption
from fleet.cli.screen import Output, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Policies that a rollout may name; skerry apply writes them.",
)
NameArgument = Annotated[str, typer.Argument(help="The policy's name.")]


@app.command()
@at_centre
def ls(centre: CentreOptions, *, output: OutputOption = Output.TABLE) -> None:
    """List policies: those built in, then those that the centre keeps."""
    with centre.connect() as api:
        found = api.get("api", "v1", "policies")
    if output is Output.JSON:
        print_json("skerry.policies/1", found)
        return
    rows = [
        (each["name"], each["waves"], "built in" if each["built_in"] else each["written_at"])
        for each in found["policies"]
    ]
    print_table(("name", "waves", "written"), rows)


@app.command("show")
@at_centre
def show_policy(
    centre: CentreOptions, policy: NameArgument, *, output: OutputOption = Output.TABLE
) -> None:
    """Print the document of a policy that the centre keeps, with every field written out."""
    with centre.connect() as api:
        found = api.get("api", "v1", "policies", policy)
    if output is Output.JSON:
        print_json("skerry.policy/1", found)
        return
    typer.echo(yaml.safe_dump(found["document"], sort_keys=False), nl=False)


@app.command()
@at_centre
def rm(centre: CentreOptions, policy: NameArgument, *, reason: ReasonOption = "") -> None:
    """Remove a policy that the centre keeps; rollouts that took it go on."""
    with centre.connect() as api:
        api.delete("api", "v1", "policies", policy, query={"reason": reason})
    typer.echo(f"removed {policy}")
