"""The `skerry` command: fast, lazy, helpful, and never a stack trace at a person."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.wire.words import size
from fleet.cli import WORDS
from fleet.cli.screen import ExitCode

ROOT = Path(__file__).resolve().parents[3]
SKERRY = Path(sys.executable).with_name("skerry")


def skerry(
    *words: str, cwd: Path | None = None, command: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(command or [str(SKERRY)]), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "", "COLUMNS": "200", **environment},
    )


def three_lines(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was said on stderr, which is three lines and no stack trace."""
    lines = ended.stderr.splitlines()
    assert 3 == len(lines), ended.stderr
    assert "Traceback" not in ended.stderr
    assert not ended.stdout
    return lines


def test_help_is_quick_and_names_every_word() -> None:
    """It loads no room: typer, the database and pydantic wait until they are needed."""
    code = (
        "import sys; sys.argv = ['skerry', '--help']; from fleet.cli import main; main();"
        "heavy = {'typer', 'rich', 'pydantic', 'sqlalchemy', 'fastapi', 'asyncio', 'numpy'};"
        "sys.exit(f'loaded {heavy & sys.modules.keys()}' if heavy & sys.modules.keys() else 0)"
    )
    loaded = skerry(command=[sys.executable, "-c", code], cwd=ROOT)
    bare = [sys.executable, "-P", "-c", "import argparse; argparse.ArgumentParser().format_help()"]
    helps, peers = [], []
    ended = loaded
    for _ in range(5):
        began = time.perf_counter()
        skerry(command=bare)
        between = time.perf_counter()
        ended = skerry("--help")
        peers.append(between - began)
        helps.append(time.perf_counter() - between)

    assert (0, "") == (loaded.returncode, loaded.stderr)
    assert 0 == ended.returncode
    assert set(WORDS) <= set(ended.stdout.split())
    assert min(helps) < 6 * min(peers)  # measured: 3 times


def test_version_is_the_distribution_s() -> None:
    """What is installed says which it is."""
    ended = skerry("--version")

    assert (0, "skerry") == (ended.returncode, ended.stdout.split()[0])


def test_an_unknown_word_is_guessed_at() -> None:
    """A typing error costs one line of reading."""
    ended = skerry("devcie")

    assert 2 == ended.returncode
    assert "did you mean: skerry device" == three_lines(ended)[2]


@pytest.mark.parametrize(
    "words",
    [
        ("device", "shwo", "x"),
        ("device", "show"),
        ("token", "create", "--uses", "0"),
        ("token", "create", "--valid", "long"),
        ("token", "create", "--label", "novalue"),
        ("rollout", "plan", "digits:1.0.0"),
        ("rollout", "plan", "digits:1.0.0", "--to", ""),
        ("rollout", "start", "digits:1.0.0", "--to", " "),
        ("rollout", "plan", "digits:1.0.0", "--to", "a b"),
        ("rollout", "plan", "sha256:" + "a" * 64, "--to", "all"),
        ("up", "--listen", "nowhere"),
        ("up", "--plain", "0.0.0.0:8480"),
    ],
)
def test_wrong_usage_is_two_and_three_lines(words: tuple[str, ...], tmp_path: Path) -> None:
    """What is wrong, a code, where to read on; nothing is done."""
    home = str(tmp_path / "home")

    assert 3 == len(three_lines(skerry(*words, SKERRY_HOME=home)))
    assert 2 == skerry(*words, SKERRY_HOME=home).returncode
    assert not Path(home).exists()


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"demo", "doctor", "up"}))
def test_a_group_alone_shows_its_help_once(word: str) -> None:
    """Nothing was wanted and nothing is wrong: help, 2, and no complaint."""
    ended = skerry(word)

    assert (ExitCode.USAGE, "") == (ended.returncode, ended.stderr)
    assert 1 == ended.stdout.count(f"skerry {word} ")


def test_sizes_are_for_people() -> None:
    """Three or four digits and a unit."""
    sizes = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 6638928: "6.6 MB", 999_999: "1.0 MB"}
    assert sizes == {count: size(count) for count in sizes}


def test_a_home_without_keys_is_told_so(tmp_path: Path) -> None:
    """The first thing a new user forgets."""
    what, _, next_step = three_lines(skerry("up", "--home", str(tmp_path)))
    assert "this fleet has no keys yet" == what
    assert "skerry trust init" in next_step


def test_rows_that_are_none_are_told_so(tmp_path: Path) -> None:
    """In words of ours, not in a library's."""
    image = tmp_path / "cat.jpg"
    image.write_bytes(b"no rows")
    ended = skerry("model", "evaluate", str(image), str(image))
    assert f"{image} is no .npz file" == three_lines(ended)[0]


def test_a_folder_that_is_no_bundle_is_told_what_one_is(tmp_path: Path) -> None:
    """The next step fits what was wrong."""
    _, why, next_step = three_lines(skerry("model", "inspect", str(tmp_path)))
    assert "BUNDLE_MALFORMED" == why
    assert "skerry model pack" in next_step


