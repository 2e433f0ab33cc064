"""Nothing that ships knows of its tests: a device in the field runs what was tried."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

ENVIRONMENT = {
    "NOTIFY_SOCKET",
    "SKERRY_HOME",
    "SKERRY_TOKEN",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
}
"""What `agent` and `models` read of their environment by name, each documented."""

WORDS = ("pytest", "hypothesis", "under_test", "testing", "fault_inject", "failpoint", "chaos")


def files() -> Iterator[Path]:
    for room in ("agent", "models"):
        yield from sorted((ROOT / room).rglob("*.py"))


def test_nothing_imports_or_names_a_test() -> None:
    """No import of `tests`, no name or text that switches something for one."""
    found = []
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module=str(module)) if module.partition(".")[0] == "tests":
                    found.append(f"{path.name}: imports {module}")
                case ast.Import(names=names):
                    found += [f"{path.name}: {n.name}" for n in names if n.name.startswith("tests")]
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.FunctionDef(name=name):
                    low = name.lower()
                    if low != "testing" and any(word in low for word in WORDS):
                        found.append(f"{path.name}: {name}")
                case _:
                    pass
    assert found == []


def test_the_environment_is_read_by_known_names_only() -> None:
    """A switch that nobody wrote down can't be hidden there."""
    names = set()
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if name := _read(node):
                names.add(name)
    assert names <= ENVIRONMENT, names - ENVIRONMENT


def _read(node: ast.AST) -> str | None:
    match node:
        case ast.Call(
            func=ast.Attribute(attr="get", value=of), args=[ast.Constant(value=str(name)), *_]
        ):
            return name if _environ(of) else None
        case ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(value=str(name)), *_]):
            return name
        case ast.Subscript(value=of, slice=ast.Constant(value=str(name))):
            return name if _environ(of) else None
        case _:
            return None


def _environ(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"
