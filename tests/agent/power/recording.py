"""What a device did to its disk, in order: recorded by strace and read into operations.

Every system call that changes the home or makes a change durable is here, of the agent
and of its children, with all its bytes. A call counts from when it had returned; a sync
covers only what had returned before the sync was called. A call that changes files in a way
which is not understood here (a shared mapping, a copy in the kernel) fails the reading
rather than being left out. `-shm`, SQLite's shared index, is left out on purpose: it is
rebuilt from the log by whoever opens the ledger first.

Beside them are the marks of `tests.agent.power.program`: what was promised by then.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
HOME_NODE = 0

_CHANGING = (
    "openat,open,creat,write,pwrite64,pwritev,pwritev2,writev,ftruncate,truncate,fallocate,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,"
    "sendfile,copy_file_range,splice,mmap"
)
_SYNCING = "fsync,fdatasync,sync_file_range,sync,syncfs"
RUN_LIMIT_S = 600.0
_LINE_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A name for a new file or folder, which is empty."""

    folder: int
    name: str
    node: int
    is_folder: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Bytes at an offset of a file."""

    node: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """A file cut, or lengthened by zeros."""

    node: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A name that gave way to another, which may have stood for something else."""

    source: int
    old: str
    folder: int
    name: str
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A name that is gone."""

    folder: int
    name: str
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """A file's content, or a folder's names, as of so many operations, are durable."""

    node: int
    path: str
    is_folder: bool
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What the program said here."""

    said: dict[str, Any]


Operation = Made | Written | Resized | Moved | Removed | Synced | Marked


@dataclass(slots=True)
class Recording:
    """A home as it was before, and all that happened to it."""

    before: dict[int, dict[str, int]]
    contents: dict[int, bytes]
    operations: list[Operation] = field(default_factory=list)


def record(job: dict[str, Any], trace: Path) -> tuple[Recording, list[dict[str, Any]]]:
    """Run the program on a job under strace; return what it did, and what it said."""
    reader = _Reader(Path(job["home"]), Path(job["marks"]))
    said = run_program(
        job,
        *("strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", str(_LINE_LIMIT_BYTES)),
        *("-e", "signal=none", "-e", f"trace={_CHANGING},{_SYNCING}", "-o", str(trace)),
    )
    for call in _calls(trace):
        reader.take(call)
    return reader.recording, said


