"""The pull half of the OCI distribution specification 1.1, over an image layout.

    GET, HEAD  /v2/                                  is it a registry, am I known
    GET, HEAD  /v2/{name}/manifests/{tag or digest}
    GET, HEAD  /v2/{name}/blobs/{digest}             Range: 206 or 416; the ETag is the digest
    GET, HEAD  /v2/{name}/referrers/{digest}         ?artifactType=
    GET, HEAD  /v2/{name}/tags/list                  ?n= ?last=

A tag is a bundle's version, a name the model's; both come from the layout's
index. Content is by digest alone: the store is one fleet's, and whoever may
read it may read all of it. Paths on disk are made from parsed digests only,
never from what was sent. There is no catalogue and no push: publishing goes
through `fleet.registry.publish`, which verifies first.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from fleet.registry.answers import AnswerError, Authorise, refusal, unauthorised
from models import manifest as oci
from models.errors import ModelError, RefusedError
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.values import Digest, parse_digest

_NAME = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*\Z")
_NAME_LIMIT = 255
_NUMBER = re.compile(r"[0-9]{1,6}\Z")
_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
_TAGS_LIMIT = 1000


def pull_router(layout: Layout, authorise: Authorise) -> APIRouter:
    """Return the routes under /v2/. They answer 401 to whom `authorise` doesn't know."""
    router = APIRouter()
    for path, answer in _ROUTES.items():
        router.add_route(path, _guarded(layout, authorise, answer), methods=["GET", "HEAD"])
    return router


def _guarded(
    layout: Layout, authorise: Authorise, answer: Callable[[Layout, Request], Response]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if await authorise(request) is None:
            return unauthorised()
        try:
            return await asyncio.to_thread(answer, layout, request)
        except AnswerError as error:
            return error.answer

    return endpoint


def _root(_layout: Layout, _request: Request) -> Response:
    return JSONResponse({}, headers=_VERSION)


def _manifest(layout: Layout, request: Request) -> Response:
    name, reference = _name(request), request.path_params["reference"]
    if ":" in reference:
        digest = _digest(reference)
    else:
        tagged = _tagged(layout).get(f"{name}:{reference}")
        if tagged is None:
            raise AnswerError(_unknown_manifest(name, reference))
        digest = tagged
    try:
        raw = layout.read(digest, MANIFEST_LIMIT_BYTES)
        oci.parse(raw)
    except RefusedError as error:  # not there, or something that is no manifest
        raise AnswerError(_unknown_manifest(name, reference)) from error
    except ModelError as error:
        # Our disk, not the client's request: what is stored is not what its digest names.
        return refusal(500, error.reason, str(error))
    headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"', **_VERSION}
    return Response(raw, media_type=oci.MANIFEST_TYPE, headers=headers)


def _blob(layout: Layout, request: Request) -> Response:
    _name(request)
    digest = _digest(request.path_params["digest"])
    path = layout.blob_path(digest)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise AnswerError(refusal(404, "BLOB_UNKNOWN", f"no blob {digest} here")) from error
    headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"', **_VERSION}
    return FileResponse(
        path, headers=headers, media_type="application/octet-stream", stat_result=status
    )


def _referrers(layout: Layout, request: Request) -> Response:
    _name(request)
    digest = _digest(request.path_params["digest"])
    wanted = request.query_params.get("artifactType")
    found = [
        entry
        for entry in layout.referrers(digest)
        if wanted is None or entry.artifact_type == wanted
    ]
    headers = {} if wanted is None else {"OCI-Filters-Applied": "artifactType"}
    return Response(oci.render_index(found), media_type=oci.INDEX_TYPE, headers=headers)


def _tags(layout: Layout, request: Request) -> Response:
    name = _name(request)
    number, last = request.query_params.get("n"), request.query_params.get("last", "")
    if number is not None and not _NUMBER.match(number):
        return refusal(400, "UNSUPPORTED", f"n is {number[:80]!r}; a number of tags is expected")
    refs = (ref.partition(":") for ref in _tagged(layout))
    tags = sorted(tag for owner, _, tag in refs if owner == name)
    if not tags:
        return refusal(404, "NAME_UNKNOWN", f"no bundle {name} here")
    after = [tag for tag in tags if tag > last]
    limit = min(int(number), _TAGS_LIMIT) if number is not None else _TAGS_LIMIT
    page = after[:limit]
    headers = {}
    if page and len(after) > len(page):
        headers["Link"] = f'</v2/{name}/tags/list?n={limit}&last={page[-1]}>; rel="next"'
    return JSONResponse({"name": name, "tags": page}, headers=headers)


def _nothing(_layout: Layout, request: Request) -> Response:
    return refusal(404, "UNSUPPORTED", f"nothing at {request.url.path[:200]}")


# In order: the last catches what the others don't.
_ROUTES: dict[str, Callable[[Layout, Request], Response]] = {
    "/v2/": _root,
    "/v2/{name:path}/manifests/{reference}": _manifest,
    "/v2/{name:path}/blobs/{digest}": _blob,
    "/v2/{name:path}/referrers/{digest}": _referrers,
    "/v2/{name:path}/tags/list": _tags,
    "/v2/{rest:path}": _nothing,
}


def _tagged(layout: Layout) -> dict[str, Digest]:
    return {entry.ref_name: entry.digest for entry in layout.entries() if entry.ref_name}


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if len(name) > _NAME_LIMIT or not _NAME.match(name):
        raise AnswerError(refusal(400, "NAME_INVALID", f"not a repository name: {name[:140]!r}"))
    return name


def _digest(text: str) -> Digest:
    try:
        return parse_digest(text)
    except ValueError as error:
        raise AnswerError(refusal(400, "DIGEST_INVALID", str(error))) from error


def _unknown_manifest(name: str, reference: str) -> Response:
    return refusal(404, "MANIFEST_UNKNOWN", f"no manifest {name}:{reference[:140]} here")
