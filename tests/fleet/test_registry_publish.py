"""Publishing: what isn't whole, signed and new isn't recorded, and leaves nothing behind."""

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.registry import publish as publishing
from models import bundle, durable, keys
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES
from models.values import digest_of
from tests.fleet.registry_fixtures import (
    Served,
    Signed,
    code_of,
    make_signed,
    publish,
    record,
    served,
)
from tests.models.files.conftest import GOLDEN


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return make_signed(tmp_path)


@pytest.fixture
async def registry(tmp_path: Path, signed: Signed) -> AsyncIterator[Served]:
    async with served(tmp_path, [signed.public], stall_limit_s=0.5) as registry:
        yield registry


def nothing_recorded(registry: Served) -> bool:
    return registry.layout.entries() == () and registry.recorded.admitted == {}


def nothing_left(layout: Layout) -> bool:
    ingest = layout.path / "ingest"
    return not ingest.exists() or list(ingest.iterdir()) == []


async def test_a_signed_bundle_is_published(registry: Served, signed: Signed) -> None:
    """All its blobs, then one request: recorded under its name. Again: the same."""
    for _ in range(2):
        answer = await publish(registry, signed)
        assert answer.status_code == 201
        assert answer.json() == {
            "ref": "digits:1.0.0",
            "digest": signed.bundle.digest,
            "signatures": signed.signatures,
        }
    assert registry.recorded.admitted == {signed.bundle.ref: signed.bundle.digest}
    assert registry.recorded.by == ["operator", "operator"]
    assert bundle.find(registry.layout, "digits:1.0.0") == signed.bundle.digest
    assert bundle.verify(registry.layout, signed.bundle.digest, [signed.public]) == signed.bundle
    assert nothing_left(registry.layout)


async def test_a_blob_is_stored_once(registry: Served) -> None:
    """201, then 200; HEAD says beforehand whether it need be sent."""
    path = f"/api/v1/blobs/{digest_of(b'content')}"
    assert (await registry.client.head(path)).status_code == 404
    assert (await registry.client.put(path, content=b"content")).status_code == 201
    assert (await registry.client.put(path, content=b"content")).status_code == 200
    assert (await registry.client.head(path)).status_code == 200
    many = await asyncio.gather(  # noqa: TID251  # many clients at once, in a test
        *(
            registry.client.put(f"/api/v1/blobs/{digest_of(b'x' * 99999)}", content=b"x" * 99999)
            for _ in range(8)
        )
    )
    assert {answer.status_code for answer in many} <= {200, 201}
    assert registry.layout.read(digest_of(b"x" * 99999), 99999) == b"x" * 99999
    assert nothing_left(registry.layout)


async def test_a_blob_that_rotted_is_sent_again(registry: Served, signed: Signed) -> None:
    """What is there and something else counts as absent: publishing once more mends it."""
    await publish(registry, signed)
    digest = signed.blobs[0]
    path = registry.layout.blob_path(digest)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    assert (await registry.client.head(f"/api/v1/blobs/{digest}")).status_code == 404
    assert (await publish(registry, signed)).status_code == 201

    assert whole == path.read_bytes()
    assert bundle.verify(registry.layout, signed.bundle.digest, [signed.public]) == signed.bundle


async def test_bytes_that_are_not_the_digest_s_are_not_kept(registry: Served) -> None:
    """422, and neither the blob nor a piece of it stays."""
    digest = digest_of(b"content")
    answer = await registry.client.put(f"/api/v1/blobs/{digest}", content=b"Content")
    assert (answer.status_code, code_of(answer)) == (422, "DIGEST_MISMATCH")
    assert not registry.layout.has(digest)
    assert nothing_left(registry.layout)


async def test_an_upload_has_a_size_a_deadline_and_an_end(registry: Served) -> None:
    """No length 411, above the limit 413 before a byte is read, stalled 408: nothing stays."""
    digest = digest_of(b"content")
    path = f"/api/v1/blobs/{digest}"

    async def pieces() -> AsyncIterator[bytes]:
        yield b"content"

    answer = await registry.client.put(path, content=pieces())
    assert (answer.status_code, code_of(answer)) == (411, "MALFORMED")
    for size in (BLOB_LIMIT_BYTES + 1, 10**18):
        assert await raw_put(registry, path, size, b"") == (413, "TOO_LARGE")
    assert await raw_put(registry, path, 7, b"con") == (408, "TIMED_OUT")
    await broken_put(registry, path)
    assert not registry.layout.has(digest)
    assert nothing_left(registry.layout)


async def raw_put(registry: Served, path: str, announced: int, sent: bytes) -> tuple[int, str]:
    """PUT with a length that isn't what is sent; return the status and the code."""
    host, _, port = registry.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(_head(registry, path, announced) + sent)
    await writer.drain()
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = (await reader.read(4096)).decode()
    writer.close()
    await writer.wait_closed()
    code = next(word for word in ("TOO_LARGE", "TIMED_OUT", "") if word in body)
    return int(head.split()[1]), code


async def broken_put(registry: Served, path: str) -> None:
    host, _, port = registry.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(_head(registry, path, 7) + b"con")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        while not nothing_left(registry.layout):  # noqa: ASYNC110  # another task's doing
            await asyncio.sleep(0.02)


