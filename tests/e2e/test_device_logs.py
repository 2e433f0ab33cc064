"""An operator reads a device's log from afar: a real centre, broker and agent, and one command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.wire import codec, v1
from agent.wire.topics import Kind, Topic
from tests.e2e.scene import SKERRY, Centre, Device, Row, run, until

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

Make = Callable[[Centre], Device]


def at_hand(device: Device) -> list[str]:
    """Return the log's lines as somebody at the device reads them."""
    said = run(Path(SKERRY).with_name("skerry-agent"), "logs", "--home", device.home)
    assert 0 == said.returncode, said.stderr
    return said.stdout.splitlines()


def events(lines: list[str]) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


def told(island: Centre, device: Device) -> list[Row]:
    """Return the lines in which the device says what it was asked."""
    assert island.alive()
    return [line for line in device.said() if line.get("event") == "command"]


def answered(island: Centre, *words: str) -> list[str] | None:
    """Return the lines of an answer, if it is there."""
    said = island.skerry(*words, "--wait", "0s")
    return said.stdout.splitlines() if said.returncode == 0 else None


def test_a_log_is_read_from_afar(island: Centre, make_device: Make) -> None:
    """The same lines as at the device; as many as were asked for; none of it disturbs serving."""
    device = make_device(island)
    device.start()
    device.online()
    here = at_hand(device)
    asked = island.skerry("device", "logs", device.name)
    assert 0 == asked.returncode, asked.stderr
    assert f"asked {device.name}" in asked.stderr
    lines = asked.stdout.splitlines()
    assert here == lines[: len(here)]
    assert {"serving", "connected"} <= set(events(lines))

    few = island.skerry("device", "logs", device.id, "--lines", "2")
    assert 0 == few.returncode, few.stderr
    assert 2 == len(few.stdout.splitlines())
    assert few.stdout.splitlines() == at_hand(device)[-3:-1], "what it was asked comes after"
    assert ["done", "done"] == [line["status"] for line in told(island, device)]


def test_a_device_that_is_away_answers_when_it_is_back(island: Centre, make_device: Make) -> None:
    """The broker keeps the question; the answer is read later by its number."""
    device = make_device(island)
    device.start()
    device.online()
    assert 0 == device.end()
    until(lambda: not island.device(device)["online"], what="the device gone")
    asked = island.skerry("device", "logs", device.name, "--wait", "1s")
    assert (5, "") == (asked.returncode, asked.stdout)
    what, why, after = asked.stderr.splitlines()[-3:]
    assert f"{device.name} has not answered yet" == what
    assert why.startswith("OFFLINE: since ")
    words = after.partition("then: skerry ")[2].split()

    device.start()
    read = until(lambda: answered(island, *words), what="the answer")
    assert 1 == events(read).count("stopped")


def test_what_expired_meanwhile_is_not_done(island: Centre, make_device: Make) -> None:
    """A device that comes back too late finds nothing to do, and the log is asked for anew."""
    device = make_device(island)
    device.start()
    device.online()
    assert 0 == device.end()
    path = f"/api/v1/devices/{device.id}/commands"
    asked = island.ask("POST", path, {"verb": "logs", "valid_s": 10})
    until(
        lambda: island.ask("GET", f"{path}/{asked['id']}")["status"] == "expired",
        what="the end of its time",
    )
    device.start()
    device.online()
    again = island.skerry("device", "logs", device.name)
    assert 0 == again.returncode, again.stderr
    assert ["done"] == [line["status"] for line in told(island, device)]
    assert "expired" == island.ask("GET", f"{path}/{asked['id']}")["status"]


def test_a_broker_that_repeats_itself_asks_once(island: Centre, make_device: Make) -> None:
    """The same signed question, five times; and one that was changed is refused."""
    device = make_device(island)
    device.start()
    device.online()
    island.ask("POST", f"/api/v1/devices/{device.id}/commands", {"verb": "logs"})
    until(lambda: island.store("commands")["commands"][0]["result"], what="the answer")
    (row,) = island.store("commands")["commands"]
    with island.paused():
        peer = island.peer().connect()
        topic = str(Topic("fleet", device.id, Kind.COMMAND))
        for _ in range(4):
            peer.publish(topic, row["envelope"])
        peer.publish(topic, row["envelope"].replace(b"payload", b"pay1oad", 1))
        until(device.refusals, what="the refusal")
        peer.leave()
    assert ["MALFORMED"] == device.refusals()
    assert 1 == len(told(island, device))
    assert v1.ResultStatus.DONE is codec.decode(row["result"], v1.Result).status
