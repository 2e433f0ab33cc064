"""A layout holds what its digests name, whatever is cut off, damaged or full."""

import errno
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from models import manifest
from models.errors import CorruptError, ModelError, RefusedError, TransientError
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.manifest import Descriptor, Manifest
from models.values import Digest, digest_of

LIMIT_BYTES = 1 << 20


def artifact(
    layout: Layout, content: bytes, *, name: str | None = None, subject: Descriptor | None = None
) -> Descriptor:
    """Put an artifact of one layer into a layout, and return its manifest's descriptor."""
    layout.add(content)
    layout.add(manifest.EMPTY)
    raw = manifest.render(
        Manifest(
            config=manifest.descriptor_of(manifest.EMPTY, manifest.EMPTY_TYPE),
            layers=(manifest.descriptor_of(content, "text/plain"),),
            subject=subject,
        )
    )
    layout.add(raw)
    return manifest.descriptor_of(
        raw, manifest.MANIFEST_TYPE, annotations={manifest.REF_NAME: name} if name else None
    )


def files(path: Path) -> dict[str, bytes]:
    """Return everything below a directory."""
    return {
        str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()
    }


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes the disk full from then on."""

    def fill() -> None:
        def fsync(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("models.durable.os.fsync", fsync)

    return fill


def test_a_new_layout_is_one_by_the_specification(tmp_path: Path) -> None:
    """Marker, index and blobs; opening it again or making it again changes nothing."""
    Layout.create(tmp_path / "deep" / "store")
    before = files(tmp_path)
    Layout(tmp_path / "deep" / "store")
    again = Layout.create(tmp_path / "deep" / "store")

    assert {"imageLayoutVersion": "1.0.0"} == json.loads(before["deep/store/oci-layout"])
    assert 2 == json.loads(before["deep/store/index.json"])["schemaVersion"]
    assert before == files(tmp_path)
    assert () == again.entries()


def test_making_one_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """After a kill at each point: temporary file left, marker alone, no blobs yet."""
    (tmp_path / ".oci-layout.abc.tmp").write_bytes(b"{")
    layout = Layout.create(tmp_path)
    (tmp_path / "index.json").unlink()
    (tmp_path / "blobs" / "sha256").rmdir()

    digest = Layout.create(tmp_path).add(b"x")

    assert layout.has(digest)


def test_a_path_that_is_no_layout_is_refused_by_name(tmp_path: Path) -> None:
    """Nothing there, a file, another directory, another version; and nothing is written."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "oci-layout").write_text("hello")
    before = files(tmp_path)
    for name, reason in (
        ("gone", "NOT_FOUND"),
        ("file", "BUNDLE_MALFORMED"),
        ("other", "BUNDLE_MALFORMED"),
        ("newer", "BUNDLE_MALFORMED"),
        ("text", "BUNDLE_MALFORMED"),
    ):
        with pytest.raises(RefusedError, match=name) as caught:
            Layout(tmp_path / name)
        assert reason == caught.value.reason
    for name in ("file", "other", "newer"):
        with pytest.raises(RefusedError, match=name):
            Layout.create(tmp_path / name)

    assert before == files(tmp_path)


def test_a_blob_is_what_its_digest_names(layout: Layout) -> None:
    """Read back, under its own name, with its size."""
    digest = layout.add(b"content")

    assert digest_of(b"content") == digest
    assert b"content" == layout.read(digest, 7)
    assert 7 == layout.size_bytes(digest)
    assert layout.blob_path(digest).read_bytes() == b"content"


def test_reading_refuses_what_is_gone_large_or_changed(layout: Layout) -> None:
    """Each by its own reason, so that the caller knows whether to fetch again."""
    digest = layout.add(b"content")
    rotten = layout.add(b"good")
    layout.blob_path(rotten).write_bytes(b"evil")

    for blob, limit_bytes, kind, reason in (
        (digest_of(b"gone"), LIMIT_BYTES, RefusedError, "NOT_FOUND"),
        (digest, 6, RefusedError, "TOO_LARGE"),
        (rotten, LIMIT_BYTES, CorruptError, "DIGEST_MISMATCH"),
    ):
        with pytest.raises(kind) as caught:
            layout.read(blob, limit_bytes)
        assert isinstance(caught.value, ModelError)
        assert reason == caught.value.reason
    layout.add(b"good")

    assert b"good" == layout.read(rotten, LIMIT_BYTES)


