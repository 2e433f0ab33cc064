"""What went wrong in a rollout, with the end of each log: a person asks, and it is shown.

A real store and the real pages; a device's answer is kept by the doors that its own comes through.
"""

import gzip
import json
import re
from collections.abc import Sequence
from html import unescape

import httpx2 as httpx
import pytest

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.clock import written
from fleet.store import audit, commands
from fleet.store.engine import Store
from models.values import digest_of
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET
from tests.page.conftest import Visit
from tests.page.scene import fill
from tests.page.test_page_browser import overflow, violations

BACK, MOVING = "/rollouts/r-40", "/rollouts/r-41"
SAID = [
    {"timestamp": f"2026-03-01T12:00:0{number}.5Z", "level": "info", "event": f"step {number}"}
    for number in range(8)
] + [
    {
        "timestamp": "2026-03-01T12:00:09.5Z",
        "level": "error",
        "event": "refused",
        "reason": "GOLDEN_MISMATCH",
        "note": "<script>alert(1)</script>",
    }
]


async def section(person: httpx.AsyncClient, path: str = BACK) -> str:
    """Return the part of a rollout's page that is about what went wrong; empty: there is none."""
    text = (await person.get(path)).text
    return text.partition('id="worst"')[2].partition("</section>")[0]


async def asked(person: httpx.AsyncClient, store: Store) -> list[commands.Asked]:
    """Ask from the page, as a click does, and return all that was ever asked."""
    answer = await person.post(f"{BACK}/logs")
    assert (303, f"{BACK}#worst") == (answer.status_code, answer.headers["location"])
    with store.read() as connection:
        return list(commands.latest(connection, limit=10))


def answers(store: Store, command: commands.Asked, said: Sequence[object] | bytes) -> None:
    """Let a device send its log, and say that it has."""
    text = said if isinstance(said, bytes) else "".join(map(_line, said)).encode()
    packed = gzip.compress(text, mtime=0)
    result = v1.Result(
        fleet=FLEET,
        device=command.device,
        id=command.id,
        at=written(NOW),
        status=v1.ResultStatus.DONE,
        blob=digest_of(packed),
    )
    with store.write() as connection:
        commands.keep_answer(connection, command.device, command.id, packed, now=written(NOW))
        commands.end(connection, result, now=written(NOW))


def _line(said: object) -> str:
    return (said if isinstance(said, str) else json.dumps(said)) + "\n"


def log_of(part: str) -> list[str]:
    """Return the lines of a log as they read."""
    rows = re.findall(r'<tr class="l-.*?</tr>', part)
    return [" ".join(unescape(re.sub(r"<[^>]*>", " ", row)).split()) for row in rows]


async def test_who_failed_stands_there_also_after_it_has_gone_back(
    person: httpx.AsyncClient,
) -> None:
    """With its reason and the command that prints its log; where nobody failed there is nothing."""
    part = await section(person)

    assert "GOLDEN_MISMATCH" in part
    assert "skerry device logs" in part
    assert "Ask for its log" in part
    assert "" == await section(person, MOVING)


async def test_its_log_is_asked_for_once_and_shown_when_it_comes(
    person: httpx.AsyncClient, store: Store
) -> None:
    """Its last lines, the oldest first; who asked, and for what, is in the audit."""
    [command] = await asked(person, store)
    waiting = await section(person)
    again = await asked(person, store)
    answers(store, command, SAID)
    part = await section(person)
    with store.read() as connection:
        entry = next(each for each in audit.latest(connection, limit=5) if each.after)

    assert [command] == again
    assert "It was asked for its log" in waiting
    assert "<form" not in waiting
    assert [f"12:00:0{number} info step {number}" for number in range(3, 8)] == log_of(part)[:-1]
    assert (
        "12:00:09 error refused reason=GOLDEN_MISMATCH note=<script>alert(1)</script>"
        == log_of(part)[-1]
    )
    assert "<script>" not in part
    assert ("command.ask", "went wrong in r-40") == (entry.action, entry.reason)


async def test_a_device_that_refuses_says_why(person: httpx.AsyncClient, store: Store) -> None:
    """And it can be asked again."""
    [command] = await asked(person, store)
    result = v1.Result(
        fleet=FLEET,
        device=command.device,
        id=command.id,
        at=written(NOW),
        status=v1.ResultStatus.REFUSED,
        problem=v1.Problem(reason=Reason.COMMAND_NOT_ALLOWED, message="its owner allows no logs"),
    )
    with store.write() as connection:
        commands.end(connection, result, now=written(NOW))
    part = await section(person)

    assert "refused: its owner allows no logs" in part
    assert "Ask for its log" in part


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xfe no text",
        b"[" * 100_000,
        [[1, 2], 3, "{", {"event": {"deep": "x" * 5000}, "timestamp": 7}],
        bytes(8 * 1024 * 1024),
        [{"event": "deep in caf\udce9.bin", "timestamp": "\ud800", "level": "\ud800"}],
    ],
    ids=["empty", "bytes", "nested", "odd", "zeros", "half a character"],
)
async def test_a_log_that_is_none_breaks_no_page(
    person: httpx.AsyncClient, store: Store, said: Sequence[object] | bytes
) -> None:
    """What is no line of a log is left out, and a long one is cut."""
    [command] = await asked(person, store)
    answers(store, command, said)
    answer = await person.get(BACK)

    assert 200 == answer.status_code
    assert "too long for a page, or empty" in answer.text or "deep" in answer.text
    assert len(answer.text) < 200_000


@pytest.mark.slow
async def test_it_can_be_read_on_a_phone_and_asked_for_without_a_script(
    visit: Visit, store: Store
) -> None:
    """In a real browser: the button asks, the answer stands there, nothing is too wide."""
    fill(store)
    async with visit.page(BACK, script=False, width=320) as page:
        await page.click("text=Ask for its log")
        await page.wait_for_url(f"**{BACK}#worst")
        with store.read() as connection:
            [command] = commands.latest(connection, limit=10)
        answers(store, command, SAID)
        await page.reload()
        assert "step 7" in await page.inner_text("table.log")
    async with visit.page(BACK, width=320) as page:
        assert ([], 0) == (await violations(page), await overflow(page))
