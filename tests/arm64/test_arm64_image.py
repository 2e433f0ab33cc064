"""What `Dockerfile.arm64` makes: small, of the agent alone, and confined."""

import json
from pathlib import Path
from typing import Any

import pytest

from k3s.render import STATE_USER
from tests.arm64.lab import Image, run

pytestmark = [pytest.mark.arm64, pytest.mark.slow, pytest.mark.timeout(3000)]

LIMIT_MB = 150
"""For all that is ours or installed by us, above the base image."""
LOOK = """
import importlib.util, json, os, pathlib, platform, shutil, sys
def size(path):
    return sum(each.lstat().st_size for each in pathlib.Path(path).rglob("*") if each.is_file())
def can_write(folder):
    try:
        pathlib.Path(folder, "probe").write_text("x")
    except OSError as error:
        return error.strerror
    return True
names = ["agent", "models", "k3s", "fleet", "pip", "setuptools", "hatchling", "ensurepip",
         "fastapi", "sqlalchemy", "starlette", "typer"]
print(json.dumps({
    "machine": platform.machine(),
    "python": platform.python_version(),
    "safe_path": sys.flags.safe_path,
    "ids": [os.getuid(), os.getgid()],
    "status": pathlib.Path("/proc/self/status").read_text(),
    "found": [name for name in names if importlib.util.find_spec(name)],
    "programs": [name for name in ("pip", "pip3", "gcc", "cc", "make", "git", "skerry")
                 if shutil.which(name)],
    "write": {each: can_write(each) for each in
              ("/", "/tmp", "/opt/skerry", "/var/lib/skerry", "/usr/lib")},
    "bytes": size("/opt/skerry"),
    "uncompiled": [str(path) for room in ("agent", "models", "k3s", "pydantic", "numpy")
        for path in pathlib.Path(importlib.util.find_spec(room).origin).parent.rglob("*.py")
        if not pathlib.Path(importlib.util.cache_from_source(path)).exists()],
}))
"""


@pytest.fixture(scope="module")
def seen(image: Image, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what is seen from inside a container."""
    home = tmp_path_factory.mktemp("home")
    home.chmod(0o777)
    inside = image.command("--entrypoint=python", f"--volume={home}:/var/lib/skerry")
    found: dict[str, Any] = json.loads(run(*inside, "-c", LOOK))
    return found


def test_it_holds_the_agent_and_nothing_of_the_centre(seen: dict[str, Any]) -> None:
    """Three rooms; no centre, no server framework, no database, no installer, no compiler."""
    assert "aarch64" == seen["machine"]
    assert seen["python"].startswith("3.11.")
    assert ["agent", "models", "k3s"] == seen["found"]
    assert [] == seen["programs"]


def test_it_runs_as_an_ordinary_user_on_a_read_only_root(seen: dict[str, Any]) -> None:
    """Only its home and /tmp can be written; it holds no capability and can gain none."""
    status = dict(line.split(":\t", 1) for line in seen["status"].splitlines() if ":\t" in line)

    assert [STATE_USER, STATE_USER] == seen["ids"]
    assert {each for each, can in seen["write"].items() if can is True} == {
        "/tmp",  # noqa: S108  # the container's own
        "/var/lib/skerry",
    }
    assert "0000000000000000" == status["CapEff"] == status["CapBnd"]
    assert "1" == status["NoNewPrivs"]


def test_nothing_is_imported_from_where_it_stands(seen: dict[str, Any]) -> None:
    """Python runs with a safe path, and is compiled already: a read-only root can't be."""
    assert seen["safe_path"] is True
    assert [] == seen["uncompiled"]


def test_it_is_small(
    image: Image, seen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """What we add to the base has a limit in megabytes, and so have all layers together."""
    layers = image.layers()
    with capsys.disabled():
        print(f"\n/opt/skerry: {seen['bytes'] / 1e6:.1f} MB. Layers:")  # noqa: T201  # figures to watch
        for size, made_by in layers:
            print(f"{size / 1e6:8.1f} MB  {made_by[:90]}")  # noqa: T201  # as above

    assert seen["bytes"] < LIMIT_MB * 1e6
    assert sum(size for size, _ in layers[1:]) < (LIMIT_MB + 50) * 1e6


def test_it_says_what_it_is(image: Image) -> None:
    """Labels, user, port, volume and the signal that ends it are in the image itself."""
    config = image.config()

    assert f"{STATE_USER}:{STATE_USER}" == config["User"]
    assert "SIGTERM" == config["StopSignal"]
    assert {"8471/tcp": {}} == config["ExposedPorts"]
    assert {"/var/lib/skerry": {}} == config["Volumes"]
    assert "Apache-2.0" == dict(config["Labels"])["org.opencontainers.image.licenses"]  # type: ignore[call-overload]  # podman's own shape


def test_its_command_answers(image: Image, tmp_path: Path) -> None:
    """`docker run IMAGE --version`, and a home that was never joined, as a person meets them."""
    assert run(*image.command(), "--version").startswith("skerry-agent ")
    home = f"--volume={tmp_path}:/var/lib/skerry"

    status = run(*image.command("--entrypoint=/bin/sh", home), "-c", "skerry-agent status; echo $?")

    assert status.rstrip()[-1:] != "0"