def test_a_digest_never_leads_out_of_the_layout(layout: Layout) -> None:
    """The type alone stops nobody."""
    for wrong in (
        "sha256:../../etc/passwd",
        "../x",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63 + "\n",
    ):
        with pytest.raises(ValueError, match="not a sha256 digest"):
            layout.blob_path(Digest(wrong))


def test_a_pipe_in_place_of_a_blob_hangs_nobody(layout: Layout) -> None:
    """A hostile stick may hold anything."""
    digest = digest_of(b"x")
    os.mkfifo(layout.blob_path(digest))

    with pytest.raises(RefusedError, match="not a regular file"):
        layout.read(digest, LIMIT_BYTES)


def test_a_download_is_adopted_when_it_is_whole(layout: Layout) -> None:
    """The partial file becomes the blob; none is left."""
    digest = digest_of(b"content")
    partial = layout.ingest_path(digest)
    partial.write_bytes(b"content")
    layout.adopt(digest, partial)

    assert b"content" == layout.read(digest, LIMIT_BYTES)
    assert not partial.exists()


def test_a_wrong_download_is_deleted_and_never_a_blob(layout: Layout) -> None:
    """So that the next try doesn't resume from rubbish."""
    digest = digest_of(b"content")
    partial = layout.ingest_path(digest)
    before = files(layout.path)
    partial.write_bytes(b"contemt")
    with pytest.raises(CorruptError, match="are not sha256"):
        layout.adopt(digest, partial)

    assert before == files(layout.path)
    with pytest.raises(RefusedError) as caught:
        layout.adopt(digest, partial)
    assert "NOT_FOUND" == caught.value.reason


def test_a_file_is_added_only_as_what_it_is_said_to_be(layout: Layout, tmp_path: Path) -> None:
    """Hashed while it is copied."""
    source = tmp_path / "source"
    source.write_bytes(b"z" * 3_000_000)
    layout.add_file(source, digest_of(source.read_bytes()))
    before = files(layout.path)
    with pytest.raises(CorruptError):
        layout.add_file(source, digest_of(b"other"))

    assert before == files(layout.path)
    assert layout.has(digest_of(b"z" * 3_000_000))


def test_a_full_disk_changes_nothing(
    layout: Layout, full_disk: Callable[[], None], tmp_path: Path
) -> None:
    """Whatever was being written: it says so, and all is as it was."""
    first = artifact(layout, b"one", name="one:1.0.0")
    layout.record(first)
    digest = digest_of(b"partial")
    partial = layout.ingest_path(digest)
    partial.write_bytes(b"partial")
    other = artifact(layout, b"two", name="two:1.0.0")
    before = files(layout.path)
    full_disk()
    for attempt in (
        lambda: layout.add(b"new"),
        lambda: layout.add_file(partial, digest),
        lambda: layout.adopt(digest, partial),
        lambda: layout.record(other),
        lambda: layout.forget(first.digest),
        lambda: Layout.create(tmp_path / "new"),
    ):
        with pytest.raises(TransientError) as caught:
            attempt()
        assert "DISK_FULL" == caught.value.reason

    assert before == files(layout.path)


def test_the_index_names_each_artifact_once(layout: Layout) -> None:
    """A name moves to what was recorded last; a digest has one entry; unnamed ones stay apart."""
    one, two = artifact(layout, b"one", name="m:1.0.0"), artifact(layout, b"two", name="m:1.0.0")
    unnamed, other = artifact(layout, b"three"), artifact(layout, b"four")
    for descriptor in (one, unnamed, other, two, two, unnamed):
        layout.record(descriptor)

    assert [other, two, unnamed] == list(layout.entries())
    assert [other, two, unnamed] == list(Layout(layout.path).entries())


def test_the_index_names_only_what_is_there(layout: Layout) -> None:
    """A manifest is recorded after it was kept."""
    with pytest.raises(RefusedError) as caught:
        layout.record(manifest.descriptor_of(b"gone", manifest.MANIFEST_TYPE))

    assert "NOT_FOUND" == caught.value.reason
    assert () == layout.entries()


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b'{"schemaVersion":2}', b'{"schemaVersion":2,"manifests":[{}]}']
)
def test_a_damaged_index_is_said(layout: Layout, raw: bytes) -> None:
    """And left as it is: whoever repairs it wants to see it."""
    descriptor = artifact(layout, b"one", name="one:1.0.0")
    (layout.path / "index.json").write_bytes(raw)
    collect = partial(layout.collect, partials_before_s=math.inf)
    for attempt in (layout.entries, lambda: layout.record(descriptor), collect):
        with pytest.raises(RefusedError) as caught:
            attempt()
        assert "BUNDLE_MALFORMED" == caught.value.reason

    assert raw == (layout.path / "index.json").read_bytes()
    assert layout.has(descriptor.digest)


