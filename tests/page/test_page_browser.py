"""The pages in a real browser: for everybody, at any width, by keyboard, without a network."""

import importlib.resources
from typing import Any

import pytest
from playwright.async_api import Page

from agent.wire import v1
from fleet.clock import written
from fleet.store import audit, presence, rollouts
from fleet.store.engine import Store
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET, Villager, settle
from tests.page.conftest import Visit
from tests.page.scene import fill

pytestmark = pytest.mark.real("chromium")

PAGES = [
    "/",
    "/alerts",
    "/alerts?state=ended",
    "/alerts?state=all&rule=SkerryThrottling&site=bergen",
    "/alerts?site=nowhere",
    "/alerts/a-golden",
    "/alerts/a-away",
    "/alerts/a-heat",
    "/alerts/a-over",
    "/devices",
    "/devices?field=state=failing",
    "/devices?selector=nobody=here",
    "/devices?field=nonsense",
    "/devices/d-1",
    "/devices/d-7",
    "/devices/d-8",
    "/devices/d-14",
    "/devices/d-15",
    "/devices/d-19",
    "/bundles",
    "/bundles/digits:1.5.0",
    "/rollouts",
    "/rollouts/new",
    "/rollouts/new?bundle=digits:1.5.0&selector=all",
    "/rollouts/new?bundle=digits:1.5.0&selector=(",
    "/rollouts/r-38",
    "/rollouts/r-39",
    "/rollouts/r-40",
    "/rollouts/r-41",
    "/rollouts/r-41?wave=3&outcome=offline",
    "/nowhere",
]
EMPTY = ["/", "/alerts", "/devices", "/bundles", "/rollouts", "/rollouts/new"]
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text()


