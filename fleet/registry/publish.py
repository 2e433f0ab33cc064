"""Publishing a bundle: its blobs by digest, then one request that verifies and records it.

The flow a client follows (all with the operator token, over the API's listener):

1. For each blob of the bundle — every layer, the config (the card), the bundle
   manifest, then each signature manifest with its config and its layers:

       PUT /api/v1/blobs/sha256:<hex>        body: the blob's bytes, Content-Length set
       201 it was stored · 200 it was here already (the body is not needed:
       ask before with HEAD /api/v1/blobs/sha256:<hex>, 200 or 404)

   In any order, as often as wanted; a blob is visible only whole and verified.

2.     POST /api/v1/bundles                  {"digest": "<bundle manifest>",
                                              "signatures": ["<signature manifest>", …]}
       201 {"ref": "digits:1.0.0", "digest": "sha256:…", "signatures": ["sha256:…"]}

   `signatures` may be left out when they are recorded already. Repeating the
   request is harmless and answers 201 again.

Refusals carry the error body of the distribution specification, whose `code` is
a reason code of ours: {"errors": [{"code": "SIGNATURE_INVALID", "message": "…"}]}

    400 a digest or body that can't be read · 401 no token · 408 the body stalled
    409 VERSION_TAKEN: the name and version stand for another digest
    411 no Content-Length · 413 TOO_LARGE · 422 DIGEST_MISMATCH, BUNDLE_INCOMPLETE,
    SIGNATURE_MISSING, SIGNATURE_INVALID, … (what `models.bundle` refuses)
    507 DISK_FULL; nothing of the upload stays

Nothing is recorded that is not signed by a bundle key of this fleet: before step
2 succeeds no tag leads to the bundle, and uploaded blobs that no bundle names
are garbage.
"""

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Sequence
from typing import BinaryIO
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from fleet.ports import Bundles, RefTakenError
from fleet.registry.answers import AnswerError, Authorise, refusal, unauthorised
from models import bundle as bundles_of
from models import manifest as oci
from models.errors import ModelError, TransientError
from models.keys import PublicKey
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES, MANIFEST_LIMIT_BYTES
from models.values import Digest, parse_digest

_BODY_LIMIT_BYTES = 16 * 1024
_SIGNATURES_LIMIT = 32
RESERVE_BYTES = 64 * 1024 * 1024
"""Room that uploads leave: the store's database shares the disk and must be able to write."""


class PublishRequest(BaseModel):
    """Which manifest is the bundle's, and which ones sign it."""

    model_config = ConfigDict(extra="ignore")

    digest: str
    signatures: list[str] = Field(default=[], max_length=_SIGNATURES_LIMIT)


class PublishAnswer(BaseModel):
    """What is recorded now."""

    ref: str
    digest: str
    signatures: list[str]


def publish_router(
    layout: Layout,
    authorise: Authorise,
    *,
    keys: Sequence[PublicKey],
    bundles: Bundles,
    stall_limit_s: float = 30.0,
) -> APIRouter:
    """Return the routes `/api/v1/blobs/{digest}` and `/api/v1/bundles`.

    `authorise` says who publishes (operators only); `keys` are the bundle keys
    of this fleet; `bundles` learns of every bundle recorded. A body that brings
    nothing for `stall_limit_s` is given up.
    """
    publishing = _Publishing(layout, authorise, keys, bundles, stall_limit_s)
    router = APIRouter(tags=["registry"])
    router.add_api_route(
        "/api/v1/blobs/{digest}",
        publishing.head_blob,
        methods=["HEAD"],
        operation_id="findBlob",
        summary="Is this blob here?",
        response_class=Response,
    )
    router.add_api_route(
        "/api/v1/blobs/{digest}",
        publishing.put_blob,
        methods=["PUT"],
        status_code=201,
        operation_id="putBlob",
        summary="Upload one blob of a bundle",
        response_class=Response,
        openapi_extra={"requestBody": {"required": True, "content": _OCTETS}},
    )
    router.add_api_route(
        "/api/v1/bundles",
        publishing.post_bundle,
        methods=["POST"],
        status_code=201,
        operation_id="publishBundle",
        summary="Verify an uploaded bundle and record it",
        response_model=PublishAnswer,
        openapi_extra={"requestBody": {"required": True, "content": _REQUEST}},
    )
    return router


