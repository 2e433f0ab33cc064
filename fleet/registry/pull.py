"""The pull half of the OCI distribution specification 1.1, over an image layout.

    GET, HEAD  /v2/                                  is it a registry, am I known
    GET, HEAD  /v2/{name}/manifests/{tag or digest}
    GET, HEAD  /v2/{name}/blobs/{digest}             one Range: 206 or 416; ETag is the digest
    GET        /v2/{name}/referrers/{digest}         ?artifactType=
    GET        /v2/{name}/tags/list                  ?n= ?last=

A tag is a bundle's version, a name the model's; both come from the layout's
index. Content is by digest alone: the store is one fleet's, and whoever may
read it may read all of it. Paths on disk are made from parsed digests only,
never from what was sent. There is no catalogue and no push: publishing goes
through `fleet.registry.publish`, which verifies first.
"""

import asyncio
import json
import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from agent.wire.limits import MANIFEST_LIMIT_BYTES
from fleet.registry.answers import Authorise, refusal, unauthorised
from models.errors import ModelError
from models.layout import Layout
from models.manifest import Descriptor
from models.values import Digest, parse_digest

_NAME = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
_INDEX = "application/vnd.oci.image.index.v1+json"
_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
_REF_NAME = "org.opencontainers.image.ref.name"
_TAGS_LIMIT = 1000
_READ = ["GET", "HEAD"]


def pull_router(layout: Layout, authorise: Authorise) -> APIRouter:
    """Return the routes under /v2/. They answer 401 to whom `authorise` doesn't know."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/v2/", methods=_READ)
    async def root(request: Request) -> Response:
        if await authorise(request) is None:
            return unauthorised()
        return JSONResponse({}, headers=_VERSION)

    @router.api_route("/v2/{name:path}/manifests/{reference}", methods=_READ)
    async def manifest(request: Request, name: str, reference: str) -> Response:
        if await authorise(request) is None:
            return unauthorised()
        return await asyncio.to_thread(_manifest, layout, name, reference)

    @router.api_route("/v2/{name:path}/blobs/{digest}", methods=_READ)
    async def blob(request: Request, name: str, digest: str) -> Response:
        if await authorise(request) is None:
            return unauthorised()
        return await asyncio.to_thread(_blob, layout, name, digest)

    @router.get("/v2/{name:path}/referrers/{digest}")
    async def referrers(request: Request, name: str, digest: str) -> Response:
        if await authorise(request) is None:
            return unauthorised()
        wanted = request.query_params.get("artifactType")
        return await asyncio.to_thread(_referrers, layout, name, digest, wanted)

    @router.get("/v2/{name:path}/tags/list")
    async def tags(request: Request, name: str) -> Response:
        if await authorise(request) is None:
            return unauthorised()
        number, last = request.query_params.get("n"), request.query_params.get("last", "")
        return await asyncio.to_thread(_tags, layout, name, number, last)

    @router.api_route("/v2/{rest:path}", methods=_READ)
    async def nothing(request: Request, rest: str) -> Response:
        if await authorise(request) is None:
            return unauthorised()
        return refusal(404, "UNSUPPORTED", f"nothing at /v2/{rest[:200]}")

    return router


def _manifest(layout: Layout, name: str, reference: str) -> Response:
    if not _NAME.match(name):
        return _bad_name(name)
    digest = _resolve(layout, name, reference)
    if digest is None or not layout.has(digest):
        return refusal(404, "MANIFEST_UNKNOWN", f"no manifest {name}:{reference[:140]} here")
    try:
        raw = layout.read(digest, MANIFEST_LIMIT_BYTES)
        media_type = str(json.loads(raw)["mediaType"])
    except ModelError as error:
        # Our disk, not the client's request: what is stored is not what its digest names.
        return refusal(500, "MANIFEST_INVALID", f"{digest} can't be read: {error}")
    except (ValueError, KeyError, TypeError, RecursionError):
        return refusal(404, "MANIFEST_UNKNOWN", f"{digest} is not a manifest")
    headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"', **_VERSION}
    return Response(raw, media_type=media_type, headers=headers)


def _blob(layout: Layout, name: str, text: str) -> Response:
    if not _NAME.match(name):
        return _bad_name(name)
    digest = _digest(text)
    if digest is None:
        return _bad_digest(text)
    path = layout.blob_path(digest)
    try:
        status = path.stat()
    except FileNotFoundError:
        return refusal(404, "BLOB_UNKNOWN", f"no blob {digest} here")
    headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"', **_VERSION}
    return FileResponse(
        path, headers=headers, media_type="application/octet-stream", stat_result=status
    )


def _referrers(layout: Layout, name: str, text: str, wanted: str | None) -> Response:
    if not _NAME.match(name):
        return _bad_name(name)
    digest = _digest(text)
    if digest is None:
        return _bad_digest(text)
    found = [
        _written(descriptor)
        for descriptor in layout.referrers(digest)
        if wanted is None or descriptor.artifact_type == wanted
    ]
    headers = {} if wanted is None else {"OCI-Filters-Applied": "artifactType"}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": found}
    return Response(json.dumps(index), media_type=_INDEX, headers=headers)


def _tags(layout: Layout, name: str, number: str | None, last: str) -> Response:
    if not _NAME.match(name):
        return _bad_name(name)
    if number is not None and not (number.isascii() and number.isdigit() and len(number) < 7):  # noqa: PLR2004  # below a million
        return refusal(400, "UNSUPPORTED", f"n is {number[:80]!r}; a number of tags is expected")
    tags = sorted(
        tag for ref in _refs(layout) for owner, _, tag in [ref.partition(":")] if owner == name
    )
    if not tags:
        return refusal(404, "NAME_UNKNOWN", f"no bundle {name} here")
    after = [tag for tag in tags if tag > last]
    limit = min(int(number), _TAGS_LIMIT) if number is not None else _TAGS_LIMIT
    page = after[:limit]
    headers = {}
    if page and len(after) > len(page):
        headers["Link"] = f'</v2/{name}/tags/list?n={limit}&last={page[-1]}>; rel="next"'
    return JSONResponse({"name": name, "tags": page}, headers=headers)


def _refs(layout: Layout) -> dict[str, Digest]:
    return {
        ref: entry.digest for entry in layout.entries() if (ref := entry.annotations.get(_REF_NAME))
    }


def _resolve(layout: Layout, name: str, reference: str) -> Digest | None:
    if ":" in reference:
        return _digest(reference)
    if not _TAG.match(reference):
        return None
    return _refs(layout).get(f"{name}:{reference}")


def _digest(text: str) -> Digest | None:
    try:
        return parse_digest(text)
    except ValueError:
        return None


def _written(descriptor: Descriptor) -> dict[str, object]:
    written: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size_bytes,
    }
    if descriptor.artifact_type:
        written["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        written["annotations"] = dict(descriptor.annotations)
    return written


def _bad_name(name: str) -> Response:
    return refusal(400, "NAME_INVALID", f"not a repository name: {name[:140]!r}")


def _bad_digest(text: str) -> Response:
    return refusal(400, "DIGEST_INVALID", f"not a sha256 digest: {text[:140]!r}")
