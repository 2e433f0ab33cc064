"""A centre of a large fleet that talks: `python -m tests.bench.bench_large_fleet [DEVICES] [DIR]`.

A real centre serves a store of so many devices. A sixtieth of them tells its health each second, as
every minute brings it; beside it 400 are planted as refusing their model, a site of 400 is cut off,
and pages, API and metrics are asked all the time. Prints how long each answer took, how many
seconds it took until each plant was seen there, and the ratio of that to ten seconds. With DIR,
pictures of the pages are left there (needs Chromium).
"""

import asyncio
import dataclasses
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
from playwright.async_api import async_playwright

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.clock import now, written
from fleet.roll import Roll
from fleet.store import arrivals
from fleet.store.engine import Store
from tests.bench.bench_alerts import fill, say
from tests.fleet.screens.village import FLEET

SKERRY = Path(sys.executable).with_name("skerry")
LIMIT_S = 10.0
PERIOD_S = 60
SITE = 400
PATHS = (
    "/",
    "/devices",
    "/devices?field=state=failing",
    "/devices?q=nobody",
    "/devices/d-x7",
    "/alerts",
    "/rollouts",
    "/api/v1/fleet",
    "/api/v1/fleet/health?by=site",
    "/metrics",
)


class Talking:
    """A fleet that tells its health, a sixtieth of it each second."""

    def __init__(self, store: Store) -> None:
        self._store = store
        known = Roll(store, FLEET).call()
        self._health = [each.feels.document for each in known if each.feels is not None]
        self._reports = {each.device.id: each.told.document for each in known if each.told}
        self._gone: set[str] = set()
        self._ended = threading.Event()
        self.late_s = 0.0

    def speak(self) -> None:
        """Tell health until it is over."""
        dice, place, rate = random.Random(3), 0, len(self._health) // PERIOD_S  # noqa: S311
        due = time.perf_counter()
        while not self._ended.is_set():
            said = [self._health[(place + n) % len(self._health)] for n in range(rate)]
            place += rate
            moment = written(now())
            batch = [
                dataclasses.replace(each, at=moment, cpu_ratio=dice.random())
                for each in said
                if each.device not in self._gone
            ]
            for start in range(0, len(batch), 500):
                with self._store.write() as connection:
                    arrivals.commit(connection, batch[start : start + 500], now=moment)
            due += 1
            self.late_s = max(0.0, time.perf_counter() - due)
            self._ended.wait(max(0.0, due - time.perf_counter()))

    def end(self) -> None:
        """Let everybody fall silent."""
        self._ended.set()

    def cut(self, ids: list[str]) -> None:
        """Let the broker say that these are gone."""
        self._gone |= set(ids)
        self._commit([v1.Death(fleet=FLEET, device=each, session=1) for each in ids])

    def refuse(self, ids: list[str]) -> None:
        """Let these say that they refuse what is wanted."""
        reports = []
        for each in ids:
            (told,) = self._reports[each].deployments
            refused = dataclasses.replace(
                told, phase=Phase.REFUSED, last_error=v1.Problem(reason=Reason.GOLDEN_MISMATCH)
            )
            reports.append(dataclasses.replace(self._reports[each], deployments=(refused,)))
        self._commit(reports)

    def _commit(self, documents: list[Any]) -> None:
        with self._store.write() as connection:
            arrivals.commit(connection, documents, now=written(now()))


@contextmanager
def centre(home: Path, log: Path) -> Iterator[dict[str, Any]]:
    """Run a centre on a home; yield where it is."""
    with log.open("w") as written_to:
        process = subprocess.Popen(
            [
                *(SKERRY, "up", "--home", home, "-o", "json"),
                *("--listen", "127.0.0.1:0", "--plain", "127.0.0.1:0", "--broker-port", "18999"),
            ],
            stdout=subprocess.PIPE,
            stderr=written_to,
            text=True,
        )
        try:
            assert process.stdout is not None
            where = json.loads(process.stdout.readline())
            yield {**where, "process": process.pid}
        finally:
            process.terminate()
            process.wait(30)


