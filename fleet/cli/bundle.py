"""`skerry bundle ls | show | diff`: what the registry holds."""

from typing import Annotated

import typer

from agent.wire.words import size
from fleet import wording
from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.screen import ExitCode, Output, print_fields, print_json, print_table
from models.values import short

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Bundles in the registry: list, show, compare."
)


@app.command()
@at_centre
def ls(
    centre: CentreOptions,
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all bundles."""
    with centre.connect() as api:
        found = api.get("api", "v1", "bundles")
    if output is Output.JSON:
        print_json("skerry.bundles/1", found)
        return
    print_table(
        ["bundle", "task", "formats", "size", "published", "digest"],
        [
            [
                f"{bundle['name']}:{bundle['version']}",
                bundle["task"],
                ", ".join(bundle["formats"]),
                size(bundle["size_bytes"]),
                bundle["published_at"],
                short(bundle["digest"]),
            ]
            for bundle in found["bundles"]
        ],
    )


@app.command()
@at_centre
def show(
    centre: CentreOptions,
    bundle: Annotated[str, typer.Argument(help="name:version, or a digest.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one bundle: its variants, and what was measured of each."""
    with centre.connect() as api:
        found = api.get("api", "v1", "bundles", bundle)
    if output is Output.JSON:
        print_json("skerry.bundle/1", found)
        return
    card = found["card"]
    golden = card["golden"]
    print_fields(
        {
            "bundle": f"{found['name']}:{found['version']}",
            "digest": found["digest"],
            "task": card["task"],
            "licence": card["licence"],
            "published": found["published_at"],
            "golden": f"{golden['vectors']} vectors, {golden['origin']}",
        }
    )
    typer.echo()
    print_table(
        ["variant", "format", "size", "needs", "measured"],
        [
            [
                short(variant["digest"]),
                variant["format"],
                size(variant["size_bytes"]),
                variant["requirements"]["accelerator"],
                ", ".join(
                    f"{metric['name']} {metric['value']:.4g} on {metric['dataset']}"
                    f" (n {metric['samples']}, {metric['runtime']})"
                    for metric in variant["metrics"]
                ),
            ]
            for variant in card["variants"]
        ],
    )


@app.command()
@at_centre
def diff(
    centre: CentreOptions,
    before: Annotated[str, typer.Argument(help="The one before: name:version, or a digest.")],
    after: Annotated[str, typer.Argument(help="The newer one.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say whether clients of one bundle can go on with another.

    Exit code 0: they can. 10: they must know something anew.
    """
    with centre.connect() as api:
        found = api.get("api", "v1", "bundles", after, "diff", query={"before": before})
    if output is Output.JSON:
        print_json("skerry.bundle.diff/1", found)
    else:
        for said in wording.difference(found):
            typer.echo(said)
    if found["changes"]:
        raise typer.Exit(ExitCode.DIFFERENCES)
