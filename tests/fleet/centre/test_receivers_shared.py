"""Several centres on one store: each message is told by one of them, whoever dies."""

import datetime as dt
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.alerts.alert import Alert
from fleet.identity.places import Home
from fleet.receivers import delivery
from fleet.store import alerts
from fleet.store.alerts import CLAIM_S
from fleet.store.engine import Store
from tests.fleet.centre.listeners import SECRET, hook
from tests.fleet.centre.outlook import Outlook
from tests.fleet.centre.test_receivers import fail, looked, standing, telling, until, webhook, write

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what another one tells be looked at again soon."""
    monkeypatch.setattr(delivery, "FIRST_S", 0.05)
    monkeypatch.setattr(delivery, "LOOK_S", 0.05)


@pytest.fixture
def outlook(store: Store) -> Outlook:
    made = Outlook(store)
    made.settle(lerwick=4)
    made.feel(*made.sessions)
    fail(made)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    key = tmp_path / "key"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    return tmp_path / "receivers.toml"


def add(outlook: Outlook, first: int, count: int) -> None:
    """Let there be many alerts more."""
    (kept,) = list(outlook.kept())[-1:]
    with outlook.store.write() as connection:
        head = alerts.head(connection)
        for number in range(first, first + count):
            position = head + 1 + number
            alerts.put(connection, replace(kept, id=f"a-{number}", position=position))


@contextmanager
def centre(store: Path, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Let another process tell until the block ends."""
    module = [sys.executable, "-P", "-m", "tests.fleet.centre.teller", str(store), str(file)]
    where = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(module, cwd=ROOT, env=where, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wake(*processes: subprocess.Popen[bytes]) -> None:
    for each in processes:
        assert each.stdin is not None
        each.stdin.write(b"\n")
        each.stdin.flush()


async def test_two_processes_on_one_store_tell_each_news_once(
    outlook: Outlook, file: Path, home: Home
) -> None:
    """Whoever claimed it tells it; the other one leaves it, and neither leaves it out."""
    async with hook() as ours:
        write(file, webhook("ops", ours.url))
        with centre(home.store, file) as one, centre(home.store, file) as other:
            await until(lambda: 1 <= len(ours.took))
            for turn in range(5):
                add(outlook, turn * 20, 20)
                wake(one, other)
                await until(lambda turn=turn: turn * 20 + 21 <= len(set(ours.ids)))  # type: ignore[misc]
        assert {1} == set(Counter(ours.ids).values())
        assert 101 == len(ours.ids)


async def test_what_a_dead_centre_claimed_is_told_by_another_after_a_while(
    outlook: Outlook, file: Path
) -> None:
    """Until its claim ends nobody tells it: it may be on its way."""
    (alert,) = outlook.kept()
    with outlook.store.write() as connection:
        alerts.meet(connection, "ops")
        assert alerts.claim(connection, "ops", alert, holder="dead", now=outlook.now)
    async with hook() as ours, telling(outlook, file) as (made, _):
        write(file, webhook("ops", ours.url))
        await until(lambda: bool(made._standing))
        await looked(made)
        assert ([], 1) == (ours.news, (await standing(made, "ops")).waiting)
        assert [] == made.failing()
        outlook.wait(CLAIM_S + 1)
        await until(lambda: ours.news == ["opened"])


async def test_who_ends_while_it_tells_holds_back_nobody(outlook: Outlook, file: Path) -> None:
    """A centre that is stopped gives back what it had claimed."""
    async with hook(always=0) as hangs:
        write(file, webhook("ops", hangs.url))
        async with telling(outlook, file):
            await until(lambda: hangs.asked == 1)
    async with hook() as ours, telling(outlook, file):
        write(file, webhook("ops", ours.url))
        await until(lambda: ours.news == ["opened"])


def held(store: Store, alert: Alert, holder: str, now: dt.datetime) -> bool:
    with store.write() as connection:
        return alerts.claim(connection, "ops", alert, holder=holder, now=now)


def end(store: Store, alert: Alert, holder: str, *, was_taken: bool) -> None:
    with store.write() as connection:
        alerts.settle(connection, "ops", alert, holder=holder, was_taken=was_taken)


def test_a_claim_is_one_s_alone_until_it_ends(outlook: Outlook, store: Store) -> None:
    """Given back, run out, or made by a clock that has been set back: then it is free."""
    (alert,) = outlook.kept()
    now, later = outlook.now, dt.timedelta(seconds=CLAIM_S)

    assert held(store, alert, "a", now)
    assert not held(store, alert, "b", now)
    assert held(store, alert, "a", now)
    end(store, alert, "b", was_taken=False)
    assert not held(store, alert, "b", now + later / 2)
    end(store, alert, "a", was_taken=False)
    assert held(store, alert, "b", now)
    assert held(store, alert, "a", now + later)
    assert held(store, alert, "b", now)
    end(store, alert, "b", was_taken=True)
    assert not held(store, alert, "a", now)
    assert held(store, replace(alert, position=alert.position + 1), "a", now)


def test_nobody_claims_what_is_forgotten(outlook: Outlook, store: Store) -> None:
    """And nothing of it is left behind; what was claimed only counts as told to nobody."""
    (alert,) = outlook.kept()
    gone = replace(alert, id="a-gone")

    assert not held(store, gone, "a", outlook.now)
    end(store, gone, "a", was_taken=True)
    assert held(store, alert, "a", outlook.now)
    with store.read() as connection:
        assert {} == alerts.taken(connection, "ops")