def run_program(job: dict[str, Any], *under: str) -> list[dict[str, Any]]:
    """Run the program on a job, under another one where there is one; return what it said."""
    done = subprocess.run(
        [*under, sys.executable, "-P", "-m", "tests.agent.power.program"],
        check=False,
        input=json.dumps(job).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=RUN_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert b"Traceback" not in done.stderr, done.stderr.decode()[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One system call that had returned, and how many had before it was made."""

    name: str
    arguments: list[str]
    result: str
    before: int


_BEGUN = re.compile(r"(\d+) +(\w+)\((.*)\Z")
_GONE_ON = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\Z")
_RETURNED = re.compile(r"(.*?),? *\) += (.*)\Z")
_UNFINISHED = " <unfinished ...>"
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"\Z')
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")


def _calls(trace: Path) -> Iterator[_Call]:
    under_way: dict[str, tuple[str, int]] = {}
    count = 0
    for line in trace.read_text("ascii").splitlines():
        if begun := _BEGUN.match(line):
            process, name, rest = begun.groups()
            since = count
            if rest.endswith(_UNFINISHED):
                under_way[process] = rest.removesuffix(_UNFINISHED), since
                continue
        elif gone_on := _GONE_ON.match(line):
            process, name, end = gone_on.groups()
            start, since = under_way.pop(process)
            rest = start + end
        else:
            assert re.match(r"\d+ +(\+\+\+|---)", line), line
            continue
        returned = _RETURNED.match(rest)
        assert returned is not None, line[:200]
        arguments, result = returned.groups()
        if not result.startswith(("-1", "?")):
            count += 1
            yield _Call(name=name, arguments=arguments.split(", "), result=result, before=since)


def _path(descriptor: str) -> str | None:
    """Return the path behind a descriptor; None when it has none that anybody can come to."""
    found = _DESCRIPTOR.match(descriptor)
    return None if found is None or found[2] else _bytes(found[1]).decode()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(argument: str) -> bytes:
    found = _TEXT.match(argument)
    assert found is not None, f"cut short: {argument[:80]}"
    return _bytes(found[1])


class _Reader:
    """Turns calls into operations, and knows what each name stands for meanwhile."""

    def __init__(self, home: Path, marks: Path) -> None:
        self._home, self._marks = str(home), str(marks)
        self._names: dict[int, dict[str, int]] = {}
        self._sizes: dict[int, int] = {}
        self._positions: dict[int, int | None] = {}
        self._nodes = HOME_NODE
        self._returned = [0]
        self.recording = Recording({}, {})
        self._learn(home, HOME_NODE)
        self.recording.before = {node: dict(names) for node, names in self._names.items()}

    def _learn(self, folder: Path, node: int) -> None:
        self._names[node] = {}
        for path in sorted(folder.iterdir()):
            made = self._names[node][path.name] = self._new()
            if path.is_dir():
                self._learn(path, made)
            else:
                self.recording.contents[made] = path.read_bytes()
                self._sizes[made] = path.stat().st_size

    def _new(self) -> int:
        self._nodes += 1
        return self._nodes

    def take(self, call: _Call) -> None:
        """Read one call."""
        match call.name, call.arguments:
            case "openat", [at, path, flags, *_]:
                self._open(self._at(at, path), flags)
            case "mkdir", [path, _]:
                self._make(self._at("", path), is_folder=True)
            case "write", [descriptor, data, _]:
                self._write(descriptor, data, None)
            case "pwrite64", [descriptor, data, _, offset]:
                self._write(descriptor, data, int(offset))
            case "ftruncate", [descriptor, size]:
                self._resize(self._node(_path(descriptor)), int(size))
            case "rename", [old, new]:
                self._move(self._at("", old), self._at("", new))
            case "unlink", [path]:
                self._remove(self._at("", path))
            case ("fsync" | "fdatasync", [descriptor]):
                self._sync(descriptor, call.before)
            case _:
                self._ignore(call)
        self._returned.append(len(self.recording.operations))

    def _open(self, path: str, flags: str) -> None:
        if not self._inside(path) or not re.search("O_WRONLY|O_RDWR", flags):
            return
        node = self._node(path)
        if node is None:
            assert "O_CREAT" in flags, path
            node = self._make(path, is_folder=False)
        elif "O_TRUNC" in flags:
            self._resize(node, 0)
        self._positions[node] = None if "O_APPEND" in flags else 0

    def _make(self, path: str, *, is_folder: bool) -> int:
        node = self._new()
        if not self._inside(path):
            return node
        folder, name = self._place(path)
        self._names[folder][name] = node
        if is_folder:
            self._names[node] = {}
        self._sizes[node] = 0
        self._say(Made(folder=folder, name=name, node=node, is_folder=is_folder))
        return node

    def _write(self, descriptor: str, data: str, offset: int | None) -> None:
        path = _path(descriptor)
        if path == self._marks:
            self._say(Marked(said=json.loads(_text(data))))
            return
        node = self._node(path)
        if node is None:
            return
        written = _text(data)
        if offset is None:
            position = self._positions[node]
            offset = self._sizes[node] if position is None else position
            if position is not None:
                self._positions[node] = offset + len(written)
        self._sizes[node] = max(self._sizes[node], offset + len(written))
        self._say(Written(node=node, offset=offset, data=written))

    def _resize(self, node: int | None, size: int) -> None:
        if node is not None and self._sizes[node] != size:
            self._sizes[node] = size
            self._say(Resized(node=node, size=size))

    def _move(self, old: str, new: str) -> None:
        assert self._inside(old) == self._inside(new), (old, new)
        if not self._inside(old):
            return
        source, was = self._place(old)
        folder, name = self._place(new)
        node = self._names[source].pop(was)
        self._names[folder][name] = node
        self._say(Moved(source=source, old=was, folder=folder, name=name, node=node))

    def _remove(self, path: str) -> None:
        if self._inside(path):
            folder, name = self._place(path)
            node = self._names[folder].pop(name)
            self._say(Removed(folder=folder, name=name, node=node))

    def _sync(self, descriptor: str, before: int) -> None:
        path = _path(descriptor)
        node = self._node(path)
        if path is None or node is None:
            return
        self._say(
            Synced(
                node=node,
                path=os.path.relpath(path, self._home),
                is_folder=node in self._names,
                since=self._returned[before],
            )
        )

    def _ignore(self, call: _Call) -> None:
        """Leave out a call, which must not have been about the home."""
        said = set("|".join(call.arguments).split("|"))
        if call.name == "mmap" and not said >= {"PROT_WRITE", "MAP_SHARED"}:
            return
        touched = [each for each in self._paths(call) if self._inside(each)]
        everything = call.name in {"sync", "syncfs"}
        assert not touched and not everything, f"not understood: {call.name} of {touched}"  # noqa: PT018  # one complaint

    def _say(self, operation: Operation) -> None:
        self.recording.operations.append(operation)

    # Names

    def _at(self, folder: str, text: str) -> str:
        path = os.path.join(_path(folder) or "", _text(text).decode())  # noqa: PTH118  # not a path of this process
        assert path.startswith("/"), path
        return os.path.normpath(path)

    def _paths(self, call: _Call) -> Iterator[str]:
        for argument in call.arguments:
            if argument.startswith('"'):
                yield _text(argument).decode(errors="replace")
            elif path := _path(argument):
                yield path

    def _inside(self, path: str) -> bool:
        inside = path.startswith(self._home + "/")
        return inside and not path.endswith("-shm")

    def _place(self, path: str) -> tuple[int, str]:
        folder = self._node(os.path.dirname(path))  # noqa: PTH120  # as above
        assert folder is not None, path
        return folder, os.path.basename(path)  # noqa: PTH119  # as above

    def _node(self, path: str | None) -> int | None:
        if path == self._home:
            return HOME_NODE
        if path is None or not self._inside(path):
            return None
        node: int | None = HOME_NODE
        for name in path.removeprefix(self._home + "/").split("/"):
            node = None if node is None else self._names.get(node, {}).get(name)
        return node
