"""A stick from the centre to a device that it can't reach, and what both say when it is back."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.scene import SKERRY, Centre, Device, run, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

AGENT = Path(SKERRY).with_name("skerry-agent")


def test_a_rollout_reaches_a_device_by_stick(
    island: Centre, make_device: Callable[..., Device], new: Model, tmp_path: Path
) -> None:
    """Exported at the centre, applied at the device; reconnecting it says so, and no more."""
    stick = tmp_path / "stick"
    device = make_device(island)
    device.start()
    none = island.skerry("device", "export", device.name, "--to", stick)
    assert 3 == none.returncode, none.stderr
    island.deliver("1.0.0", device)
    device.end()
    until(lambda: not island.device(device)["online"], what="the device gone")
    rollout = island.roll("2.0.0", device)
    assert "2.0.0" not in json.dumps(island.device(device)["desired"]), "it is set aside"
    told = island.skerry("device", "export", device.name, "--to", stick)
    assert 0 == told.returncode, told.stderr
    assert f"exported: {device.id}" in told.stdout
    assert "2.0.0" in json.dumps(island.device(device)["desired"]), "now it is asked"
    again = island.skerry("device", "export", device.id, "--to", stick)
    assert 0 == again.returncode, again.stderr
    assert told.stdout == again.stdout
    island.end(signal.SIGKILL)

    device.start()
    applied = run(AGENT, "apply", stick, "--home", device.home)
    assert 0 == applied.returncode, applied.stderr
    assert "brought: digits:2.0.0" in applied.stdout
    until(lambda: device.answers(new), what="2.0.0 from the stick")
    held = device.held()

    island.start()
    island.settled(device, "2.0.0")
    path = f"/api/v1/rollouts/{rollout}"
    until(lambda: island.ask("GET", path)["state"] == "done", what=f"the end of {rollout}")
    assert held == device.held()
    assert [] == device.refusals()
