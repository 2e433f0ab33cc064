"""A bundle whose weights are not those its golden vectors were made with, made in a child.

`python -m fleet.demo.damage FOLDER NEW_FOLDER`: the demo's bad model where there is
no older runtime that answers a good file wrongly. What is written is whole,
loads everywhere, and is yet to be signed: as if somebody had signed the wrong file.
"""

import sys
from dataclasses import replace
from pathlib import Path

from models import bundle as bundles
from models import tflite
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES
from models.values import digest_of

_BITS = 0x55


def main(folder: Path, new_folder: Path) -> None:
    """Copy a folder's one bundle, its largest weights changed."""
    layout = Layout(folder)
    (entry,) = [each for each in layout.entries() if each.ref_name]
    good = bundles.read(layout, entry.digest)
    (variant,) = good.card.variants
    content = bytearray(layout.read(variant.digest, BLOB_LIMIT_BYTES))
    span = max(tflite.read(bytes(content)).weights, key=lambda each: each.length)
    for place in range(span.offset, span.offset + span.length):
        content[place] ^= _BITS
    damaged = bytes(content)
    card = replace(good.card, variants=(replace(variant, digest=digest_of(damaged)),))
    golden = layout.read(good.card.golden.digest, BLOB_LIMIT_BYTES)
    bundles.write(Layout.create(new_folder), card, {digest_of(damaged): damaged}, golden)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
