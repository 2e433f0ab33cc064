"""Puts questions to a build child and takes its answers; loads no model itself. Blocking."""

import sys
from dataclasses import asdict
from typing import Any

from models import child
from models.build import parcel
from models.card import Tensor
from models.errors import RefusedError
from models.tflite import TfliteFile


def ask(
    question: str,
    file: TfliteFile,
    parts: list[bytes],
    *,
    python: str = sys.executable,
    limits: child.Limits | None = None,
    **more: object,
) -> tuple[dict[str, Any], list[bytes]]:
    """Ask a child about a file that `models.tflite.read` has admitted.

    Args:
        question: `choose`, `compare`, `evaluate` or `spread` (see `models.build.probe`).
        file: what was read of it.
        parts: the file's bytes first, then what the question needs.
        python: whose runtime is asked.
        limits: None is the defaults of `models.child.Limits`.
        more: further fields of the question.

    Raises:
        RefusedError: the model can't be loaded or run, crashed the child or took too much.
        TransientError: TIMED_OUT.
    """
    given = parcel.wrap(
        {
            "ask": question,
            "inputs": [_fields(tensor) for tensor in file.inputs],
            "outputs": [_fields(tensor) for tensor in file.outputs],
            "stateful": file.stateful,
            **more,
        },
        parts,
    )
    finished = child.run("models.build.probe", stdin=given, python=python, limits=limits)
    error = finished.error("running the model")
    if error is not None:
        raise error
    fields, answers = parcel.unwrap(finished.stdout)
    if "refused" in fields:
        raise RefusedError(str(fields["refused"]), str(fields["message"]))
    return fields, answers


def _fields(tensor: Tensor) -> dict[str, object]:
    return asdict(tensor)
