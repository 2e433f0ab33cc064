"""`apply`: what a stick brings, as if it had come from the centre. Blocking; a command of its own.

A stick is an OCI image layout with the bundles and their signatures, and in
`desired/` a signed document for each device it is for. Nothing on it is believed:
the document is judged as one that arrives by MQTT is (`agent.admission`), and
judged again by the agent, which alone decides what it obeys; each bundle must be
signed and whole before one of its bytes is copied. Bundles come first and the
document last, so that whatever is cut off in between changes nothing.
"""

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.admission import UnwantedError, judge
from agent.errors import PersonError
from agent.home import Home
from agent.identity import Identity, load
from agent.perform.supply import expected
from agent.technician import done, held_desired, in_words
from agent.wire import v1
from agent.wire.codec import WireError
from agent.wire.limits import DOCUMENT_LIMIT_BYTES
from agent.wire.order import Held
from agent.wire.reasons import Reason
from agent.wire.stick import document_path
from models import bundle, durable
from models import manifest as oci
from models.dsse import DESIRED_PAYLOAD_TYPE
from models.errors import ModelError
from models.keys import PublicKey, admit
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.values import Digest, parse_digest, short

_RESERVE_BYTES = 32 * 1024 * 1024
_SIGNATURES_LIMIT = 16
_WHAT = "nothing on the stick was applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of a stick.

    `new`: the device did not hold this document before. `brought` are the bundles that were
    copied, and `known` says whether a running agent has taken the document (False: none runs).
    """

    order: str
    new: bool
    brought: tuple[str, ...]
    known: bool


def apply(home: Home, stick: Path) -> Applied:
    """Take in what a stick has for this device.

    Raises:
        PersonError: why nothing was applied; what the device holds and serves is as it was.
    """
    identity = load(home)
    with in_words(home, _WHAT), _judged():
        envelope = _read(stick / document_path(identity.answer.device))
        desired, new, newer = _judge(home, identity, envelope)
        source = Layout(stick)
        keys = [PublicKey.from_pem(pem) for pem in identity.keys("bundle")]
        wanted = sorted({parse_digest(each.bundle.digest) for each in desired.deployments})
        store = Layout.create(home.store)
        _expect(home, wanted)  # from here on a running agent collects none of them
        try:
            absent = [digest for digest in wanted if not _is_whole(store, digest, keys)]
            missing = [_verified(source, digest, keys) for digest in absent]
            _bring(home, source, store, missing)
        except BaseException:
            home.expected.unlink(missing_ok=True)
            raise
        durable.write(home.applied, envelope)
        known = done(home, lambda: not home.applied.exists())
        if known and held_desired(home.ledger) != _row(new):
            raise UnwantedError(Reason.STALE_GENERATION, "the agent holds another one by now")
    brought = tuple(str(each.ref) for each in missing)
    return Applied(order=str(desired.order), new=newer, brought=brought, known=known)


def _judge(home: Home, identity: Identity, envelope: bytes) -> tuple[v1.Desired, Held, bool]:
    keys = [PublicKey.from_pem(pem) for pem in identity.keys("desired")]
    payload, _ = admit(envelope, DESIRED_PAYLOAD_TYPE, keys, limit_bytes=DOCUMENT_LIMIT_BYTES)
    row = held_desired(home.ledger)
    held = None
    if row is not None:
        epoch, generation, digest = row
        held = Held(order=v1.Order(epoch=epoch, generation=generation), payload_digest=digest)
    answer = identity.answer
    return judge(payload, held, fleet=answer.fleet, device=answer.device)


def _row(held: Held) -> tuple[int, int, str]:
    return held.order.epoch, held.order.generation, held.payload_digest


def _verified(source: Layout, digest: Digest, keys: Sequence[PublicKey]) -> bundle.Bundle:
    if not source.has(digest):
        raise UnwantedError(
            Reason.BUNDLE_INCOMPLETE, f"bundle {short(digest)} is neither on the stick nor here"
        )
    return bundle.verify(source, digest, keys)


def _is_whole(store: Layout, digest: Digest, keys: Sequence[PublicKey]) -> bool:
    try:
        bundle.verify(store, digest, keys)
    except ModelError:
        return False
    return True


def _bring(home: Home, source: Layout, store: Layout, bundles: Sequence[bundle.Bundle]) -> None:
    """Copy bundles that were verified, with their signatures, and name them in the store."""
    plans = [(each, _signatures(source, each.digest)) for each in bundles]
    parts: dict[Digest, int] = {}
    for each, signatures in plans:
        for manifest in (each.manifest, *(found for _, found in signatures)):
            parts |= {part.digest: part.size_bytes for part in (manifest.config, *manifest.layers)}
    manifests = [
        (digest, kind)
        for each, signatures in plans
        for digest, kind in (
            (each.digest, oci.MODEL_ARTIFACT_TYPE),
            *((signature, oci.SIGNATURE_ARTIFACT_TYPE) for signature, _ in signatures),
        )
    ]
    need = sum(size for digest, size in parts.items() if not store.has(digest))
    free = shutil.disk_usage(home.path).free
    if bundles and need + _RESERVE_BYTES > free:
        raise UnwantedError(
            Reason.DISK_FULL, f"{need} bytes to copy, {free} free, {_RESERVE_BYTES} of them kept"
        )
    _expect(home, [*parts, *(digest for digest, _ in manifests)])
    for digest in parts:
        store.add_file(source.blob_path(digest), digest)
    for digest, kind in manifests:
        raw = source.read(digest, MANIFEST_LIMIT_BYTES)
        store.add(raw)
        store.record(oci.descriptor_of(raw, oci.MANIFEST_TYPE, artifact_type=kind))


def _expect(home: Home, digests: Iterable[Digest]) -> None:
    durable.write(home.expected, json.dumps(sorted({*expected(home.expected), *digests})).encode())


def _signatures(source: Layout, digest: Digest) -> list[tuple[Digest, oci.Manifest]]:
    found = []
    for entry in source.referrers(digest)[:_SIGNATURES_LIMIT]:
        manifest = oci.parse(source.read(entry.digest, MANIFEST_LIMIT_BYTES))
        if manifest.artifact_type == oci.SIGNATURE_ARTIFACT_TYPE:
            found.append((entry.digest, manifest))
    return found


def _read(path: Path) -> bytes:
    """Return a file's content; a pipe or a device in its place hangs nobody."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnwantedError(Reason.MALFORMED, f"{path} is not a regular file")
        return file.read(DOCUMENT_LIMIT_BYTES + 1)


_HINTS: dict[str, str] = {
    Reason.CONFLICTING_GENERATION: "ask who runs the centre: two of them sign for this device",
    Reason.DISK_FULL: "free some room on the disk, and apply it again",
}
_EXPORT_AGAIN = "export it again, for this device, at the centre: skerry device export"


@contextmanager
def _judged() -> Iterator[None]:
    """Say to a person what was wrong with a stick.

    Raises:
        PersonError: always instead of what was wrong.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PersonError(
            _WHAT,
            Reason.NOT_FOUND,
            f"there is no {error.filename}",
            "name the folder that `skerry device export` wrote, with this device in it",
            code=3,
        ) from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise  # of the device's own disk
        why = f"{error.filename or 'the stick, or this disk'}: {error.strerror}"
        hint = "export it to another stick; if that fails alike, it is the device's disk"
        raise PersonError(_WHAT, Reason.MALFORMED, why, hint, code=7) from error
    except (UnwantedError, WireError, ModelError) as error:
        hint = _HINTS.get(error.reason, _EXPORT_AGAIN)
        raise PersonError(_WHAT, error.reason, str(error)[:250], hint, code=7) from error
