"""The bundles of these tests: two small digits models that answer differently, and bad copies."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from fleet.demo import digits
from models import bundle as bundles
from models import manifest as oci
from models import tflite
from models.build.pack import About, Prepared, pack
from models.build.quantize import quantize
from models.bundle import Bundle
from models.keys import SigningKey
from models.layout import Layout
from models.values import ModelRef, digest_of

INPUT_BYTES = 64
OUTPUT_BYTES = 10
_CALIBRATION = 100


@dataclass(frozen=True, slots=True)
class Model:
    """A packed model in memory, and what a raw interpreter answers to the probes."""

    prepared: Prepared
    probes: tuple[bytes, ...]
    answers: tuple[bytes, ...]

    @property
    def content(self) -> bytes:
        (content,) = self.prepared.files.values()
        return content


def build() -> tuple[Model, Model]:
    """Train, quantize and pack two models whose answers to every probe differ."""
    content = digits.load()
    rows = content.train_rows[:_CALIBRATION, None]
    made = []
    for seed in (7, 11):
        trained = digits.train(content, seed=seed, iterations=15)
        file = quantize(trained, "int8", calibration=_npz(pixels=rows))
        about = About(task="image-classification", licence="BSD-3-Clause")
        made.append(pack([file], ModelRef("digits", "0.0.0"), about=about, rows=_npz(pixels=rows)))
    drawn = random.Random(5)  # noqa: S311  # test data
    candidates = [drawn.randbytes(INPUT_BYTES) for _ in range(100)]
    answered = [raw(_file(prepared), candidates) for prepared in made]
    telling = [
        place for place in range(len(candidates)) if answered[0][place] != answered[1][place]
    ][:24]
    assert len(telling) == 24, "the two models hardly differ"
    first, second = (
        Model(
            prepared,
            tuple(candidates[place] for place in telling),
            tuple(answers[place] for place in telling),
        )
        for prepared, answers in zip(made, answered, strict=True)
    )
    return first, second


def raw(content: bytes, inputs: Sequence[bytes]) -> list[bytes]:
    """Return what the runtime's own interpreter answers."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    given, answered = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for each in inputs:
        interpreter.set_tensor(given["index"], np.frombuffer(each, np.int8).reshape(given["shape"]))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(answered["index"]).tobytes())
    return answers


def packed(
    model: Model, version: str, layout: Layout, *, key: SigningKey | None, filler_bytes: int = 0
) -> Bundle:
    """Write a model into a layout as `digits:VERSION`, signed; a filler is one more layer."""
    card = replace(model.prepared.card, ref=ModelRef("digits", version))
    made = bundles.write(layout, card, model.prepared.files, model.prepared.golden)
    if filler_bytes:
        made = _filled(layout, made, filler_bytes)
    if key is not None:
        bundles.sign(layout, made, key)
    return made


def damaged(model: Model, version: str, layout: Layout, *, key: SigningKey) -> Bundle:
    """Write a model whose weights are not those its golden vectors were made with; signed."""
    content = bytearray(model.content)
    span = max(tflite.read(model.content).weights, key=lambda each: each.length)
    for place in range(span.offset, span.offset + span.length):
        content[place] ^= 0x55
    bad = bytes(content)
    (variant,) = model.prepared.card.variants
    card = replace(
        model.prepared.card,
        ref=ModelRef("digits", version),
        variants=(replace(variant, digest=digest_of(bad)),),
    )
    made = bundles.write(layout, card, {digest_of(bad): bad}, model.prepared.golden)
    bundles.sign(layout, made, key)
    return made


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of one byte of a file; by default of its last byte but one."""
    content = bytearray(path.read_bytes())
    content[place if place >= 0 else len(content) - 2] ^= 0x01
    path.write_bytes(bytes(content))


def _filled(layout: Layout, made: Bundle, filler_bytes: int) -> Bundle:
    filler = random.Random(3).randbytes(filler_bytes)  # noqa: S311  # test data
    layout.add(filler)
    layer = oci.descriptor_of(filler, "application/octet-stream")
    manifest = oci.render(replace(made.manifest, layers=(*made.manifest.layers, layer)))
    layout.forget(made.digest)
    digest = layout.add(manifest)
    layout.record(
        replace(
            oci.descriptor_of(manifest, oci.MANIFEST_TYPE, artifact_type=oci.MODEL_ARTIFACT_TYPE),
            annotations={oci.REF_NAME: str(made.ref)},
        )
    )
    return bundles.read(layout, digest)


def _file(prepared: Prepared) -> bytes:
    (content,) = prepared.files.values()
    return content


def _npz(**arrays: Any) -> bytes:  # noqa: ANN401  # numpy's stub takes any for its keywords
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    return archive.getvalue()
