"""Thousands of damaged and hostile models against a device (`make hostile`).

Each becomes a bundle with right digests and a good signature, as a signer who was
deceived would make it, and goes the device's own way: digest, signature, parser,
then a confined worker with golden vectors of the whole model, on each runtime.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from agent.workers import frames
from agent.workers.values import Launch
from models import bundle, keys, tflite
from models.card import Tensor
from models.errors import ModelError
from models.layout import Layout
from models.values import Datatype, ModelRef, digest_of
from tests.agent.hostile.damage import BYTES, STRUCTURE, damaged
from tests.agent.packages import (
    DENSE_INPUTS,
    DENSE_OUTPUTS,
    Package,
    dense_net,
    packaged,
    quantized,
)

ROOT = Path(__file__).parents[3]
PYTHONS = {"litert": Path(sys.executable), "tflite": ROOT / ".venv-tflite/bin/python"}

KINDS = len(BYTES) + len(STRUCTURE)
REACH = "reach a runtime"
DEAD = "WORKER_CRASHED"


@dataclass(slots=True)
class Table:
    """What became of how many, by kind of damage."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, name: str, outcome: str) -> None:
        """Count one file, called by its kind and number."""
        self.rows.setdefault(name.partition("#")[0], Counter())[outcome] += 1

    def total(self, outcome: str) -> int:
        return sum(row[outcome] for row in self.rows.values())

    def __str__(self) -> str:
        names = sorted({name for row in self.rows.values() for name in row})
        lines = [["damage", *names], ["---"] * (len(names) + 1)]
        lines += [[kind, *(str(row[name]) for name in names)] for kind, row in self.rows.items()]
        lines.append(["all", *(str(self.total(name)) for name in names)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def wholes(folder: Path) -> tuple[Package, ...]:
    """Return the models that the others are made from; the first serves meanwhile."""
    content = quantized(dense_net((64, 32, 10), reshapes=True), 64, folder)
    dense = packaged(
        content, folder / "dense", inputs=DENSE_INPUTS, outputs=DENSE_OUTPUTS, largest=4
    )
    published = (files("pymicro_wakeword") / "models/hey_jarvis.tflite").read_bytes()
    jarvis = packaged(
        published,
        folder / "jarvis",
        inputs=(Tensor(name="input", datatype=Datatype.INT8, shape=(1, 3, 40)),),
        outputs=(Tensor(name="output", datatype=Datatype.UINT8, shape=(1, 1)),),
        largest=4,
    )
    return tuple(_as_read(each) for each in (dense, jarvis))


def _as_read(made: Package) -> Package:
    """Return it with the tensors as our parser sees them, as `pack` writes them."""
    found = tflite.read(made.content)
    return replace(made, card=replace(made.card, inputs=found.inputs, outputs=found.outputs))


def numbered(count: int) -> Iterator[tuple[str, int]]:
    """Return so many kinds of damage with a number each, structure twice as often as bytes."""
    kinds = (*BYTES, *STRUCTURE, *STRUCTURE)
    return ((kinds[number % len(kinds)], number) for number in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Harmed:
    """One file, of which model, and harmed in which way."""

    kind: str
    number: int
    base: Package
    content: bytes


def verified(
    key: keys.SigningKey, folder: Path, harmed: Iterator[Harmed]
) -> Iterator[tuple[str, str, tuple[Package, Package] | None]]:
    """Take each file the device's way up to the parser; yield its kind, what became of it, it."""
    public = [keys.PublicKey.from_pem(key.public_pem)]
    for each in harmed:
        number, package, content = each.number, each.base, each.content
        kind = f"{each.kind}#{number}"
        variant = replace(
            package.card.variants[0], digest=digest_of(content), size_bytes=max(1, len(content))
        )
        card = replace(package.card, variants=(variant,), ref=ModelRef("hostile", f"1.0.{number}"))
        place = folder / str(number)
        layout = Layout.create(place)
        try:
            made = bundle.write(layout, card, {variant.digest: content}, package.golden)
            bundle.sign(layout, made, key)
            bundle.verify(layout, made.digest, public)
        except ModelError as error:
            yield kind, error.reason, None
            continue
        (place / "model.tflite").write_bytes(content)
        found = replace(package, content=content, card=card, folder=place)
        yield kind, REACH, (found, package)


def started(
    library: str,
    serving: Package,
    found: Sequence[tuple[str, tuple[Package, Package]]],
    *,
    progress: bool,
) -> dict[str, Any]:
    """Start each on one runtime, in a process of its own that is the supervisor."""
    launches = [
        (kind, json.loads(frames.render_launch(_launch(each, base, library))))
        for kind, (each, base) in found
    ]
    job = {
        "whole": json.loads(frames.render_launch(serving.launch(library=library))),
        "launches": launches,
        "body_bytes": 64,
    }
    with subprocess.Popen(
        [str(PYTHONS[library]), str(Path(__file__).with_name("starts.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        last: dict[str, Any] = {}
        for line in process.stdout:
            last = json.loads(line)
            if progress and last.get("tried", 1) % 500 == 0:
                print(f"{library}: {last['tried']} of {len(launches)}", flush=True)  # noqa: T201
    assert process.returncode == 0, f"the supervisor died: {process.returncode}"
    return last


def _launch(each: Package, base: Package, library: str) -> Launch:
    return replace(
        each.launch(library=library, timeout_s=2.0),
        card=base.folder / "card.json",  # the same but for the variant: digests were checked
        golden=base.folder / "golden.bin",
        memory_bytes=3 << 30,
    )


def run(
    chosen: Iterable[tuple[str, int]], libraries: Sequence[str], *, progress: bool = False
) -> tuple[Table, Mapping[str, Table], Mapping[str, dict[str, Any]]]:
    """Make files by kind and number; return what became of them: at the gate, on each runtime."""
    gate, tables, standing = Table(), {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bases = wholes(folder)
        keys.generate(folder / "key", folder / "pub")
        key = keys.SigningKey.load(folder / "key")
        harmed = (
            Harmed(kind=kind, number=number, base=base, content=damaged(base.content, kind, number))
            for kind, number in chosen
            for base in [bases[number // KINDS % len(bases)]]
        )
        found: list[tuple[str, tuple[Package, Package]]] = []
        for kind, outcome, each in verified(key, folder, harmed):
            gate.add(kind, outcome)
            if each is not None:
                found.append((kind, each))
        for library in libraries:
            last = started(library, bases[0], found, progress=progress)
            tables[library] = Table()
            for kind, outcome in last["outcomes"]:
                tables[library].add(kind, outcome)
            standing[library] = last
    return gate, tables, standing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--least", type=int, default=3_000, help="so many must reach a runtime")
    arguments = parser.parse_args()
    libraries = [name for name, python in PYTHONS.items() if python.exists()]
    gate, tables, standing = run(numbered(arguments.files), libraries, progress=True)
    print(f"\nUp to the parser, of {arguments.files} files:\n\n{gate}")  # noqa: T201
    for library, table in tables.items():
        print(f"\nOn {library}:\n\n{table}")  # noqa: T201
        last = standing[library]
        print(f"\nthe supervisor before {last['before']}, after {last['after']}")  # noqa: T201
        died = [name for name, outcome in last["outcomes"] if outcome == DEAD]
        print(f"died of: {', '.join(died)}")  # noqa: T201
    reached = gate.total(REACH)
    dead = sum(table.total(DEAD) for table in tables.values())
    print(f"\n{reached} reached a runtime; {dead} workers died; the supervisor never")  # noqa: T201
    return 0 if reached >= arguments.least and dead > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
