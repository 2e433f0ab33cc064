"""A device is asked how it is, from afar: a real centre, broker and agent, and real models."""

import base64
import gzip
import json
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.wire.sentences import WIRE
from tests.e2e.scene import SKERRY, Centre, Device, Load, Row, run, until
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

Make = Callable[[Centre], Device]

MODELS = ("benchmark", "self-test")


def at_hand(device: Device, *words: str) -> tuple[int, str]:
    said = run(Path(SKERRY).with_name("skerry-agent"), *words, "--home", device.home)
    return said.returncode, said.stdout


def said(island: Centre, *words: str) -> tuple[int, Row]:
    """Return the exit code, and what a command says to a program."""
    found = island.skerry("device", *words, "-o", "json")
    assert found.stdout, found.stderr
    return found.returncode, json.loads(found.stdout)


def answers(island: Centre) -> str:
    """Return all that devices have ever answered here."""
    rows = island.store("commands")["commands"]
    packed = [gzip.decompress(each["answer"]).decode() for each in rows if each["answer"]]
    return "\n".join([*packed, *(each["result"].decode() for each in rows if each["result"])])


def serving(island: Centre, device: Device) -> None:
    device.start()
    device.online()
    island.deliver("1.0.0", device)


def test_a_device_says_how_it_is(island: Centre, make_device: Make, old: Model) -> None:
    """What it serves answers meanwhile, and no answer has an input, or an output, in it."""
    device = make_device(island)
    serving(island, device)
    with Load(device, old) as load:
        load.more(20)
        code, doctor = said(island, "doctor", device.name, "--reason", "it flickers")
        checks = {each["check"]: each["verdict"] for each in doctor["answer"]["checks"]}
        assert ("ok", "ok", "ok") == tuple(checks[each] for each in ("registry", "broker", "port"))
        assert (code == 0) is ("wrong" not in checks.values())

        found = {}
        for verb in MODELS:
            code, told = said(island, verb, device.name)
            assert (0, "ok") == (code, told["command"]["answer"]["verdict"])
            (found[verb],) = told["answer"]["deployments"]
        load.more(20)
        assert 0 == island.skerry("device", "logs", device.name).returncode
    assert [] == load.failed == load.unanswered

    measured, tested = found["benchmark"], found["self-test"]
    assert ("digits", 1, "1.0.0") == (
        measured["name"], measured["revision"], measured["bundle"]["version"],
    )  # fmt: skip
    assert 0 < measured["latency_p50_s"] < 1
    assert 0 < measured["chosen_latency_p50_s"] < 1
    assert 0 < measured["cpu_s"]
    assert tested["agreed"] == tested["vectors"] > 0
    assert tested["latency_p50_s"] is None
    everything = answers(island) + device.log.read_text()
    for secret in [*old.probes, *old.answers]:
        for form in (secret.hex(), base64.b64encode(secret).decode(), str(list(secret))[1:-1]):
            assert form not in everything

    history = island.skerry("device", "history", device.name)
    assert "operator asked it for doctor (" in history.stdout
    assert "it flickers" in " ".join(history.stdout.split())
    drawn = island.skerry("device", "benchmark", device.name)
    assert "when it was chosen" in drawn.stdout
    assert 1 == len(device.workers()), "nothing of it is left"


def test_the_owner_has_the_last_word(island: Centre, make_device: Make) -> None:
    """What they refuse is refused with the reason and the way, and status and page say it."""
    device = make_device(island)
    serving(island, device)
    assert (
        0,
        "logs       allowed\ndoctor     allowed\nbenchmark  refused\nself-test  allowed\n",
    ) == (at_hand(device, "policy", "--refuse", "benchmark"))
    refused = island.skerry("device", "benchmark", device.name)
    assert (7, "") == (refused.returncode, refused.stdout)
    what, why, next_step = refused.stderr.splitlines()[-3:]
    assert "The device refuses this command." in what
    assert "COMMAND_NOT_ALLOWED: its owner does not allow benchmark: skerry-agent policy" == why
    assert WIRE["COMMAND_NOT_ALLOWED"].next_step == next_step
    assert "the centre may ask for logs, doctor, self-test" in at_hand(device, "status")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{device.port}/") as page:
        assert b"logs, doctor, self-test" in page.read()
    assert 0 == said(island, "self-test", device.name)[0]

    at_hand(device, "policy", "--allow", "benchmark")
    assert 0 == said(island, "benchmark", device.name)[0]


def test_several_are_asked_at_once(island: Centre, make_device: Make) -> None:
    """Each has answered or has not; the exit code is of the worst; too many are not asked."""
    here, gone = make_device(island), make_device(island)
    for each in (here, gone):
        each.start()
        each.online()
    island.deliver("1.0.0", here)
    assert 0 == gone.end()
    until(lambda: not island.device(gone)["online"], what="the device gone")
    words = ("self-test", "--selector", "all", "--wait", "20s")
    code, found = said(island, *words)
    told = {each["device"]: each for each in found["commands"]}
    assert {here.id, gone.id} == told.keys()
    assert ("done", "waiting") == (told[here.id]["status"], told[gone.id]["status"])
    assert 5 == code

    gone.start()
    path = f"/api/v1/devices/{gone.id}/commands/{told[gone.id]['id']}"
    late = until(
        lambda: (row := island.ask("GET", path))["status"] != "waiting" and row,
        what="the answer of the one that was away",
    )
    assert ("failed", "NOT_FOUND") == (late["status"], late["problem"]["reason"])
    nobody = island.skerry("device", "doctor", "--selector", "room=none")
    assert 3 == nobody.returncode
    unclear = island.skerry("device", "doctor")
    assert 2 == unclear.returncode


def test_an_agent_that_was_killed_says_so(island: Centre, make_device: Make) -> None:
    """In the middle of a benchmark: the next agent answers, and does not begin it again."""
    device = make_device(island)
    serving(island, device)
    path = f"/api/v1/devices/{device.id}/commands"
    workers = device.workers()
    asked = island.ask("POST", path, {"verb": "benchmark"})
    until(lambda: device.workers() - workers, what="the benchmark")
    device.end(signal.SIGKILL)
    device.start()
    over = until(
        lambda: (row := island.ask("GET", f"{path}/{asked['id']}"))["status"] != "waiting" and row,
        what="an answer",
    )
    assert ("failed", "COMMAND_INTERRUPTED") == (over["status"], over["problem"]["reason"])
    assert not [line for line in device.said() if line.get("event") == "command"]
    until(lambda: len(device.workers()) == 1, what="what serves, and nothing else")
    assert 0 == said(island, "benchmark", device.name)[0]


def test_an_update_is_not_disturbed(island: Centre, make_device: Make) -> None:
    """What is on trial is not measured beside; a doctor may look."""
    device = make_device(island)
    serving(island, device)
    wish = {
        "bundle": "digits:2.0.0", "deployment": "digits", "targets": [device.id],
        "policy": "all-at-once", "settings": {"probation_s": 600},
    }  # fmt: skip
    island.ask("POST", "/api/v1/rollouts", wish)
    until(
        lambda: island.deployment(device).get("phase") == "probation",
        what="the probation",
    )
    refused = island.skerry("device", "benchmark", device.name)
    assert (7, "") == (refused.returncode, refused.stdout)
    assert "UPDATE_UNDER_WAY: digits is probation here" in refused.stderr
    assert said(island, "doctor", device.name)[1]["answer"]["checks"]
