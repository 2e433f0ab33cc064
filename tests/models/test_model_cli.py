"""`skerry model` as a person types it: a `.tflite` in, a bundle out, errors in three lines."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from fleet.cli import main
from models import bundle as bundles
from models import golden, keys
from models.build.pack import pack
from models.layout import Layout
from models.runtime import open_model
from models.values import ModelRef

ROOT = Path(__file__).parents[2]
NOT_OF_BUILD = ("alembic", "fastapi", "iotcore", "paho", "sklearn", "sqlalchemy", "uvicorn")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def wake_word(tmp_path: Path) -> Path:
    """A published model that answers by what it heard before."""
    path = tmp_path / "okay_nabu.tflite"
    path.write_bytes(files("pymicro_wakeword").joinpath("models/okay_nabu.tflite").read_bytes())
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    keys.generate(tmp_path / "bundle.key", tmp_path / "bundle.pub")
    return tmp_path / "bundle.key"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was said on stderr; nothing may be on stdout beside it."""
    told = capsys.readouterr()
    assert "" == told.out
    return told.err.splitlines()


@pytest.mark.slow
def test_a_file_a_name_and_a_version_are_enough(
    wake_word: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pack, sign, verify, inspect; one changed byte afterwards is found."""
    out = tmp_path / "bundle"
    words = ["model", "pack", str(wake_word), "--name", "okay-nabu", "--version", "2.0.0"]
    assert 0 == main([*words, "--out", str(out), "--key", str(key), "-o", "json"])
    packed = json.loads(capsys.readouterr().out)

    assert "okay-nabu:2.0.0" == packed["bundle"]
    assert packed["card"]["stateful"]
    assert 0 == main(["model", "verify", str(out), "--key", str(tmp_path / "bundle.pub")])
    assert packed["digest"] in capsys.readouterr().out
    assert 0 == main(["model", "inspect", str(out)])
    assert "okay-nabu:2.0.0" in capsys.readouterr().out

    blob = Layout(out).blob_path(packed["card"]["golden"]["digest"])
    content = bytearray(blob.read_bytes())
    content[100] ^= 1
    blob.write_bytes(content)
    assert 7 == main(["model", "verify", str(out), "--key", str(tmp_path / "bundle.pub")])
    assert "DIGEST_MISMATCH" == lines(capsys)[1]


@pytest.mark.slow
def test_a_sequence_wakes_the_wake_word_and_a_reset_forgets_it(wake_word: Path) -> None:
    """Golden vectors of a stateful model are a sequence that it answers; state is part of it."""
    content = wake_word.read_bytes()
    packed = pack([content], ModelRef("okay-nabu", "1.0.0"))
    vectors = golden.read(packed.card, packed.golden)
    runner = open_model(content)
    slot = runner.inputs[0]
    steps = [
        [np.frombuffer(vector.inputs[0], slot.dtype).reshape(slot.shape)] for vector in vectors
    ]
    first = [runner.run(step)[0].tobytes() for step in steps]
    tired = [runner.run(step)[0].tobytes() for step in steps]
    runner.reset()
    fresh = [runner.run(step)[0].tobytes() for step in steps]

    assert len(set(first)) > 3
    assert first == fresh != tired
    assert first == [bytes(vector.outputs[0]) for vector in vectors]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\x18\x00\x00\x00TFL3", "header only"),
        (b"not a model at all, but text", "text"),
        (bytes(range(256)) * 40, "noise"),
    ],
)
def test_what_is_no_model_is_refused_in_three_lines(
    content: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged file is refused before any runtime sees it, and leaves no folder behind."""
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    words = [["pack", str(path), "--name", "m", "--version", "1.0.0"], ["inspect", str(path)]]
    words[0] += ["--out", str(tmp_path / "out")]
    for each in words:
        assert 7 == main(["model", *each]), why
        said = lines(capsys)
        assert 3 == len(said)
        assert "MODEL_MALFORMED" == said[1]
    assert not (tmp_path / "out").exists()


def test_a_truncated_file_is_refused(
    wake_word: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file cut anywhere is refused by its structure."""
    content = wake_word.read_bytes()
    wake_word.write_bytes(content[: len(content) // 2])

    words = ["model", "pack", str(wake_word), "--name", "m", "--version", "1.0.0"]
    assert 7 == main([*words, "--out", str(tmp_path / "out")])
    assert "MODEL_MALFORMED" == lines(capsys)[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "version"), [("Digits", "1.0.0"), ("digits", "one"), ("", "1.0.0")]
)
def test_a_wrong_name_is_a_usage_error(
    name: str, version: str, wake_word: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can't be a name or version is told before anything is measured."""
    assert 2 == main(["model", "pack", str(wake_word), "--name", name, "--version", version])
    assert "USAGE" == lines(capsys)[1]


def test_a_runtime_nobody_knows_is_not_allowed(
    wake_word: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped runtime is a usage error, before anything is measured or written."""
    out = tmp_path / "bundle"
    words = ["model", "pack", str(wake_word), "--name", "w", "--version", "1.0.0"]

    assert 2 == main([*words, "--allow-runtime", "tflite", "--out", str(out)])
    what, _, then = lines(capsys)
    assert "'tflite'" in what
    assert "tflite-runtime" in then
    assert not out.exists()


def test_inspect_reads_only(wake_word: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file's own signature is shown without a runtime."""
    assert 0 == main(["model", "inspect", str(wake_word), "-o", "json"])
    shown = json.loads(capsys.readouterr().out)

    assert ("INT8", [1, 3, 40]) == (shown["inputs"][0]["datatype"], shown["inputs"][0]["shape"])
    assert shown["stateful"]
    assert {"VAR_HANDLE", "READ_VARIABLE"} <= {each["name"] for each in shown["operators"]}


def test_a_folder_without_a_bundle_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty layout is not found in, rather than guessed at."""
    Layout.create(tmp_path / "empty")

    assert 3 == main(["model", "inspect", str(tmp_path / "empty")])
    assert "NOT_FOUND" == lines(capsys)[1]


@pytest.mark.slow
def test_an_unsigned_bundle_is_not_published(
    wake_word: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told before anything is sent; signed, it fails at the centre that isn't there."""
    out = Layout.create(tmp_path / "out")
    written = pack([wake_word.read_bytes()], ModelRef("m", "1.0.0")).write(out)
    token = tmp_path / "token"
    token.write_text("secret")
    words = ["model", "publish", str(out.path), "--centre", "http://127.0.0.1:1"]
    words += ["--token-file", str(token), "--home", str(tmp_path)]
    assert 7 == main(words)
    assert "SIGNATURE_MISSING" == lines(capsys)[1]

    keys.generate(tmp_path / "bundle.key", tmp_path / "bundle.pub")
    bundles.sign(out, written, keys.SigningKey.load(tmp_path / "bundle.key"))
    assert 5 == main(words)
    said = lines(capsys)
    assert said[1].startswith("UNREACHABLE")
    assert "secret" not in " ".join(said)


def test_the_build_extra_is_enough() -> None:
    """`skerry model` imports nothing that only the centre, the demo or an agent needs."""
    code = (
        "import sys\n"
        f"for name in {NOT_OF_BUILD}: sys.modules[name] = None\n"
        "import fleet.cli.model, fleet.cli.upload, models.build.pack\n"
        "import models.build.evaluate, models.build.quantize, models.keys\n"
        "print(sorted({'numpy', 'ai_edge_litert', 'litert_quantizer'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )

    assert ("[]\n", "") == (done.stdout, done.stderr)
