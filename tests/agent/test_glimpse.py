"""What only a running agent knows, as `status` reads it beside the agent."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.alone import alone, has_ended, signature
from agent.glimpse import EACH_S, Glimpse, Glimpses, read, render
from agent.home import Home
from agent.page.drawing import draw
from agent.policy import Policy
from agent.standing import standing
from agent.state import Compared, Record, Serving
from agent.status import Remembered, Status, as_json, as_text, known
from agent.wire import v1
from agent.wire.phases import Phase
from tests.agent.inline import Inline
from tests.agent.looks import DIGITS, at, installed, seen, wanted

SHORT = v1.Problem(reason="OUT_OF_MEMORY", message="one that died is not replaced: no memory")
SEAT = Serving(revision=1, digest=DIGITS.wanted.bundle.digest, workers=1, short=SHORT)
SEEN = Compared(requests=37, agreed=36)


def compared_record() -> Record:
    """Return a deployment of two workers, whose next revision is compared with what serves."""
    next_one = wanted("digits", "9.0.0", 9)
    settings = replace(next_one.settings, shadow=v1.ShadowSettings(requests=100))
    record = DIGITS.superseded(replace(next_one, settings=settings), at("11:48:00"))
    assert record.current is not None
    return replace(
        record,
        phase=Phase.SHADOWING,
        candidate=installed(next_one),
        current=replace(record.current, workers=2),
    )


def status(record: Record, serving: Serving | None, compared: Compared | None) -> Status:
    return Status(
        device="d-1",
        fleet="f",
        running=True,
        hold=None,
        policy=Policy(),
        remembered=Remembered(deployments=(standing(record, serving, compared),)),
    )


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    """All of it; and of a file that is no such thing, nothing."""
    whole = replace(SEAT, short=None)
    full = Glimpse(serving={"digits": SEAT, "other": whole}, compared={"x": SEEN}, by="me")
    path = tmp_path / "glimpse.json"
    path.write_bytes(render(full))
    assert full == read(path)
    wrong = (b'{"digits": {"workers": 2}}', b'{"digits": 1}')
    inside = [b'{"by": "", "deployments": %s}' % each for each in (b"[1]", *wrong)]
    for content in (b"", b"[1]", *wrong, *inside, b"\xff"):
        path.write_bytes(content)
        assert Glimpse(serving={}, compared={}) == read(path)
    assert Glimpse(serving={}, compared={}) == read(tmp_path / "nothing.json")


def test_what_an_agent_wrote_that_has_ended_is_not_told(tmp_path: Path) -> None:
    """The disk can't be written any more: another agent runs, and the file of the first is left."""
    mine = signature()
    boot, namespace, pid, start = mine.split(" ")
    with subprocess.Popen([sys.executable, "-c", _SIGN], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        gone = other.stdout.read().decode().strip()

    assert not has_ended(mine)
    assert has_ended(gone)
    assert has_ended(f"{boot} {namespace} {pid} 1{start}"), "its number is another's now"
    assert has_ended(f"another-boot {namespace} {pid} {start}")
    assert not has_ended(f"{boot} pid:[1] {pid} 1{start}"), "who knows, from another container"
    for nobody in ("", "x", "a b c d", f"{mine} {mine}"):
        assert has_ended(nobody)

    home = Home(tmp_path)
    seats = {"digits": SEAT}
    with alone(home.lock):
        home.glimpse.write_bytes(render(Glimpse(serving=seats, compared={}, by=gone)))
        assert {} == known(home).serving
        home.glimpse.write_bytes(render(Glimpse(serving=seats, compared={}, by=mine)))
        assert seats == known(home).serving
    assert {} == known(home).serving, "nobody runs"


_SIGN = "from agent.alone import signature; print(signature())"


def test_status_says_how_far_a_shadow_is_and_who_answers() -> None:
    """For people and for programs; without a running agent, what was chosen."""
    told = status(compared_record(), SEAT, SEEN)
    text = as_text(told)
    assert "shadowing: 37 of 100 compared, 36 agreed, serves" in text
    assert "by 1 of 2 workers" in text
    assert "fewer workers than chosen (OUT_OF_MEMORY): one that died is not replaced" in text
    [row] = json.loads(as_json(told))["deployments"]
    assert (37, 36, 100) == (row["compared"], row["agreed"], row["to_compare"])
    assert (2, 1, "OUT_OF_MEMORY") == (row["workers"], row["answering"], row["short"])
    bare = as_text(status(compared_record(), None, None))
    assert "by 2 workers" in bare
    assert "compared" not in bare


def test_a_shadow_s_numbers_are_of_a_shadow_alone() -> None:
    """What is left of them when it has gone on says nothing of the phase that it is in."""
    record = replace(compared_record(), phase=Phase.ACTIVATING)
    assert "compared" not in as_text(status(record, SEAT, SEEN))


def test_status_says_until_when_it_waits_for_its_window() -> None:
    """Nobody has to know what the code means, or ask the centre."""
    problem = v1.Problem(
        reason="DOWNLOAD_WINDOW_CLOSED", message="…", parameters={"opens": "2026-03-01T22:00:00Z"}
    )
    record = replace(compared_record(), phase=Phase.ACCEPTED, problem=problem)
    text = as_text(status(record, SEAT, None))
    assert "waits for its window, until 2026-03-01T22:00:00Z" in text


def test_the_page_says_both_too() -> None:
    """How far the comparison is, who answers of how many, and why not all."""
    record = compared_record()
    page = draw(seen(record, serving={"digits": SEAT}, compared={"digits": SEEN}), "")
    assert "37 of 100 compared, 36 agreed" in page
    assert "<dt>Workers</dt><dd>1 of 2</dd>" in page
    assert "Fewer workers than chosen: one that died is not replaced" in page
    whole = draw(seen(record, serving={"digits": replace(SEAT, workers=2, short=None)}), "")
    assert "<dt>Workers</dt><dd>2 of 2</dd>" in whole
    assert "Fewer workers" not in whole
    nobody = draw(seen(record, serving={}, answering=frozenset()), "")
    assert "<dt>Workers</dt><dd>0 of 2</dd>" in nobody


@pytest.mark.looptime
async def test_it_is_written_when_it_changed_and_not_all_the_time(tmp_path: Path) -> None:
    """A comparison that counts on costs two writes a minute; one that rests costs none."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Inline())
    path, count = tmp_path / "glimpse.json", 0
    written: list[tuple[float, int]] = []

    def look() -> Glimpse:
        if path.exists():
            now = read(path).compared["digits"].requests
            if not written or written[-1][1] != now:
                written.append((loop.time(), now))
        return Glimpse(serving={"digits": SEAT}, compared={"digits": Compared(requests=count)})

    glimpses = Glimpses(path, look)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(glimpses.run(), name="glimpses")
        for _ in range(10 * 60):
            await asyncio.sleep(1)
            count += 1
            glimpses.wake()
        rest = count
        await asyncio.sleep(600)
        running.cancel()

    assert rest == read(path).compared["digits"].requests
    moments = [moment for moment, _ in written]
    assert 15 <= len(moments) <= 600 / EACH_S + 2


@pytest.mark.looptime
async def test_who_answers_is_written_at_once(tmp_path: Path) -> None:
    """Whatever was written just before: a worker that died is seen within seconds."""
    asyncio.get_running_loop().set_default_executor(Inline())
    path, serving = tmp_path / "glimpse.json", {"digits": SEAT}
    glimpses = Glimpses(path, lambda: Glimpse(serving={**serving}, compared={"digits": SEEN}))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(glimpses.run(), name="glimpses")
        await asyncio.sleep(2)
        assert SEAT == read(path).serving["digits"]
        serving["digits"] = replace(SEAT, workers=0)
        glimpses.wake()
        await asyncio.sleep(8)
        assert 0 == read(path).serving["digits"].workers
        running.cancel()


@pytest.mark.looptime
async def test_a_disk_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """It is about nothing that must be kept."""
    asyncio.get_running_loop().set_default_executor(Inline())
    looked = 0

    def look() -> Glimpse:
        nonlocal looked
        looked += 1
        return Glimpse(serving={}, compared={})

    (tmp_path / "file").write_bytes(b"")
    glimpses = Glimpses(tmp_path / "file" / "glimpse.json", look)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(glimpses.run(), name="glimpses")
        await asyncio.sleep(1.5)
        assert not running.done()
        assert looked > 1
        running.cancel()
