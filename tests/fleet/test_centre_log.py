"""The centre's log: JSON lines that no cause fills, with nothing in them that is nobody's."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from agent.wire.ration import LINES, WINDOW_S
from fleet import log


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream(clock: Clock) -> Iterator[io.StringIO]:
    """What is written, while the process's log is the centre's."""
    stream, root = io.StringIO(), logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers = []
    log.configure(stream, now=clock)
    yield stream
    structlog.reset_defaults()
    root.handlers = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_storm_of_one_cause_leaves_room_for_the_others(stream: io.StringIO, clock: Clock) -> None:
    """A wave of 1,000 devices is its first lines and, a minute later, how many more there were."""
    to = structlog.get_logger()
    for number in range(1000):
        to.info("target", rollout="r-1", device=f"d-{number}", state="asked")
    to.info("target", rollout="r-1", device="d-1", state="committed")
    clock.now = WINDOW_S
    to.info("rollout", rollout="r-1", state="done")
    said = lines(stream)

    assert LINES + 2 == len(said)
    assert "committed" == said[-2]["state"]
    assert [1000 - LINES] == list(said[-1]["held_back"].values())
    assert all(line["timestamp"] and line["level"] == "info" for line in said)


def test_a_defect_is_told_without_the_values_of_variables(stream: io.StringIO) -> None:
    """Where it is, and what it said; a key that was in a variable there is not in the log."""

    def sign(key: str) -> None:
        raise RuntimeError(f"a key of {len(key)} characters")

    try:
        sign("the-operators-own-secret")
    except RuntimeError:
        structlog.get_logger().exception("a defect")
    (said,) = lines(stream)

    assert "a key of 24 characters" == said["exception"][0]["exc_value"]
    assert "sign" == said["exception"][0]["frames"][-1]["name"]
    assert "the-operators-own-secret" not in stream.getvalue()


def test_what_libraries_say_is_a_line_like_ours_and_none_is_long(stream: io.StringIO) -> None:
    """Warnings and worse, with the logger's name; an endless text is cut."""
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("no answer from %s", "x" * 5000)
    (said,) = lines(stream)

    assert ("some.library", "warning") == (said["logger"], said["level"])
    assert said["event"].startswith("no answer from xxx")
    assert len(said["event"]) <= 1001