_OCTETS = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_REQUEST = {"application/json": {"schema": PublishRequest.model_json_schema()}}


class _Publishing:
    """The endpoints. Bodies are read by hand: each has a byte limit and a deadline."""

    def __init__(
        self,
        layout: Layout,
        authorise: Authorise,
        keys: Sequence[PublicKey],
        bundles: Bundles,
        stall_limit_s: float,
    ) -> None:
        self._layout = layout
        self._authorise = authorise
        self._keys = keys
        self._bundles = bundles
        self._stall_limit_s = stall_limit_s
        # One at a time: from its first entry in the index to the verdict, a bundle is alone.
        self._recording = asyncio.Lock()

    async def head_blob(self, request: Request, digest: str) -> Response:
        """Say whether a blob is here, whole, so that it needn't be sent; one that rotted must."""
        if await self._authorise(request) is None:
            return unauthorised()
        try:
            there = await asyncio.to_thread(self._layout.has_whole, _digest(digest))
        except AnswerError as error:
            return error.answer
        return Response(status_code=200 if there else 404)

    async def put_blob(self, request: Request, digest: str) -> Response:
        """Keep one blob, if it is what its digest names."""
        if await self._authorise(request) is None:
            return unauthorised()
        try:
            return await _ingest(self._layout, _digest(digest), request, self._stall_limit_s)
        except AnswerError as error:
            return error.answer

    async def post_bundle(self, request: Request) -> Response:
        """Verify a bundle whose blobs are here, and name it in the index."""
        who = await self._authorise(request)
        if who is None:
            return unauthorised()
        try:
            wanted = await _read_request(request, self._stall_limit_s)
            digest = _digest(wanted.digest)
            signatures = [_digest(text) for text in wanted.signatures]
            async with self._recording:
                answer = await self._record(digest, signatures, who)
        except AnswerError as error:
            return error.answer
        except RefTakenError as error:
            return refusal(409, "VERSION_TAKEN", str(error))
        except TransientError as error:
            return refusal(507, error.reason, str(error))
        except ModelError as error:
            return refusal(422, error.reason, str(error))
        return JSONResponse(answer.model_dump(), 201)

    async def _record(
        self, digest: Digest, signatures: Sequence[Digest], who: str
    ) -> PublishAnswer:
        added: list[Digest] = []
        try:
            await asyncio.to_thread(_add_signatures, self._layout, digest, signatures, added)
            bundle = await asyncio.to_thread(_verified, self._layout, digest, self._keys)
            await self._bundles.admit(bundle, by=who)
            recorded = await asyncio.to_thread(_name, self._layout, bundle)
        except BaseException:
            for signature in added:
                await asyncio.to_thread(self._layout.forget, signature)
            raise
        return PublishAnswer(ref=str(bundle.ref), digest=digest, signatures=list(recorded))


async def _ingest(
    layout: Layout, digest: Digest, request: Request, stall_limit_s: float
) -> Response:
    size_bytes = _announced(request)
    if await asyncio.to_thread(layout.has_whole, digest):
        return Response(status_code=200)
    free_bytes = (await asyncio.to_thread(shutil.disk_usage, layout.path)).free
    if free_bytes - size_bytes < RESERVE_BYTES:
        raise AnswerError(_disk_full(f"{size_bytes} bytes don't fit"))
    # Its own file for each upload: two of the same blob don't write into each other.
    whole = await asyncio.to_thread(layout.ingest_path, digest)
    partial = whole.with_name(f"{whole.name}.{uuid4().hex}")
    try:
        with partial.open("xb") as file:
            await _receive(request, file, size_bytes, stall_limit_s)
        await asyncio.to_thread(layout.adopt, digest, partial)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise AnswerError(_disk_full("the disk is full")) from error
    except TransientError as error:
        raise AnswerError(_disk_full(str(error))) from error
    except ModelError as error:
        raise AnswerError(refusal(422, error.reason, str(error))) from error
    finally:
        partial.unlink(missing_ok=True)
    return Response(status_code=201)


async def _receive(request: Request, file: BinaryIO, size_bytes: int, stall_limit_s: float) -> None:
    async for chunk in _chunks(request, limit_bytes=size_bytes, stall_limit_s=stall_limit_s):
        await asyncio.to_thread(file.write, chunk)
    await asyncio.to_thread(file.flush)


