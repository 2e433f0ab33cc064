"""A technician with a browser before a real device: no network, no centre, and the truth."""

import html
import http.client
import json
import platform
import re
from collections.abc import Callable

import pytest

from agent.home import Home as Folder
from agent.technician import hold
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Home, Publish, answers, deployment, until
from tests.agent.packages import Package

pytestmark = pytest.mark.real("mosquitto")

AT = "2026-01-02T03:04:05Z"
NASTY = """<script>alert(1)</script> "'& </style> \N{RIGHT-TO-LEFT OVERRIDE}"""
Answer = tuple[int, http.client.HTTPMessage, str]


def ask(agent: Agent, path: str = "/", method: str = "GET", *, host: str | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=10)
    headers = {} if host is None else {"Host": host}
    body = b"x" * 1000 if method == "POST" else None
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


def words(agent: Agent) -> str:
    """Return the text of the page, one blank between words."""
    status, _, page = ask(agent)
    assert status == 200
    body = page.partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def says(agent: Agent, *those: str) -> Callable[[], bool]:
    return lambda: all(each in words(agent) for each in those)


@pytest.mark.usefixtures("serving")
def test_it_says_what_serves_and_how(agent: Agent) -> None:
    """In plain words, with the numbers of the last period, and what happened last."""
    for _ in range(5):
        assert agent.serves() == "1.0.0"
    until(lambda: re.search(r"Requests [1-9]", words(agent)))
    told = words(agent)

    assert f"d-1 on {platform.node()} As of 20" in told
    assert " ok It serves all that is wanted of it." in told
    assert "digits dense:1.0.0 serves revision 1 Runs on cpu Threads" in told
    assert re.search(r"Self-test, median [\d.]+ ms", told)
    assert re.search(r"Errors 0 p50 [\d.]+ m?s p95 [\d.]+ m?s", told)
    assert "Connected to its centre since" in told
    assert "Acts on document generation 1, epoch 0" in told
    assert "digits revision 1: serving" in told
    assert "The agent started, version 0." in told
    assert "Models are confined by no-new-privileges" in told
    until(says(agent, "Waits to be told nothing"))
    assert "digits revision 1: answering its golden vectors" in words(agent)


def test_it_only_shows(agent: Agent) -> None:
    """GET and HEAD alone, with headers that let nothing in; all other paths are as they were."""
    until(lambda: answers(agent.port))
    _, headers, page = ask(agent)
    status, of_head, nothing = ask(agent, method="HEAD")

    assert (status, nothing) == (200, "")
    assert of_head["content-length"] == headers["content-length"] != "0"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["refresh"] is None
    assert ask(agent, "/?again")[1]["refresh"] == "10"
    assert not re.search(r"<(script|form|input|button|img|link)|http", page)
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, refused, body = ask(agent, method=method)
        assert (status, refused["allow"]) == (405, "GET, HEAD")
        assert "only shows" in json.loads(body)["error"]
    for path in ("/nowhere", "/index.html", "//", "/page.css"):
        status, _, body = ask(agent, path)
        assert status == 404
        assert "nothing is at" in json.loads(body)["error"]
    assert ask(agent, "/v2")[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example:80", "local.evil.example"):
        assert ask(agent, host=host)[0] == 421
    for host in ("127.0.0.1", "[::1]:8471", "oven-1", "oven-1.local:80", "localhost."):
        assert ask(agent, host=host)[0] == 200


@pytest.mark.usefixtures("serving")
def test_a_hold_is_shown_with_its_reason_and_as_text(agent: Agent, home: Home) -> None:
    """Whatever somebody typed: nothing of it is taken for markup, and nothing turns around."""
    hold(Folder(home.path), NASTY, AT)
    until(says(agent, "waiting since"))
    _, _, page = ask(agent)

    assert "Somebody holds this device as it is" in page
    assert "skerry-agent release" in page
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &quot;&#x27;&amp; &lt;/style&gt;" in page
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page
    assert "Somebody held the device." in page


@pytest.mark.usefixtures("serving")
def test_what_was_refused_is_said_with_the_next_step(
    agent: Agent, centre: Centre, home: Home, publish: Publish, dense: Package
) -> None:
    """Why, what to do, and that the revision before serves all the same."""
    wrong = bytes(each ^ 0x40 for each in dense.golden)
    bad = deployment(publish("2.0.0", golden=wrong), 2)
    centre.say(Kind.DESIRED, home.envelope(2, bad))
    until(lambda: centre.phase() == (Phase.REFUSED, 2))
    until(says(agent, "failing since"))
    told = words(agent)

    assert "dense:2.0.0: The model answers its golden vectors wrongly on this device" in told
    assert "GOLDEN_MISMATCH" in told
    assert "Next Don't roll it out to this class of devices" in told
    assert "dense:1.0.0 serves revision 1" in told
    assert "Wanted, and not there yet dense:2.0.0: refused; it never served revision 2" in told
    assert "In quarantine This content failed here" in told
    assert "was put into quarantine." in told


@pytest.mark.usefixtures("serving")
def test_without_a_centre_it_says_so_and_all_else(agent: Agent, home: Home) -> None:
    """After a restart with the cable cut it shows what happened before, and what waits."""
    until(says(agent, "Waits to be told nothing"))
    agent.stop()
    identity = home.path / "identity" / "join.json"
    said = json.loads(identity.read_text())
    said["broker_url"] = "mqtt://127.0.0.1:1"
    identity.write_text(json.dumps(said))
    agent.start()
    until(lambda: agent.serves() == "1.0.0", 60)
    until(says(agent, "ok It serves all that is wanted of it."))
    told = words(agent)

    assert "No connection to its centre since" in told
    assert "What serves goes on, and what there is to tell waits." in told
    assert re.search(r"Waits to be told [1-9]", told)
    assert 2 == told.count("The agent started")
    assert "digits revision 1: serving" in told


@pytest.mark.usefixtures("serving")
def test_it_answers_while_a_process_hangs_or_loads(agent: Agent) -> None:
    """It asks no model's process for anything: not a stopped one, nor one that is not there yet."""
    [stopped] = agent.workers()
    stopped.suspend()
    assert "ok It serves" in words(agent)
    stopped.resume()
    agent.stop()
    agent.start()
    until(agent.workers)
    for process in agent.workers():
        process.suspend()
    until(lambda: "updating dense:1.0.0: Its process is being started." in words(agent))
    assert "dense:1.0.0 is being started revision 1" in words(agent)
    for process in agent.workers():
        process.resume()
    until(says(agent, "ok It serves all that is wanted of it."), 60)
