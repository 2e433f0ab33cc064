"""A registry with one signed bundle, served by a real uvicorn, for the registry's tests."""

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request

from fleet.ports import RefTakenError
from fleet.registry.publish import publish_router
from fleet.registry.pull import pull_router
from models import bundle, keys
from models.bundle import Bundle
from models.layout import Layout
from models.values import Digest, ModelRef
from tests.models.files.conftest import GOLDEN, card_of, small_model

TOKEN = "operator-token"
BASIC = "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()


@dataclass
class Recorded:
    """The `Bundles` port in memory."""

    admitted: dict[ModelRef, Digest] = field(default_factory=dict)
    by: list[str] = field(default_factory=list)

    async def admit(self, bundle: Bundle, *, by: str) -> None:
        if self.admitted.setdefault(bundle.ref, bundle.digest) != bundle.digest:
            raise RefTakenError(f"{bundle.ref} is another")
        self.by.append(by)


@dataclass
class Signed:
    """A bundle of an engineer, in a layout of its own, with its key."""

    layout: Layout
    bundle: Bundle
    key: keys.SigningKey
    public: keys.PublicKey

    @property
    def signatures(self) -> list[Digest]:
        return [entry.digest for entry in self.layout.referrers(self.bundle.digest)]

    @property
    def blobs(self) -> list[Digest]:
        return [
            Digest(f"sha256:{path.name}")
            for path in sorted((self.layout.path / "blobs" / "sha256").iterdir())
        ]


def make_signed(folder: Path, *, version: str = "1.0.0", golden: bytes = GOLDEN) -> Signed:
    layout = Layout.create(folder / "engineer")
    model = small_model()
    card = card_of(model, version=version, golden=golden)
    made = bundle.write(layout, card, {card.variants[0].digest: model}, golden)
    public = keys.generate(folder / "bundle.key", folder / "bundle.pub")
    key = keys.SigningKey.load(folder / "bundle.key")
    bundle.sign(layout, made, key)
    return Signed(layout, made, key, public)


async def authorise(request: Request) -> str | None:
    allowed = {BASIC, f"Bearer {TOKEN}"}
    return "operator" if request.headers.get("authorization") in allowed else None


@dataclass
class Served:
    """Where it listens, what it holds, who was told."""

    url: str
    layout: Layout
    recorded: Recorded
    client: httpx2.AsyncClient


@contextlib.asynccontextmanager
async def served(
    folder: Path, trusted: Sequence[keys.PublicKey], *, stall_limit_s: float = 30.0
) -> AsyncIterator[Served]:
    layout, recorded = Layout.create(folder / "registry"), Recorded()
    app = FastAPI()
    app.include_router(pull_router(layout, authorise))
    app.include_router(
        publish_router(
            layout, authorise, keys=trusted, bundles=recorded, stall_limit_s=stall_limit_s
        )
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]), name="uvicorn")
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                async with httpx2.AsyncClient(
                    base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
                ) as client:
                    yield Served(url, layout, recorded, client)
            finally:
                server.should_exit = True
                await asyncio.wait([serving])


async def publish(served: Served, signed: Signed) -> httpx2.Response:
    """Do as the client does: every blob, then the request."""
    for digest in signed.blobs:
        content = signed.layout.blob_path(digest).read_bytes()
        answer = await served.client.put(f"/api/v1/blobs/{digest}", content=content)
        assert answer.status_code in {200, 201}, answer.text
    return await record(served, signed)


async def record(served: Served, signed: Signed) -> httpx2.Response:
    body = {"digest": signed.bundle.digest, "signatures": signed.signatures}
    return await served.client.post("/api/v1/bundles", json=body)


def code_of(answer: httpx2.Response) -> str:
    [error] = answer.json()["errors"]
    assert set(error) == {"code", "message"}
    return str(error["code"])
