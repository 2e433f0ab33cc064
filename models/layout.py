"""An OCI image layout: a directory of blobs named by their digest, and an index. Blocking.

One format for what `pack` writes, what a USB stick carries, what an agent keeps
and what the centre's registry serves (OCI image specification 1.1, image
layout). Promises:

- What is under a digest's name is what the digest names; `read` hashes again.
- Whatever is cut off in the middle, the index names only manifests that were there first.
- Processes and threads may share a directory: index changes wait for each
  other, and `collect` waits for writers.

Entries are named `name:version`, so `skopeo inspect --raw oci:DIR:name:version` finds them.
"""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from models import durable, manifest
from models.errors import CorruptError, ModelError, RefusedError, TransientError
from models.limits import BLOB_LIMIT_BYTES, INDEX_LIMIT_BYTES, MANIFEST_LIMIT_BYTES
from models.manifest import Descriptor
from models.strict_json import load
from models.values import Digest, digest_of, parse_digest, short

_MARKER = "oci-layout"
_MARKER_LIMIT_BYTES = 1024
_CHUNK_BYTES = 1024 * 1024
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Layout:
    """One layout directory, opened."""

    def __init__(self, path: Path) -> None:
        """Open a layout.

        Raises:
            RefusedError: `NOT_FOUND`: nothing is there. `BUNDLE_MALFORMED`: it is no layout.
        """
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._ingest = path / "ingest"
        self._subjects: dict[Digest, Digest | None] = {}  # of manifests; their bytes never change
        if not path.exists():
            raise RefusedError("NOT_FOUND", f"there is nothing at {path}")
        try:
            raw = _read_file(path / _MARKER, _MARKER_LIMIT_BYTES)
        except (OSError, ModelError) as error:
            raise RefusedError(
                "BUNDLE_MALFORMED", f"{path} is no OCI image layout: it has no readable '{_MARKER}'"
            ) from error
        fields = load(
            raw,
            what=str(path / _MARKER),
            reason="BUNDLE_MALFORMED",
            limit_bytes=_MARKER_LIMIT_BYTES,
        )
        if not fields.text("imageLayoutVersion").startswith("1."):
            raise fields.wrong("'imageLayoutVersion' is not 1.x")

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open the layout at `path`, made first where there is none.

        Raises:
            RefusedError: `BUNDLE_MALFORMED`: something else is there.
            TransientError: `DISK_FULL`.
        """
        with _disk(f"making {path}"):
            if path.exists() and not path.is_dir():
                raise RefusedError("BUNDLE_MALFORMED", f"{path} is not a directory")
            durable.make_directory(path)
            if not (path / _MARKER).exists():
                # Left over by a process killed right here, and no more: safe to go on.
                strangers = [
                    entry.name
                    for entry in path.iterdir()
                    if not entry.name.startswith(f".{_MARKER}.")
                ]
                if strangers:
                    raise RefusedError(
                        "BUNDLE_MALFORMED",
                        f"{path} has other files in it ({strangers[0]!r}, …); give a new directory",
                    )
                durable.write(path / _MARKER, b'{"imageLayoutVersion":"1.0.0"}')
            layout = cls(path)  # before anything is written into one of another version
            if not (path / "index.json").exists():
                durable.write(path / "index.json", manifest.render_index(()))
            durable.make_directory(layout._blobs)
        return layout

    # Blobs

    def blob_path(self, digest: Digest) -> Path:
        """Return where a blob is, or would be."""
        return self._blobs / _hex(digest)

    def blobs(self) -> Iterator[Digest]:
        """Yield what is there, in no order: what each is called, not what is in it."""
        for path in self._blobs.iterdir():
            with suppress(ValueError):  # left by a killed writer
                yield parse_digest(f"sha256:{path.name}")

    def has(self, digest: Digest) -> bool:
        """Say whether a blob is there. It was verified when it came; `read` looks again."""
        return self.blob_path(digest).is_file()

    def has_whole(self, digest: Digest) -> bool:
        """Say whether a blob is there and still what its digest names: all of it is read."""
        try:
            for _ in _verified(self.blob_path(digest), digest):
                pass
        except (FileNotFoundError, CorruptError):
            return False
        return True

    def size_bytes(self, digest: Digest) -> int:
        """Return a blob's size.

        Raises:
            RefusedError: `NOT_FOUND`.
        """
        try:
            return self.blob_path(digest).stat().st_size
        except FileNotFoundError as error:
            raise self._not_found(digest) from error

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        """Return a blob's content, which is what its digest names.

        Raises:
            RefusedError: `NOT_FOUND` or `TOO_LARGE`.
            CorruptError: `DIGEST_MISMATCH`: the file is there and is something else.
        """
        try:
            content = _read_file(self.blob_path(digest), limit_bytes)
        except FileNotFoundError as error:
            raise self._not_found(digest) from error
        if digest_of(content) != digest:
            raise CorruptError(
                "DIGEST_MISMATCH",
                f"{short(digest)} in {self.path} has become something else; fetch it again",
            )
        return content

    def add(self, content: bytes) -> Digest:
        """Keep `content` durably, and return its digest. Adding it twice changes nothing.

        Raises:
            TransientError: `DISK_FULL`; nothing was kept.
        """
        digest = digest_of(content)
        with self._writing(digest):
            # Written again where it is there already: that heals a blob which rotted.
            durable.write(self.blob_path(digest), content)
        return digest

    def add_file(self, source: Path, digest: Digest) -> None:
        """Keep the content of a file durably, which must be what `digest` names.

        Raises:
            CorruptError: `DIGEST_MISMATCH`; nothing was kept.
            TransientError: `DISK_FULL`; nothing was kept.
        """
        with self._writing(digest):
            durable.write(self.blob_path(digest), _verified(source, digest))

    # Blobs that arrive piece by piece

    def ingest_path(self, digest: Digest) -> Path:
        """Return where a partial download of a blob is kept until `adopt`; its directory exists."""
        durable.make_directory(self._ingest)
        return self._ingest / f"{_hex(digest)}.part"

    def adopt(self, digest: Digest, partial: Path) -> None:
        """Make a finished download a blob, durably, if it is what `digest` names; else delete it.

        Raises:
            RefusedError: `NOT_FOUND`: there is no such partial file.
            CorruptError: `DIGEST_MISMATCH`; the partial file is deleted.
            TransientError: `DISK_FULL`; the partial file stays.
        """
        with self._writing(digest):
            try:
                for _ in _verified(partial, digest):
                    pass
            except FileNotFoundError as error:
                raise RefusedError("NOT_FOUND", f"there is no download at {partial}") from error
            except CorruptError:
                partial.unlink(missing_ok=True)
                raise
            durable.adopt(partial, self.blob_path(digest))

    # The index

    def entries(self) -> tuple[Descriptor, ...]:
        """Return what the index names.

        Raises:
            RefusedError: `BUNDLE_MALFORMED` or `TOO_LARGE`: the index can't be read.
        """
        try:
            return manifest.parse_index(_read_file(self.path / "index.json", INDEX_LIMIT_BYTES))
        except FileNotFoundError as error:
            raise RefusedError("BUNDLE_MALFORMED", f"{self.path} has no index.json") from error

    def record(self, descriptor: Descriptor) -> None:
        """Name a manifest in the index, in place of one of the same digest or of the same name.

        Raises:
            RefusedError: `NOT_FOUND`: its blob isn't there. `TOO_LARGE`: the index is full.
            TransientError: `DISK_FULL`; the index is as it was.
        """
        if not self.has(descriptor.digest):
            raise self._not_found(descriptor.digest)
        with self._changing_index():
            kept = [
                entry
                for entry in self.entries()
                if entry.digest != descriptor.digest
                and (entry.ref_name is None or entry.ref_name != descriptor.ref_name)
            ]
            self._write_index([*kept, descriptor])

    def forget(self, digest: Digest) -> None:
        """Take a manifest and its referrers (signatures) out of the index; `collect` then deletes.

        Raises:
            TransientError: `DISK_FULL`; the index is as it was.
        """
        with self._changing_index():
            entries = self.entries()
            kept = [
                entry
                for entry in entries
                if entry.digest != digest and self._subject_of(entry.digest) != digest
            ]
            if len(kept) != len(entries):
                self._write_index(kept)

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the entries whose manifests are about `digest` (OCI 1.1 `subject`): signatures.

        Raises:
            RefusedError: as `entries`.
        """
        return tuple(entry for entry in self.entries() if self._subject_of(entry.digest) == digest)

    def collect(
        self, keep: Iterable[Digest] = (), *, partials_before_s: float
    ) -> tuple[Digest, ...]:
        """Delete every blob that neither the index nor `keep` leads to, and return which.

        Manifests in `keep` keep their parts. Files that killed writers left go too. Whoever adds
        blobs before recording them names them in `keep`. Partial downloads of what isn't kept go
        when nothing was added to them since `partials_before_s` (seconds since 1970): until then
        it may be wanted again, and its download goes on.

        Raises:
            CorruptError: a manifest on the way is not what its digest names; nothing was deleted.
        """
        with _locked(self._blobs, fcntl.LOCK_EX):
            alive = self._reachable([*(entry.digest for entry in self.entries()), *keep])
            deleted = []
            for path in sorted(self._blobs.iterdir()):
                if path.name not in alive:
                    path.unlink()
                    if not path.name.startswith("."):
                        deleted.append(Digest(f"sha256:{path.name}"))
            if self._ingest.is_dir():
                self._collect_partials(alive, partials_before_s)
        return tuple(deleted)

    def _collect_partials(self, alive: set[str], before_s: float) -> None:
        partials: dict[str, list[Path]] = {}
        for path in self._ingest.iterdir():  # of one download: its bytes, and which they are
            partials.setdefault(path.name.partition(".")[0], []).append(path)
        for name, paths in partials.items():
            if name not in alive and max(path.stat().st_mtime for path in paths) < before_s:
                for path in paths:
                    path.unlink()

    def _reachable(self, roots: Iterable[Digest]) -> set[str]:
        alive = set()
        for root in roots:
            alive.add(_hex(root))
            if not self.has(root) or self.size_bytes(root) > MANIFEST_LIMIT_BYTES:
                continue  # a layer that is kept for itself
            try:
                found = manifest.parse(self.read(root, MANIFEST_LIMIT_BYTES))
            except RefusedError:
                continue  # the same, and small
            alive.update(_hex(part.digest) for part in (found.config, *found.layers))
        return alive

    def _subject_of(self, digest: Digest) -> Digest | None:
        if digest not in self._subjects:
            try:
                subject = manifest.parse(self.read(digest, MANIFEST_LIMIT_BYTES)).subject
            except ModelError:
                # Whoever wants that manifest itself is told; it says nothing about this one.
                return None
            self._subjects[digest] = subject.digest if subject else None
        return self._subjects[digest]

    def _write_index(self, entries: Iterable[Descriptor]) -> None:
        raw = manifest.render_index(entries)
        if len(raw) > INDEX_LIMIT_BYTES:
            raise RefusedError(
                "TOO_LARGE", f"the index of {self.path} is full: {INDEX_LIMIT_BYTES} bytes"
            )
        durable.write(self.path / "index.json", raw)

    @contextmanager
    def _changing_index(self) -> Iterator[None]:
        with _disk(f"writing the index of {self.path}"), _locked(self.path, fcntl.LOCK_EX):
            yield

    @contextmanager
    def _writing(self, digest: Digest) -> Iterator[None]:
        with _disk(f"writing {short(digest)}"), _locked(self._blobs, fcntl.LOCK_SH):
            yield

    def _not_found(self, digest: Digest) -> RefusedError:
        return RefusedError("NOT_FOUND", f"{short(digest)} is not in {self.path}")


