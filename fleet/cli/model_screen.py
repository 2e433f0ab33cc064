"""What `skerry model` prints of a file and of a bundle."""

import json
from pathlib import Path

import typer

from agent.wire.words import size
from fleet.cli.screen import Output, print_fields, print_json, print_table
from models.bundle import Bundle
from models.card import Tensor
from models.card_codec import render
from models.tflite import TfliteFile
from models.values import short


def show_file(file: TfliteFile, path: Path, output: Output) -> None:
    """Show what a `.tflite` says of itself."""
    if output is Output.JSON:
        print_json("skerry.tflite/1", _file_fields(file))
        return
    print_fields(
        {
            "file": path,
            "digest": file.digest,
            "size": size(file.size_bytes),
            "format": file.format + (", stateful" if file.stateful else ""),
            "memory": f"about {size(file.memory_bytes)}",
            "says it needs": file.runtime_version and f"runtime {file.runtime_version} or newer",
            "wrong on": ", ".join(file.avoid_runtimes),
            "described as": file.description,
        }
    )
    _show_tensors(file.inputs, file.outputs)
    typer.echo()
    print_table(
        ["operator", "version", "count"],
        [
            [each.name + (" (custom)" if each.custom else ""), each.version, each.count]
            for each in file.operators
        ],
    )


def _file_fields(file: TfliteFile) -> dict[str, object]:
    return {
        "digest": file.digest,
        "size_bytes": file.size_bytes,
        "format": file.format,
        "stateful": file.stateful,
        "memory_bytes": file.memory_bytes,
        "runtime_version": file.runtime_version,
        "avoid_runtimes": list(file.avoid_runtimes),
        "description": file.description,
        "inputs": [_tensor_fields(tensor) for tensor in file.inputs],
        "outputs": [_tensor_fields(tensor) for tensor in file.outputs],
        "operators": [
            {"name": each.name, "version": each.version, "count": each.count, "custom": each.custom}
            for each in file.operators
        ],
        "weights": [
            {
                "tensor": span.tensor,
                "datatype": span.datatype,
                "offset": span.offset,
                "bytes": span.length,
            }
            for span in file.weights
        ],
    }


def _tensor_fields(tensor: Tensor) -> dict[str, object]:
    quantization = tensor.quantization
    return {
        "name": tensor.name,
        "datatype": str(tensor.datatype),
        "shape": list(tensor.shape),
        "scale": None if quantization is None else quantization.scale,
        "zero_point": None if quantization is None else quantization.zero_point,
    }


def _show_tensors(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    typer.echo()
    print_table(
        ["", "name", "type", "shape", "scale", "zero"],
        [
            [
                way,
                tensor.name,
                tensor.datatype,
                list(tensor.shape),
                "" if tensor.quantization is None else f"{tensor.quantization.scale:.6g}",
                "" if tensor.quantization is None else str(tensor.quantization.zero_point),
            ]
            for way, tensors in (("in", inputs), ("out", outputs))
            for tensor in tensors
        ],
    )


def show_bundle(bundle: Bundle, folder: Path, signed: str, output: Output) -> None:
    """Show a bundle's card; `signed` is what is known of its signatures."""
    card, golden = bundle.card, bundle.card.golden
    if output is Output.JSON:
        print_json(
            "skerry.packed/1",
            {
                "bundle": str(bundle.ref),
                "digest": bundle.digest,
                "size_bytes": bundle.size_bytes,
                "folder": str(folder),
                "card": json.loads(render(card))["skerry"],
            },
        )
        return
    classes = f", {golden.classes_seen} classes" if golden.decision is not None else ""
    print_fields(
        {
            "bundle": bundle.ref,
            "digest": bundle.digest,
            "size": size(bundle.size_bytes),
            "folder": folder,
            "signed": signed,
            "task": card.task + (", stateful" if card.stateful else ""),
            "licence": card.licence,
            "golden": f"{golden.vectors} vectors ({golden.origin}){classes}, "
            f"measured on {' and '.join(golden.measured_on)}",
            "tolerance": "; ".join(
                f"{tensor.name} {bound.largest:.4g}, mean {bound.mean:.4g}"
                for tensor, bound in zip(card.outputs, golden.tolerances, strict=True)
            ),
            "drift": f"{', '.join(each.subject for each in card.drift)} "
            f"over {card.drift[0].samples} rows"
            if card.drift
            else "no reference: it takes rows (--evaluate or --inputs)",
        }
    )
    _show_tensors(card.inputs, card.outputs)
    typer.echo()
    print_table(
        ["variant", "format", "size", "memory", "wrong on", "measured"],
        [
            [
                short(variant.digest),
                variant.format,
                size(variant.size_bytes),
                size(variant.requirements.memory_bytes),
                ", ".join(variant.requirements.avoid_runtimes),
                ", ".join(
                    f"{metric.name} {metric.value:.4g} on {metric.dataset} (n {metric.samples})"
                    for metric in variant.metrics
                ),
            ]
            for variant in card.variants
        ],
    )
