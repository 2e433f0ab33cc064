"""What `skerry-agent doctor` finds wrong with a device, and what it says to do about it."""

import json
import os
import shutil
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import doctor
from agent.alone import alone
from agent.cli import main
from agent.doctor import Finding, Patient
from agent.home import Home
from agent.identity import Identity, load
from agent.ledger import open_ledger
from agent.wire import codec, v1
from tests.conformance.trust import TestAuthority

NOW = "2030-01-01T00:00:00Z"
Capsys = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def home(tmp_path: Path, authority: TestAuthority) -> Home:
    """A device that has joined; its broker and registry are nowhere."""
    made = Home(tmp_path / "home")
    made.identity.mkdir(parents=True)
    certificate, key = authority.issue("d-1")
    answer = v1.JoinAnswer(
        fleet="f",
        device="d-1",
        certificate=certificate.read_text(),
        ca=authority.path.read_text(),
        keys=(),
        broker_url=f"mqtts://127.0.0.1:{closed_port()}",
        registry_url=f"http://127.0.0.1:{closed_port()}",
    )
    for name, content in (("cert", certificate), ("key", key), ("ca", authority.path)):
        shutil.copy(content, made.identity / f"{name}.pem")
    (made.identity / "join.json").write_bytes(codec.encode(answer))
    return made


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def patient(home: Home, port: int = 0) -> Patient:
    return Patient(home=home, host="127.0.0.1", port=port, library=None, now=NOW)


def told(home: Home, **changed: str) -> Identity:
    """Return the identity of a device that was told other addresses."""
    identity = load(home)
    return replace(identity, answer=replace(identity.answer, **changed))  # type: ignore[arg-type]  # texts only


def check_wrong(found: Finding, why: str, hint: str) -> None:
    assert "wrong" == found.verdict, found
    assert why in f"{found.what} {found.why}"
    assert hint in found.hint


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Serve one status to all who ask."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def greeting(
    authority: TestAuthority, *, takes: TestAuthority, hangs_up: bool = False
) -> Iterator[str]:
    """Be a broker on the level of TLS, which wants a certificate of the authority it takes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("broker"))
    context.load_verify_locations(takes.path)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as held:
                if not hangs_up:
                    held.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"mqtts://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_a_sound_device_is_told_so(home: Home, authority: TestAuthority, capsys: Capsys) -> None:
    """Each check says what it saw; the exit code is 0, for people and for programs."""
    words = ["doctor", "--home", str(home.path), "--listen", f"127.0.0.1:{closed_port()}"]
    open_ledger(home.ledger, fleet="f", device="d-1").close()
    before = home.ledger.read_bytes()
    said = []
    for output in ("table", "json"):
        with answering(200) as registry, greeting(authority, takes=authority) as broker:
            joined = home.identity / "join.json"
            answer = load(home).answer
            joined.write_bytes(
                codec.encode(replace(answer, registry_url=registry, broker_url=broker))
            )
            assert 0 == main([*words, "-o", output]), capsys.readouterr().out
        said.append(capsys.readouterr().out)
    found = json.loads(said[1])

    assert all(line.startswith("ok ") for line in said[0].splitlines())
    assert found["ok"]
    checks = ["disk", "ledger", "runtime", "sandbox", "port"]
    checks += ["policy", "identity", "clock", "registry"]
    assert [*checks, "broker"] == [each["check"] for each in found["checks"]]
    assert before == home.ledger.read_bytes()
    # SQLite puts two files beside a ledger that it reads.
    others = {path.name for path in home.path.iterdir()} - {"ledger.db-shm", "ledger.db-wal"}
    assert {"identity", "ledger.db"} == others


def test_a_device_that_never_joined_has_one_finding(tmp_path: Path, capsys: Capsys) -> None:
    """What needs an identity is not tried; the exit code says that something is wrong."""
    words = ["doctor", "--home", str(tmp_path / "none"), "--listen", f"127.0.0.1:{closed_port()}"]

    assert 1 == main(words)
    lines = capsys.readouterr().out.splitlines()
    assert 1 == len([line for line in lines if line.startswith("wrong")])
    assert 3 == len([line for line in lines if line.startswith("not tried")])
    assert any("next: join it: skerry-agent join URL" in line for line in lines)
    assert not (tmp_path / "none").exists()


def test_an_identity_that_is_not_whole(home: Home, authority: TestAuthority) -> None:
    """A key of somebody else's certificate, and a file that is not ours."""
    shutil.copy(authority.issue("d-2")[1], home.identity / "key.pem")
    found = {each.check: each for each in doctor.examine(patient(home, closed_port()))}
    check_wrong(found["identity"], "certificate or key can't be read", "join again")
    assert "not tried" == found["broker"].verdict

    (home.identity / "join.json").write_text("{")
    found = {each.check: each for each in doctor.examine(patient(home, closed_port()))}
    check_wrong(found["identity"], "MALFORMED", "join again")


