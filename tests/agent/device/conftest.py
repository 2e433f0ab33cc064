"""The fixtures of one real device: a registry that may misbehave, signed bundles, a broker."""

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from models import bundle, keys, tflite
from models.bundle import Bundle
from models.layout import Layout
from models.values import ModelRef, digest_of
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import (
    DEVICE,
    FLEET,
    Deployed,
    Handler,
    Home,
    Publish,
    Registry,
    Tree,
    answers,
    free_port,
    until,
)
from tests.agent.packages import Package


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(Layout.create(tmp_path / "registry"))
    handler = type("Handler", (Handler,), {"registry": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def bundle_key(tmp_path_factory: pytest.TempPathFactory) -> keys.SigningKey:
    folder = tmp_path_factory.mktemp("keys")
    keys.generate(folder / "bundle.key", folder / "bundle.pub")
    return keys.SigningKey.load(folder / "bundle.key")


@pytest.fixture
def publish(registry: Registry, bundle_key: keys.SigningKey, dense: Package) -> Publish:
    """Put a version of the small model into the registry; `padding` makes its card larger."""

    def put(version: str = "1.0.0", *, padding: int = 0, golden: bytes | None = None) -> Bundle:
        found = tflite.read(dense.content)
        vectors = dense.golden if golden is None else golden
        card = replace(
            dense.card,
            ref=ModelRef("dense", version),
            inputs=found.inputs,
            outputs=found.outputs,
            description="." * padding,
            golden=replace(dense.card.golden, digest=digest_of(vectors)),
        )
        made = bundle.write(
            registry.layout, card, {card.variants[0].digest: dense.content}, vectors
        )
        bundle.sign(registry.layout, made, bundle_key)
        return made

    return put


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
    folder = tmp_path / "device" / "identity"
    folder.mkdir(parents=True)
    keys.generate(tmp_path / "desired.key", tmp_path / "desired.pub")
    desired_key = keys.SigningKey.load(tmp_path / "desired.key")
    pem = "-----BEGIN CERTIFICATE-----\nnone here\n-----END CERTIFICATE-----\n"
    answer = v1.JoinAnswer(
        fleet=FLEET,
        device=DEVICE,
        certificate=pem,
        ca=pem,
        keys=(
            v1.TrustedKey(id=bundle_key.id, use="bundle", key=bundle_key.public_pem),
            v1.TrustedKey(id=desired_key.id, use="desired", key=desired_key.public_pem),
        ),
        broker_url=f"mqtt://127.0.0.1:{port}",
        registry_url=registry.url,
    )
    (folder / "join.json").write_bytes(codec.encode(answer))
    return Home(folder.parent, desired_key)


@pytest.fixture
def deployed() -> Deployed:
    def make(
        of: Bundle, revision: int = 1, *, name: str = "digits", probation_s: float = 0.0
    ) -> v1.Deployment:
        return v1.Deployment(
            name=name,
            revision=revision,
            bundle=v1.BundleRef(digest=of.digest, name=of.ref.name, version=of.ref.version),
            settings=v1.DeploymentSettings(probation_s=probation_s),
        )

    return make


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
