"""The fixtures of one real device: a registry that may misbehave, signed bundles, a broker."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from models import keys
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import (
    Deployed,
    Home,
    Publish,
    Registry,
    Tree,
    answers,
    deployment,
    free_port,
    make_home,
    publisher,
    serving_registry,
    until,
)
from tests.agent.packages import Package


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with serving_registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture(scope="session")
def bundle_key(tmp_path_factory: pytest.TempPathFactory) -> keys.SigningKey:
    folder = tmp_path_factory.mktemp("keys")
    keys.generate(folder / "bundle.key", folder / "bundle.pub")
    return keys.SigningKey.load(folder / "bundle.key")


@pytest.fixture
def publish(registry: Registry, bundle_key: keys.SigningKey, dense: Package) -> Publish:
    """Put a version of the small model into the registry; `padding` makes its card larger."""
    return publisher(registry.layout, bundle_key, dense)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """A Mosquitto of the test's own, on loopback; its port."""
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    assert program is not None  # the marker looked
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true"]
    lines += ["user root"] if os.geteuid() == 0 else []
    (tmp_path / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    with (tmp_path / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-c", str(tmp_path / "mosquitto.conf")], stdout=log, stderr=log
        )
    try:
        until(lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def home(
    tmp_path: Path, registry: Registry, bundle_key: keys.SigningKey, request: pytest.FixtureRequest
) -> Home:
    port = request.getfixturevalue("broker") if "broker" in request.fixturenames else 1
    return make_home(tmp_path, registry.url, bundle_key, broker_port=port)


@pytest.fixture
def deployed() -> Deployed:
    return deployment


@pytest.fixture
def tree() -> Tree:
    """Return what is in a folder: every file and the hash of its content."""

    def look(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return look


@pytest.fixture
def centre(broker: int) -> Iterator[Centre]:
    made = Centre(broker)
    yield made
    made.close()


@pytest.fixture
def agent(home: Home, tmp_path: Path) -> Iterator[Agent]:
    made = Agent(home.path, free_port(), tmp_path / "agent.log")
    made.start()
    yield made
    if made.process is not None:
        made.stop()
    assert b"Traceback" not in made.log.read_bytes()


@pytest.fixture
def serving(
    agent: Agent, centre: Centre, home: Home, publish: Publish, deployed: Deployed
) -> v1.Deployment:
    """Version 1.0.0 is committed on the device; return its deployment."""
    wanted = deployed(publish())
    centre.say(Kind.DESIRED, home.envelope(1, wanted))
    until(lambda: centre.phase() == (Phase.COMMITTED, 1))
    assert agent.serves() == "1.0.0"
    return wanted
