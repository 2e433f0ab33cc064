"""The screens of `skerry fleet status` and `skerry device`, as a terminal shows them."""

import json
import os
from pathlib import Path

import pytest

from tests.fleet.screens.conftest import Village
from tests.fleet.screens.village import VILLAGE

GOLDEN = Path(__file__).parent / "golden"
SCREENS = {
    "fleet-status": ("fleet", "status"),
    "device-ls": ("device", "ls"),
    "device-show": ("device", "show", "porto-cam-07"),
}
JSON = {
    "skerry.fleet": ("fleet", "status"),
    "skerry.devices": ("device", "ls"),
    "skerry.device": ("device", "show", "porto-cam-07"),
}


def rows(screen: object) -> list[str]:
    return [row.rstrip() for row in screen.display if row.strip()]  # type: ignore[attr-defined]  # pyte has no types


def golden(name: str, text: str = "") -> str:
    """Return what is kept under a name. `SKERRY_GOLDEN=write` keeps what is there now."""
    path = GOLDEN / name
    if text and os.environ.get("SKERRY_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return path.read_text()


@pytest.mark.parametrize("columns", [60, 80, 92])
@pytest.mark.parametrize("name", SCREENS)
async def test_no_row_wraps_in_any_terminal(village: Village, name: str, columns: int) -> None:
    """At 60 columns and above; what was written is row for row what is seen."""
    shown = rows(await village.screen(*SCREENS[name], columns=columns))

    assert all(len(row) <= columns for row in shown)
    text = "\n".join(shown) + "\n"
    if columns == 92:
        assert golden(f"{name}.txt", text) == text


@pytest.mark.parametrize("name", JSON)
async def test_json_is_what_it_was(village: Village, name: str) -> None:
    """A script that reads it today reads it tomorrow: what goes or changes needs a new version."""
    ended = await village.skerry(*JSON[name], "-o", "json")

    assert (0, "") == (ended.code, ended.err)
    assert f"{name}/1" == json.loads(ended.out)["schema"]
    assert golden(f"{name}.json", ended.out) == ended.out


async def test_colour_repeats_what_shape_and_word_say(village: Village) -> None:
    """On a terminal, unless somebody says no; never in a pipe, and the words are the same."""
    colored = await village.screen("device", "ls")
    told = {colored.buffer[row][0].fg for row in range(1, 10)}
    plain = [
        await village.screen("device", "ls", "--color", "never"),
        await village.screen("device", "ls", environment={"NO_COLOR": "1"}),
        await village.screen("device", "ls", environment={"TERM": "dumb"}),
    ]
    piped = await village.skerry("device", "ls")

    assert {"green", "blue", "magenta", "brown", "red", "brightblack"} <= told
    for screen in plain:
        assert {"default"} == {screen.buffer[row][0].fg for row in range(10)}
        assert rows(colored) == rows(screen)
    assert "\x1b" not in piped.out


@pytest.mark.parametrize(("name", "value"), [("SKERRY_ASCII", "1"), ("LC_ALL", "C")])
async def test_ascii_says_the_same(village: Village, name: str, value: str) -> None:
    """Where a terminal shows no Unicode, marks and bars are ASCII."""
    shown = [
        row
        for words in SCREENS.values()
        for row in rows(await village.screen(*words, environment={name: value}))
    ]

    assert all(row.isascii() for row in shown)
    assert any(row.startswith("x failing") for row in shown)


async def test_a_pipe_gets_every_name_whole(village: Village) -> None:
    """One line a device, nothing cut: `skerry device ls | grep` finds what is there."""
    ended = await village.skerry("device", "ls")
    lines = ended.out.splitlines()

    assert 1 + len(VILLAGE) == len(lines)
    assert all(any(villager.name in line.split() for line in lines) for villager in VILLAGE)


async def test_only_those_in_a_state_are_listed(village: Village) -> None:
    """What `fleet status` counts is what `--state` lists."""
    counts = json.loads((await village.skerry("fleet", "status", "-o", "json")).out)["states"]
    for word, number in counts.items():
        ended = await village.skerry("device", "ls", "--state", word, "-o", "json")
        assert number == len(json.loads(ended.out)["devices"])
    wrong = await village.skerry("device", "ls", "--state", "good")
    assert (2, "") == (wrong.code, wrong.out)


async def test_an_offline_device_is_dated_and_never_good(village: Village) -> None:
    """It says what it was and what it holds; it is in no sum of what serves."""
    shown = await village.skerry("device", "show", "lerwick-4")
    status = json.loads((await village.skerry("fleet", "status", "-o", "json")).out)

    assert shown.out.startswith("⊘ offline 3 d 4 h   lerwick-4")
    assert "WHY      offline 3 d 4 h; was ok; holds digits 1.4.0, may be serving it" in shown.out
    (serving,) = status["serving"]
    assert (7, 1) == (serving["devices"], serving["offline"])
    (numbers,) = status["numbers"]
    assert (7, 2800) == (numbers["devices"], numbers["requests"])


async def test_what_a_technician_wrote_moves_no_cursor(village: Village) -> None:
    """The reason of a hold is a device's text: its escape is shown, not obeyed."""
    shown = rows(await village.screen("device", "show", "lerwick-3"))

    assert shown[0].startswith("◷ waiting 10 min   lerwick-3")
    assert "lens is off ?[2J" in " ".join(shown)


async def test_an_empty_fleet_says_how_to_begin(village: Village) -> None:
    """The first command, not an empty table."""
    with village.store.write() as connection:
        past = ("health_days", "health_open", "away", "events_kept", "events_summed")
        rows = ("rollout_targets", "rollout_contents", "rollout_plans")
        known = ("health", "reported", "presence", "events", "acked", "devices", "rollouts")
        for table in (*past, *rows, *known):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608  # names of ours
    status = await village.skerry("fleet", "status")

    assert "skerry token create" in status.out
    assert 2 == len(status.out.splitlines())


def test_the_page_shows_the_screens_as_they_are() -> None:
    """`docs/health.md` quotes what a terminal shows."""
    page = (Path(__file__).parents[3] / "docs" / "health.md").read_text()

    for name, words in SCREENS.items():
        assert f"$ skerry {' '.join(words)}\n{golden(f'{name}.txt')}```" in page
