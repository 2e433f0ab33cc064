"""The checks that read source text: each takes a tree and says what in it is not as drawn.

Functions over a folder, so that the same check judges the repository and a copy
in which something was broken on purpose.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("agent", "fleet", "models", "k3s")
FILE_LIMIT_LINES = 600
TEST_LIMIT_LINES = 800
COLLABORATORS_LIMIT = 7
CATCH_ALLS = {
    *("manager", "managers", "handler", "handlers", "util", "utils", "service", "services"),
    *("processor", "processors", "data", "info", "common", "base", "misc", "helper", "helpers"),
}
FOREIGN = re.compile(
    # Written in halves, so that this file doesn't accuse itself.
    "|".join(
        first + second
        for first, second in (
            ("pypi", r"\.org"),
            ("pythonhosted", r"\.org"),
            ("registry", r"\.npmjs"),
            ("proxy", r"\.golang"),
            ("repo1", r"\.maven"),
            ("--index-", "url"),
            ("--find-", "links"),
            (r"(?<![\w.])/ro", "ot/"),
            (r"(?<![\w.])/wo", "rk/"),
            (r"(?<![\w.])/opt/wh", "eels"),
        )
    )
)
DURABLE = "models/durable.py"


def files(root: Path, *folders: str) -> Iterator[Path]:
    """Yield the Python files of some folders, in order."""
    for folder in folders:
        yield from sorted((root / folder).rglob("*.py"))


def trees(root: Path, *folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield each Python file's path within `root` and its syntax tree."""
    for path in files(root, *folders):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text())


def too_long(root: Path) -> list[str]:
    """Name the files that want a new room."""
    limits = [(path, FILE_LIMIT_LINES) for path in files(root, *ROOMS)]
    limits += [(path, TEST_LIMIT_LINES) for path in files(root, "tests")]
    return [
        f"{path.relative_to(root)}: {lines} lines; at most {limit}"
        for path, limit in limits
        if (lines := len(path.read_text().splitlines())) > limit
    ]


def without_charter(root: Path) -> list[str]:
    """Name the modules without a docstring."""
    return [name for name, tree in trees(root, *ROOMS, "tests") if not ast.get_docstring(tree)]


def promises_nothing(root: Path) -> list[str]:
    """Name the tests whose docstring doesn't state what they promise."""
    return [
        f"{name}: {node.name}"
        for name, tree in trees(root, "tests")
        if Path(name).name.startswith("test_")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]


def too_many_collaborators(root: Path) -> list[str]:
    """Name the constructors with more than seven collaborators: plain values aren't counted."""
    return [
        f"{name}: {node.name} takes {count}; at most {COLLABORATORS_LIMIT}"
        for name, tree in trees(root, *ROOMS)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and (count := _collaborators(node)) > COLLABORATORS_LIMIT
    ]


def catch_alls(root: Path) -> list[str]:
    """Name the modules and classes whose name says nothing."""
    modules = [
        name
        for name, _ in trees(root, *ROOMS)
        if CATCH_ALLS & set(re.split(r"[/_]", name.removesuffix(".py")))
    ]
    classes = [
        f"{name}: {node.name}"
        for name, tree in trees(root, *ROOMS)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and CATCH_ALLS & {word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", node.name)}
    ]
    return modules + classes


def same_test_names(root: Path) -> list[str]:
    """Name the test files that share their name with another."""
    names = [path.name for path in files(root, "tests") if path.name.startswith("test_")]
    return sorted({name for name in names if names.count(name) > 1})


def writes(root: Path) -> dict[str, list[str]]:
    """Return, for each module but the durable one, the calls by which it writes files itself."""
    found: dict[str, list[str]] = {}
    for name, tree in trees(root, *ROOMS):
        if name == DURABLE:
            continue
        calls = [
            f"{name}: {ast.unparse(node)[:80]}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _writes(node)
        ]
        if calls:
            found[name] = calls
    return found


def foreign(root: Path) -> list[str]:
    """Name the lines that name a package registry's host or a path of somebody's machine."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z"],  # noqa: S607  # whichever git is there
        check=False,
        capture_output=True,
        text=True,
    )
    names = [name for name in listing.stdout.split("\0") if name]
    paths = [root / name for name in names] or [p for p in root.rglob("*") if p.is_file()]
    found = []
    for path in paths:
        if not path.is_file():
            continue
        text = path.read_bytes().decode(errors="replace")
        found += [
            f"{path.relative_to(root)}: {line.strip()[:100]}"
            for line in text.splitlines()
            if FOREIGN.search(line)
        ]
    return found


def _collaborators(node: ast.ClassDef) -> int:
    decorators = " ".join(ast.unparse(each) for each in node.decorator_list)
    if "dataclass" in decorators:
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        frozen = "frozen=True" in decorators
        return 0 if frozen else sum(not _plain(each.annotation) for each in fields)
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            arguments = each.args.posonlyargs + each.args.args + each.args.kwonlyargs
            return sum(not _plain(argument.annotation) for argument in arguments[1:])
    return 0


def _plain(annotation: ast.expr | None) -> bool:
    words = re.findall(r"\w+", ast.unparse(annotation)) if annotation else ["unknown"]
    return set(words) <= {"str", "int", "float", "bool", "bytes", "Path", "None"}


def _writes(call: ast.Call) -> bool:
    called = ast.unparse(call.func)
    last = called.rpartition(".")[2]
    if last in {"write_text", "write_bytes", "NamedTemporaryFile", "mkstemp"}:
        return True
    if called in {"os.rename", "os.replace", "os.truncate", "shutil.move", "shutil.copytree"}:
        return True
    if called.startswith("shutil.copy"):
        return True
    if called == "os.open":
        return bool(re.search(r"O_(WRONLY|RDWR|CREAT)", ast.unparse(call)))
    if last not in {"open", "fdopen"}:
        return False
    words = [each.value for each in ast.walk(call) if isinstance(each, ast.Constant)]
    modes = [word for word in words if isinstance(word, str) and re.fullmatch("[rwaxbt+]+", word)]
    return any(set(mode) & set("wax+") for mode in modes)
