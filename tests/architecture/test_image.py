"""Light on the device: what the agent's image is made of, told without building it."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from k3s.render import STATE_USER

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("agent.txt", "wheel.txt")
LIMIT_MB = 180
"""For everything that a device installs beside Python, unpacked, on this machine's architecture."""
CENTRE = {
    *("alembic", "fastapi", "httpx2", "iotcore", "kubernetes", "litert-quantizer", "rich"),
    *("scikit-learn", "sqlalchemy", "starlette", "typer"),
}
ENTRANCES = (
    *("agent.cli", "agent.run", "agent.join", "agent.status", "agent.technician"),
    *("agent.probe", "agent.verify", "agent.fetch.__main__", "agent.workers.child"),
)
"""All that a device starts: its commands, its supervisor, its children."""


def instructions() -> list[str]:
    """Return the Dockerfile's instructions, each in one line, without comments."""
    text = (ROOT / "Dockerfile.arm64").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def locked(name: str) -> dict[str, str]:
    """Return the version of each distribution that a lock installs on this machine."""
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if "==" not in line:
            continue
        requirement = Requirement(line.partition("--hash")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate():
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def test_the_image_is_made_of_three_rooms_and_two_locks() -> None:
    """No `fleet/`; and the build can't see more than what it copies."""
    copied = {
        word
        for line in instructions()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    shown = {line[1:] for line in ignored if line.startswith("!")}

    assert {"agent", "models", "k3s"} == {each for each in copied if (ROOT / each).is_dir()}
    assert copied == shown
    assert "*" in ignored


def test_the_image_runs_as_the_user_that_owns_a_sites_folders() -> None:
    """What `skerry site join` makes ready, the image can write."""
    assert f"USER {STATE_USER}:{STATE_USER}" in instructions()
    assert any(f"-o {STATE_USER} -g {STATE_USER}" in line for line in instructions())


def test_everything_installed_is_locked_with_hashes_and_no_host_is_named() -> None:
    """The same image can be built from a mirror, or from a folder of wheels."""
    for name in LOCKS:
        text = (ROOT / "requirements" / name).read_text()
        blocks = text.replace("\\\n", " ").splitlines()

        assert all("--hash=sha256:" in block for block in blocks if "==" in block)
        assert "//" not in text
    for line in instructions():
        if " install --quiet" in line:
            assert "--require-hashes" in line or "--no-index --no-deps" in line
    assert not any("//" in line for line in instructions())


def test_what_is_tested_here_is_what_a_device_gets() -> None:
    """The image's lock and ours name the same versions, and nothing of the centre."""
    device, here = locked("agent.txt"), locked("dev.txt")

    # A client that only tests use holds ml-dtypes back here; no code of ours loads it.
    assert {"ml-dtypes"} >= {name for name, pin in device.items() if here.get(name) != pin}
    assert set() == device.keys() & CENTRE


def test_what_a_device_installs_has_a_limit_in_megabytes() -> None:
    """A dependency that brings a hundred megabytes is seen when it comes."""
    sizes = {name: installed_bytes(name) for name in locked("agent.txt")}
    largest = sorted(sizes.items(), key=lambda each: -each[1])[:5]

    assert sum(sizes.values()) < LIMIT_MB * 1e6, largest


def installed_bytes(name: str) -> int:
    """Return how many bytes a distribution takes, without compiled Python."""
    paths = importlib.metadata.files(name) or []
    found = [Path(str(path.locate())) for path in paths if path.suffix != ".pyc"]
    return sum(path.stat().st_size for path in found if path.exists())


def test_nothing_a_device_starts_loads_the_centre() -> None:
    """Every command and child of the agent is imported; no centre, framework or database comes."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {ENTRANCES!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, timeout=110
    ).stdout
    loaded = set(json.loads(said)) - {"rich"}  # structlog takes it where it is: here, not there

    assert "agent" in loaded
    assert set() == loaded & {"fleet", "numpy", *CENTRE}
