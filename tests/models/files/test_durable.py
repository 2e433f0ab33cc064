"""A durable write is found whole or not at all, and in that order on the disk."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import durable


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the system, in order: `fsync NAME` and `rename NAME`."""
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def logged_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(f"fsync {'directory' if path.is_dir() else 'file'}")
        fsync(descriptor)

    def logged_replace(self: Path, target: Path) -> Path:
        seen.append(f"rename {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    return seen


def test_a_write_is_synced_renamed_and_its_directory_synced(
    tmp_path: Path, calls: list[str]
) -> None:
    """In this order, or a power cut may leave an empty file under the name."""
    target = tmp_path / "file"
    durable.write(target, b"old")
    durable.write(target, iter([b"n", b"ew"]), mode=0o600)

    assert b"new" == target.read_bytes()
    assert 0o600 == target.stat().st_mode & 0o777
    assert ["fsync file", "rename file", "fsync directory"] * 2 == calls
    assert [target] == list(tmp_path.iterdir())


def test_adopting_syncs_both_directories(tmp_path: Path, calls: list[str]) -> None:
    """The name appears in one and vanishes from the other."""
    source = tmp_path / "ingest"
    source.mkdir()
    (source / "part").write_bytes(b"whole")
    durable.adopt(source / "part", tmp_path / "file")

    assert b"whole" == (tmp_path / "file").read_bytes()
    assert ["fsync file", "rename file", "fsync directory", "fsync directory"] == calls
    assert [] == list(source.iterdir())


def test_directories_are_made_durable_one_by_one(tmp_path: Path, calls: list[str]) -> None:
    """Each new entry, from the first that is missing."""
    durable.make_directory(tmp_path / "a" / "b", mode=0o700)
    durable.make_directory(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()
    assert ["fsync directory"] * 2 == calls


@pytest.mark.parametrize("step", ["content", "fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever step fails, also the content's own source; no temporary file stays."""
    target = tmp_path / "file"
    durable.write(target, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    def content() -> Iterator[bytes]:
        yield b"new"
        if step == "content":
            fail()

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    if step == "rename":
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        durable.write(target, content())

    assert b"old" == target.read_bytes()
    assert [target] == list(tmp_path.iterdir())