async def violations(page: Page) -> list[str]:
    """Return what axe finds wrong: the rule and where."""
    await page.evaluate(AXE)
    found: dict[str, Any] = await page.evaluate(
        "tags => axe.run(document, { runOnly: tags })", TAGS
    )
    assert found["passes"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


async def overflow(page: Page) -> int:
    """Return by how much a page is wider than its window."""
    wider: int = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wider


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(visit: Visit, store: Store, scheme: str) -> None:
    """On every page, with every state on it and with nothing at all."""
    found: dict[str, list[str]] = {}
    async with visit.context(scheme=scheme) as context:
        page = await context.new_page()
        for path in EMPTY:
            await page.goto(path)
            found[f"empty {path}"] = await violations(page)
        fill(store)
        for path in PAGES:
            await page.goto(path)
            found[path] = await violations(page)
    async with visit.page("/sign-in", scheme=scheme, signed_in=False) as page:
        found["/sign-in"] = await violations(page)
        await page.fill("#token", "wrong")
        await page.click("button.primary")
        found["/sign-in wrong"] = await violations(page)

    assert "" == "\n".join(f"{path}: {each}" for path, wrong in found.items() for each in wrong)


async def test_axe_would_find_it(visit: Visit, store: Store) -> None:
    """Planted faults are found: the clean bill above means something."""
    fill(store)
    async with visit.page("/devices") as page:
        await page.evaluate(
            """() => {
              const faint = document.createElement("p");
              faint.textContent = "faint"; faint.className = "unseen-by-nobody";
              const sheet = new CSSStyleSheet();
              sheet.replaceSync(".unseen-by-nobody { color: #ddd; background: #fff }");
              document.adoptedStyleSheets = [sheet];
              const input = document.createElement("input");
              document.getElementById("main").append(faint, input);
            }"""
        )
        wrong = " ".join(await violations(page))

    assert "color-contrast" in wrong
    assert "label" in wrong


@pytest.mark.slow
@pytest.mark.parametrize(("width", "text"), [(320, 100), (640, 200)])
async def test_no_page_scrolls_sideways(visit: Visit, store: Store, width: int, text: int) -> None:
    """At 320 px, and with text twice as large; tables may, inside themselves."""
    wider: dict[str, int] = {}
    async with visit.context(width=width) as context:
        page = await context.new_page()
        for path in EMPTY:
            await page.goto(path)
            wider[f"empty {path}"] = await overflow(page)
        fill(store)
        for path in PAGES:
            await page.goto(path)
            if text != 100:
                await page.evaluate(
                    f"""() => {{ const sheet = new CSSStyleSheet();
                    sheet.replaceSync("* {{ font-size: {14 * text // 100}px !important }}");
                    document.adoptedStyleSheets = [sheet]; }}"""
                )
            wider[path] = await overflow(page)
            for details in await page.query_selector_all("details:not([open])"):
                await details.evaluate("each => each.open = true")
            wider[f"{path} opened"] = await overflow(page)

    assert {} == {path: by for path, by in wider.items() if by > 0}


WIDEST = """() => [...document.querySelectorAll("main *")].filter((each) =>
  !each.closest(".scroll, svg") && each.getBoundingClientRect().right > innerWidth
).map((each) => each.outerHTML.slice(0, 90)).slice(-3)"""

WALK = """() => {
  const what = "a[href], button, input, select, summary, [tabindex='0']";
  const all = [...document.querySelectorAll(what)];
  const seen = (each) => each.checkVisibility({ visibilityProperty: true })
    && each.type !== "hidden";
  return all.filter(seen).map((each, n) => { each.dataset.walk = n; return String(n); });
}"""
FOCUSED = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect();
  const style = getComputedStyle(at);
  return {
    walk: at.dataset?.walk ?? null,
    ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""


async def walk(page: Page) -> tuple[list[str], list[str], list[object]]:
    """Press Tab as often as there is something to reach; return all, what was, and what unseen."""
    wanted: list[str] = await page.evaluate(WALK)
    reached, unseen = [], []
    for _ in wanted:
        await page.keyboard.press("Tab")
        focus = await page.evaluate(FOCUSED)
        reached.append(focus["walk"])
        if not (focus["ring"] and focus["inside"]):
            unseen.append(focus)
    return wanted, reached, unseen


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/devices",
        "/alerts",
        "/alerts/a-golden",
        "/devices/d-7",
        "/rollouts/r-41",
        "/rollouts/new?bundle=digits:1.5.0&selector=all",
    ],
)
async def test_the_keyboard_reaches_every_control(visit: Visit, store: Store, path: str) -> None:
    """Tab goes through all of them in the order in which they are read, and shows where it is."""
    fill(store)
    async with visit.context() as context:
        await context.add_init_script("sessionStorage.setItem('paused', '1')")
        page = await context.new_page()
        await page.emulate_media(reduced_motion="reduce")
        await page.goto(path)
        wanted, reached, unseen = await walk(page)

    assert wanted == reached
    assert [] == unseen


async def test_enter_is_enough(visit: Visit, store: Store) -> None:
    """From the overview by an alert to a device, and through a form, without a pointer."""
    fill(store)
    async with visit.page("/") as page:
        await page.focus("text=Golden vectors are missed")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/alerts/a-golden")
        await page.focus("a:text-is('porto-cam-07')")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/devices/porto-cam-07")
        await page.goto("/devices")
        await page.focus("#q")
        await page.keyboard.type("vigo")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/devices?q=vigo*")
        shown = await page.locator("tbody tr").count()
        await page.keyboard.press("Tab")
        skip = await page.evaluate("document.activeElement.textContent")

    assert 3 == shown
    assert "Skip to the content" == skip


@pytest.mark.slow
async def test_nothing_comes_from_elsewhere(visit: Visit, store: Store) -> None:
    """Every request is to the centre; the policy of the pages stops nothing of their own."""
    fill(store)
    async with visit.context() as context:
        page = await context.new_page()
        for path in PAGES:
            await page.goto(path)
            await page.wait_for_load_state("load")
        cut = await page.evaluate(
            "fetch('https://example.org/').then(() => 'reached', () => 'cut')"
        )

    elsewhere = [url for url in visit.asked if not url.startswith((visit.served.plain, "data:"))]
    assert "cut" == cut
    assert {"https://example.org/"} >= set(elsewhere)
    told = [text for text in visit.said if "example.org" not in text and "status of 4" not in text]
    assert [] == told


