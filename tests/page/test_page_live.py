"""What a page shows follows what happens, without taking away what somebody is reading."""

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.async_api import async_playwright

from agent.wire import codec, v1
from agent.wire.topics import Kind, Topic
from fleet.clock import written
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.page.pulse import Pulse
from fleet.store import devices
from fleet.store.engine import Store
from tests.e2e.scene import Centre
from tests.fleet.centre import parties
from tests.fleet.centre.served import TOKEN, serving
from tests.fleet.deciding.paper import NOW
from tests.page.conftest import FLEET, Visit, browser_of
from tests.page.scene import fill

pytestmark = pytest.mark.real("chromium")
LIVE_S = 2.0


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Centre]:
    centre = Centre(tmp_path)
    centre.start()
    yield centre
    centre.dismiss()


@pytest.mark.slow
@pytest.mark.real("mosquitto")
async def test_a_message_is_on_the_page_within_two_seconds(town: Centre) -> None:
    """From the publishing of a real device over MQTT, through broker, store and stream."""
    device = await asyncio.to_thread(town.make_device)
    name = device.id
    peer = await asyncio.to_thread(lambda: device.peer().connect())
    took: list[float] = []
    loop = asyncio.get_running_loop()

    def word(session: int, *, here: bool) -> bytes:
        if not here:
            return codec.encode(v1.Death(fleet="fleet", device=name, session=session))
        return codec.encode(
            v1.Birth(
                fleet="fleet",
                device=name,
                session=session,
                agent_version="0.0.1",
                at=written(NOW),
                facts={},
            )
        )

    report = codec.encode(v1.Reported(fleet="fleet", device=name, session=1))
    async with async_playwright() as playwright, browser_of(playwright) as browser:
        context = await browser.new_context(base_url=str(town.where["plain_url"]))
        page = await context.new_page()
        token = (town.home / "operator.token").read_text().strip()
        await page.goto(f"/#t={token}")  # as a link does that carries the token
        await page.wait_for_selector(".c-unknown")
        address = page.url
        await asyncio.to_thread(peer.publish, str(Topic("fleet", name, Kind.REPORTED)), report)
        topic = str(Topic("fleet", name, Kind.PRESENCE))
        for number in range(1, 7):
            here = number % 2 == 1
            began = loop.time()
            await asyncio.to_thread(peer.publish, topic, word(number, here=here), retain=True)
            await page.wait_for_selector(".c-ok" if here else ".c-offline")
            took.append(loop.time() - began)
        await context.close()
    await asyncio.to_thread(peer.leave)
    print("seconds from publish to page:", [round(each, 2) for each in took])  # noqa: T201  # a measurement

    assert str(town.where["plain_url"]) + "/" == address  # the token is gone from it
    assert LIVE_S >= statistics.median(took), took


async def test_what_is_being_read_stays(visit: Visit, store: Store) -> None:
    """Focus and row order hold while a row is in use; what is new is offered, not forced."""
    fill(store)
    async with visit.page("/devices?q=vigo") as page:
        await page.focus("#d-21 a")
        await page.fill("#field", "half typed")
        await page.focus("#d-21 a")
        parties.go(store, FLEET, "d-21")
        with store.write() as connection:
            devices.add(connection, _device("vigo-0"))
        await page.wait_for_selector("#d-21 .s-offline")
        rows = await page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.id)")
        focused = await page.evaluate("document.activeElement.closest('tr').id")
        typed = await page.input_value("#field")
        await page.click("text=The list changed: show it")
        await page.wait_for_selector("#d-new")
        after = await page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.id)")

    assert (["d-20", "d-21", "d-22"], "d-21", "half typed") == (rows, focused, typed)
    assert ["d-new", "d-20", "d-21", "d-22"] == after


async def test_one_stream_serves_every_tab(visit: Visit, store: Store) -> None:
    """Eight tabs of a browser hold one connection; when its tab is closed another holds it."""
    fill(store)
    async with visit.context() as context:
        visit.asked.clear()
        tabs = [await context.new_page() for _ in range(8)]
        for tab in tabs:
            await tab.goto("/devices/d-1")
            await tab.wait_for_selector("#live:not([hidden])")
        streams = [url for url in visit.asked if url.endswith("/stream")]
        parties.go(store, FLEET, "d-1")
        for tab in tabs:
            await tab.bring_to_front()
            await tab.wait_for_selector("h2 .s-offline")
        await tabs[0].close()
        parties.come(store, FLEET, "d-1", session=2)
        await tabs[1].bring_to_front()
        await tabs[1].wait_for_selector("h2 .s-ok")

    assert 1 == len(streams)


async def test_silence_is_said(visit: Visit, store: Store) -> None:
    """Without a word for 30 s a page says since when it isn't live; and is again when it is."""
    fill(store)
    async with visit.context() as context:
        await context.route("**/stream", lambda route: route.abort())
        page = await context.new_page()
        await page.clock.install()
        await page.goto("/")
        await page.clock.run_for(46_000)
        await page.wait_for_selector("#lost:not([hidden])")
        told = await page.inner_text("#lost")
        await context.unroute("**/stream")
        await page.clock.run_for(6_000)
        await page.wait_for_selector("#lost", state="hidden")

    assert told.startswith("Not live since ")


async def test_paused_it_stands_still(visit: Visit, store: Store) -> None:
    """Whoever pauses reads in peace; going on shows what was missed."""
    fill(store)
    async with visit.page("/devices/d-1") as page:
        await page.click("#live-button")
        parties.go(store, FLEET, "d-1")
        async with visit.page("/devices/d-1") as other:
            await other.wait_for_selector("h2 .s-offline")
        await asyncio.sleep(1.5)  # longer than a beat
        still = await page.locator("h2 .s-ok").count()
        await page.click("#live-button")
        await page.wait_for_selector("h2 .s-offline")

    assert 1 == still


async def test_the_centre_ends_while_somebody_looks(home: Home, store: Store) -> None:
    """An open stream keeps no centre from ending: it is told, and does not wait to be cut."""
    async with AsyncExitStack() as until, httpx.AsyncClient(trust_env=False) as client:
        authority = Authority.load(home.path)
        served = await until.enter_async_context(serving(home, authority, store, pages=True))
        sent = {"Origin": served.plain}
        await client.post(f"{served.plain}/sign-in", data={"token": TOKEN}, headers=sent)
        async with client.stream("GET", f"{served.plain}/stream") as answer:
            lines = answer.aiter_lines()
            heard = [await anext(lines) for _ in range(3)]
            began = asyncio.get_running_loop().time()
            await until.aclose()
            took = asyncio.get_running_loop().time() - began
            rest = [line async for line in lines]

    assert heard[2].startswith("id: ")
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert 3 > took
    assert len(rest) < 9


async def test_a_beat_says_that_something_moved(store: Store) -> None:
    """Whoever heard the last one hears the next; after a restart everybody hears."""
    pulse = Pulse(store)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(pulse.run(), name="pulse")
        first = await anext(pulse.beats(None))
        listening = pulse.beats(first)
        fill(store)
        async with asyncio.timeout(10):
            second = await anext(listening)
        await pulse.close()
        ended = [beat async for beat in listening]
        running.cancel()

    assert first != second
    assert [] == ended
    assert Pulse(store).position not in (first, second)


def _device(name: str) -> devices.Device:
    return devices.Device(
        id="d-new",
        name=name,
        site=None,
        site_name=None,
        labels={},
        facts={},
        serial="1",
        certificate_expires_at=written(NOW),
        joined_at=written(NOW),
    )
