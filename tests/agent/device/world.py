"""The world around one real device: what its fixtures are made of."""

import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from agent.wire import codec, v1
from models import bundle, dsse, keys, tflite
from models import manifest as oci
from models.bundle import Bundle
from models.card import Requirements
from models.fit import Hardware
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES
from models.values import Digest, ModelRef, digest_of
from tests.agent.packages import Package

FLEET, DEVICE = "f", "d-1"

HARDWARE = Hardware(
    architecture="x86_64", memory_bytes=1 << 32, runtime="litert", runtime_version="2.3.0"
)


@dataclass
class Registry:
    """The pull half of a registry over a layout; `wrong` is asked first about every path.

    `asked` is how it was asked, `digests` what for, in the same order.
    """

    layout: Layout
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    wrong: "Callable[[Handler, bytes], bool]" = lambda _handler, _content: False
    etag: str = "one"


class Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.registry.asked.append((self.path.rsplit("/", 2)[-2], wanted))
        self.registry.digests.append(self.path.rsplit("/", 1)[-1])
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


class Publish(Protocol):
    """Puts a version of the small model into the registry, signed."""

    def __call__(
        self,
        version: str = "1.0.0",
        *,
        padding: int = 0,
        golden: bytes | None = None,
        needs: Requirements | None = None,
    ) -> Bundle: ...


class Deployed(Protocol):
    """Makes the deployment of a bundle."""

    def __call__(
        self, of: Bundle, revision: int = 1, *, name: str = "digits", probation_s: float = 0.0
    ) -> v1.Deployment: ...


Tree = Callable[[Path], dict[str, str]]
"""Says what is in a folder: every file, and the hash of its content."""

Fetch = Callable[..., Awaitable[list[Any]]]
"""Fetches a bundle in the real child, and returns what it said on the way."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
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
        windows: tuple[v1.Window, ...] = (),
        maintenance: tuple[v1.Window, ...] = (),
    ) -> bytes:
        """Return a desired document as the centre would sign it."""
        document = v1.Desired(
            fleet=fleet,
            target=target,
            order=v1.Order(epoch=0, generation=generation),
            issued_at="2026-01-02T03:04:05Z",
            deployments=deployments,
            settings=v1.DeviceSettings(
                health_period_s=1,
                reconnect_cap_s=0.2,
                download_windows=windows,
                maintenance_windows=maintenance,
            ),
        )
        return dsse.render((key or self.desired_key).sign(kind, codec.encode(document)))


@contextlib.contextmanager
def serving_registry(folder: Path) -> Iterator[Registry]:
    """Serve a new registry while the block lasts."""
    made = Registry(Layout.create(folder))
    handler = type("Handler", (Handler,), {"registry": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def publisher(layout: Layout, key: keys.SigningKey, dense: Package) -> Publish:
    """Return what puts versions of a small model into a registry."""

    def put(
        version: str = "1.0.0",
        *,
        padding: int = 0,
        golden: bytes | None = None,
        needs: Requirements | None = None,
    ) -> Bundle:
        found = tflite.read(dense.content)
        vectors = dense.golden if golden is None else golden
        [variant] = dense.card.variants
        card = replace(
            dense.card,
            ref=ModelRef("dense", version),
            inputs=found.inputs,
            outputs=found.outputs,
            description="." * padding,
            golden=replace(dense.card.golden, digest=digest_of(vectors)),
            variants=(replace(variant, requirements=needs or variant.requirements),),
        )
        made = bundle.write(layout, card, {card.variants[0].digest: dense.content}, vectors)
        bundle.sign(layout, made, key)
        return made

    return put


def make_home(
    folder: Path, registry_url: str, bundle_key: keys.SigningKey, *, broker_port: int
) -> Home:
    """Make the home of a device that has joined."""
    identity = folder / "device" / "identity"
    identity.mkdir(parents=True)
    keys.generate(folder / "desired.key", folder / "desired.pub")
    desired_key = keys.SigningKey.load(folder / "desired.key")
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
        broker_url=f"mqtt://127.0.0.1:{broker_port}",
        registry_url=registry_url,
    )
    (identity / "join.json").write_bytes(codec.encode(answer))
    return Home(identity.parent, desired_key)


def deployment(
    of: Bundle, revision: int = 1, *, name: str = "digits", probation_s: float = 0.0
) -> v1.Deployment:
    """Return the deployment of a bundle."""
    return v1.Deployment(
        name=name,
        revision=revision,
        bundle=v1.BundleRef(digest=of.digest, name=of.ref.name, version=of.ref.version),
        settings=v1.DeploymentSettings(probation_s=probation_s),
    )