def test_a_disk_without_room_or_of_another_user(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told apart: one wants room, the other the right user."""
    assert "ok" == doctor.disk(home.path).verdict
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    check_wrong(doctor.disk(home.path), "1 MB are free", "make room")
    monkeypatch.setattr(os, "access", lambda *_: False)
    check_wrong(doctor.disk(home.path), "can't be written", "as the user that runs the agent")


def test_a_ledger_that_is_damaged_newer_or_unreadable(home: Home) -> None:
    """Each has its own remedy, and is left as it was."""
    assert "ok" == doctor.ledger(home.ledger).verdict
    open_ledger(home.ledger, fleet="f", device="d-1").close()
    with closing(sqlite3.connect(home.ledger)) as database:
        database.execute("PRAGMA user_version = 99")
    check_wrong(doctor.ledger(home.ledger), "a newer agent's", "run the newer agent")
    home.ledger.write_bytes(b"what a dying card makes of it" * 500)
    before = home.ledger.read_bytes()
    check_wrong(doctor.ledger(home.ledger), "is damaged", "moves the file aside")
    assert before == home.ledger.read_bytes()
    home.ledger.unlink()
    home.ledger.mkdir()
    check_wrong(doctor.ledger(home.ledger), "can't be read", "as the user that runs the agent")


def test_a_runtime_that_is_not_there() -> None:
    """It is looked for in a child, as the agent does."""
    works, *_ = doctor.runtime("litert")
    assert "ok" == works.verdict
    [missing] = doctor.runtime("tflite")
    check_wrong(missing, "RUNTIME_MISSING", "pip install")


def test_what_confines_a_model_is_said() -> None:
    """And what this kernel could have beside it, with what to do."""
    assert "ok" == doctor.sandbox(("limits", "landlock-7", "seccomp")).verdict
    check_wrong(doctor.sandbox(("limits", "seccomp")), "lacks landlock", "lsm=")


def test_an_address_that_somebody_else_has(home: Home) -> None:
    """Unless it is our own agent that has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = patient(home, taken.getsockname()[1])
        check_wrong(doctor.port(busy), "in use", "--listen HOST:PORT")
        with alone(home.lock):
            assert "ok" == doctor.port(busy).verdict
    assert "ok" == doctor.port(busy).verdict
    nowhere = replace(busy, host="192.0.2.1")
    check_wrong(doctor.port(nowhere), "192.0.2.1", "--listen HOST:PORT")


def test_a_clock_outside_the_certificate(home: Home) -> None:
    """Before it: the clock is to blame. After it: the certificate, if the clock is right."""
    certificate = home.identity / "cert.pem"
    assert "ok" == doctor.clock(certificate, NOW).verdict
    check_wrong(
        doctor.clock(certificate, "1970-01-01T00:00:10Z"), "clock is behind", "set the clock"
    )
    check_wrong(doctor.clock(certificate, "2199-01-01T00:00:00Z"), "is valid from", "join again")
    certificate.unlink()
    assert "not tried" == doctor.clock(certificate, NOW).verdict


@pytest.mark.parametrize(
    ("status", "why", "hint"),
    [(401, "refuses this device", "was removed"), (404, "is no registry", "centre moved")],
)
def test_a_registry_that_answers_otherwise(home: Home, status: int, why: str, hint: str) -> None:
    """It doesn't know us, or is something else."""
    with answering(status) as url:
        check_wrong(doctor.registry(told(home, registry_url=url)), why, hint)


def test_a_centre_that_is_not_there(home: Home) -> None:
    """Nobody listens, the name is unknown, nobody answers: three causes, three remedies."""
    check_wrong(doctor.registry(load(home)), "nobody listens", "skerry up")
    check_wrong(doctor.broker(load(home)), "nobody listens", "skerry up")
    nameless = told(
        home, registry_url="https://nobody.invalid", broker_url="mqtts://nobody.invalid"
    )
    check_wrong(doctor.registry(nameless), "name is not known", "name server")
    check_wrong(doctor.broker(nameless), "name is not known", "name server")


def test_a_centre_that_never_answers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for a while, and no longer."""
    monkeypatch.setattr(doctor, "_WAIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        check_wrong(doctor.registry(told(home, registry_url=url)), "no answer in 0.2 s", "firewall")


def test_a_broker_that_is_somebody_else(
    home: Home, authority: TestAuthority, tmp_path: Path
) -> None:
    """Its certificate is of another CA: nothing is said to it."""
    other = TestAuthority(tmp_path, "another CA")
    with greeting(other, takes=authority) as url:
        check_wrong(doctor.broker(told(home, broker_url=url)), "can't be trusted", "clock first")


def test_a_broker_that_refuses_this_device(
    home: Home, authority: TestAuthority, tmp_path: Path
) -> None:
    """It takes certificates of another CA only, or hangs up."""
    other = TestAuthority(tmp_path, "another CA")
    with greeting(authority, takes=other) as url:
        check_wrong(doctor.broker(told(home, broker_url=url)), "refuses this device", "was removed")
    with greeting(authority, takes=authority, hangs_up=True) as url:
        check_wrong(doctor.broker(told(home, broker_url=url)), "hung up", "cable")


def test_what_the_centre_may_ask_is_said(tmp_path: Path) -> None:
    """As by default, as its owner says, and as nothing where that can't be read."""
    path = tmp_path / "policy.json"
    assert "the centre may ask for logs, doctor, benchmark, self-test" == doctor.policy(path).what
    path.write_text('{"logs": false, "benchmark": false}')
    assert "the centre may ask for doctor, self-test" == doctor.policy(path).what
    path.write_text("{")
    found = doctor.policy(path)

    assert ("wrong", "the centre may ask nothing of this device") == (found.verdict, found.what)
    assert "skerry-agent policy" in found.hint
