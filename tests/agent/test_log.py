"""The device's log: a ring that stays within its bytes, and a reader that misses nothing."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent import log
from agent.cli import main
from agent.log import Ring, configure, read
from agent.wire.ration import CAUSES, LINES, WINDOW_S, Ration

LIMIT = 8000


def fill(ring: Ring, numbers: range) -> None:
    for number in numbers:
        ring.write(b'{"n": %d}\n' % number)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def numbers(lines: Iterator[str]) -> list[int]:
    return [json.loads(line)["n"] for line in lines]


def test_the_ring_keeps_the_newest_within_its_limit(tmp_path: Path) -> None:
    """However much is written, it takes no more, and holds an unbroken end of it."""
    ring = Ring(tmp_path / "log", limit_bytes=LIMIT)
    fill(ring, range(3000))
    ring.close()
    kept = numbers(read(tmp_path / "log"))

    assert size(tmp_path / "log") <= LIMIT
    assert list(range(kept[0], 3000)) == kept
    assert len(kept) > 400


def test_the_ring_goes_on_where_it_was(tmp_path: Path) -> None:
    """A restart appends; half a line that a power cut left takes none of ours with it."""
    ring = Ring(tmp_path, limit_bytes=LIMIT)
    fill(ring, range(3))
    ring.close()
    with (tmp_path / "agent.log").open("ab") as file:
        file.write(b'{"n": 3')
    fill(again := Ring(tmp_path, limit_bytes=LIMIT), range(4, 6))
    again.close()
    said = list(read(tmp_path))

    assert [0, 1, 2] == numbers(iter(said[:3]))
    assert '{"n": 3\n' == said[3]
    assert [4, 5] == numbers(iter(said[4:]))


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """Lines are given up and counted; the count is told when there is room again."""
    place = tmp_path / "log"
    place.write_text("a file where the folder should be")
    ring = Ring(place, limit_bytes=LIMIT)
    fill(ring, range(5))
    place.unlink()
    fill(ring, range(5, 6))
    ring.close()
    lost, line = read(place)

    assert {"event": "log lines lost", "count": 5} == json.loads(lost)
    assert {"n": 5} == json.loads(line)


def test_the_log_is_followed_across_its_turns(tmp_path: Path) -> None:
    """What is written while somebody reads comes whole, once, and in order."""
    ring = Ring(tmp_path, limit_bytes=LIMIT)
    fill(ring, range(100))
    written = iter(range(100, 700))

    def meanwhile(_seconds: float) -> None:
        fill(ring, range(start := next(written), start + 1))

    followed = read(tmp_path, follow=True, wait=meanwhile)
    seen = numbers(islice(followed, 600))
    followed.close()  # type: ignore[attr-defined]  # a generator
    ring.close()

    assert list(range(600)) == seen
    assert (tmp_path / "agent.log.1").exists()


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[tuple[Path, io.StringIO, list[float]]]:
    """A configured log, what it says aloud, and its clock."""
    said, at = io.StringIO(), [0.0]
    ring = Ring(tmp_path)
    configure(said, ring, now=lambda: at[0])
    yield tmp_path, said, at
    ring.close()
    structlog.reset_defaults()


def test_one_cause_takes_no_more_than_its_ration(
    logged: tuple[Path, io.StringIO, list[float]],
) -> None:
    """A flood leaves its first lines and a number; other causes are heard all the while."""
    folder, said, at = logged
    to = structlog.get_logger()
    for _ in range(1000):
        to.warning("link lost", why="refused")
    to.info("held", why="a person")
    at[0] = WINDOW_S
    to.info("released")
    lines = [json.loads(line) for line in read(folder)]

    assert LINES + 2 == len(lines)
    assert "held" == lines[LINES]["event"]
    assert {"link lost": 1000 - LINES} == lines[-1]["held_back"]
    assert said.getvalue().splitlines() == [line.rstrip("\n") for line in read(folder)]


def test_no_line_is_long(logged: tuple[Path, io.StringIO, list[float]]) -> None:
    """A long text keeps its beginning, a trace its end."""
    folder, _, _ = logged
    try:
        Path("x" * 5000 + " the end").read_text()
    except OSError:
        structlog.get_logger().exception("a defect", message="y" * 50_000)
    [line] = map(json.loads, read(folder))

    assert 1001 == len(line["message"])
    assert line["exception"].endswith(" the end'")
    assert len(line["exception"]) <= 4000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=300))
def test_what_is_held_back_is_counted(said: list[tuple[str, float]]) -> None:
    """Every line was let through or is told of as a number, none twice."""
    ration, now, through, owed = Ration(), 0.0, 0, 0
    for cause, later in said:
        now += later
        through += ration.admit(cause, now)
        owed += sum(ration.owed(now).values())
    owed += sum(ration.owed(now + WINDOW_S).values())

    assert len(said) == through + owed


def test_causes_are_bounded() -> None:
    """Somebody who invents causes takes no memory for ever."""
    ration = Ration()
    for number in range(10 * CAUSES):
        assert ration.admit(str(number), float(number))

    assert len(ration._windows) <= CAUSES


def test_logs_are_printed_and_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`skerry-agent logs` prints the ring; with `--follow` it goes on until its reader leaves."""
    home = ["--home", str(tmp_path)]
    assert 3 == main(["logs", *home])
    assert "no agent has written" in capsys.readouterr().err

    ring = Ring(tmp_path / "log")
    fill(ring, range(3))
    assert 0 == main(["logs", *home])
    assert [0, 1, 2] == numbers(iter(capsys.readouterr().out.splitlines()))

    words = [sys.executable, "-P", "-m", "agent", "logs", "--follow", *home]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        seen = numbers(islice(reader.stdout, 3))
        fill(ring, range(3, 4))
        seen += numbers(islice(reader.stdout, 1))
        reader.stdout.close()
        fill(ring, range(4, 5))
        assert 0 == reader.wait(20)
    ring.close()

    assert [0, 1, 2, 3] == seen


def test_many_threads_write_whole_lines(
    logged: tuple[Path, io.StringIO, list[float]],
) -> None:
    """The loop logs from threads of its executor; no line is torn or lost."""
    folder, _, _ = logged

    def say(who: int) -> None:
        for number in range(LINES):
            structlog.get_logger().info(f"from {who}", n=number)

    threads = [threading.Thread(target=say, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 8 * LINES == len([json.loads(line) for line in read(folder)])
    assert log.RING_LIMIT_BYTES == 16 * 1024 * 1024
