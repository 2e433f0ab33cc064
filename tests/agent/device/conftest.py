"""The world around one real device: a registry that may misbehave, bundles signed by a key it trusts, a broker."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.wire import codec, v1
from models import bundle, dsse, keys, tflite
from models import manifest as oci
from models.bundle import Bundle
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES
from models.values import Digest, ModelRef, digest_of

FLEET, DEVICE = "f", "d-1"


@dataclass
class Registry:
    """The pull half of a registry over a layout; `wrong` is asked first about every path."""

    layout: Layout
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    wrong: Callable[[BaseHTTPRequestHandler, bytes], bool] = lambda _handler, _content: False
    etag: str = "one"


class Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.registry.asked.append((self.path.rsplit("/", 2)[-2], wanted))
        content = self.content()
        if content is None:
            self.send_error(404)
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if not self.registry.wrong(self, content):
                self.answer(content, int(wanted[6:-1]) if wanted else 0)

    def content(self) -> bytes | None:
        layout = self.registry.layout
        *_, kind, reference = self.path.split("/")
        if kind == "referrers":
            return oci.render_index(layout.referrers(Digest(reference)))
        digest = Digest(reference)
        return layout.read(digest, BLOB_LIMIT_BYTES) if layout.has(digest) else None

    def answer(self, content: bytes, start: int = 0, *, send: int | None = None) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", self.registry.etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : None if send is None else start + send])
        if send is not None:
            self.wfile.flush()
            self.close_connection = True


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
def publish(registry: Registry, bundle_key: keys.SigningKey, dense: Any) -> Callable[..., Bundle]:
    """Put a version of the small model into the registry, signed; `padding` makes its card larger."""

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


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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
        until(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def until(true: Callable[[], object], limit_s: float = 30.0) -> None:
    """Poll until something is so; it is about real processes."""
    ends = time.monotonic() + limit_s  # noqa: TID251  # of the test's own, outside any loop
    while not true():
        assert time.monotonic() < ends, "it never came to be"  # noqa: TID251  # as above
        time.sleep(0.02)  # noqa: TID251  # as above


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return until


@dataclass
class Home:
    """A device's folder with an identity for a plain loopback world, and the key of its centre."""

    path: Path
    desired_key: keys.SigningKey

    def envelope(
        self,
        generation: int,
        *deployments: v1.Deployment,
        target: str = DEVICE,
        fleet: str = FLEET,
        kind: str = dsse.DESIRED_PAYLOAD_TYPE,
        key: keys.SigningKey | None = None,
    ) -> bytes:
        """Return a desired document as the centre would sign it."""
        document = v1.Desired(
            fleet=fleet,
            target=target,
            order=v1.Order(epoch=0, generation=generation),
            issued_at="2026-01-02T03:04:05Z",
            deployments=deployments,
            settings=v1.DeviceSettings(health_period_s=1, reconnect_cap_s=0.2),
        )
        return dsse.render((key or self.desired_key).sign(kind, codec.encode(document)))


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
def deployed() -> Callable[..., v1.Deployment]:
    def make(
        of: Bundle, revision: int = 1, *, name: str = "digits", **settings: Any
    ) -> v1.Deployment:
        return v1.Deployment(
            name=name,
            revision=revision,
            bundle=v1.BundleRef(digest=of.digest, name=of.ref.name, version=of.ref.version),
            settings=v1.DeploymentSettings(**settings),
        )

    return make


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    """Return what is in a folder: every file and the hash of its content."""

    def look(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return look