async def _chunks(
    request: Request, *, limit_bytes: int, stall_limit_s: float
) -> AsyncIterator[bytes]:
    """Yield the body; it may not exceed `limit_bytes`, stall, or break off."""
    stream = aiter(request.stream())
    seen_bytes = 0
    while True:
        try:
            async with asyncio.timeout(stall_limit_s):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise AnswerError(
                refusal(408, "TIMED_OUT", f"nothing came for {stall_limit_s} s")
            ) from error
        except ClientDisconnect as error:
            raise AnswerError(refusal(400, "MALFORMED", "the body broke off")) from error
        if chunk is None:
            return
        seen_bytes += len(chunk)
        if seen_bytes > limit_bytes:
            raise AnswerError(_too_large(limit_bytes))
        yield chunk


async def _read_request(request: Request, stall_limit_s: float) -> PublishRequest:
    raw = b"".join(
        [
            chunk
            async for chunk in _chunks(
                request, limit_bytes=_BODY_LIMIT_BYTES, stall_limit_s=stall_limit_s
            )
        ]
    )
    try:
        return PublishRequest.model_validate_json(raw)
    except ValidationError as error:
        message = 'expected {"digest": "sha256:…", "signatures": ["sha256:…"]}'
        raise AnswerError(refusal(400, "MALFORMED", message)) from error


def _add_signatures(
    layout: Layout, digest: Digest, signatures: Sequence[Digest], added: list[Digest]
) -> None:
    """Put signatures that aren't in the index yet into it, and into `added` one by one."""
    before = {entry.digest for entry in layout.entries()}
    for signature in signatures:
        if signature not in before:
            layout.record(_signature(layout, signature, digest))
            added.append(signature)


def _verified(layout: Layout, digest: Digest, keys: Sequence[PublicKey]) -> bundles_of.Bundle:
    bundle = bundles_of.verify(layout, digest, keys)
    for entry in layout.entries():
        if entry.ref_name == str(bundle.ref) and entry.digest != digest:
            raise RefTakenError(f"{bundle.ref} is {entry.digest} already; give it a new version")
    return bundle


def _signature(layout: Layout, signature: Digest, subject: Digest) -> oci.Descriptor:
    raw = layout.read(signature, MANIFEST_LIMIT_BYTES)
    manifest = oci.parse(raw)
    if (
        manifest.artifact_type != oci.SIGNATURE_ARTIFACT_TYPE
        or manifest.subject is None
        or manifest.subject.digest != subject
    ):
        raise AnswerError(
            refusal(422, "SIGNATURE_INVALID", f"{signature} is not a signature of {subject}")
        )
    return oci.descriptor_of(raw, oci.MANIFEST_TYPE, artifact_type=oci.SIGNATURE_ARTIFACT_TYPE)


def _name(layout: Layout, bundle: bundles_of.Bundle) -> tuple[Digest, ...]:
    """Name the bundle in the index, so that a tag leads to it; return its signatures."""
    layout.record(
        oci.Descriptor(
            media_type=oci.MANIFEST_TYPE,
            digest=bundle.digest,
            size_bytes=layout.size_bytes(bundle.digest),
            annotations={oci.REF_NAME: str(bundle.ref)},
            artifact_type=oci.MODEL_ARTIFACT_TYPE,
        )
    )
    return tuple(entry.digest for entry in layout.referrers(bundle.digest))


def _announced(request: Request) -> int:
    text = request.headers.get("content-length", "")
    if not (text.isascii() and text.isdigit()):
        raise AnswerError(refusal(411, "MALFORMED", "a blob comes with its Content-Length"))
    # Its digits are counted first: int() of a huge number is slow.
    if len(text) > len(str(BLOB_LIMIT_BYTES)) or int(text) > BLOB_LIMIT_BYTES:
        raise AnswerError(_too_large(BLOB_LIMIT_BYTES))
    return int(text)


def _digest(text: str) -> Digest:
    try:
        return parse_digest(text)
    except ValueError as error:
        raise AnswerError(refusal(400, "MALFORMED", str(error))) from error


def _too_large(limit_bytes: int) -> Response:
    return refusal(413, "TOO_LARGE", f"at most {limit_bytes} bytes")


def _disk_full(why: str) -> Response:
    return refusal(507, "DISK_FULL", f"the registry has no room: {why}")
