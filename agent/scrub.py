"""Reading all of a store again, to find what rotted at rest: `python -P -m agent.scrub`.

A flash card forgets bits without a word, and a worker that was started long ago
doesn't notice; its next start does, and so does a way back to the revision
before it. Nothing is changed here: what is found is told, and whoever is told
fetches it again (`agent.fetch`), which puts another copy in its place. Deleting
it would gain nothing, and lose the bytes if it was the reading that failed.

The running agent does it in a child, slowly; somebody at the device in their own command.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.bucket import Bucket
from agent.children.leash import die_with_the_agent, said
from agent.wire.reasons import Reason
from models import manifest as oci
from models.errors import CorruptError, ModelError, RefusedError
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.values import Digest

RATE_BYTES_PER_S = 4 * 1024 * 1024
"""Of the running agent: a tenth of what a slow card reads, and less of one slow core's time."""

_CHUNK_BYTES = 256 * 1024
_JOB_LIMIT_BYTES = 64 * 1024
_TOLD_LIMIT = 1000
"""Blobs told of: a store with more that rotted needs another disk first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a store is like: how much was read, and what of each bundle is gone or another thing.

    `bundles` are by the digest of their manifest. `loose` is what no bundle here needs.
    """

    read_bytes: int
    bundles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loose: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Found":
        """Return what came through the pipe."""
        bundles = {name: tuple(parts) for name, parts in fields["bundles"].items()}
        return cls(read_bytes=fields["read_bytes"], bundles=bundles, loose=tuple(fields["loose"]))


def main() -> int:
    """Do the job that is on the standard input; return 0 whenever there is a verdict."""
    die_with_the_agent(int(sys.argv[1]))
    os.nice(10)
    job = json.loads(sys.stdin.buffer.read(_JOB_LIMIT_BYTES))
    try:
        found = look(Path(job["store"]), wait=_paced(job["rate_bytes_per_s"]))
    except ModelError as error:
        said("failed", {"reason": error.reason, "message": str(error)[:250]})
    except OSError as error:
        said("failed", {"reason": Reason.INTERNAL, "message": str(error)[:250]})
    else:
        said("done", asdict(found))
    return 0


def look(store: Path, *, wait: Callable[[int], None]) -> Found:
    """Read all that is in a store, and say what of it is not what its digest names.

    Args:
        store: where it is.
        wait: is called after each piece with its bytes.

    Raises:
        ModelError: it is no store, or its index can't be read.
        OSError: the disk fails otherwise than by an unreadable blob.
    """
    layout = Layout(store)
    read_bytes = 0

    def counted(size_bytes: int) -> None:
        nonlocal read_bytes
        read_bytes += size_bytes
        wait(size_bytes)

    rotten = {each for each in layout.blobs() if not _whole(layout.blob_path(each), each, counted)}
    hurt = {
        entry.digest: tuple(sorted(_hurt(layout, entry.digest, rotten)))
        for entry in layout.entries()
        if entry.artifact_type == oci.MODEL_ARTIFACT_TYPE
    }
    told = sorted(rotten.difference(*hurt.values()))
    return Found(
        read_bytes=read_bytes,
        bundles={name: parts[:_TOLD_LIMIT] for name, parts in hurt.items() if parts},
        loose=tuple(told[:_TOLD_LIMIT]),
    )


def _hurt(layout: Layout, digest: Digest, rotten: set[Digest]) -> Iterator[Digest]:
    """Yield what of a bundle and its signatures has rotted, or is gone."""
    for part in _with_parts(layout, digest):
        if part in rotten or not layout.has(part):
            yield part
    signatures = layout.referrers(digest)
    for signature in signatures:
        for part in _with_parts(layout, signature.digest):
            if part in rotten or not layout.has(part):
                yield part
    if not signatures:  # one that rotted no longer says whose it is
        for entry in layout.entries():
            if entry.artifact_type == oci.SIGNATURE_ARTIFACT_TYPE and entry.digest in rotten:
                yield entry.digest


def _with_parts(layout: Layout, digest: Digest) -> Iterable[Digest]:
    try:
        manifest = oci.parse(layout.read(digest, MANIFEST_LIMIT_BYTES))
    except (CorruptError, RefusedError):
        return (digest,)
    return (digest, *(part.digest for part in (manifest.config, *manifest.layers)))


def _whole(path: Path, digest: Digest, counted: Callable[[int], None]) -> bool:
    """Say whether a blob is what its digest names, as it is on the disk."""
    hasher = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            # What memory still knows of it is not what is asked; and nobody needs it there after.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
                counted(len(chunk))
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError:
        return True  # it was collected meanwhile
    except OSError:
        return False  # a sector that can't be read: what is written anew gets another
    return f"sha256:{hasher.hexdigest()}" == digest


def _paced(rate_bytes_per_s: float) -> Callable[[int], None]:
    bucket = Bucket(per_s=rate_bytes_per_s, burst=_CHUNK_BYTES)

    def wait(size_bytes: int) -> None:
        now_s = time.monotonic()  # noqa: TID251  # a child of its own has no loop
        bucket.take(now_s, size_bytes)
        time.sleep(bucket.wait_s(now_s, 0))  # noqa: TID251  # as above

    return wait


if __name__ == "__main__":
    sys.exit(main())