def ask(client: httpx.Client) -> None:
    """Ask everything some times, and say how long it took."""
    took: dict[str, list[float]] = {}
    for _ in range(6):
        for path in PATHS:
            began = time.perf_counter()
            answer = client.get(path)
            took.setdefault(path, []).append(time.perf_counter() - began)
            assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    for path, each in took.items():
        ordered = sorted(each)
        say(
            f"  {path:<34} median {ordered[len(ordered) // 2]:5.2f} s, slowest {ordered[-1]:5.2f} s"
        )


def seen(what: str, told: Callable[[], bool]) -> None:
    """Wait until something is told, and say how long that took."""
    began = time.perf_counter()
    while not told():
        time.sleep(0.2)  # noqa: TID251  # a bench of its own
        if time.perf_counter() - began > 120:
            say(f"  {what:<60} NOT within 120 s")
            return
    took = time.perf_counter() - began
    say(f"  {what:<60} {took:5.1f} s, of 10 s {took / LIMIT_S:4.2f}")


async def pictures(url: str, token: str, folder: Path, count: int) -> None:
    """Leave pictures of the pages."""
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path="/usr/bin/chromium")
        page = await (await browser.new_context(viewport={"width": 1280, "height": 900})).new_page()
        await page.goto(f"{url}/sign-in")
        await page.fill("input[name=token]", token)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{url}/")
        for name, path in (
            ("overview", "/"),
            ("devices", "/devices"),
            ("failing", "/devices?field=state=failing"),
            ("alerts", "/alerts"),
        ):
            await page.goto(f"{url}{path}")
            await page.screenshot(path=folder / f"{name}-{count}.png", full_page=False)
        await browser.close()


def main() -> None:
    """Print what a large fleet costs whoever looks at it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        subprocess.run(
            [SKERRY, "trust", "init", "--home", home, "--fleet", FLEET],
            check=True,
            capture_output=True,
        )
        store = Store.open(home / "store.db")
        fill(store, count, per_site=SITE)
        with store.write() as connection:  # all are here, and spoke just now
            connection.exec_driver_sql("UPDATE health SET received_at = ?", (written(now()),))
            connection.exec_driver_sql("UPDATE presence SET online = 1")
        talking = Talking(store)
        token = (home / "operator.token").read_text().strip()
        speaker = threading.Thread(target=talking.speak, daemon=True)
        began = time.perf_counter()
        with centre(home, Path(folder) / "log") as where:
            url = where["plain_url"]
            client = httpx.Client(
                base_url=url,
                headers={"Authorization": f"Bearer {token}"},
                timeout=120,
                trust_env=False,
            )
            client.post("/sign-in", data={"token": token}, headers={"Origin": url})
            while client.get("/api/v1/fleet").status_code == 503:
                time.sleep(0.5)  # noqa: TID251  # a bench of its own
            say(f"{count:,} devices: the first look is there {time.perf_counter() - began:.1f} s")
            say("after the centre was started. Now all of them talk, once a minute each.")
            speaker.start()
            ask(client)

            def fleet() -> dict[str, Any]:
                answer: dict[str, Any] = client.get("/api/v1/fleet").json()
                return answer

            def alerts() -> str:
                return str(client.get("/api/v1/alerts").text)

            few = min(SITE, count // 4)
            talking.refuse([f"d-x{number}" for number in range(few, 2 * few)])
            seen(
                f"{few} refuse: in the fleet's document",
                lambda: fleet()["states"]["failing"] >= few,
            )
            seen("and in an alert", lambda: "SkerryGoldenFailing" in alerts())
            talking.cut([f"d-x{number}" for number in range(2 * few, 3 * few)])
            seen(
                f"{few} are cut off: in the fleet's document",
                lambda: fleet()["states"]["offline"] >= few,
            )
            seen("and on the page", lambda: f"{few} offline" in client.get("/").text)
            say(f"  the fleet's talk is {talking.late_s:.1f} s late")
            spent = Path(f"/proc/{where['process']}/stat").read_text().split()
            say(f"  CPU of the centre {(int(spent[13]) + int(spent[14])) / 100:.0f} s")
            status = Path(f"/proc/{where['process']}/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            say(f"  {peak}; of the feeding {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")
            if len(sys.argv) > 2:
                asyncio.run(pictures(url, token, Path(sys.argv[2]), count))
            talking.end()
            speaker.join()
        store.close()


if __name__ == "__main__":
    main()