def test_referrers_are_found_and_go_with_their_subject(layout: Layout) -> None:
    """By the manifest's `subject`, whatever the index says of them."""
    subject = artifact(layout, b"subject", name="m:1.0.0")
    other = artifact(layout, b"other", name="o:1.0.0")
    about = artifact(layout, b"about", subject=subject)
    for descriptor in (subject, other, about):
        layout.record(descriptor)

    assert (about,) == layout.referrers(subject.digest)
    assert () == layout.referrers(other.digest)
    layout.forget(subject.digest)
    assert (other,) == layout.entries()


def test_collecting_deletes_what_nothing_leads_to(layout: Layout) -> None:
    """And keeps what the index or `keep` leads to, with its parts."""
    named, kept = artifact(layout, b"named", name="n:1.0.0"), artifact(layout, b"kept")
    gone, loose = artifact(layout, b"gone"), layout.add(b"loose")
    layout.record(named)
    wanted, stale = digest_of(b"wanted"), digest_of(b"stale")
    for digest in (wanted, stale):
        layout.ingest_path(digest).write_bytes(b"part")
    (layout.path / "blobs" / "sha256" / ".killed.tmp").write_bytes(b"half")

    deleted = layout.collect([kept.digest, loose, wanted], partials_before_s=math.inf)

    assert {gone.digest, digest_of(b"gone")} == set(deleted)
    for content in (b"named", b"kept", b"loose"):
        assert content == layout.read(digest_of(content), LIMIT_BYTES)
    assert layout.has(digest_of(manifest.EMPTY))
    assert layout.ingest_path(wanted).exists()
    assert not layout.ingest_path(stale).exists()
    assert not (layout.path / "blobs" / "sha256" / ".killed.tmp").exists()
    assert () == layout.collect([kept.digest, loose, wanted], partials_before_s=math.inf)


def test_half_a_download_is_kept_for_a_while(layout: Layout) -> None:
    """By when something was last added to it; what is wanted is kept however old it is."""
    ages_s = {b"wanted, old": 200.0, b"old": 200.0, b"young": 50.0, b"begun long ago": 50.0}
    halves = {content: layout.ingest_path(digest_of(content)) for content in ages_s}
    for content, half in halves.items():
        half.write_bytes(b"part")
        tag = half.with_suffix(".etag")
        tag.write_bytes(b"one")
        os.utime(half, (1000.0, 1000.0 - ages_s[content]))
        os.utime(tag, (1000.0, 800.0))

    layout.collect([digest_of(b"wanted, old")], partials_before_s=900.0)

    left = {path.name for path in (layout.path / "ingest").iterdir()}
    kept = [half for content, half in halves.items() if content != b"old"]
    assert left == {path.name for half in kept for path in (half, half.with_suffix(".etag"))}


def test_collecting_past_a_damaged_manifest_deletes_nothing(layout: Layout) -> None:
    """What it would have led to is not known."""
    named = artifact(layout, b"named", name="n:1.0.0")
    layout.record(named)
    layout.blob_path(named.digest).write_bytes(b"rotten")
    before = files(layout.path)
    with pytest.raises(CorruptError):
        layout.collect(partials_before_s=math.inf)

    assert before == files(layout.path)


def test_threads_that_record_at_once_lose_nothing(layout: Layout) -> None:
    """Each on its own view of the directory."""
    descriptors = [artifact(layout, b"%d" % n, name=f"m{n}:1.0.0") for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: Layout(layout.path).record(each), descriptors))

    assert {each.digest for each in descriptors} == {each.digest for each in layout.entries()}


RECORD_EIGHT = """
import sys
from pathlib import Path
from models import manifest
from models.layout import Layout
layout = Layout(Path(sys.argv[1]))
for number in range(8):
    content = f"{sys.argv[2]} {number}".encode()
    layout.add(content)
    layout.record(manifest.descriptor_of(content, "text/plain"))
"""


def test_processes_that_record_at_once_lose_nothing(layout: Layout) -> None:
    """The agent's supervisor and its fetching child share a store."""
    children = [
        subprocess.Popen([sys.executable, "-P", "-c", RECORD_EIGHT, layout.path, str(number)])
        for number in range(2)
    ]

    assert [0, 0] == [child.wait(60) for child in children]
    assert 16 == len(layout.entries())


