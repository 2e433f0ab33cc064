"""`--settings FILE`: how a bundle is to serve, said once for all devices that get it."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.wire import codec, v1
from fleet.cli.screen import ExitCode
from fleet.identity.places import Home
from fleet.store import desired
from fleet.store.engine import Store
from tests.fleet.screens.quay import Quay, quay_of

SHADOW = {"threads": 1, "shadow": {"requests": 50, "agreement": 0.9}}


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


async def wanted(quay: Quay, device: str) -> v1.DeploymentSettings:
    """Return how a device is to serve."""

    def read() -> v1.DeploymentSettings:
        with quay.served.store.read() as connection:
            held = desired.held(connection, device)
        assert held is not None
        return codec.decode(held.payload, v1.Desired).deployments[0].settings

    return await asyncio.to_thread(read)


async def test_settings_go_to_every_device_with_the_bundle(quay: Quay, tmp_path: Path) -> None:
    """The command that the plan prints says them too; a rollout that says none keeps them."""
    path = tmp_path / "how.json"
    path.write_text(json.dumps(SHADOW))
    words = ("digits:1.0.0", "--to", "all", "--policy", "all-at-once", "--settings", str(path))
    planned = await quay.people.skerry("rollout", "plan", *words)
    assert f"--settings {shlex.quote(str(path))}" in " ".join(planned.out.split())
    await quay.start("1.0.0", "--policy", "all-at-once", "--settings", str(path))
    settings = await wanted(quay, "d-1")
    assert v1.ShadowSettings(requests=50, agreement=0.9) == settings.shadow
    assert (1, 10.0) == (settings.threads, settings.timeout_s)
    await quay.say("d-1", "d-2", "d-3", "d-4")
    shadow = "1 thread; a shadow: before it serves, it is compared on live requests with what does;"
    assert f"HOW 5 get {shadow}" in " ".join(planned.out.split())
    kept = await quay.people.skerry("rollout", "plan", "digits:1.1.0", "--to", "all")
    assert f"HOW 4 keep {shadow}" in " ".join(kept.out.split())
    assert " 1 gets the default settings" in " ".join(kept.out.split())
    rollout = await quay.start("1.1.0", "--policy", "all-at-once")
    assert settings == await wanted(quay, "d-1")
    shown = await quay.people.skerry("rollout", "show", rollout)
    assert f"HOW 4 keep {shadow}" in " ".join(shown.out.split())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "SETTINGS: No such file"),
        (b"{", "MALFORMED"),
        (b" " * 6000, "TOO_LARGE"),
        (b'{"timeout_s": 0}', "timeout_s is 0"),
        (b'{"shadow": {"agreement": 2}}', "agreement is 2"),
        (b"[1]", "MALFORMED: it is no object"),
        (b"null", "MALFORMED: it is no object"),
        (b'{"timeout_s": NaN}', "MALFORMED: NaN"),
        (b'{"timeout_s": 1e999}', "MALFORMED: 1e999"),
        (b"[" * 5000, "MALFORMED"),
        (b'{"shadoww": {}}', "settings.shadoww: there is no such field, only threads, workers"),
        (b'{"shadow": {"agrement": 1}}', "shadow.agrement: there is no such field, only share"),
        (b'{"threads": 1, "threads": 2}', "MALFORMED: it says 'threads' twice"),
    ],
)
async def test_settings_that_no_device_can_have_are_refused(
    quay: Quay, tmp_path: Path, content: bytes | None, said: str
) -> None:
    """With what is wrong in them, and nothing is started."""
    path = tmp_path / "how.json"
    if content is not None:
        path.write_bytes(content)
    words = ("digits:1.0.0", "--to", "all", "--yes", "--settings", str(path))
    ended = await quay.people.skerry("rollout", "start", *words)
    assert ended.code in {ExitCode.USAGE, ExitCode.REFUSED}
    assert "" == ended.out
    assert said in ended.err
    assert "Value error" not in ended.err
    assert not {"Traceback", "defect"} & set(ended.err.split())
    assert [] == (await quay.ask())["rollouts"]
