"""The test delegate: built from C once a session, and told by options how to behave."""

import shutil
import subprocess
from pathlib import Path

from models.delegate import Delegate

SOURCE = Path(__file__).with_name("stub.c")
COMPILER = shutil.which("gcc") or shutil.which("cc")


def build(folder: Path) -> Path:
    """Compile the delegate into `folder`, and return the library."""
    assert COMPILER is not None
    library = folder / "libstub_delegate.so"
    subprocess.run(
        [COMPILER, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(SOURCE)],
        check=True,
        timeout=120,
    )
    return library


def stub(library: Path, mode: str, **options: str) -> Delegate:
    """Return a delegate of this library for the accelerator `stub`."""
    said = {"mode": mode, **options}
    return Delegate(accelerator="stub", library=str(library), options=tuple(said.items()))
