"""`skerry demo`: the main job on real models, processes and a real broker, on this machine."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fleet.demo.show import show
from fleet.demo.stage import Options
from models import durable

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End when all is shown; exit 1 when a claim failed.")
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option(help="A new folder that keeps everything it makes."),
    ] = None,
    devices: Annotated[int, typer.Option(help="How many devices.", min=1, max=64)] = 6,
    port: Annotated[int, typer.Option(help="Where the API listens, if that port is free.")] = 8480,
    tflite_python: Annotated[
        Path | None,
        typer.Option(
            help="A Python with skerry[agent,tflite]; by default .venv-tflite beside this one."
        ),
    ] = None,
) -> int:
    """Build three models, roll them out by waves, roll a bad one back, cut the cable: for real."""
    other = tflite_python or Path(sys.prefix).with_name(".venv-tflite") / "bin" / "python"
    lacks = _lacks(other)
    if keep is not None:
        durable.make_directory(keep.resolve())
        if any(keep.iterdir()):
            raise typer.BadParameter(f"{keep} is not empty")
    folder = keep.resolve() if keep else Path(tempfile.mkdtemp(prefix="skerry-demo-"))
    options = Options(
        folder=folder,
        devices=devices,
        port=port,
        tflite_python=None if lacks else other,
        tflite_lacks=lacks,
    )
    ended = 0
    try:
        ended = asyncio.run(show(options, once=once))
    finally:
        if keep is None and ended != 1:  # what failed is left to be looked at
            shutil.rmtree(folder)
    return ended


def _lacks(python: Path) -> str:
    """Return why a Python can't be run here; empty where it can."""
    if os.access(python, os.X_OK):
        return ""
    folder = python.parent.parent
    if os.path.lexists(python) or os.path.lexists(folder):
        return f"{folder} is there, but this user can't run {python}"
    return f"there is no {python} (it needs Python 3.11)"
