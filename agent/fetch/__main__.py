"""The fetching child: a job on its standard input, progress and a verdict on its standard output.

Order: the manifest, then room on the disk for all that is missing, then the
card, which says whether this machine can run any of it, then the weights and all
other parts, then the signatures, and only then is the bundle named in the store and
verified. A bundle that is refused is taken out of the store's index again; a
part that rotted at rest is fetched once more, and stays until another takes its
place: without a network, nothing is gained by deleting it.
"""

import shutil
import sys

from agent.children.leash import die_with_the_agent, said
from agent.fetch.job import FetchJob
from agent.fetch.registry import Registry
from agent.wire.reasons import Reason
from models import bundle, card_codec
from models import manifest as oci
from models.errors import CorruptError, ModelError, RefusedError, TransientError
from models.fit import Hardware, Misfits, fit
from models.keys import PublicKey
from models.layout import Layout
from models.limits import (
    BLOB_LIMIT_BYTES,
    CARD_LIMIT_BYTES,
    ENVELOPE_LIMIT_BYTES,
    MANIFEST_LIMIT_BYTES,
)
from models.manifest import Descriptor
from models.values import Digest, parse_digest

_JOB_LIMIT_BYTES = 256 * 1024
_SIGNATURES_LIMIT = 16


def main() -> int:
    """Do the job that is on the standard input; return 0 whenever there is a verdict."""
    die_with_the_agent(int(sys.argv[1]))
    job = FetchJob.from_json(sys.stdin.buffer.read(_JOB_LIMIT_BYTES))
    try:
        fetch(job)
    except ModelError as error:
        said("failed", {"reason": error.reason, "message": str(error)[:250]})
    else:
        said("done", {})
    return 0


def fetch(job: FetchJob) -> None:
    """Bring a bundle into the store and verify it.

    Raises:
        ModelError: with its reason.
    """
    digest = parse_digest(job.digest)
    layout = Layout.create(job.store_path)
    keys = [PublicKey.from_pem(pem) for pem in job.keys]
    _bring(job, layout, digest)
    said("progress", "fetched")
    try:
        _verify(layout, digest, keys)
    except CorruptError:
        _bring(job, layout, digest, rotten=_rotten(layout, digest))
        _verify(layout, digest, keys)


def _verify(layout: Layout, digest: Digest, keys: list[PublicKey]) -> None:
    try:
        bundle.verify(layout, digest, keys)
    except RefusedError:
        layout.forget(digest)
        raise


def _bring(
    job: FetchJob, layout: Layout, digest: Digest, *, rotten: frozenset[Digest] = frozenset()
) -> None:
    registry: Registry | None = None  # what is all here needs no network

    def ask() -> Registry:
        nonlocal registry
        if job.shut:
            raise TransientError(job.shut, "it takes a download, and none is allowed now")
        registry = registry or Registry(job)
        return registry

    raw = (
        layout.read(digest, MANIFEST_LIMIT_BYTES)
        if layout.has_whole(digest)
        else ask().manifest(digest)
    )
    layout.add(raw)
    manifest = oci.parse(raw)
    card, *others = {part.digest: part for part in (manifest.config, *manifest.layers)}.values()
    _check_sizes(manifest)
    missing = [part for part in others if part.digest in rotten or not layout.has(part.digest)]
    lacks_card = not layout.has_whole(card.digest)
    _check_room(job, layout, [card, *missing] if lacks_card else missing)
    if lacks_card:
        ask().blob(layout, card)
    if missing and not rotten and job.hardware is not None:
        _check_fit(job.hardware, layout, card)
    for part in missing:
        ask().blob(layout, part)
    entry = oci.descriptor_of(raw, oci.MANIFEST_TYPE, artifact_type=manifest.artifact_type)
    if entry.digest not in {each.digest for each in layout.entries()}:
        layout.record(entry)
    signed = _of_signatures(layout, digest)
    if not signed or signed & rotten:
        for signature in ask().signatures(digest)[:_SIGNATURES_LIMIT]:
            _bring_signature(ask(), layout, signature, digest, rotten)


def _bring_signature(
    registry: Registry,
    layout: Layout,
    signature: Descriptor,
    subject: Digest,
    rotten: frozenset[Digest],
) -> None:
    raw = registry.manifest(signature.digest)
    manifest = oci.parse(raw)
    if manifest.subject is None or manifest.subject.digest != subject:
        return  # about something else: a registry may say what it likes
    for part in (manifest.config, *manifest.layers):
        if part.size_bytes > ENVELOPE_LIMIT_BYTES:
            raise RefusedError(Reason.TOO_LARGE, f"a signature of {part.size_bytes} bytes")
        if part.digest == oci.descriptor_of(oci.EMPTY, oci.EMPTY_TYPE).digest:
            layout.add(oci.EMPTY)
        elif part.digest in rotten or not layout.has(part.digest):
            registry.blob(layout, part)
    layout.add(raw)
    layout.record(
        oci.descriptor_of(raw, oci.MANIFEST_TYPE, artifact_type=oci.SIGNATURE_ARTIFACT_TYPE)
    )


def _check_sizes(manifest: oci.Manifest) -> None:
    limits = [(manifest.config, CARD_LIMIT_BYTES)]
    limits += [(layer, BLOB_LIMIT_BYTES) for layer in manifest.layers]
    for part, limit in limits:
        if part.size_bytes > limit:
            raise RefusedError(
                Reason.TOO_LARGE, f"a part of {part.size_bytes} bytes; at most {limit}"
            )


def _check_fit(hardware: Hardware, layout: Layout, card: Descriptor) -> None:
    found = fit(card_codec.parse(layout.read(card.digest, CARD_LIMIT_BYTES)), hardware)
    if isinstance(found, Misfits):
        passes = found.reason == Reason.OUT_OF_MEMORY
        raise (TransientError if passes else RefusedError)(found.reason, found.why)


def _check_room(job: FetchJob, layout: Layout, missing: list[Descriptor]) -> None:
    need = sum(
        part.size_bytes - (partial.stat().st_size if partial.exists() else 0)
        for part in missing
        for partial in [layout.ingest_path(part.digest)]
    )
    free = shutil.disk_usage(layout.path).free
    if missing and need + job.reserve_bytes > free:
        raise TransientError(
            Reason.DISK_FULL,
            f"{need} bytes to fetch, {free} free, {job.reserve_bytes} of them kept for others",
        )


def _rotten(layout: Layout, digest: Digest) -> frozenset[Digest]:
    """Return the parts of a bundle and of its signatures that are not what their digests name."""
    parts = [*_parts(layout, digest), *_of_signatures(layout, digest)]
    return frozenset(part for part in parts if not layout.has_whole(part))


def _of_signatures(layout: Layout, digest: Digest) -> frozenset[Digest]:
    """Return the signatures of a manifest that are here, and their parts."""
    return frozenset(
        part
        for signature in layout.referrers(digest)
        for part in (signature.digest, *_parts(layout, signature.digest))
    )


def _parts(layout: Layout, digest: Digest) -> tuple[Digest, ...]:
    manifest = oci.parse(layout.read(digest, MANIFEST_LIMIT_BYTES))
    return tuple(part.digest for part in (manifest.config, *manifest.layers))


if __name__ == "__main__":
    sys.exit(main())
