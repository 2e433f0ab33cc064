"""`skerry diff -f FILE`: what applying documents would change. Nothing is changed."""

import os
import sys

import typer

from fleet.cli.declaring import Does, FilesOption, compared
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.rollout_screen import plan_lines
from fleet.cli.screen import Color, ExitCode, Output, print_json, print_table

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
@at_centre
def diff(
    centre: CentreOptions,
    *,
    file: FilesOption,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say what applying documents would change; exit 10 if anything, 0 if nothing, else wrong."""
    with centre.connect() as api:
        changes = compared(api, file)
    if output is Output.JSON:
        print_json("skerry.diff/1", {"changes": [each.shown() for each in changes]})
    else:
        rows = [(each.does, each.kind, each.name, each.what) for each in changes]
        print_table(("does", "kind", "name", "what"), rows)
        screen = Screen.of(sys.stdout, os.environ, color)
        for each in changes:
            if each.does is Does.START and each.plan is not None:
                show(["", *plan_lines(each.plan, screen)])
    if any(each.does.changes for each in changes):
        raise typer.Exit(ExitCode.DIFFERENCES)
    if any(each.does is Does.HELD for each in changes):
        raise typer.Exit(ExitCode.CONFLICT)
