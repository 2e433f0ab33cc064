"""The commands that a page shows say the same as the page; `skerry up` says where it is."""

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from fleet.cli.screen import Output
from fleet.cli.up import _tell
from fleet.run import Where
from fleet.store.engine import Store
from tests.fleet.centre.served import TOKEN
from tests.page.conftest import Visit
from tests.page.scene import fill

SKERRY = Path(sys.executable).with_name("skerry")


async def answer(visit: Visit, command: str, folder: Path) -> dict[str, object]:
    """Run a command as it was copied, for JSON."""
    token = folder / "token"
    token.write_text(TOKEN)
    word, *words = shlex.split(command)
    assert "skerry" == word
    process = await asyncio.create_subprocess_exec(
        SKERRY,
        *words,
        "-o",
        "json",
        env={
            **os.environ,
            "SKERRY_CENTRE": visit.served.plain,
            "SKERRY_TOKEN_FILE": str(token),
            "SKERRY_HOME": str(visit.served.home.path),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert 0 == process.returncode
    found: dict[str, object] = json.loads(said)
    return found


@pytest.mark.slow
@pytest.mark.real("chromium")
async def test_a_copied_command_lists_the_same(visit: Visit, store: Store, tmp_path: Path) -> None:
    """The rows of the page, by the command at its foot; and so for one device and one rollout."""
    fill(store)
    differ = {}
    async with visit.context() as context:
        page = await context.new_page()
        for path in (
            "/devices",
            "/devices?field=state=degraded",
            "/devices?selector=tier in (lab,1)&field=site=vigo",
        ):
            await page.goto(path)
            rows = await page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.id)")
            command = await page.locator("#parts > .cmd code").last.inner_text()
            listed = await answer(visit, command, tmp_path)
            names = [each["id"] for each in listed["devices"]]  # type: ignore[attr-defined]
            if rows != names or not rows:
                differ[path] = (rows, names)
        await page.goto("/rollouts/r-40")
        watched = await page.locator("#parts > .cmd code").last.inner_text()
        why = await answer(visit, watched.replace(" watch ", " why "), tmp_path)
        told = await page.inner_text(".why.pinned")

    assert {} == differ
    assert why["because"][0]["sentence"] in told  # type: ignore[index]


@pytest.mark.parametrize(
    ("plain", "page"),
    [("http://127.0.0.1:8480", "http://127.0.0.1:8480/"), (None, "https://c.example:8443/")],
)
def test_up_says_where_the_page_is(
    plain: str | None, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without TLS where there is such an address: no browser knows the fleet's authority."""
    where = Where(
        fleet="north-sea",
        url="https://c.example:8443",
        plain_url=plain,
        broker_url="mqtts://c.example:8883",
        home="home",
        pid=1,
    )
    _tell(where, Output.TABLE)

    assert f"   page {page}   " in capsys.readouterr().out
