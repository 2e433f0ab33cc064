"""A real device's log and doctor: what it did is in there, what its clients sent is not."""

import json
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from agent.cli import main
from tests.agent.device.running import Agent
from tests.agent.device.world import Home, until

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

SECRET = "a-face-nobody-may-see"
NUMBERS = [91, 37, 113, -77] * 16


def send(agent: Agent, path: str, body: bytes) -> None:
    url = f"http://127.0.0.1:{agent.port}/v2/models/{path}"
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(url, body, timeout=10) as answer:
        answer.read()


@pytest.mark.usefixtures("serving")
def test_what_clients_send_is_never_logged(
    agent: Agent, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right and wrong requests, and a worker that dies of none of them."""
    tensor = {"name": "x", "shape": [1, 64], "datatype": "INT8", "data": NUMBERS}
    wrong = [
        {**tensor, "shape": [64, 64]},
        {**tensor, "data": [SECRET]},
        {**tensor, "name": SECRET},
    ]
    for each in [tensor, *wrong]:
        send(agent, "digits/infer", json.dumps({"inputs": [each]}).encode())
    send(agent, "digits/infer", f'{{"inputs": "{SECRET}"'.encode())
    send(agent, f"{SECRET}/infer", b"{}")
    agent.kill_workers()
    until(lambda: agent.serves() == "1.0.0")
    agent.stop()

    assert 0 == main(["logs", "--home", str(home.path)])
    said = capsys.readouterr().out
    events = [json.loads(line)["event"] for line in said.splitlines()]
    assert {"serving", "connected", "desired accepted", "step", "stopped"} <= set(events)
    assert said == agent.log.read_text()
    for text in (SECRET, "91, 37", "91,37"):
        assert text not in said


@pytest.mark.usefixtures("serving")
def test_a_doctor_comes_while_the_agent_runs(
    agent: Agent, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """It disturbs nothing; and finds a ledger that was damaged meanwhile."""
    words = ["doctor", "--home", str(home.path), "--listen", f"127.0.0.1:{agent.port}"]
    main([*words, "-o", "json"])
    before = agent.log.read_text()
    checks = json.loads(capsys.readouterr().out)["checks"]
    found = {each["check"]: each["what"] for each in checks if each["verdict"] == "ok"}

    machine = {"disk", "ledger", "runtime", "sandbox", "port"}
    assert machine | {"policy", "identity", "broker"} == set(found)
    assert "an agent runs with this home" == found["port"]
    assert agent.serves() == "1.0.0"
    assert before == agent.log.read_text()

    agent.stop()
    (home.path / "ledger.db").write_bytes(b"not a database" * 1000)
    assert 1 == main(words)
    assert "wrong      ledger" in capsys.readouterr().out
