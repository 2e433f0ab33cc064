"""Rollouts from beginning to end, as scripts, with what they did kept beside them.

`golden/NAME.txt` is the tale: read it. `SKERRY_GOLDEN=write` keeps what is there now.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.rollouts.policy import CAREFUL, Gate, Percent, Policy, Retry, WaveRule
from fleet.rollouts.states import RolloutHappening
from tests.fleet.deciding.story import Story
from tests.fleet.deciding.world import LITERT, TFLITE, Conduct, World

GOLDEN = Path(__file__).parent / "golden"
SIX = [LITERT] * 4 + [TFLITE] * 2
STORIES: dict[str, Callable[[], Story]] = {}


def told(story: Callable[[], Story]) -> Callable[[], Story]:
    """Have a story's tale kept under its name."""
    STORIES[story.__name__.replace("_", "-")] = story
    return story


def on(version: str, title: str, fleet: list[str]) -> Story:
    story = Story(title, World(fleet))
    story.serves(version)
    return story


@told
def happy_path() -> Story:
    story = on("1.0.0", "A canary of each class, then half, then all; each wave soaks.", SIX)
    story.starts("2.0.0")
    story.goes_on(15)
    return story


@told
def bad_canary() -> Story:
    title = "The first device that tries it refuses it: nobody else hears of it."
    story = on("1.0.0", title, [LITERT] * 4)
    story.world.bad("2.0.0")
    story.starts("2.0.0")
    story.goes_on(15)
    return story


@told
def bad_at_50_percent() -> Story:
    title = "The canary takes it, and then two of the three that bring it to half don't."
    story = on("1.0.0", title, [LITERT] * 8)
    for number in (2, 3):
        story.world.conduct["2.0.0", f"d-{number}"] = Conduct.FALL_BACK
    story.starts("2.0.0")
    story.goes_on(20)
    return story


@told
def bad_only_on_one_runtime() -> Story:
    story = on("1.0.0", "One device of the bad runtime tries it; the others go back as well.", SIX)
    story.world.bad("2.0.0", TFLITE)
    story.starts("2.0.0")
    story.goes_on(15)
    return story


@told
def half_offline() -> Story:
    story = on("1.0.0", "Who is away holds nobody up, and is caught up when it is back.", SIX)
    story.go(2, 4, 6)
    story.starts("2.0.0")
    story.goes_on(15)
    story.come(2, 4, 6)
    story.goes_on(5)
    return story


@told
def flapping_devices() -> Story:
    title = "They come and go on their way: set aside, not failed, and in the end all have it."
    story = on("1.0.0", title, SIX)
    story.starts("2.0.0")
    for number in (1, 5, 2, 3):
        story.goes_on(1)
        story.go(number)
        story.goes_on(1)
        story.come(number)
    story.goes_on(15)
    return story


@told
def window_closed() -> Story:
    title = "The canary waits for its download window, and is not late; nor is its wave."
    story = on("1.0.0", title, [LITERT] * 3)
    story.shut(1)
    story.starts("2.0.0")
    story.goes_on(120, every_s=300.0)
    story.shut(1, shut=False)
    story.goes_on(20)
    return story


@told
def retry() -> Story:
    title = "A full disk passes: the canary is asked again, and has not failed meanwhile."
    story = on("1.0.0", title, [LITERT] * 3)
    story.world.conduct["2.0.0", "d-1"] = Conduct.STUMBLE
    again = Policy(name="again", waves=CAREFUL.waves, retry=Retry(times=2, wait_s=120.0))
    story.starts("2.0.0", again)
    story.goes_on(15)
    return story


@told
def no_data() -> Story:
    title = "Too few come to an end: the gate can't decide, and a person lets the wave pass."
    story = on("1.0.0", title, [LITERT] * 4)
    gate = Gate(success_percent=90, error_percent=10, minimum_sample=2)
    halves = (WaveRule(size=Percent(percent=50), gate=gate), WaveRule(size=Percent(percent=100)))
    story.go(2, 3, 4)
    name = story.starts("2.0.0", Policy(name="halves", waves=halves))
    story.goes_on(90, every_s=300.0)
    story.come(3)
    story.goes_on(5)
    story.says(name, RolloutHappening.RESUMED)
    story.goes_on(5)
    story.come(2, 4)
    story.goes_on(5)
    return story


@pytest.mark.parametrize("name", STORIES)
def test_a_story_goes_as_it_is_told(name: str) -> None:
    """Word for word, and the same each time."""
    text = STORIES[name]().text()
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SKERRY_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


def test_no_tale_is_left_of_a_story_that_is_none() -> None:
    """Each kept tale is told."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(STORIES)
