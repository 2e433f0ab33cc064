"""The colours, recomputed from the style sheet: text can be read, controls can be seen."""

import re
from pathlib import Path

import pytest

SHEET = (Path(__file__).parents[2] / "fleet" / "page" / "static" / "skerry.css").read_text()
TOKENS = {
    name: pair
    for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", SHEET)
}
GROUNDS = ("bg", "surface", "sunk")
TEXT = ("ink", "ink-2", "accent", "ok", "updating", "waiting", "degraded", "failing", "offline")


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS)
def test_text_and_controls_stand_out(theme: int, ground: str) -> None:
    """Every text colour at 4.5 to 1 on every ground, every control's edge at 3 to 1."""
    under = TOKENS[ground][theme]
    text = {name: contrast(TOKENS[name][theme], under) for name in (*TEXT, "unknown")}
    edge = {name: contrast(TOKENS[name][theme], under) for name in ("edge", "ring")}

    assert {} == {name: found for name, found in text.items() if found < 4.5}
    assert {} == {name: found for name, found in edge.items() if found < 3}


def test_every_state_has_a_shape_of_its_own() -> None:
    """Colour repeats what the mark says; no two marks are drawn alike."""
    sprite = (Path(__file__).parents[2] / "fleet/page/templates/sprite.html").read_text()
    shapes = dict(re.findall(r'<symbol id="m-([\w-]+)"[^>]*>(.*?)</symbol>', sprite))
    words = {"ok", "updating", "waiting", "degraded", "failing", "offline", "unknown"}

    assert {*words, "paused", "rolled-back", "skerry"} == set(shapes)
    assert len(shapes) == len(set(shapes.values()))