def test_exit_codes_are_told() -> None:
    """A script's author can look them up."""
    ended = skerry("help", "exit-codes")

    told = [int(line.split()[0]) for line in ended.stdout.splitlines()]
    assert sorted(ExitCode) == told


@pytest.mark.parametrize("module", [False, True])
def test_a_folder_with_its_own_models_works(tmp_path: Path, module: bool) -> None:  # noqa: FBT001  # a parameter
    """The user's own `models` and `agent` are never imported in place of ours."""
    for name in ("models", "agent", "typer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    command = [sys.executable, "-P", "-m", "fleet.cli"] if module else [str(SKERRY)]

    ended = skerry("trust", "init", "--home", str(tmp_path / "h"), cwd=tmp_path, command=command)

    assert 0 == ended.returncode, ended.stderr


def test_a_missing_part_is_named_with_its_extra(tmp_path: Path) -> None:
    """Who installed only one extra is told which other one a word needs."""
    code = (
        "import sys; sys.modules['sqlalchemy'] = None; from fleet.cli import main;"
        "sys.exit(main(['up', '--home', 'h']))"
    )
    ended = skerry(command=[sys.executable, "-P", "-c", code], cwd=tmp_path)

    assert 2 == ended.returncode
    what, why, next_step = three_lines(ended)
    assert "sqlalchemy" in what
    assert ("EXTRA_MISSING", "install it: pip install 'skerry[fleet]'") == (why, next_step)


def test_a_defect_of_ours_is_said_and_its_trace_kept_for_who_asks(tmp_path: Path) -> None:
    """Nobody gets a stack trace who didn't ask for one."""
    code = (
        "import sys, fleet.cli; fleet.cli._help = lambda: 1 / 0; sys.exit(fleet.cli.main(['-h']))"
    )
    command = [sys.executable, "-P", "-c", code]

    quiet = skerry(command=command, cwd=tmp_path)
    asked = skerry(command=command, cwd=tmp_path, SKERRY_TRACE="1")

    assert 1 == quiet.returncode
    assert "INTERNAL" == three_lines(quiet)[1]
    assert "ZeroDivisionError" in asked.stderr
    assert "Traceback" in asked.stderr


def test_trust_is_made_and_not_made_twice(tmp_path: Path) -> None:
    """The second init ends with the code of a conflict."""
    home = str(tmp_path / "home")

    made = skerry("trust", "init", "--home", home, "--fleet", "north-sea", "--host", "c.example")
    again = skerry("trust", "init", "--home", home)

    assert 0 == made.returncode, made.stderr
    assert "north-sea" in made.stdout
    assert 6 == again.returncode
    assert three_lines(again)[1].startswith("TRUST_EXISTS")


@pytest.mark.parametrize(
    ("words", "code"),
    [(("device", "ls"), 5), (("up",), 3)],
)
def test_what_is_not_there_is_said(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    """No centre on this home, no keys in it: each with the command that helps."""
    ended = skerry(*words, "--home", str(tmp_path / "home"))

    assert code == ended.returncode
    assert "skerry" in three_lines(ended)[2]


def test_a_centre_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    """Nothing listens there: exit 5, and where it was looked for."""
    token = tmp_path / "token"
    token.write_text("x")
    ended = skerry("device", "ls", "--centre", "http://127.0.0.1:9", SKERRY_TOKEN_FILE=str(token))

    assert 5 == ended.returncode
    assert "http://127.0.0.1:9" in three_lines(ended)[0]


def test_json_on_stdout_is_one_document(tmp_path: Path) -> None:
    """`running.json` and `-o json` are for machines: see the centre's own test for the rest."""
    (tmp_path / "running.json").write_text(json.dumps({"nothing": 1}))

    assert 5 == skerry("device", "ls", "--home", str(tmp_path)).returncode


@pytest.mark.parametrize("url", ["http://[::1", "ftp://c", "c.example:8443", "https://", "", "x"])
def test_what_is_no_address_is_told_before_anything_is_asked(url: str, tmp_path: Path) -> None:
    """Of a centre that is named by mistake: three lines, and the usage code."""
    (tmp_path / "token").write_text("t" * 43)
    ended = skerry("device", "ls", "--centre", url or "-", "--token-file", str(tmp_path / "token"))

    assert ExitCode.USAGE == ended.returncode
    assert three_lines(ended)[0].startswith("not the address of a centre: ")


@pytest.mark.parametrize("text", ["", "hush\nhush", "hush hush", "hus\x00h", "h" * 2000, "hüsh"])
def test_what_is_no_token_is_told_and_never_repeated(text: str, tmp_path: Path) -> None:
    """A wrong file may hold another secret: not a letter of it is shown."""
    (tmp_path / "token").write_text(text, encoding="utf-8")
    where = ["--centre", "http://127.0.0.1:9", "--token-file", str(tmp_path / "token")]
    ended = skerry("device", "ls", *where)

    assert ExitCode.NOT_ALLOWED == ended.returncode
    assert "TOKEN_MISSING" == three_lines(ended)[1]
    assert "hush" not in ended.stderr
