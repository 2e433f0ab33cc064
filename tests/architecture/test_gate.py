"""The gate bites: each contract and rule, broken once on purpose, is reported by name."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("agent", "fleet", "models", "k3s")
BIN = Path(sys.executable).parent

PLANTED = {
    "rooms": ("models/planted.py", "import k3s\n", "models.planted -> k3s"),
    "door": ("fleet/planted.py", "import agent.planted\n", "fleet.planted -> agent.planted"),
    "agent": ("agent/planted.py", "", "\n- agent.planted\n"),
    "wire": ("agent/wire/limits.py", "import agent.wire.codec\n", "limits -> agent.wire.codec"),
    "fleet": (
        "fleet/selector.py",
        "import fleet.rollouts.plan\n",
        "fleet.selector -> fleet.rollouts.plan",
    ),
    "rollouts": (
        "fleet/rollouts/states.py",
        "import fleet.rollouts.plan\n",
        "fleet.rollouts.states -> fleet.rollouts.plan",
    ),
    "simulate": (
        "fleet/simulate/twin.py",
        "import fleet.simulate.many\n",
        "fleet.simulate.twin -> fleet.simulate.many",
    ),
    "models": ("models/values.py", "import models.bundle\n", "models.values -> models.bundle"),
    "pure": ("agent/plan.py", "import asyncio\n", "agent.plan -> asyncio"),
}
"""For each contract a file, the lines planted at its end, and what the linter must name."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the rooms and their gate, to break."""
    target = tmp_path_factory.mktemp("house")
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, target / room, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the gate's tools on the copy and not on the installed rooms."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(cwd), "NO_COLOR": "1", "COLUMNS": "200"},
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_every_contract_has_its_plant() -> None:
    """No contract is trusted that was never seen to break."""
    gate = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = [contract["id"] for contract in gate["tool"]["importlinter"]["contracts"]]

    assert sorted(contracts) == sorted(PLANTED)


def test_each_contract_broken_on_purpose_is_reported(copy: Path) -> None:
    """One wrong import (or homeless file) a contract: each is named, by contract and by arrow."""
    gate = tomllib.loads((copy / "pyproject.toml").read_text())
    names = {each["id"]: each["name"] for each in gate["tool"]["importlinter"]["contracts"]}
    sound = run(BIN / "lint-imports", "--no-cache", cwd=copy)
    before: dict[Path, str | None] = {}
    for name, line, _ in PLANTED.values():
        path = copy / name
        before[path] = before.get(path, path.read_text() if path.exists() else None)
        path.write_text((before[path] or '"""Planted."""\n') + line)
    broken = run(BIN / "lint-imports", "--no-cache", cwd=copy)
    for path, text in before.items():
        if text is None:
            path.unlink()
        else:
            path.write_text(text)

    assert broken.returncode == 1
    for contract, (_, _, arrow) in PLANTED.items():
        assert f"{names[contract]} BROKEN" in broken.stdout
        assert arrow in broken.stdout
        assert arrow not in sound.stdout


RUFF = {
    "TID251": "import asyncio\n\n\nasync def f():\n    asyncio.create_task(g())\n",
    "TID252": "from . import x\n",
    "D100": "X = 1\n",
    "DTZ005": '"""D."""\n\nimport datetime\n\nX = datetime.datetime.now()\n',
    "BLE001": '"""B."""\n\ntry:\n    pass\nexcept Exception:\n    pass\n',
    "B904": '"""B."""\n\ntry:\n    pass\nexcept OSError:\n    raise ValueError("x")\n',
}


@pytest.mark.parametrize(("code", "text"), RUFF.items())
def test_each_rule_of_style_bites(code: str, text: str, copy: Path) -> None:
    """Ownerless tasks, relative imports, hidden clocks, blind excepts, lost causes: all refused."""
    planted = copy / "agent" / "planted.py"
    planted.write_text(text)
    said = run(BIN / "ruff", "check", "--no-cache", "--output-format=json", planted, cwd=copy)
    planted.unlink()

    assert code in {each["code"] for each in json.loads(said.stdout)}


@pytest.mark.parametrize(
    "banned",
    [
        "asyncio.ensure_future",
        "asyncio.gather",
        "datetime.datetime.utcnow",
        "time.monotonic",
        "time.sleep",
        "time.time",
        "unittest.mock.Mock",
    ],
)
def test_each_banned_name_is_refused_with_its_remedy(banned: str, copy: Path) -> None:
    """The message says what to write instead."""
    module = banned.rpartition(".")[0]
    planted = copy / "fleet" / "planted.py"
    planted.write_text(f'"""P."""\n\nimport {module.split(".datetime")[0]}\n\nX = {banned}\n')
    said = run(BIN / "ruff", "check", "--no-cache", "--output-format=json", planted, cwd=copy)
    planted.unlink()

    messages = [each["message"] for each in json.loads(said.stdout) if each["code"] == "TID251"]
    assert messages
    assert all(" is banned: " in message for message in messages)


def test_types_are_strict(copy: Path) -> None:
    """An untyped function, a forgotten `await` and a bare `type: ignore` are refused."""
    planted = copy / "planted.py"
    planted.write_text(
        "def f(x):\n    return x\n\n\n"
        "async def g() -> int:\n    return 1\n\n\n"
        "async def h() -> None:\n    g()\n\n\n"
        'Y: int = "a"  # type: ignore\n'
    )
    said = run(
        *(sys.executable, "-P", "-m", "mypy", "--no-incremental"),
        *("--config-file", copy / "pyproject.toml", planted),
        cwd=copy,
    ).stdout
    planted.unlink()

    assert "[no-untyped-def]" in said
    assert "[unused-coroutine]" in said
    assert "[ignore-without-code]" in said


LEAKS = {
    "a task": (
        (
            "import asyncio\n\n\nasync def test_it():\n"
            "    asyncio.get_running_loop().create_task(asyncio.sleep(9), name='left')\n"
        ),
        "tasks outlive their test",
    ),
    "a process": (
        (
            "import subprocess\n\nKEPT = []\n\n\ndef test_it():\n"
            "    KEPT.append(subprocess.Popen(['sleep', '30']))\n"
        ),
        "left behind by this test: process",
    ),
    "a thread": (
        (
            "import threading\n\n\ndef test_it():\n"
            "    threading.Thread(target=threading.Event().wait, args=(9,), daemon=True).start()\n"
        ),
        "left behind by this test: thread",
    ),
    "a warning": ("import warnings\n\n\ndef test_it():\n    warnings.warn('x')\n", "UserWarning"),
    "an open file": (
        "def test_it():\n    open(__file__)\n    import gc; gc.collect()\n",
        "ResourceWarning",
    ),
    "a skip in CI": (
        "import pytest\n\n\n@pytest.mark.real('no-such-program')\ndef test_it():\n    pass\n",
        "skipped in CI",
    ),
}


@pytest.mark.parametrize(("text", "complaint"), LEAKS.values(), ids=LEAKS)
def test_what_a_test_leaves_behind_fails_it(text: str, complaint: str, tmp_path: Path) -> None:
    """No task, process, thread, warning or silent skip gets past the suite."""
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "test_planted.py").write_text(text)
    said = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={**os.environ, "CI": "true"},
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert said.returncode == 1, said.stdout + said.stderr
    assert complaint in said.stdout