def _head(registry: Served, path: str, announced: int) -> bytes:
    authorization = registry.client.headers["authorization"]
    return (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    ).encode()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


async def test_a_full_disk_is_told_and_left_clean(
    registry: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """507 when it can't fit and when the disk fills up meanwhile; nothing of it stays."""
    path = f"/api/v1/blobs/{digest_of(b'content')}"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, publishing.RESERVE_BYTES + 6))
        answer = await registry.client.put(path, content=b"content")
        assert (answer.status_code, code_of(answer)) == (507, "DISK_FULL")
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(durable, "adopt", full)
        answer = await registry.client.put(path, content=b"content")
        assert (answer.status_code, code_of(answer)) == (507, "DISK_FULL")
    assert nothing_left(registry.layout)
    assert (await registry.client.put(path, content=b"content")).status_code == 201


async def test_an_unsigned_bundle_is_not_recorded(registry: Served, signed: Signed) -> None:
    """Uploaded whole, but nobody signed: no tag leads to it."""
    await publish(registry, signed)
    registry.layout.forget(signed.bundle.digest)
    registry.recorded.admitted.clear()
    answer = await registry.client.post("/api/v1/bundles", json={"digest": signed.bundle.digest})
    assert (answer.status_code, code_of(answer)) == (422, "SIGNATURE_MISSING")
    assert nothing_recorded(registry)


async def test_a_foreign_signature_is_not_recorded(
    registry: Served, signed: Signed, tmp_path: Path
) -> None:
    """Signed by a key this fleet doesn't trust: refused, and its signature isn't kept."""
    (tmp_path / "foreign").mkdir()
    keys.generate(tmp_path / "foreign" / "k", tmp_path / "foreign" / "p")
    foreign = keys.SigningKey.load(tmp_path / "foreign" / "k")
    signed.layout.forget(signed.bundle.digest)
    bundle.sign(signed.layout, signed.bundle, foreign)
    answer = await publish(registry, signed)
    assert answer.status_code == 422
    assert code_of(answer).startswith("SIGNATURE_")
    assert nothing_recorded(registry)


async def test_a_bundle_with_a_missing_part_is_not_recorded(
    registry: Served, signed: Signed
) -> None:
    """One layer wasn't sent: said so, nothing recorded; sent afterwards, it is."""
    await publish(registry, signed)
    registry.layout.forget(signed.bundle.digest)
    registry.recorded.admitted.clear()
    layer = signed.bundle.manifest.layers[0].digest
    registry.layout.blob_path(layer).unlink()
    answer = await record(registry, signed)
    assert (answer.status_code, code_of(answer)) == (422, "BUNDLE_INCOMPLETE")
    assert nothing_recorded(registry)
    assert (await publish(registry, signed)).status_code == 201


async def test_a_version_is_never_reused(registry: Served, signed: Signed, tmp_path: Path) -> None:
    """Another bundle under a version that is taken: 409, and the tag leads where it led."""
    assert (await publish(registry, signed)).status_code == 201
    entries = registry.layout.entries()
    (tmp_path / "again").mkdir()
    other = make_signed(tmp_path / "again", golden=bytes(reversed(GOLDEN)))
    other.layout.forget(other.bundle.digest)
    bundle.sign(other.layout, other.bundle, signed.key)
    answer = await publish(registry, other)
    assert (answer.status_code, code_of(answer)) == (409, "VERSION_TAKEN")
    assert registry.layout.entries() == entries
    assert registry.recorded.admitted == {signed.bundle.ref: signed.bundle.digest}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"digest": 5}',
        b'{"digest": "sha256:../../etc/passwd"}',
        b'{"digest": "' + b"a" * 20000 + b'"}',
        b'{"digest": "sha256:' + b"0" * 64 + b'", "signatures": ["x"]}',
        b'{"digest": "sha256:' + b"0" * 64 + b'", "signatures": [' + b'"",' * 40 + b'""]}',
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(registry: Served, body: bytes) -> None:
    """400 or 413, in a sentence, and nothing is touched."""
    answer = await registry.client.post("/api/v1/bundles", content=body)
    assert answer.status_code in {400, 413}
    assert code_of(answer) in {"MALFORMED", "TOO_LARGE"}
    assert nothing_recorded(registry)


async def test_only_a_signature_of_this_bundle_is_one(registry: Served, signed: Signed) -> None:
    """The bundle's own manifest, or a blob, in place of a signature: refused by name."""
    await publish(registry, signed)
    registry.layout.forget(signed.bundle.digest)
    registry.recorded.admitted.clear()
    for digest in (signed.bundle.digest, signed.bundle.manifest.layers[0].digest):
        body = {"digest": signed.bundle.digest, "signatures": [digest]}
        answer = await registry.client.post("/api/v1/bundles", json=body)
        assert answer.status_code == 422
        assert nothing_recorded(registry)


async def test_strangers_publish_nothing(registry: Served) -> None:
    """Every publishing route asks for credentials, and reads no body before."""
    path = f"/api/v1/blobs/{digest_of(b'content')}"
    nobody = {"Authorization": ""}
    for answer in (
        await registry.client.head(path, headers=nobody),
        await registry.client.put(path, content=b"content", headers=nobody),
        await registry.client.post("/api/v1/bundles", json={}, headers=nobody),
    ):
        assert answer.status_code == 401
    assert not registry.layout.has(digest_of(b"content"))
