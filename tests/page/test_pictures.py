"""Pictures of the pages as they are, for the docs; looked at by people."""

import os
from pathlib import Path

import pytest
from playwright.async_api import FloatRect, Page

from fleet.store.engine import Store
from tests.page.conftest import Visit
from tests.page.scene import fill

KEPT = Path(__file__).parents[2] / "docs" / "screenshots"
PICTURES = {
    "overview": ("/", "light"),
    "overview-dark": ("/", "dark"),
    "alerts": ("/alerts", "light"),
    "devices": ("/devices", "light"),
    "device": ("/devices/d-7", "light"),
    "bundle": ("/bundles/digits:1.5.0", "light"),
    "plan": ("/rollouts/new?bundle=digits:1.5.0&selector=all", "light"),
    "rollout": ("/rollouts/r-41", "light"),
    "rollout-dark": ("/rollouts/r-41", "dark"),
    "rollback": ("/rollouts/r-40", "light"),
    "rollouts": ("/rollouts", "light"),
}
LIMIT_BYTES = 300_000
HEIGHT = 1500


async def picture(page: Page, path: Path) -> None:
    """Take a picture of a page, or of the first of it where it is long."""
    size = await page.evaluate(
        "[document.documentElement.clientWidth, document.documentElement.scrollHeight]"
    )
    clip: FloatRect = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], HEIGHT)}
    await page.screenshot(path=path, full_page=True, clip=clip)


@pytest.mark.real("chromium")
@pytest.mark.slow
async def test_pictures_of_every_page(visit: Visit, store: Store, tmp_path: Path) -> None:
    """`SKERRY_GOLDEN=write` keeps them in the docs; each shows something and is modest."""
    fill(store)
    folder = KEPT if os.environ.get("SKERRY_GOLDEN") == "write" else tmp_path
    folder.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        async with visit.context(scheme=scheme) as context:
            page = await context.new_page()
            for name, (path, its) in PICTURES.items():
                if its == scheme:
                    await page.goto(path)
                    await picture(page, folder / f"{name}.png")
    async with visit.page("/sign-in", signed_in=False, height=480) as door:
        await picture(door, folder / "sign-in.png")
    async with visit.page("/rollouts/r-41", width=320) as narrow:
        await picture(narrow, folder / "narrow.png")

    sizes = {
        name: (folder / f"{name}.png").stat().st_size for name in (*PICTURES, "narrow", "sign-in")
    }
    assert {} == {name: size for name, size in sizes.items() if not 10_000 < size < LIMIT_BYTES}
    assert [] == visit.said
