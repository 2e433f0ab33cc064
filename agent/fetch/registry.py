"""An OCI registry as the device reads it: manifests whole, blobs resumed. Blocking; in the child.

A blob goes on where it stopped only when the answer is a 206 for exactly the
bytes asked for, of exactly the size promised, with the ETag it had before; any
other answer starts it over. As long as each connection brings something the
next is tried at once; one that brings nothing ends it for now.
"""

import errno
import fcntl
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import urllib3
from urllib3.exceptions import HTTPError

from agent.bucket import Bucket
from agent.fetch.job import Credentials, FetchJob
from agent.fetch.tls import client_context
from agent.wire.reasons import Reason
from models import durable
from models.errors import CorruptError, ModelError, RefusedError, TransientError
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.manifest import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    SIGNATURE_ARTIFACT_TYPE,
    Descriptor,
    parse_index,
)
from models.values import Digest, digest_of, short

_CONNECT_LIMIT_S = 10.0
_CHUNK_BYTES = 64 * 1024
_ERROR_LIMIT_BYTES = 8 * 1024
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LOOPBACK = ("http://127.0.0.1", "http://[::1]", "http://localhost")


class Registry:
    """One registry, asked for one repository."""

    def __init__(self, job: FetchJob) -> None:
        """Prepare the connection; nothing is sent yet.

        Raises:
            RefusedError: `REGISTRY_REFUSED`: plain http to another machine, or no identity.
        """
        self._job = job
        self._base = f"{job.registry_url.rstrip('/')}/v2/{job.name}"
        if not job.registry_url.startswith(("https://", *_LOOPBACK)):
            raise RefusedError(
                Reason.REGISTRY_REFUSED, f"{job.registry_url[:120]} is neither https nor loopback"
            )
        # So small that at the least rate the next is there after a second.
        self._chunk_bytes = min(_CHUNK_BYTES, job.rate_bytes_per_s or _CHUNK_BYTES)
        self._bucket = (
            Bucket(per_s=job.rate_bytes_per_s, burst=self._chunk_bytes)
            if job.rate_bytes_per_s
            else None
        )
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_LIMIT_S, read=job.stall_s),
            retries=urllib3.Retry(0, redirect=3),
            ssl_context=_context(job.credentials) if job.registry_url.startswith("https") else None,
        )

    def manifest(self, digest: Digest) -> bytes:
        """Return a manifest's bytes, which are what the digest names.

        Raises:
            TransientError: `REGISTRY_…`, `NOT_FOUND`, `DIGEST_MISMATCH`.
            RefusedError: `TOO_LARGE`.
        """
        raw = self._small(f"/manifests/{digest}", MANIFEST_TYPE)
        if digest_of(raw) != digest:
            raise TransientError(
                Reason.DIGEST_MISMATCH, f"the registry sent something else for {short(digest)}"
            )
        return raw

    def signatures(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the signatures the registry knows of a manifest, by its API or an older tag.

        Raises:
            TransientError: `REGISTRY_…`.
            RefusedError: `BUNDLE_MALFORMED`, `TOO_LARGE`.
        """
        try:
            raw = self._small(f"/referrers/{digest}", INDEX_TYPE)
        except TransientError as error:
            if error.reason != Reason.NOT_FOUND:
                raise
            try:
                raw = self._small(f"/manifests/{digest.replace(':', '-')}", INDEX_TYPE)
            except TransientError as missing:
                if missing.reason != Reason.NOT_FOUND:
                    raise
                return ()
        return tuple(
            each for each in parse_index(raw) if each.artifact_type == SIGNATURE_ARTIFACT_TYPE
        )

    def blob(self, layout: Layout, part: Descriptor) -> None:
        """Bring one blob into the layout.

        Raises:
            TransientError: `REGISTRY_…`, `NOT_FOUND`, `TIMED_OUT`, `DISK_FULL` (nothing is left).
            CorruptError: `DIGEST_MISMATCH`, `SIZE_MISMATCH`: not what was promised; deleted.
        """
        partial = layout.ingest_path(part.digest)
        with partial.open("ab") as file:
            _alone(file, part)
            try:
                while (have := _size(file)) < part.size_bytes:
                    self._piece(file, partial, part, have)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                partial.unlink(missing_ok=True)
                raise TransientError(
                    Reason.DISK_FULL, f"no room on the disk for {short(part.digest)}"
                ) from error
            except CorruptError:
                partial.unlink(missing_ok=True)
                raise
            _etag_path(partial).unlink(missing_ok=True)  # it is whole, and asked for no more
            layout.adopt(part.digest, partial)

    def _piece(self, file: IO[bytes], partial: Path, part: Descriptor, have: int) -> None:
        """Append what one connection brings.

        Raises:
            TransientError: it brought nothing.
        """
        if have > part.size_bytes:
            file.truncate(have := 0)
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._answer(f"/blobs/{part.digest}", headers) as answer:
            etag = answer.headers.get("ETag", "")
            if answer.status == 206 and not _continues(answer, partial, part, have):  # noqa: PLR2004  # Partial Content
                file.truncate(0)
                _etag_path(partial).unlink(missing_ok=True)
                return
            if answer.status == 200:  # noqa: PLR2004  # OK: all of it, from the start
                file.truncate(have := 0)
                durable.write(_etag_path(partial), etag.encode())
            brought = 0
            try:
                for chunk in self._stream(answer):
                    brought += len(chunk)
                    if have + brought > part.size_bytes:
                        raise CorruptError(
                            Reason.SIZE_MISMATCH,
                            f"more than {part.size_bytes} bytes come for {short(part.digest)}",
                        )
                    file.write(chunk)
            except HTTPError as error:
                if not brought:
                    raise TransientError(
                        Reason.REGISTRY_UNREACHABLE, f"the registry breaks off: {error}"[:250]
                    ) from error
            file.flush()
        if not brought:
            raise TransientError(Reason.REGISTRY_UNREACHABLE, "the registry sent nothing")

    def _stream(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """Yield what comes, as long as it comes fast enough, and no faster than it may.

        Raises:
            TransientError: `TIMED_OUT`.
        """
        now = time.monotonic  # noqa: TID251  # a child of its own has no loop
        since, bytes_since = now(), 0
        for chunk in answer.stream(self._chunk_bytes, decode_content=False):
            yield chunk
            bytes_since += len(chunk)
            if self._bucket is not None:
                self._bucket.take(now(), len(chunk))
                time.sleep(self._bucket.wait_s(now(), 0))  # noqa: TID251  # as above
            if now() - since >= self._job.stall_s:
                if bytes_since < self._job.stall_bytes:
                    raise TransientError(
                        Reason.TIMED_OUT,
                        f"the registry sent {bytes_since} bytes in {self._job.stall_s:g} s",
                    )
                since, bytes_since = now(), 0

    def _small(self, path: str, accept: str) -> bytes:
        with self._answer(path, {"Accept": accept}) as answer:
            try:
                raw = answer.read(MANIFEST_LIMIT_BYTES + 1, decode_content=False)
            except HTTPError as error:
                raise TransientError(
                    Reason.REGISTRY_UNREACHABLE, f"the registry breaks off: {error}"[:250]
                ) from error
        if len(raw) > MANIFEST_LIMIT_BYTES:
            raise RefusedError(Reason.TOO_LARGE, f"a manifest of over {MANIFEST_LIMIT_BYTES} bytes")
        return raw

    @contextmanager
    def _answer(self, path: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        try:
            answer = self._pool.request(
                "GET",
                self._base + path,
                headers={"Accept-Encoding": "identity", **headers},
                preload_content=False,
            )
        except (HTTPError, OSError) as error:
            raise TransientError(
                Reason.REGISTRY_UNREACHABLE, f"{self._job.registry_url}: {error}"[:250]
            ) from error
        try:
            if answer.status not in {200, 206}:
                raise _refusal(answer, path)
            yield answer
        finally:
            answer.close()


def _refusal(answer: urllib3.BaseHTTPResponse, path: str) -> ModelError:
    told = f"the registry answers {answer.status} to {path[:100]}"
    if answer.status == 404:  # noqa: PLR2004  # Not Found
        return TransientError(Reason.NOT_FOUND, told)
    if answer.status in {401, 403}:
        return TransientError(Reason.REGISTRY_REFUSED, told)
    if _code(answer) == Reason.DIGEST_MISMATCH:  # a registry that looked before it sent
        return TransientError(Reason.DIGEST_MISMATCH, f"{told}: what it holds has changed")
    return TransientError(Reason.REGISTRY_UNREACHABLE, told)


def _code(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the code in a registry's error body; empty where there is none."""
    try:
        return str(json.loads(answer.read(_ERROR_LIMIT_BYTES))["errors"][0]["code"])
    except (HTTPError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _continues(
    answer: urllib3.BaseHTTPResponse, partial: Path, part: Descriptor, have: int
) -> bool:
    """Tell whether a 206 goes on exactly where we stopped, with the same content."""
    found = _RANGE.match(answer.headers.get("Content-Range", ""))
    wanted = (have, part.size_bytes - 1, part.size_bytes)
    if found is None or tuple(map(int, found.groups())) != wanted:
        return False
    try:
        before = _etag_path(partial).read_text()
    except FileNotFoundError:
        return False
    return answer.headers.get("ETag", "") == before


def _etag_path(partial: Path) -> Path:
    return partial.with_suffix(".etag")


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)


def _alone(file: IO[bytes], part: Descriptor) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TransientError(
            Reason.INTERRUPTED, f"another deployment is fetching {short(part.digest)}"
        ) from error


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        return client_context(credentials)
    except OSError as error:
        raise RefusedError(
            Reason.REGISTRY_REFUSED, f"the device's own identity can't be read: {error}"
        ) from error
