"""The page of a device in a real browser: for everybody, at any width, and of nobody else's."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from agent.page.front import Front
from agent.page.marks import SHAPES
from agent.page.seen import Seen
from agent.serving.oip import OipApplication
from agent.serving.server import serve
from agent.serving.switchboard import Switchboard
from tests.agent.looks import LOOKS, TROUBLE, WELL
from tests.page.conftest import browser_of
from tests.page.test_page_browser import WIDEST, overflow, violations, walk
from tests.page.test_pictures import KEPT, LIMIT_BYTES, picture

pytestmark = pytest.mark.real("chromium")

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def shown(look: Seen, unix_path: Path | None = None) -> AsyncIterator[str]:
    """Serve the page of one look on a free port; its address."""
    heard: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    async def see() -> Seen:
        return look

    async with Switchboard() as board, asyncio.TaskGroup() as group:
        serving = group.create_task(
            serve(
                Front(see, OipApplication(board, version="0.0.1")),
                host="127.0.0.1",
                port=0,
                unix_path=unix_path,
                on_listening=heard.put_nowait,
            ),
            name="serve",
        )
        try:
            yield f"http://{(await heard.get())[0]}/"
        finally:
            serving.cancel()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright, browser_of(playwright) as started:
        yield started


@asynccontextmanager
async def visit(
    browser: Browser, look: Seen, *, scheme: str = "light", width: int = 1280, script: bool = True
) -> AsyncIterator[Page]:
    async with shown(look) as url:
        context = await browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
        )
        try:
            page = await context.new_page()
            await page.goto(url)
            yield page
        finally:
            await context.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_at_the_device(browser: Browser, scheme: str) -> None:
    """However the device is, in both themes."""
    found = {}
    for name, look in LOOKS.items():
        async with visit(browser, look, scheme=scheme) as page:
            found[name] = await violations(page)

    assert {} == {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.slow
@pytest.mark.parametrize(("width", "text"), [(320, 100), (1280, 200), (640, 200)])
async def test_nothing_is_pushed_off_a_phone(browser: Browser, width: int, text: int) -> None:
    """At 320 px, and with text twice as large, nobody scrolls sideways."""
    wider = {}
    for name, look in LOOKS.items():
        async with visit(browser, look, width=width) as page:
            if text != 100:
                await page.evaluate(
                    f"""() => {{ const sheet = new CSSStyleSheet();
                    sheet.replaceSync("* {{ font-size: {14 * text // 100}px !important }}");
                    document.adoptedStyleSheets = [sheet]; }}"""
                )
            wider[name] = (await overflow(page), await page.evaluate(WIDEST))

    assert {} == {name: by for name, by in wider.items() if by != (0, [])}


async def test_the_keyboard_is_enough_at_the_device(browser: Browser) -> None:
    """Tab goes through all there is, in order, and shows where it is."""
    async with visit(browser, TROUBLE) as page:
        await page.emulate_media(reduced_motion="reduce")
        wanted, reached, unseen = await walk(page)

    assert len(wanted) == 3
    assert wanted == reached
    assert [] == unseen


async def test_it_asks_for_nothing_but_itself(browser: Browser) -> None:
    """One request a look; its own policy stops nothing of it, and would stop a script."""
    asked, said = [], []
    async with visit(browser, TROUBLE, script=False) as page:
        plain = (await page.inner_text("main")).split()
    async with visit(browser, TROUBLE) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        await page.reload()
        scripted = (await page.inner_text("main")).split()
        styled = await page.evaluate("getComputedStyle(document.querySelector('.card')).padding")
        own, before = page.url, list(said)
        await page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'),"
            " {textContent: 'document.title = 1'}))"
        )
        title = await page.title()

    assert [own] == asked
    assert [] == before
    assert "16px" == styled
    assert "failing · d-q7x2m4r2x6ta · Skerry" == title
    assert plain == scripted


async def test_it_looks_again_when_asked_to(browser: Browser) -> None:
    """Once it is asked to, by itself, until it is told to stop: nobody is hurried."""
    async with visit(browser, WELL) as page:
        await page.click("text=every 10 s")
        again = page.url
        words = await page.inner_text(".head")
        await page.click("text=Stop")
        still = page.url

    assert again.endswith("/?again")
    assert "Looks again every 10 s." in words
    assert still == again.removesuffix("?again")


def test_it_looks_like_the_page_at_the_centre() -> None:
    """One product: each colour and each mark that it has is the centre's."""
    token = r"--([\w-]+): (light-dark\([^)]*\))"
    here = dict(re.findall(token, (ROOT / "agent/page/page.css").read_text()))
    there = dict(re.findall(token, (ROOT / "fleet/page/static/skerry.css").read_text()))
    sprite = (ROOT / "fleet/page/templates/sprite.html").read_text()
    marks = dict(re.findall(r'<symbol id="m-([\w-]+)"[^>]*>(.*?)</symbol>', sprite))

    assert len(here) > 10
    assert here.items() <= there.items()
    assert SHAPES.items() <= marks.items()


@pytest.mark.slow
async def test_pictures_of_a_device(browser: Browser, tmp_path: Path) -> None:
    """`SKERRY_GOLDEN=write` keeps them in the docs; each shows something and is modest."""
    folder = KEPT if os.environ.get("SKERRY_GOLDEN") == "write" else tmp_path
    sizes = {}
    for name, look, scheme, width in (
        ("at-the-device", TROUBLE, "light", 1000),
        ("at-the-device-dark", WELL, "dark", 1000),
        ("at-the-device-narrow", TROUBLE, "light", 320),
    ):
        path = folder / f"{name}.png"
        async with visit(browser, look, scheme=scheme, width=width) as page:
            await picture(page, path)
        sizes[name] = path.stat().st_size

    assert {} == {name: size for name, size in sizes.items() if not 10_000 < size < LIMIT_BYTES}