def _hex(digest: Digest) -> str:
    # Parsed again: it becomes a file name, and the type alone stops nobody.
    return parse_digest(digest).removeprefix("sha256:")


def _read_file(path: Path, limit_bytes: int) -> bytes:
    # Not blocking: a pipe in place of a file (a hostile stick) must not hang the reader.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RefusedError("BUNDLE_MALFORMED", f"{path} is not a regular file")
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise RefusedError("TOO_LARGE", f"{path.name} has more than {limit_bytes} bytes")
    return content


def _verified(source: Path, digest: Digest) -> Iterator[bytes]:
    """Yield a file's content in pieces, and raise at its end if it was not what `digest` names."""
    hasher = hashlib.sha256()
    size_bytes = 0
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            size_bytes += len(chunk)
            if size_bytes > BLOB_LIMIT_BYTES:
                raise CorruptError(
                    "TOO_LARGE", f"{source.name} has more than {BLOB_LIMIT_BYTES} bytes"
                )
            hasher.update(chunk)
            yield chunk
    if hasher.hexdigest() != _hex(digest):
        raise CorruptError(
            "DIGEST_MISMATCH", f"the {size_bytes} bytes that came are not {short(digest)}"
        )


@contextmanager
def _locked(directory: Path, kind: int) -> Iterator[None]:
    """Hold an advisory lock on a directory itself: no lock file to leave behind."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _disk(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise TransientError("DISK_FULL", f"no room on the disk while {doing}") from error
        raise