@pytest.mark.parametrize("path", PAGES)
async def test_without_javascript_it_reads(visit: Visit, store: Store, path: str) -> None:
    """The same words; nothing that only a script could do is offered."""
    fill(store)
    async with visit.page(path, script=False) as page:
        plain = (await page.inner_text("#parts")).split()
        buttons = await page.locator(".copy:visible, #live:visible").count()
    async with visit.page(path) as page:
        scripted = (await page.inner_text("#parts")).replace("Copy", "").split()

    assert len(plain) > 5
    assert [word for word in plain if word != "Copy"] == scripted
    assert 0 == buttons


async def test_a_view_is_its_address(visit: Visit, store: Store) -> None:
    """Set by hand, read from the address, opened by somebody else: the same rows; Back works."""
    fill(store)
    async with visit.page("/devices") as page:
        await page.fill("#field", "site=lerwick")
        await page.click("text=Filter")
        await page.wait_for_url("**/devices?*field=*")
        rows = await page.locator("tbody th").all_inner_texts()
        address = page.url
        await page.go_back()
        every = await page.locator("tbody tr").count()
    async with visit.page(address) as other:
        again = await other.locator("tbody th").all_inner_texts()

    assert 6 == len(rows)
    assert rows == again
    assert 22 == every


async def test_every_count_leads_to_that_many(visit: Visit, store: Store) -> None:
    """What the overview counts, the list shows; a page at a time is the same list."""
    fill(store)
    async with visit.page("/") as page:
        links = {
            await each.get_attribute("href"): int((await each.inner_text()).split()[0])
            for each in await page.locator(".counts a").all()
        }
        found = {}
        for href in links:
            await page.goto(str(href))
            found[href] = await page.locator("tbody tr").count()
        names = []
        await page.goto("/devices?limit=5")
        while True:
            names += await page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.id)")
            if not await page.locator("text=Next").count():
                break
            await page.click("text=Next")

    assert links == found
    assert (22, 22) == (len(names), len(set(names)))


async def test_of_many_sites_the_worst_are_drawn_and_the_others_are_a_line(
    visit: Visit, store: Store
) -> None:
    """A fleet of hundreds of sites has a page that can be read; nobody is left out of its sum."""
    settle(store, tuple(Villager(name=f"v-{n}", site=f"place-{n:02}") for n in range(44)))
    settle(store, (Villager(name="gone", site="zanzibar", leaves=True),), first=45)
    async with visit.page("/") as page:
        drawn = await page.locator(".sites > li .site-name a").all_inner_texts()
        rest = await page.locator("#more-sites").inner_text()

    assert (40, "zanzibar") == (len(drawn), drawn[0])
    assert "5 more sites: 5 ok" == " ".join(rest.split())


async def test_no_page_holds_more_than_its_limit(visit: Visit, store: Store) -> None:
    """Whatever is asked for, and whatever stands for a place in the list."""
    fill(store)
    with store.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO devices (id, name, labels, facts, serial, certificate_expires_at,"
            " joined_at) WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n"
            " WHERE i < 1999) SELECT 'd-' || i, 'many-' || i, '{}', '{}', '1',"
            " '2027-01-01T00:00:00Z', '2026-02-20T00:00:00Z' FROM n"
        )
    async with visit.page("/devices?limit=99999&after=nonsense") as page:
        listed = await page.locator("tbody tr").count()
        await page.goto("/")
        cells = await page.locator(".cell").count()
        nodes = await page.evaluate("document.getElementsByTagName('*').length")

    assert (200, 0) == (listed, cells)
    assert 3000 > nodes


