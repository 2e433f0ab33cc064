"""The house is as drawn; and each check, shown a broken house, says so."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture import drawing

ROOT = Path(__file__).parent.parent.parent

WRITES_ALLOWED = {
    "agent/alone.py": "the lock that keeps a second agent off one home, and who holds it",
    "agent/cli.py": "the null device, when a reader of the output went away",
    "agent/fetch/registry.py": "appends to a partial download, which `durable.adopt` then takes in",
    "agent/join.py": "a whole identity is put in its place; its files were written durably before",
    "agent/log.py": "the log: synced it would wear out flash, so a power cut may take its end",
    "agent/workers/process.py": "a session's niceness: the kernel's, and no file",
    "fleet/cli/__init__.py": "the null device, when a reader of the output went away",
    "fleet/demo/crew.py": "logs of the demo's processes",
    "fleet/registry/publish.py": "a partial upload, which `durable.adopt` then takes in",
    "fleet/run.py": "the lock that keeps a second centre off one home; it has no content",
}
"""Modules that write files themselves, with the reason. The database engine writes its own."""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Return a small house in which nothing is wrong."""
    for room in drawing.ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text('"""A room."""\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        '"""Promises."""\n\n\ndef test_it() -> None:\n    """It is."""\n'
    )
    shutil.copy(ROOT / "models" / "durable.py", tmp_path / "models" / "durable.py")
    return tmp_path


def test_no_file_is_too_long() -> None:
    """Past 600 lines (tests: 800) a file wants a new room."""
    assert [] == drawing.too_long(ROOT)


def test_every_module_has_its_charter() -> None:
    """A module says what it promises."""
    assert [] == drawing.without_charter(ROOT)


def test_every_test_states_its_promise() -> None:
    """A test's docstring says in the domain's words what must hold."""
    assert [] == drawing.promises_nothing(ROOT)


def test_no_constructor_takes_more_than_seven_collaborators() -> None:
    """What needs eight parts is two things."""
    assert [] == drawing.too_many_collaborators(ROOT)


def test_no_name_is_a_catch_all() -> None:
    """Modules and classes are called by the words of the design."""
    assert [] == drawing.catch_alls(ROOT)


def test_no_two_test_files_share_a_name() -> None:
    """A failure's file is found by its name alone."""
    assert [] == drawing.same_test_names(ROOT)


def test_files_are_written_by_the_durable_function_alone() -> None:
    """A power cut finds the old content or the new, because there is one way to write."""
    found = drawing.writes(ROOT)

    assert [] == [call for name in found.keys() - WRITES_ALLOWED.keys() for call in found[name]]
    assert set() == WRITES_ALLOWED.keys() - found.keys()


def test_nothing_tracked_names_a_package_registry_or_somebodys_machine() -> None:
    """The repository is the same wherever its packages come from."""
    assert [] == drawing.foreign(ROOT)


BROKEN: list[tuple[Callable[[Path], object], str, str]] = [
    (drawing.too_long, "fleet/store.py", '"""Long."""\n' + "X = 1\n" * 600),
    (drawing.too_long, "tests/test_long.py", '"""Long."""\n' + "X = 1\n" * 800),
    (drawing.without_charter, "k3s/render.py", "X = 1\n"),
    (drawing.promises_nothing, "tests/test_mute.py", '"""P."""\n\ndef test_x():\n    pass\n'),
    (
        drawing.too_many_collaborators,
        "agent/run.py",
        '"""R."""\n\nclass R:\n    def __init__(self, a, b, c, d, *, e, f, g, h):\n        pass\n',
    ),
    (
        drawing.too_many_collaborators,
        "agent/run.py",
        '"""R."""\n\n@dataclass\nclass Device:\n' + "".join(f"    {x}: A\n" for x in "abcdefgh"),
    ),
    (drawing.catch_alls, "agent/utils.py", '"""U."""\n'),
    (drawing.catch_alls, "agent/plan_helpers.py", '"""U."""\n'),
    (drawing.catch_alls, "models/pack.py", '"""P."""\n\nclass BundleManager:\n    pass\n'),
    (drawing.same_test_names, "tests/agent/test_it.py", '"""P."""\n'),
    (drawing.writes, "fleet/x.py", '"""W."""\nPATH.write_text("")\n'),
    (drawing.writes, "fleet/x.py", '"""W."""\nopen(PATH, "wb")\n'),
    (drawing.writes, "fleet/x.py", '"""W."""\nPATH.open(mode="r+b")\n'),
    (drawing.writes, "fleet/x.py", '"""W."""\nos.open(PATH, os.O_WRONLY | os.O_CREAT)\n'),
    (drawing.writes, "fleet/x.py", '"""W."""\nshutil.copyfile(A, B)\n'),
    (drawing.foreign, "README.md", "see pypi" + ".org\n"),
    (drawing.foreign, "k3s/x.py", 'PATH = "/ro' + 'ot/.config"\n'),
]


@pytest.mark.parametrize(("check", "name", "text"), BROKEN)
def test_a_broken_house_is_noticed(
    check: Callable[[Path], object], name: str, text: str, house: Path
) -> None:
    """Each check is clean on a sound house, and names the file that breaks it."""
    assert not check(house)
    planted = house / name
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(text)

    assert Path(name).name in str(check(house))
