"""Doors that stay shut: tokens, addresses, ports, homes. A person reads three lines each time."""

import json
import os
import re
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from agent.wire import codec, v1
from agent.wire.reasons import Reason
from fleet.identity.tokens import JoinToken
from tests.e2e.scene import AGENT, SKERRY, Centre, Device, run
from tests.e2e.wares import Model

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

UNMOVED = ("devices", "desired", "sites", "audit", "bundles", "rollouts")
PROGRAM = re.compile(r"(agent|fleet|models)/\w+\.py")


def three_lines(ended: CompletedProcess[str], reason: str) -> None:
    """What happened, why (it begins with the code), what next; nothing about our insides."""
    assert 0 != ended.returncode
    assert "" == ended.stdout
    what, why, hint = ended.stderr.splitlines()
    assert why.startswith(reason), ended.stderr
    assert what
    assert hint
    assert not PROGRAM.search(ended.stderr)


def test_a_token_that_is_no_good_lets_nobody_in(
    town: Centre, make_device: Callable[..., Device]
) -> None:
    """Used, expired, never given out, of another authority, half copied: neither side changes."""
    used, expired, good = (town.token() for _ in range(3))
    first = make_device(town, join=False)
    assert 0 == first.join(used).returncode
    _expire(town, expired)
    device = make_device(town, join=False)
    before = town.store(*UNMOVED, "tokens")
    head, ca, secret = good.split(".")
    for token, reason, code in (
        (used, Reason.TOKEN_USED, 4),
        (expired, Reason.TOKEN_EXPIRED, 4),
        (f"{head}.{ca}.{'A' * len(secret)}", Reason.TOKEN_UNKNOWN, 4),
        (f"{head}.{'0' * 64}.{secret}", Reason.CA_MISMATCH, 7),
        (good[:-30], Reason.TOKEN_UNKNOWN, 2),
        ("", Reason.TOKEN_UNKNOWN, 2),
    ):
        ended = device.join(token)
        three_lines(ended, reason)
        assert code == ended.returncode
        assert not device.home.exists()
        assert before == town.store(*UNMOVED, "tokens")
    assert 0 == device.join(good).returncode
    assert device.name in town.skerry("device", "ls").stdout


def test_a_device_joins_once(town: Centre, make_device: Callable[..., Device]) -> None:
    """A second join on a home that has an identity spends no token and touches nothing."""
    device = make_device(town)
    token = town.token()
    files = _files(device.home)
    before = town.store(*UNMOVED, "tokens")
    ended = device.join(token)
    three_lines(ended, Reason.TOKEN_USED)
    assert 6 == ended.returncode
    assert files == _files(device.home)
    assert before == town.store(*UNMOVED, "tokens")


def test_a_request_that_is_no_signing_request_spends_no_token(
    town: Centre, make_device: Callable[..., Device]
) -> None:
    """Malformed CSRs and requests are refused by their reason; the token is good afterwards."""
    token = town.token()
    before = town.store(*UNMOVED, "tokens")
    pem = "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n"
    asked = v1.JoinRequest(token=token, csr=pem.format("AAAA"), name="x")
    for body, reason in (
        (codec.encode(asked), Reason.CSR_INVALID),
        (codec.encode(asked).replace(b"AAAA", b"not base64!"), Reason.CSR_INVALID),
        (b"{", Reason.MALFORMED),
        (b"[" * 15000, Reason.MALFORMED),
        (b'{"schema": "skerry.join-request/v9"}', Reason.UNKNOWN_SCHEMA),
        (b"x" * 20000, Reason.TOO_LARGE),
    ):
        status, answer = town.http("POST", "/join", body)
        assert 400 <= status < 500
        assert reason == json.loads(answer)["reason"], body[:80]
        assert b"Traceback" not in answer
    assert before == town.store(*UNMOVED, "tokens")
    assert 0 == make_device(town, join=False).join(token).returncode


def test_a_centre_whose_port_is_taken_says_which(town: Centre, tmp_path: Path) -> None:
    """Three lines with the port and what to choose instead; it leaves nothing running."""
    newcomer = Centre(tmp_path)
    for which in ("--listen", "--plain", "--broker-port"):
        with _taken() as port:
            given = str(port) if which == "--broker-port" else f"127.0.0.1:{port}"
            words = [str(word) for word in newcomer.command()]
            words[words.index(which) + 1] = given
            ended = run(*words)
        three_lines(ended, "BROKER" if which == "--broker-port" else "PORT_IN_USE")
        assert str(port) in ended.stderr
        assert which in ended.stderr
        assert not (newcomer.home / "running.json").exists()
    assert town.alive()
    newcomer.start()
    newcomer.dismiss()


def test_a_second_centre_on_a_home_is_told_of_the_first(town: Centre) -> None:
    """It ends before it opens anything; the first doesn't notice."""
    before, where = town.store(*UNMOVED), (town.home / "running.json").read_bytes()
    ended = run(SKERRY, "up", "--home", town.home, "--listen", "127.0.0.1:0")
    three_lines(ended, "HOME_IN_USE")
    assert before == town.store(*UNMOVED)
    assert where == (town.home / "running.json").read_bytes()
    assert 0 == town.skerry("device", "ls").returncode


def test_a_second_agent_on_a_home_or_port_leaves_the_first_alone(
    town: Centre, make_device: Callable[..., Device], old: Model
) -> None:
    """Its port, its home: the newcomer ends with three lines, the first goes on answering."""
    device, other = make_device(town), make_device(town)
    device.start()
    town.deliver("1.0.0", device)
    held, workers = device.held(), device.workers()

    ended = run(*AGENT, "run", "--home", device.home, "--listen", "127.0.0.1:0")
    three_lines(ended, "HOME_IN_USE")
    assert str(device.home) in ended.stderr
    ended = run(*AGENT, "run", "--home", other.home, "--listen", f"127.0.0.1:{device.port}")
    *log, what, why, hint = ended.stderr.splitlines()
    assert all(json.loads(line) for line in log)
    assert 1 == ended.returncode
    assert why.startswith("LISTEN")
    assert str(device.port) in why
    assert "--listen" in hint
    assert what

    assert held == device.held()
    assert workers == device.workers()
    assert device.answers(old)
    assert device.alive()


def test_who_has_not_joined_cannot_run(tmp_path: Path) -> None:
    """Nothing is made in a home without an identity, and the way in is named."""
    ended = run(*AGENT, "run", "--home", tmp_path / "nobody", "--listen", "127.0.0.1:0")
    three_lines(ended, Reason.NOT_FOUND)
    assert 3 == ended.returncode
    assert "skerry-agent join" in ended.stderr
    assert not (tmp_path / "nobody").exists()


def test_an_interrupted_centre_ends_in_order(tmp_path: Path) -> None:
    """Ctrl-C is how a person ends it: no stack trace, no broker left, status 0."""
    centre = Centre(tmp_path)
    centre.start()
    broker = centre.broker_pid
    assert 0 == centre.end(signal.SIGINT)
    with pytest.raises(ProcessLookupError):
        os.kill(broker, 0)
    centre.check_log()


def _expire(centre: Centre, token: str) -> None:
    """Move a token's end into the past: the shortest one lasts a minute."""
    database = sqlite3.connect(centre.home / "store.db", timeout=10)
    try:
        with database:
            changed = database.execute(
                "UPDATE tokens SET expires_at = '2020-01-01T00:00:00Z' WHERE id = ?",
                (JoinToken.parse(token).id,),
            )
        assert 1 == changed.rowcount
    finally:
        database.close()


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextmanager
def _taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]
