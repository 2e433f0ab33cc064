"""The pull half of the OCI distribution API: by the specification, and by skopeo."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from fleet.registry.pull import pull_router
from models import bundle
from models import manifest as oci
from models.layout import Layout
from models.values import digest_of
from tests.fleet.registry_fixtures import (
    BASIC,
    TOKEN,
    Served,
    Signed,
    authorise,
    code_of,
    make_signed,
    publish,
    served,
)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return make_signed(tmp_path)


@pytest.fixture
async def registry(tmp_path: Path, signed: Signed) -> AsyncIterator[Served]:
    async with served(tmp_path, [signed.public]) as registry:
        assert (await publish(registry, signed)).status_code == 201
        yield registry


async def test_a_manifest_is_found_by_tag_and_by_digest(registry: Served, signed: Signed) -> None:
    """The same bytes both ways, with the digest in the header; HEAD says as much without them."""
    digest = signed.bundle.digest
    raw = signed.layout.blob_path(digest).read_bytes()
    for reference in ("1.0.0", digest):
        path = f"/v2/digits/manifests/{reference}"
        answer = await registry.client.get(path)
        assert (answer.status_code, answer.content) == (200, raw)
        assert answer.headers["content-type"] == oci.MANIFEST_TYPE
        assert answer.headers["docker-content-digest"] == digest
        head = await registry.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(raw))


async def test_every_blob_is_served(registry: Served, signed: Signed) -> None:
    """Each layer and the card, whole, with their digest as ETag."""
    for part in (signed.bundle.manifest.config, *signed.bundle.manifest.layers):
        path = f"/v2/digits/blobs/{part.digest}"
        answer = await registry.client.get(path)
        assert digest_of(answer.content) == part.digest
        assert answer.headers["etag"] == f'"{part.digest}"'
        assert answer.headers["accept-ranges"] == "bytes"
        head = await registry.client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(part.size_bytes))


async def test_signatures_are_its_referrers(registry: Served, signed: Signed) -> None:
    """OCI 1.1: who has the bundle finds its signatures; the filter says that it was applied."""
    path = f"/v2/digits/referrers/{signed.bundle.digest}"
    answer = await registry.client.get(path)
    [entry] = answer.json()["manifests"]
    assert entry["digest"] == signed.signatures[0]
    assert entry["artifactType"] == oci.SIGNATURE_ARTIFACT_TYPE
    assert answer.headers["content-type"] == oci.INDEX_TYPE
    assert (await registry.client.get(f"/v2/digits/manifests/{entry['digest']}")).is_success
    wanted = {"artifactType": "application/vnd.other"}
    filtered = await registry.client.get(path, params=wanted)
    assert filtered.json()["manifests"] == []
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    none = await registry.client.get(f"/v2/digits/referrers/{digest_of(b'')}")
    assert (none.status_code, none.json()["manifests"]) == (200, [])


async def test_tags_are_versions_in_pages(registry: Served) -> None:
    """Sorted, `n` at a time, with a link to the rest."""
    descriptor = registry.layout.entries()[-1]
    for version in ("1.1.0", "1.2.0"):
        raw = oci.render(oci.Manifest(config=descriptor, layers=(), artifact_type=version))
        registry.layout.add(raw)
        annotations = {oci.REF_NAME: f"digits:{version}"}
        registry.layout.record(oci.descriptor_of(raw, oci.MANIFEST_TYPE, annotations=annotations))
    first = await registry.client.get("/v2/digits/tags/list", params={"n": "2"})
    assert first.json() == {"name": "digits", "tags": ["1.0.0", "1.1.0"]}
    assert first.links["next"]["url"] == "/v2/digits/tags/list?n=2&last=1.1.0"
    rest = await registry.client.get(first.links["next"]["url"])
    assert rest.json() == {"name": "digits", "tags": ["1.2.0"]}
    assert "link" not in rest.headers
    none = await registry.client.get("/v2/digits/tags/list", params={"n": "0"})
    assert none.json()["tags"] == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/digits/manifests/9.9.9", 404, "MANIFEST_UNKNOWN"),
        ("/v2/other/manifests/1.0.0", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/digits/manifests/{digest_of(b'none')}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/digits/blobs/{digest_of(b'none')}", 404, "BLOB_UNKNOWN"),
        ("/v2/other/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/digits/tags/list?n=x", 400, "UNSUPPORTED"),
        ("/v2/digits/blobs/sha256:abc", 400, "DIGEST_INVALID"),
        ("/v2/digits/blobs/sha512:" + "0" * 128, 400, "DIGEST_INVALID"),
        ("/v2/digits/referrers/sha256:abc", 400, "DIGEST_INVALID"),
        ("/v2/DIGITS/manifests/1.0.0", 400, "NAME_INVALID"),
        (f"/v2/{'a' * 256}/manifests/1.0.0", 400, "NAME_INVALID"),
        ("/v2/_catalog", 404, "UNSUPPORTED"),
        ("/v2/digits/blobs/uploads/", 404, "UNSUPPORTED"),
    ],
)
async def test_what_is_not_there_is_said_in_the_specification_s_words(
    registry: Served, path: str, status: int, code: str
) -> None:
    """`{"errors": [{"code", "message"}]}`, and a status that fits."""
    answer = await registry.client.get(path)
    assert (answer.status_code, code_of(answer)) == (status, code)


async def test_a_layer_is_no_manifest(registry: Served, signed: Signed) -> None:
    """Bytes that aren't a manifest aren't served as one."""
    layer = signed.bundle.manifest.layers[0].digest
    answer = await registry.client.get(f"/v2/digits/manifests/{layer}")
    assert (answer.status_code, code_of(answer)) == (404, "MANIFEST_UNKNOWN")


async def test_a_manifest_that_rotted_is_not_served(registry: Served, signed: Signed) -> None:
    """What is on our disk is no longer what its digest names: our fault, said so."""
    path = registry.layout.blob_path(signed.bundle.digest)
    path.write_bytes(path.read_bytes().replace(b"digits", b"digitz"))
    answer = await registry.client.get("/v2/digits/manifests/1.0.0")
    assert (answer.status_code, code_of(answer)) == (500, "DIGEST_MISMATCH")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        "/v2/digits/manifests/1.0.0",
        f"/v2/digits/blobs/{digest_of(b'none')}",
        f"/v2/digits/referrers/{digest_of(b'none')}",
        "/v2/digits/tags/list",
        "/v2/nothing",
    ],
)
async def test_strangers_learn_nothing(registry: Served, path: str) -> None:
    """401 with a challenge, whether it exists or not; the operator gets in by Basic."""
    for wrong in ("", "Basic !", "Bearer wrong"):
        answer = await registry.client.get(path, headers={"Authorization": wrong})
        assert (answer.status_code, code_of(answer)) == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
    answer = await registry.client.get(path, headers={"Authorization": BASIC})
    assert answer.status_code != 401


SECRET = b"a file beside the registry"


@pytest.fixture(scope="module")
def ranged(tmp_path_factory: pytest.TempPathFactory) -> tuple[TestClient, bytes, str]:
    """A registry with one blob of 1,000 bytes, and a secret beside it."""
    folder = tmp_path_factory.mktemp("ranged")
    (folder / "secret").write_bytes(SECRET)
    layout = Layout.create(folder / "registry")
    content = bytes(number % 251 for number in range(1000))
    app = FastAPI()
    app.include_router(pull_router(layout, authorise))
    client = TestClient(app, headers={"Authorization": BASIC})
    return client, content, f"/v2/m/blobs/{layout.add(content)}"


@given(first=st.integers(0, 1200), length=st.integers(1, 1200), etag=st.sampled_from([0, 1, 2]))
def test_a_range_is_that_part_and_no_other(
    ranged: tuple[TestClient, bytes, str], first: int, length: int, etag: int
) -> None:
    """206 with what was asked, 416 beyond the end, all of it when it is another blob."""
    client, content, path = ranged
    last = first + length - 1
    headers = {"Range": f"bytes={first}-{last}"}
    if etag:
        own = f'"{digest_of(content)}"'
        headers["If-Range"] = own if etag == 1 else '"sha256:another"'
    answer = client.get(path, headers=headers)
    if etag == 2:
        assert (answer.status_code, answer.content) == (200, content)
    elif first >= len(content):
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(content)}"
    else:
        assert answer.status_code == 206
        assert answer.content == content[first : last + 1]
        end = min(last, len(content) - 1)
        assert answer.headers["content-range"] == f"bytes {first}-{end}/{len(content)}"
        assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(("asked", "first"), [("bytes=990-", 990), ("bytes=-10", 990)])
def test_open_ranges(ranged: tuple[TestClient, bytes, str], asked: str, first: int) -> None:
    """From somewhere to the end, and the last bytes: how a download resumes."""
    client, content, path = ranged
    answer = client.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, content[first:])


@given(
    st.lists(
        st.sampled_from(["..", ".", "", "secret", "etc", "passwd", "sha256:..", "\\", "\0", "*"]),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["manifests", "blobs", "referrers"]),
)
def test_no_path_leads_out(
    ranged: tuple[TestClient, bytes, str], parts: list[str], kind: str
) -> None:
    """Whatever stands for a name, tag or digest (unescaped already), no other file is served."""
    client, _, _ = ranged
    for path in (f"/v2/m/{kind}/{'/'.join(parts)}", f"/v2/{'/'.join(parts)}/{kind}/x"):
        status, body = asyncio.run(_asked(client, path))
        assert status in {400, 404}
        assert SECRET not in body


async def _asked(client: TestClient, path: str) -> tuple[int, bytes]:
    """Ask the application itself: a client would tidy up the path."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", BASIC.encode())],
        "state": {},
    }
    await client.app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def _skopeo(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "skopeo", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out


@pytest.mark.real("skopeo")
async def test_skopeo_inspects_and_copies(registry: Served, signed: Signed, tmp_path: Path) -> None:
    """A stock client pulls the bundle byte for byte, with the token as its password."""
    source = f"docker://{registry.url.removeprefix('http://')}/digits:1.0.0"
    login = ["--creds", f"anyone:{TOKEN}"]
    raw = await _skopeo("inspect", "--raw", "--tls-verify=false", *login, source)
    assert digest_of(raw) == signed.bundle.digest
    tags = await _skopeo("list-tags", "--tls-verify=false", *login, source.rpartition(":")[0])
    assert json.loads(tags)["Tags"] == ["1.0.0"]
    target = f"oci:{tmp_path}/pulled:digits:1.0.0"
    await _skopeo("copy", "--src-tls-verify=false", "--src-creds", login[1], source, target)
    pulled = Layout(tmp_path / "pulled")
    assert bundle.read(pulled, signed.bundle.digest) == signed.bundle


@pytest.mark.real("skopeo")
async def test_skopeo_without_the_token_gets_nothing(registry: Served, tmp_path: Path) -> None:
    """The challenge is one that skopeo understands."""
    source = f"docker://{registry.url.removeprefix('http://')}/digits:1.0.0"
    with pytest.raises(AssertionError, match=r"(?i)unauthorized|authentication required"):
        await _skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path}/pulled")
