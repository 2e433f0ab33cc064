"""Why a device is as it is, on its page: the lines of the command, and the traces of the logs."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from typing import Any

import httpx2 as httpx
import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.clock import written
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.kept import Memory, move
from fleet.rollouts.trace import Trace
from fleet.store import arrivals
from fleet.store.engine import Store
from fleet.whys import lines
from tests.fleet.centre.served import OPERATOR, Served, serving
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET
from tests.page.conftest import Visit
from tests.page.scene import fill
from tests.page.test_page_browser import overflow, violations

TRACE, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"


def told(store: Store) -> None:
    """Fill the store; a rollout that is open has a trace, and so has a device's refusal."""
    fill(store)
    event = v1.Event(
        fleet=FLEET,
        device="d-7",
        ledger="l-1",
        number=2,
        kind=v1.EventKind.PHASE,
        at=written(NOW),
        deployment="digits",
        revision=3,
        phase=Phase.REFUSED,
        reason=Reason.GOLDEN_MISMATCH,
        trace_id=TRACE,
    )
    with store.write() as connection:
        arrivals.commit(connection, [event], now=written(NOW))
        kept = Memory().read(connection, "r-41")
        move(connection, kept, replace(kept, trace=Trace(id=OTHER)))


@pytest.fixture
async def served(home: Home, store: Store) -> AsyncIterator[Served]:
    told(store)
    authority = Authority.load(home.path)
    async with serving(home, authority, store, lambda: NOW, pages=True) as centre:
        await asyncio.to_thread(centre.executor.advance)  # what it is to write is written
        yield centre


async def why(person: httpx.AsyncClient, device: str) -> Any:  # noqa: ANN401  # JSON
    answer = await person.get(f"/api/v1/devices/{device}/why", headers=OPERATOR)
    assert 200 == answer.status_code
    return answer.json()


def plain(text: str) -> str:
    """Return a page's words without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", "", text)).split())


@pytest.mark.parametrize("device", ["d-1", "d-7", "d-8", "d-13", "d-14", "d-15", "d-18", "d-19"])
async def test_the_page_says_the_lines_of_the_command(
    person: httpx.AsyncClient, device: str
) -> None:
    """Each reason with its code and its next step; alerts have a list of their own there."""
    said = await why(person, device)
    page = plain((await person.get(f"/devices/{device}")).text)
    missing = [
        part
        for line in lines(said)
        for part in (line.text, line.code, line.next, line.trace)
        if part not in page and not line.about.startswith("a-")
    ]

    assert [] == missing
    assert all(each["title"] in page for each in said["alerts"])
    assert "skerry device why" in page


async def test_a_device_s_page_leads_to_its_rollouts_and_logs(person: httpx.AsyncClient) -> None:
    """The rollout is a link; of the last phase and of each transition the trace is there."""
    text = (await person.get("/devices/d-7")).text
    section = text.partition('id="why"')[2].partition("</section>")[0]
    history = text.partition('id="history"')[2].partition("</section>")[0]

    assert '<a href="/rollouts/r-41">r-41</a> (running)' in section
    assert f"skerry device logs porto-cam-07 --lines 1000 | grep {TRACE}" in unescape(section)
    assert OTHER in section
    assert f'trace <code class="code">{TRACE}</code>' in history


async def test_a_rollout_s_page_says_its_trace(person: httpx.AsyncClient) -> None:
    """With the field that the logs have it in; one without a trace says nothing of one."""
    text = unescape((await person.get("/rollouts/r-41")).text)
    without = unescape((await person.get("/rollouts/r-38")).text)

    assert f'Trace <code class="code">{OTHER}</code>, in the logs as <code>trace_id</code>' in text
    assert f"grep {OTHER} centre.log" in text
    assert "trace_id" not in without


@pytest.mark.real("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_read_why(visit: Visit, store: Store, scheme: str) -> None:
    """No fault that axe knows, and nothing wider than a telephone, with traces in it."""
    told(store)
    found: dict[str, object] = {}
    async with visit.context(scheme=scheme, width=320) as context:
        page = await context.new_page()
        for path in ("/devices/d-7", "/rollouts/r-41", "/alerts"):
            await page.goto(path)
            for each in await page.query_selector_all("details:not([open])"):
                await each.evaluate("each => each.open = true")
            found[path] = (await violations(page), await overflow(page))
            narrow = await page.evaluate(
                "[...document.querySelectorAll('.copy')]"
                ".filter(each => each.offsetHeight > each.offsetWidth).length"
            )
            assert 0 == narrow, path

    assert {path: ([], 0) for path in found} == found
