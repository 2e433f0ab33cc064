"""What importing loads, and what it doesn't: measured in fresh interpreters."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("agent", "fleet", "models", "k3s")
CENTRE = {"alembic", "fastapi", "httpx2", "iotcore", "kubernetes", "pyyaml", "rich", "sqlalchemy"}
BUILD = {"litert-quantizer", "scikit-learn", "typer", "pymicro-wakeword"}
RUNTIMES = {"ai-edge-litert", "numpy", "tflite-runtime"}
HEAVY = {
    "ai_edge_litert",
    "cryptography",
    "fleet",
    "kubernetes",
    "numpy",
    "tflite_runtime",
    "urllib3",
    "yaml",
}
"""What the agent's supervisor never loads: imported only in a child, or only by the centre."""


def run(code: str, *flags: str, cwd: Path = ROOT) -> str:
    """Return what a fresh interpreter prints."""
    finished = subprocess.run(
        [sys.executable, "-P", *flags, "-c", code],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def modules(*rooms: str) -> list[str]:
    """Return the dotted names of every module of some rooms."""
    paths = [path.relative_to(ROOT) for room in rooms for path in (ROOT / room).rglob("*.py")]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return sorted(name for name in names if not name.endswith("__main__"))


def test_no_other_distribution_claims_our_names() -> None:
    """`models` and `agent` are names that others use, too."""
    claimed = importlib.metadata.packages_distributions()
    for room in ROOMS:
        assert set(claimed.get(room, [])) <= {"skerry"}


def test_the_words_of_the_wire_load_nothing_that_talks() -> None:
    """A reader of the wire's values needs no event loop, socket, TLS or log."""
    loaded = run(
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); "
        "import agent.wire.v1, agent.wire.order, agent.wire.phases, agent.wire.reasons, "
        "agent.wire.topics, agent.wire.limits, agent.wire.packing; "
        "print(*(set(sys.modules) - before))",
        "-S",
    ).split()

    assert "agent.wire.v1" in loaded
    assert set() == set(loaded) & {"asyncio", "socket", "ssl", "logging", "pydantic", "sqlite3"}


def test_rooms_are_empty_halls() -> None:
    """Importing a room loads nothing but its docstring."""
    loaded = run(
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules); "
        "import agent, fleet, models, k3s; print(*(set(sys.modules) - before))",
        "-S",
    ).split()

    assert sorted(ROOMS) == sorted(loaded)


def test_a_device_needs_nothing_of_the_centre() -> None:
    """Every module of agent, models and k3s imports where `fleet` is not installed."""
    names = modules("agent", "models", "k3s")
    said = run(
        "import importlib, json, sys; sys.modules['fleet'] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps([n for n in sys.modules if n.startswith('fleet.')]))"
    )

    assert len(names) > 20
    assert [] == json.loads(said.splitlines()[-1])


def needs(extra: str) -> set[str]:
    """Return the names that an extra of ours brings, through our other extras."""
    found: set[str] = set()
    for line in importlib.metadata.requires("skerry") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "skerry":
            found = found.union(*(needs(other) for other in requirement.extras))
        else:
            found.add(requirement.name.lower())
    return found


def test_a_device_installs_nothing_of_the_centre() -> None:
    """`skerry[agent]` brings no server, no builder, and no runtime: that is chosen beside it."""
    assert set() == needs("agent") & (CENTRE | BUILD | RUNTIMES)
    assert {"ai-edge-litert", "numpy"} == needs("litert") - needs("")
    assert {"numpy", "tflite-runtime"} >= needs("tflite") - needs("")
    assert needs("demo") >= CENTRE - {"rich"}  # typer brings it


def test_the_lock_of_a_small_device_holds_no_more_than_it_needs() -> None:
    """What `.venv-tflite` is made of has numpy below 2, and nothing of the centre."""
    lines = (ROOT / "requirements" / "tflite.txt").read_text().splitlines()
    locked = dict(line.split(";")[0].strip(" \\").split("==") for line in lines if "==" in line)

    assert set() == locked.keys() & (CENTRE | BUILD | {"ai-edge-litert"})
    assert "1" == locked["numpy"].partition(".")[0]
    assert "2.14.0" == locked["tflite-runtime"]


def test_the_locks_are_hashed_and_name_no_host() -> None:
    """Every locked package has its hashes, and none says where it comes from."""
    for name in ("dev.txt", "tflite.txt"):
        text = (ROOT / "requirements" / name).read_text()
        blocks = text.replace("\\\n", " ").splitlines()

        assert all("--hash=sha256:" in block for block in blocks if "==" in block)
        assert "//" not in text


@pytest.mark.real("tflite")
def test_a_small_device_starts_on_the_older_runtime() -> None:
    """`skerry[agent,tflite]` resolves on Python 3.11 and its command starts."""
    folder = ROOT / ".venv-tflite" / "bin"
    finished = subprocess.run(
        [folder / "skerry-agent", "--help"], check=False, capture_output=True, text=True, timeout=60
    )

    assert finished.returncode == 0, finished.stderr
    said = subprocess.run(
        [folder / "python", "-P", "-c", "import numpy, tflite_runtime; print(numpy.__version__)"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert said.startswith("1.")


@pytest.mark.parametrize("command", ["skerry", "skerry-agent"])
def test_a_command_works_in_a_folder_with_its_own_models(command: str, tmp_path: Path) -> None:
    """A user's own `models/` or `agent/` beside them is not taken for ours."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise SystemExit('the user folder ran')\n")
    finished = subprocess.run(
        [Path(sys.executable).parent / command, "--help"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert finished.returncode == 0, finished.stderr
    assert "the user folder ran" not in finished.stdout + finished.stderr


def test_the_supervisor_of_a_device_stays_light(capsys: pytest.CaptureFixture[str]) -> None:
    """The process that must never die loads no runtime, no arrays and no cryptography."""
    code = (
        "import json, sys, pathlib\n"
        "def rss(): return int(next(line.split()[1] for line in "
        "pathlib.Path('/proc/self/status').read_text().splitlines() if line.startswith('VmRSS')))\n"
        "bare = rss()\n"
        "import agent.cli, agent.run\n"
        "print(json.dumps([bare, rss(), sorted({n.partition('.')[0] for n in sys.modules})]))"
    )
    bare, loaded, names = json.loads(run(code))
    with capsys.disabled():
        print(f"\nsupervisor: {loaded / 1024:.0f} MiB, {loaded / bare:.1f} times a bare Python")  # noqa: T201  # a figure to watch

    assert set() == HEAVY & set(names)
    assert loaded < 8 * bare
