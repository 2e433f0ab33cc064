"""What a power cut may leave of a disk: operations in, crash images out. Pure.

The model is POSIX, taken by its word, with the two things that every journaling file
system adds (ext4, XFS, F2FS, btrfs): a name is changed whole or not at all, and a name
that is there leads to a file.

- A file's content is durable as of its last fsync or fdatasync. Of what was written since,
  any part may be there: nothing, all, all but one write, one write alone, the first few, the
  last one torn in the middle; or the new length and zeros in the place of the bytes.
- A name (made, moved, removed) is durable as of the last fsync of its folder. Of what was
  done to names since, any part may be there, in any order between folders: nothing,
  all, each alone, all but each, the first few. An fsync of a file makes no name durable.
- A move within a folder is one change. Between folders it may be there in both, until the
  source's folder is durable; never in neither.
- Content and names are independent: a new name may stand for a file whose bytes are not
  there, and bytes that are there may have no name.
- A sync that was under way when the power went has done nothing; what it covers is only what
  had returned before it was called.

Not in it: a disk that lies about a flush, or that destroys what was durable before.

The number of images is bounded by taking one file at a time through its variants, with all
others as they were durable, and with all others as written. Where more is pending than
`MANY` writes of a file or changes of names, or than `FEW` files, only the newest go one by
one: a device that syncs as ours does never has as much.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tests.agent.power.recording import (
    HOME_NODE,
    Made,
    Marked,
    Moved,
    Operation,
    Recording,
    Removed,
    Resized,
    Synced,
    Written,
)

FEW = 4
"""Of so many changes of names every subset is taken."""

MANY = 12

Files = tuple[tuple[str, str], ...]
"""Paths in an image, each with the digest of its content; a folder has none."""

_FOLDER = ""


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file may have come to: something durable, and what was written over it."""

    durable: bytes
    writes: tuple[Written | Resized, ...]
    zeros: int | None = None

    def bytes(self) -> bytes:
        made = bytearray(self.durable)
        for each in self.writes:
            if isinstance(each, Resized):
                del made[each.size :]
                made.extend(bytes(each.size - len(made)))
            else:
                made.extend(bytes(max(0, each.offset - len(made))))
                made[each.offset : each.offset + len(each.data)] = each.data
        if self.zeros is not None:
            made.extend(bytes(self.zeros - len(made)))
        return bytes(made)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of names that is not durable yet."""

    at: int
    folder: int
    node: int
    old: str | None = None
    new: str | None = None
    after: int | None = None


@dataclass(slots=True)
class _File:
    durable: bytes = b""
    pending: list[tuple[int, Written | Resized]] = field(default_factory=list)
    variants: "_Variants | None" = None


@dataclass(frozen=True, slots=True)
class _Variants:
    """Digests of what a file may hold."""

    durable: str
    written: str
    between: tuple[str, ...]


class Disk:
    """A disk on the way through a recording."""

    def __init__(self, recording: Recording) -> None:
        self._folders = {node: dict(names) for node, names in recording.before.items()}
        self._files = {node: _File(content) for node, content in recording.contents.items()}
        self._changes: list[_Change] = []
        self._digests: dict[str, _Content] = {}
        self._count = 0

    def do(self, operation: Operation) -> None:
        """Go on by one operation."""
        at, self._count = self._count, self._count + 1
        match operation:
            case Made(folder=folder, name=name, node=node):
                self._changes.append(_Change(at, folder, node, new=name))
                if operation.is_folder:
                    self._folders[node] = {}
                else:
                    self._files[node] = _File()
            case Moved(source=source, old=old, folder=folder, name=name, node=node):
                if source == folder:
                    self._changes.append(_Change(at, folder, node, old=old, new=name))
                else:
                    self._changes.append(_Change(at, folder, node, new=name))
                    self._changes.append(_Change(at, source, node, old=old, after=at))
            case Removed(folder=folder, name=name, node=node):
                self._changes.append(_Change(at, folder, node, old=name))
            case Written() | Resized():
                file = self._files[operation.node]
                file.pending.append((at, operation))
                file.variants = None
            case Synced(node=node, since=since):
                if operation.is_folder:
                    self._sync_folder(node, since)
                else:
                    self._sync_file(self._files[node], since)
            case Marked():
                pass

    def _sync_folder(self, node: int, since: int) -> None:
        durable = [each for each in self._changes if each.folder == node and each.at < since]
        moved_here_from = {each.after for each in durable if each.after is not None}
        durable = [each for each in self._changes if each in durable or each.at in moved_here_from]
        for each in durable:
            _apply(self._folders[each.folder], each)
            self._changes.remove(each)

    def _sync_file(self, file: _File, since: int) -> None:
        done = tuple(write for at, write in file.pending if at < since)
        file.durable = _Content(file.durable, done).bytes()
        file.pending = [each for each in file.pending if each[0] >= since]
        file.variants = None

    # What a cut may leave

    def images(self) -> Iterator[Files]:
        """Yield what a power cut right now may leave; the same may come more than once."""
        for changes in _subsets(self._changes):
            found = dict(self._walk(changes))
            folders = {path: _FOLDER for path, node in found.items() if node in self._folders}
            files = {path: self._variants(found[path]) for path in found.keys() - folders}
            durable = folders | {path: each.durable for path, each in files.items()}
            written = folders | {path: each.written for path, each in files.items()}
            dirty = sorted(
                (pending[-1][0], path)
                for path in files
                if (pending := self._files[found[path]].pending)
            )
            for others in (durable, written):
                yield tuple(sorted(others.items()))
                for _, path in dirty[-FEW:]:
                    for variant in (files[path].durable, files[path].written, *files[path].between):
                        yield tuple(sorted({**others, path: variant}.items()))

    def whole(self) -> Files:
        """Return what whoever looks at the running disk sees."""
        found = self._walk(self._changes)
        files = {
            path: _FOLDER if node in self._folders else self._variants(node).written
            for path, node in found
        }
        return tuple(sorted(files.items()))

    def content(self, digest: str) -> bytes:
        """Return the bytes behind a digest of an image."""
        return self._digests[digest].bytes()

    def _walk(self, changes: Sequence[_Change]) -> Iterator[tuple[str, int]]:
        folders = dict(self._folders)
        for each in changes:
            names = folders[each.folder] = dict(folders[each.folder])
            _apply(names, each)
        ways = [("", HOME_NODE)]
        while ways:
            way, folder = ways.pop()
            for name, node in folders[folder].items():
                yield way + name, node
                if node in folders:
                    ways.append((f"{way}{name}/", node))

    def _variants(self, node: int) -> _Variants:
        file = self._files[node]
        if file.variants is None:
            durable, written, *between = (self._digest(each) for each in _contents(file))
            file.variants = _Variants(durable, written, tuple(dict.fromkeys(between)))
        return file.variants

    def _digest(self, content: _Content) -> str:
        digest = hashlib.sha256(content.bytes()).hexdigest()
        self._digests.setdefault(digest, content)
        return digest


def _apply(names: dict[str, int], change: _Change) -> None:
    if change.old is not None and names.get(change.old) == change.node:
        del names[change.old]
    if change.new is not None:
        names[change.new] = change.node


def _contents(file: _File) -> Iterator[_Content]:
    """Yield it as durable, as written, and between the two."""
    writes = tuple(write for _, write in file.pending)
    whole = _Content(file.durable, writes)
    yield _Content(file.durable, ())
    yield whole
    if not writes:
        return
    yield _Content(file.durable, (), len(whole.bytes()))
    *before, last = writes
    if isinstance(last, Written) and len(last.data) > 1:
        half = Written(node=last.node, offset=last.offset, data=last.data[: len(last.data) // 2])
        yield _Content(file.durable, (*before, half))
    count = len(writes)
    for each in range(count) if count <= MANY else range(count - FEW, count):
        yield _Content(file.durable, writes[each : each + 1])
        yield _Content(file.durable, writes[:each])
        yield _Content(file.durable, writes[:each] + writes[each + 1 :])


def _subsets(changes: Sequence[_Change]) -> Iterator[tuple[_Change, ...]]:
    every = range(len(changes))
    chosen = {frozenset[int](), frozenset(every)}
    if len(changes) <= FEW:
        chosen |= {frozenset(each) for count in every for each in combinations(every, count)}
    else:
        for each in every if len(changes) <= MANY else every[-FEW:]:
            chosen |= {
                frozenset([each]),
                frozenset(every[:each]),
                frozenset(every) - {each},
            }
    for subset in chosen:
        there = tuple(changes[place] for place in sorted(subset))
        if all(change.after is None or _there(changes, there, change.after) for change in there):
            yield there


def _there(changes: Sequence[_Change], there: Sequence[_Change], at: int) -> bool:
    """Tell whether the other half of a move, which comes first, is there too, or is durable."""
    first = [each for each in changes if each.at == at and each.after is None]
    return all(each in there for each in first)
