"""`skerry model`: from a `.tflite` to a signed bundle in the registry.

`pack` works on any `.tflite` with no more than the file, a name and a version.
`inspect` and `verify` never load a model: they read. Nothing of the centre is
needed here: `skerry[build]` alone gives all of it.
"""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fleet.cli.model_screen import show_bundle, show_file
from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.screen import CommandError, ExitCode, Output, note, print_fields, print_json
from models import bundle as bundles
from models import tflite
from models.errors import RefusedError
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES
from models.tflite import TfliteFile
from models.values import DISTRIBUTIONS, Digest, ModelRef, short

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Models: from a file to a signed bundle."
)

_ROWS_LIMIT_BYTES = 256 * 1024 * 1024
_LABELS_LIMIT_BYTES = 1024 * 1024

FileArgument = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="A .tflite file.", show_default=False)
]
LayoutArgument = Annotated[
    Path, typer.Argument(exists=True, file_okay=False, help="A bundle's folder (an OCI layout).")
]
WhichOption = Annotated[
    str, typer.Option("--bundle", help="name:version or digest, where a folder has several.")
]


@app.command()
def pack(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="The .tflite; or several variants, reference first."
        ),
    ],
    *,
    name: Annotated[str, typer.Option(help="What the model is called: digits.")],
    version: Annotated[str, typer.Option(help="Like 1.0.0.")],
    task: Annotated[
        str, typer.Option(help="Like image-classification or regression; by default told apart.")
    ] = "",
    labels: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A text file with one label a line."),
    ] = None,
    licence: Annotated[str, typer.Option(help="The model's licence, like Apache-2.0.")] = "",
    description: Annotated[str, typer.Option(help="One line about it.")] = "",
    inputs: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Rows of your own for the golden vectors, and for the drift reference: an .npz, "
            "an array per input.",
        ),
    ] = None,
    evaluate_on: Annotated[
        Path | None,
        typer.Option(
            "--evaluate",
            exists=True,
            dir_okay=False,
            help="Labelled rows to measure the accuracy on, and for the drift reference: an .npz "
            "with `labels`.",
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="What those rows are called.")] = "",
    before: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The model before it was quantized: a float .tflite."
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(help="What quantizing may cost: accuracy lost since --before.", min=0)
    ] = 0.01,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Another Python with numpy and a runtime, to measure on."),
    ] = None,
    allow_runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A runtime that a rule of ours excludes, like tflite-runtime, is allowed all the "
            "same: golden vectors on each device decide. May be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="The folder; by default NAME-VERSION.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Sign with this key.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Measure a model, choose its golden vectors, and write its bundle."""
    from models.build import pack as packing  # noqa: PLC0415  # only this word needs it
    from models.build.evaluate import Dataset  # noqa: PLC0415  # as above

    ref = _ref(name, version)
    for runtime in allow_runtime or ():
        if runtime not in DISTRIBUTIONS.values():
            known = " or ".join(DISTRIBUTIONS.values())
            raise _usage(f"there is no runtime {runtime!r}", f"--allow-runtime takes {known}")
    contents = [_content(path, BLOB_LIMIT_BYTES) for path in files]
    about = packing.About(
        task=task,
        labels=() if labels is None else _labels(labels),
        licence=licence,
        description=description,
    )
    signer = None
    if key is not None:
        from models.keys import SigningKey  # noqa: PLC0415  # who doesn't sign needs no cryptography

        signer = SigningKey.load(key)
    folder = out or Path(f"{name}-{version}")
    for path, content in zip(files, contents, strict=True):
        _admit(path, content)
    if before is not None and evaluate_on is None:
        raise _usage("--before needs rows to measure both on", "add --evaluate ROWS")
    labelled = None if evaluate_on is None else _rows(evaluate_on)
    if evaluate_on is not None and labelled is not None:
        from fleet.cli.model_metrics import measure  # noqa: PLC0415  # only where it is asked

        measured = measure(
            contents,
            Dataset(name=dataset or evaluate_on.stem, npz=labelled),
            pythons=also or (),
            before=None if before is None else _content(before, BLOB_LIMIT_BYTES),
            loss=budget,
        )
        about = replace(about, metrics=measured.metrics, budget=measured.budget)
    packed = packing.pack(
        contents,
        ref,
        about=about,
        rows=None if inputs is None else _rows(inputs),
        usual=labelled,
        also=also or (),
        allow=allow_runtime or (),
    )
    layout = Layout.create(folder)  # only now: what is refused leaves no folder
    written = packed.write(layout)
    if signer is not None:
        bundles.sign(layout, written, signer)
    for warning in packed.warnings:
        note(f"! {warning}")
    show_bundle(written, folder, "yes" if signer else "no", output)
    if signer is None and output is Output.TABLE:
        note(f"Sign it: skerry model sign {folder} --key KEY")


@app.command()
def inspect(
    what: Annotated[Path, typer.Argument(exists=True, help="A .tflite, or a bundle's folder.")],
    *,
    bundle: WhichOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what is in a file or a bundle. Reads only; runs nothing."""
    if what.is_dir():
        layout = Layout(what)
        digest = _which(layout, bundle)
        signatures = len(layout.referrers(digest))
        signed = f"{signatures} (not checked: skerry model verify)" if signatures else "no"
        show_bundle(bundles.read(layout, digest), what, signed, output)
        return
    show_file(_admit(what, _content(what, BLOB_LIMIT_BYTES)), what, output)


