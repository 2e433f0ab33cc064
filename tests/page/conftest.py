"""A centre with its pages on a real store, and a real browser that reaches nothing but it."""

import datetime as dt
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    Request,
    async_playwright,
)

from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.centre.served import TOKEN, Served, serving
from tests.fleet.deciding.paper import NOW
from tests.page.scene import fill

FLEET = "north-sea"
CHROMIUM = shutil.which("chromium") or ""


@dataclass(kw_only=True)
class Visit:
    """One browser on one centre; `asked` are all requests it made, `said` what went wrong."""

    served: Served
    browser: Browser
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def context(
        self,
        *,
        scheme: str = "light",
        width: int = 1280,
        height: int = 900,
        signed_in: bool = True,
        script: bool = True,
        tls: bool = False,
    ) -> AsyncIterator[BrowserContext]:
        """Open a browser of somebody who may be signed in; every one has cookies of its own."""
        context = await self.browser.new_context(
            base_url=self.served.url if tls else self.served.plain,
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": height},
            java_script_enabled=script,
            ignore_https_errors=tls,
        )
        context.set_default_timeout(15_000)
        context.on("request", self._note)
        context.on("console", self._console)
        try:
            if signed_in:
                await self.sign_in(context)
            yield context
        finally:
            await context.close()

    async def sign_in(self, context: BrowserContext) -> None:
        page = await context.new_page()
        await page.goto("/sign-in")
        await page.fill("#token", TOKEN)
        await page.click("button.primary")
        await page.wait_for_url("**/")
        await page.close()

    @asynccontextmanager
    async def page(self, path: str, **how: object) -> AsyncIterator[Page]:
        """Open one page."""
        async with self.context(**how) as context:  # type: ignore[arg-type]
            page = await context.new_page()
            await page.goto(path)
            yield page

    def _note(self, request: Request) -> None:
        self.asked.append(request.url)

    def _console(self, message: object) -> None:
        if message.type in ("error", "warning"):  # type: ignore[attr-defined]
            self.said.append(message.text)  # type: ignore[attr-defined]


@asynccontextmanager
async def browser_of(playwright: Playwright) -> AsyncIterator[Browser]:
    """Start the system's Chromium; it can resolve no name."""
    browser = await playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        chromium_sandbox=os.geteuid() != 0,  # as root it starts only without
    )
    try:
        yield browser
    finally:
        await browser.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    today = dt.datetime.now(dt.UTC)  # noqa: TID251  # TLS reads the clock
    identity.init(tmp_path / "home", fleet=FLEET, hosts=[], now=today)
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.store)
    yield opened
    opened.close()


@pytest.fixture
async def served(home: Home, store: Store) -> AsyncIterator[Served]:
    """Serve the pages of the scene."""
    fill(store)
    authority = Authority.load(home.path)
    async with serving(home, authority, store, lambda: NOW, pages=True) as centre:
        yield centre


@pytest.fixture
async def person(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is signed in, without a browser."""
    here = {"Origin": served.plain}
    async with httpx.AsyncClient(base_url=served.plain, headers=here, trust_env=False) as client:
        await client.post("/sign-in", data={"token": TOKEN})
        yield client


@pytest.fixture
async def visit(home: Home, store: Store) -> AsyncIterator[Visit]:
    """Serve the pages, and start a browser that can resolve no name."""
    async with AsyncExitStack() as until:
        served = await until.enter_async_context(
            serving(home, Authority.load(home.path), store, lambda: NOW, pages=True)
        )
        playwright = await until.enter_async_context(async_playwright())
        browser = await until.enter_async_context(browser_of(playwright))
        yield Visit(served=served, browser=browser)