async def test_a_rollout_starts_from_a_plan_and_stops_by_a_word(visit: Visit, store: Store) -> None:
    """Plan, confirm, pause, abort with a reason: through the page, audited as over the API."""
    fill(store)
    async with visit.page("/rollouts/new?bundle=digits:1.5.0&selector=all") as page:
        command = await page.locator(".start code").inner_text()
        await page.fill("#reason", "by hand")
        start = await page.inner_text(".start button.primary")
        left_out = await page.inner_text("section.plan ul")
        await page.click(".start button.primary")
        await page.wait_for_url("**/rollouts/r-*")
        rollout = page.url.rpartition("/")[2]
        await page.click("#say-pause summary")
        await page.click("#say-pause button:text-is('Pause')")
        await page.wait_for_selector("h2 .s-paused")
        await page.click("#say-abort summary")
        await page.click("#say-abort button:text-is('Abort')")  # a browser asks for the reason
        asked = await page.evaluate("document.querySelector('#reason-abort').matches(':invalid')")
        await page.fill("#reason-abort", "enough")
        await page.click("#say-abort button:text-is('Abort')")
        await page.wait_for_selector("h2:has-text('aborted')")
    with store.read() as connection:
        told = audit.latest(connection, limit=10, about=rollout)
        kept = rollouts.named(connection, rollout)

    assert command.startswith(
        "skerry rollout start digits:1.5.0 --to all --policy careful --if-plan"
    )
    assert "Start: digits:1.5.0 to 14 devices" == start
    assert "failed here before (GOLDEN_MISMATCH)" in left_out
    assert asked
    assert "aborted" == kept.state
    assert [("rollout.abort", "enough"), ("rollout.pause", ""), ("rollout.start", "by hand")] == [
        (entry.action, entry.reason) for entry in told
    ]


async def test_a_plan_that_has_moved_starts_nothing(visit: Visit, store: Store) -> None:
    """The difference and the new plan are shown; a click on a stale page changes nothing."""
    fill(store)
    with store.read() as connection:
        before = len(rollouts.every(connection))
    async with visit.page("/rollouts/new?bundle=digits:1.5.0&selector=all") as page:
        with store.write() as connection:
            gone = v1.Death(fleet=FLEET, device="d-1", session=1)
            presence.died(connection, gone, now=written(NOW))
        await page.click("text=Start: digits:1.5.0")
        await page.wait_for_selector(".problem")
        told = await page.inner_text(".problem")
    with store.read() as connection:
        after = len(rollouts.every(connection))

    assert "PLAN_CHANGED" in told
    assert "offline" in told
    assert before == after


async def test_the_theme_is_kept(visit: Visit, store: Store) -> None:
    """Dark where a person wants it, whatever the system says; before the first paint."""
    fill(store)
    async with visit.page("/devices?q=vigo") as page:
        light = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        await page.click("text=Dark")
        await page.wait_for_selector("html[data-theme=dark]")
        dark = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        address = page.url
        await page.goto("/")
        kept = await page.evaluate("document.documentElement.dataset.theme")

    assert ("rgb(247, 248, 247)", "rgb(14, 23, 28)", "dark") == (light, dark, kept)
    assert address.endswith("/devices?q=vigo")


async def test_what_a_device_was_is_drawn_and_said(visit: Visit, store: Store) -> None:
    """A strip of its states, the same in words with their signs, and a line each below."""
    fill(store)
    async with visit.page("/devices/d-19") as page:
        strip = page.locator("svg[aria-label^='In the last 24 hours it was']")
        said = await strip.get_attribute("aria-label") or ""
        drawn = await strip.locator("path").evaluate_all("all => all.map(p => p.classList[0])")
        told = await page.locator("ol.changes").first.inner_text()

    assert all(each in said for each in ("unknown for", "degraded for 2 h", "ok for"))
    assert {"f-ground", "f-unknown", "f-degraded", "f-ok"} <= set(drawn)
    assert "The device slows itself down, for heat or for power." in told