def test_collecting_waits_for_a_writer(layout: Layout) -> None:
    """A blob being written is not swept away under its writer."""
    begun, go_on = threading.Event(), threading.Event()
    source = layout.path / "pipe"
    os.mkfifo(source)
    content = b"slow"

    def add_slowly() -> None:
        layout.add_file(source, digest_of(content))

    def feed() -> None:
        with source.open("wb") as file:
            begun.set()
            go_on.wait(20)
            file.write(content)

    def sweep() -> None:
        swept.append(layout.collect([digest_of(content)], partials_before_s=math.inf))

    swept: list[tuple[Digest, ...]] = []
    threads = [threading.Thread(target=each) for each in (add_slowly, feed, sweep)]
    threads[0].start()
    threads[1].start()
    begun.wait(20)
    threads[2].start()
    threads[2].join(0.2)
    waited = threads[2].is_alive()
    go_on.set()
    for thread in threads:
        thread.join(20)

    assert waited
    assert [()] == swept
    assert content == layout.read(digest_of(content), LIMIT_BYTES)


def test_a_manifest_comes_back_as_it_was_written(layout: Layout) -> None:
    """All its fields; and one of another kind, or too large, is refused."""
    descriptor = artifact(layout, b"x", subject=manifest.descriptor_of(b"s", "text/plain"))
    found = manifest.parse(layout.read(descriptor.digest, MANIFEST_LIMIT_BYTES))

    assert found == manifest.parse(manifest.render(found))
    assert digest_of(b"s") == (found.subject.digest if found.subject else None)
    raw = json.loads(manifest.render(found))
    for field, value in (
        ("schemaVersion", 1),
        ("schemaVersion", True),
        ("mediaType", manifest.INDEX_TYPE),
        ("config", None),
        ("layers", [[]]),
        ("layers", [{"mediaType": "a", "digest": "sha256:x", "size": 1}]),
        ("layers", [{"mediaType": "a", "digest": digest_of(b""), "size": -1}]),
        ("layers", [raw["config"]] * 300),
        ("annotations", {"a": 1}),
        ("subject", {"digest": digest_of(b"")}),
    ):
        with pytest.raises(RefusedError) as caught:
            manifest.parse(json.dumps(raw | {field: value}).encode())
        assert "BUNDLE_MALFORMED" == caught.value.reason
    with pytest.raises(RefusedError) as caught:
        manifest.parse(b" " * (MANIFEST_LIMIT_BYTES + 1))
    assert "TOO_LARGE" == caught.value.reason


def test_an_index_that_is_full_stays_as_it_is(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be larger than a reader accepts."""
    one, two = artifact(layout, b"one", name="one:1.0.0"), artifact(layout, b"two")
    layout.record(one)
    monkeypatch.setattr("models.layout.INDEX_LIMIT_BYTES", 400)
    with pytest.raises(RefusedError, match="is full"):
        layout.record(two)

    assert (one,) == layout.entries()


def test_a_download_without_end_is_given_up(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of a blob, before its whole is hashed."""
    monkeypatch.setattr("models.layout.BLOB_LIMIT_BYTES", 3)
    partial = layout.ingest_path(digest_of(b"long"))
    partial.write_bytes(b"long")
    with pytest.raises(CorruptError, match="more than 3 bytes"):
        layout.adopt(digest_of(b"long"), partial)

    assert not partial.exists()


def test_what_is_not_there_has_no_size_and_no_index(layout: Layout) -> None:
    """Each said by name."""
    with pytest.raises(RefusedError) as caught:
        layout.size_bytes(digest_of(b"gone"))
    assert "NOT_FOUND" == caught.value.reason
    layout.forget(digest_of(b"gone"))
    (layout.path / "index.json").unlink()
    with pytest.raises(RefusedError, match=r"has no index\.json"):
        layout.entries()


@pytest.fixture
def torn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make every rename fail, as a process killed just before it."""
    tried: list[str] = []

    def replace(_: Path, target: Path) -> Path:
        tried.append(str(target))
        raise OSError(errno.EIO, "torn")

    monkeypatch.setattr(Path, "replace", replace)
    return iter([tried])


def test_what_is_written_shows_only_when_it_is_whole(
    layout: Layout, torn: Iterator[list[str]]
) -> None:
    """Before the rename there is nothing under the name, and afterwards no temporary file."""
    tried = next(torn)
    before = files(layout.path)
    with pytest.raises(OSError, match="torn"):
        layout.add(b"content")

    assert [str(layout.blob_path(digest_of(b"content")))] == tried
    assert before == files(layout.path)