@app.command()
def verify(
    folder: LayoutArgument,
    *,
    key: Annotated[
        list[Path],
        typer.Option(exists=True, dir_okay=False, help="A trusted public key; may be repeated."),
    ],
    bundle: WhichOption = "",
) -> None:
    """Check a bundle's signature and every byte of it."""
    from models.keys import load_public  # noqa: PLC0415  # only where something is verified

    layout = Layout(folder)
    read = bundles.verify(layout, _which(layout, bundle), [load_public(path) for path in key])
    typer.echo(f"{read.ref} {read.digest} is signed and whole: {read.size_bytes} bytes")


@app.command()
def sign(
    folder: LayoutArgument,
    *,
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The signing key.")],
    bundle: WhichOption = "",
) -> None:
    """Sign a bundle that was packed."""
    from models.keys import SigningKey  # noqa: PLC0415  # only where something is signed

    layout = Layout(folder)
    read = bundles.read(layout, _which(layout, bundle))
    signer = SigningKey.load(key)
    bundles.sign(layout, read, signer)
    typer.echo(f"{read.ref} {read.digest} signed by {short(signer.public.id)}")


@app.command()
def quantize(
    file: FileArgument,
    out: Annotated[Path, typer.Argument(dir_okay=False, help="Where to.")],
    *,
    recipe: Annotated[str, typer.Option(help="int8, int8-float-io or dynamic-range.")] = "int8",
    calibration: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Rows to calibrate on: an .npz."),
    ] = None,
) -> None:
    """Quantize a float .tflite."""
    from models import durable  # noqa: PLC0415  # only where something is written
    from models.build.quantize import quantize as quantized_by  # noqa: PLC0415  # only this word

    content = _content(file, BLOB_LIMIT_BYTES)
    rows = None if calibration is None else _rows(calibration)
    match recipe:
        case "int8" | "int8-float-io" | "dynamic-range":
            quantized = quantized_by(content, recipe, calibration=rows)
        case _:
            raise _usage(
                f"there is no recipe {recipe!r}", "take int8, int8-float-io or dynamic-range"
            )
    durable.write(out, quantized)
    typer.echo(f"{out}: {len(quantized)} bytes, was {len(content)}")


@app.command()
def evaluate(
    file: FileArgument,
    rows: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Labelled rows: an .npz with `labels`."),
    ],
    *,
    dataset: Annotated[str, typer.Option(help="What the rows are called.")] = "",
    python: Annotated[
        str, typer.Option(help="Another Python with numpy and a runtime, to measure on.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Measure a classifier's accuracy."""
    import sys  # noqa: PLC0415  # its own interpreter's path only

    from models.build.evaluate import Dataset, accuracy  # noqa: PLC0415  # only this word

    metric = accuracy(
        _content(file, BLOB_LIMIT_BYTES),
        Dataset(name=dataset or rows.stem, npz=_rows(rows)),
        python=python or sys.executable,
    )
    fields = {
        "accuracy": round(metric.value, 6),
        "dataset": metric.dataset,
        "samples": metric.samples,
        "runtime": metric.runtime,
        "architecture": metric.architecture,
    }
    if output is Output.JSON:
        print_json("skerry.metric/1", fields)
    else:
        print_fields(fields)


@app.command()
@at_centre
def publish(
    centre: CentreOptions,
    folder: LayoutArgument,
    *,
    bundle: WhichOption = "",
) -> None:
    """Send a signed bundle to the centre's registry."""
    from fleet.cli.upload import upload  # noqa: PLC0415  # HTTP, only where something is sent

    layout = Layout(folder)
    digest = _which(layout, bundle)
    read = bundles.read(layout, digest)
    if not layout.referrers(digest):
        raise CommandError(
            f"{read.ref} is not signed, and the centre takes only signed bundles",
            "SIGNATURE_MISSING",
            f"sign it: skerry model sign {folder} --key KEY",
            ExitCode.REFUSED,
        )
    sent = upload(
        layout,
        read,
        url=centre.url,
        token_file=centre.token_file,
        ca=centre.ca,
        home=centre.home,
    )
    typer.echo(f"{read.ref} {digest} published, {sent} bytes sent")


def _ref(name: str, version: str) -> ModelRef:
    try:
        return ModelRef(name, version)
    except ValueError as error:
        raise _usage(str(error), "give it a name like digits and a version like 1.0.0") from error


def _usage(what: str, next_step: str) -> CommandError:
    return CommandError(what, "USAGE", next_step, ExitCode.USAGE)


def _content(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise CommandError(
            f"{path} has more than {limit_bytes} bytes",
            "TOO_LARGE",
            "give a smaller file",
            ExitCode.REFUSED,
        )
    return content


def _rows(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        raise _usage(f"{path} is no .npz file", "write it by numpy.savez: an array per input")
    return _content(path, _ROWS_LIMIT_BYTES)


def _labels(path: Path) -> tuple[str, ...]:
    try:
        text = _content(path, _LABELS_LIMIT_BYTES).decode()
    except UnicodeDecodeError as error:
        raise _usage(f"{path} is no text", "give one label a line, in UTF-8") from error
    return tuple(text.splitlines())


def _admit(path: Path, content: bytes) -> TfliteFile:
    try:
        return tflite.read(content)
    except RefusedError as error:
        raise CommandError(
            f"{path} is no model that can be taken: {error}",
            error.reason,
            "export or copy it again; a damaged file is never loaded",
            ExitCode.REFUSED,
        ) from error


def _which(layout: Layout, text: str) -> Digest:
    if text:
        return bundles.find(layout, text)
    named = [entry for entry in layout.entries() if entry.ref_name]
    if len(named) != 1:
        there = ", ".join(sorted(str(entry.ref_name) for entry in named)) or "none"
        raise CommandError(
            f"{layout.path} has {len(named)} bundles: {there}",
            "NOT_FOUND",
            "say which: --bundle name:version",
            ExitCode.NOT_FOUND,
        )
    return named[0].digest
