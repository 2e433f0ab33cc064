"""A whole centre as a process: it comes up, answers, keeps others out, and goes down cleanly."""

import json
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx2 as httpx
import pytest

from agent.wire import codec, v1
from fleet.cli.screen import ExitCode
from fleet.store.engine import Store
from tests.fleet.centre.parties import add_bundles, add_devices, ask

SKERRY = Path(sys.executable).with_name("skerry")
START_LIMIT_S = 40.0
"""Two busy cores: a start takes two seconds on quiet ones."""


@dataclass(frozen=True)
class Running:
    """A centre's process, and where it says it is."""

    process: subprocess.Popen[str]
    where: dict[str, Any]


def skerry(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SKERRY), *words], check=False, capture_output=True, text=True, timeout=60
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def started(home: Path, *words: str) -> subprocess.Popen[str]:
    with (home.parent / "log").open("w") as log:
        return subprocess.Popen(
            [str(SKERRY), "up", "--home", str(home), "-o", "json", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": ""},
        )


@contextmanager
def centre(home: Path, *words: str, broker_port: int | None = None) -> Iterator[Running]:
    addresses = ("--listen", "127.0.0.1:0", "--plain", "127.0.0.1:0")
    port = str(broker_port or free_port())
    process = started(home, *addresses, "--broker-port", port, *words)
    try:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            assert selector.select(START_LIMIT_S), "the centre said nothing"
        line = process.stdout.readline()
        assert line, (home.parent / "log").read_text()
        yield Running(process, json.loads(line))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    assert 0 == skerry("trust", "init", "--home", str(path), "--fleet", "north-sea").returncode
    return path


def test_a_centre_comes_up_answers_and_goes_down(home: Path) -> None:
    """From an empty home to a joined device in four commands; SIGTERM ends it with nothing left."""
    with centre(home, "--broker", "embedded") as running:
        where = running.where
        assert where == json.loads((home / "running.json").read_text())
        token = skerry("token", "create", "--home", str(home), "--site", "porto").stdout.strip()
        context = ssl.create_default_context(cafile=str(home / "trust" / "ca.pem"))
        with httpx.Client(verify=context, trust_env=False) as client:
            joined = client.post(f"{where['url']}/join", content=codec.encode(ask(token)))
            answer = codec.decode(joined.content, v1.JoinAnswer)
        listed = skerry("device", "ls", "--home", str(home))
        shown = skerry("device", "show", "buoy", "--home", str(home), "-o", "json")
        nobody = skerry("device", "show", "nobody", "--home", str(home))
        bundle = skerry("rollout", "plan", "digits:1.0.0", "--to", "all", "--home", str(home))
        tls = skerry("token", "ls", "--home", str(home), "--centre", where["url"])
        wrong = home.parent / "wrong"
        wrong.write_text("wrong")
        denied = skerry("device", "ls", "--home", str(home), "--token-file", str(wrong))

    assert (where["broker_url"], where["url"]) == (answer.broker_url, answer.registry_url)
    assert "? unknown  buoy  porto" in listed.stdout
    assert ("skerry.device/1", answer.device, "porto") == tuple(
        json.loads(shown.stdout)[name] for name in ("schema", "id", "site")
    )
    assert 1 == tls.stdout.count("1 of 1")
    assert [3, 3, 4] == [nobody.returncode, bundle.returncode, denied.returncode]
    for refused in (nobody, bundle, denied):
        assert 3 == len(refused.stderr.splitlines())
    assert 0 == running.process.returncode
    assert not (home / "running.json").exists()


def test_a_second_centre_on_a_home_is_refused(home: Path) -> None:
    """Two writers of one store are prevented before either opens it; the first goes on."""
    with centre(home, "--broker", "embedded") as running:
        second = skerry("up", "--home", str(home), "--listen", "127.0.0.1:0")
        answer = httpx.get(f"{running.where['plain_url']}/healthz", trust_env=False)

    assert 6 == second.returncode
    assert "HOME_IN_USE" == second.stderr.splitlines()[1]
    assert "north-sea" == answer.json()["fleet"]


def test_a_port_in_use_is_three_lines(home: Path) -> None:
    """Which port, and what to do; no broker is left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = skerry("up", "--home", str(home), "--listen", f"127.0.0.1:{port}")

    assert 6 == ended.returncode
    what, why, next_step = ended.stderr.splitlines()
    assert str(port) in what
    assert "PORT_IN_USE" == why
    assert "--listen" in next_step


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--listen", "0.0.0.0:0"), "ADVERTISE_MISSING"),
        (("--listen", "127.0.0.1:0", "--advertise", "c.example"), "NAME_NOT_CERTIFIED"),
        (("--listen", "127.0.0.1:0", "--broker", "http://x"), "BROKER"),
    ],
)
def test_options_that_can_not_work_are_refused(
    home: Path, words: tuple[str, ...], code: str
) -> None:
    """A name devices couldn't dial or would refuse is said before anything starts."""
    ended = skerry("up", "--home", str(home), *words)

    assert 0 != ended.returncode
    assert code == ended.stderr.splitlines()[1]
    assert 3 == len(ended.stderr.splitlines())


def test_a_centre_that_was_killed_comes_back_with_all_it_knew(home: Path) -> None:
    """SIGKILL between two requests loses nothing that was answered, and the lock is free."""
    with centre(home, "--broker", "embedded") as running:
        token = skerry("token", "create", "--home", str(home), "--uses", "3").stdout.strip()
        running.process.kill()
        running.process.wait(10)
    with centre(home, "--broker", "embedded") as again:
        joined = httpx.post(
            f"{again.where['plain_url']}/join",
            content=codec.encode(ask(token)),
            trust_env=False,
        )

    assert 200 == joined.status_code
    assert token


def test_a_watch_outlives_its_centre(home: Path) -> None:
    """Killed and started again, on another port: the watch says so, waits, and goes on."""
    store = Store.open(home / "store.db")
    add_devices(store, ["d-one"])
    add_bundles(store, "1.0.0")
    store.close()
    words = ("--home", str(home))
    with centre(home, "--broker", "embedded") as running:
        started = skerry(
            "rollout", "start", "digits:1.0.0", "--to", "all", "--yes", *words, "-o", "json"
        )
        rollout = json.loads(started.stdout)["id"]
        watch = watching(rollout, *words)
        first = line_of(watch, watch.stdout)
        running.process.kill()
        running.process.wait(10)
        lost = line_of(watch, watch.stderr)
    with centre(home, "--broker", "embedded"):
        aborted = skerry("rollout", "abort", rollout, "--reason", "enough", "--yes", *words)
        out, _ = watch.communicate(timeout=60)

    assert f"{rollout} running" in first
    assert lost.startswith("no answer from the centre")
    assert 0 == aborted.returncode, aborted.stderr
    assert ExitCode.ABORTED == watch.returncode
    assert f"{rollout} aborted" in out


def test_a_watch_gives_a_centre_up_at_its_time(home: Path) -> None:
    """It can't say how the rollout is: three lines and 5, not that it still runs."""
    store = Store.open(home / "store.db")
    add_devices(store, ["d-one"])
    add_bundles(store, "1.0.0")
    store.close()
    words = ("--home", str(home))
    with centre(home, "--broker", "embedded") as running:
        started = skerry(
            "rollout", "start", "digits:1.0.0", "--to", "all", "--yes", *words, "-o", "json"
        )
        watch = watching(json.loads(started.stdout)["id"], *words, "--timeout", "3")
        line_of(watch, watch.stdout)
        running.process.kill()
        running.process.wait(10)
        _, said = watch.communicate(timeout=60)

    assert ExitCode.UNREACHABLE == watch.returncode
    assert 4 == len(said.splitlines())
    assert said.splitlines()[-2].startswith("UNREACHABLE")


def watching(rollout: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SKERRY), "rollout", "watch", rollout, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line_of(watch: subprocess.Popen[str], stream: IO[str] | None) -> str:
    """Return the next line, which comes soon."""
    assert stream is not None
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        if not selector.select(START_LIMIT_S):
            watch.kill()
            pytest.fail("the watch said nothing")
    return stream.readline()


@pytest.mark.real("mosquitto")
def test_devices_dial_mosquitto_over_tls(home: Path) -> None:
    """Where Mosquitto is installed it is used, on the port that was asked for, and stopped."""
    port = free_port()
    with centre(home, broker_port=port) as running:
        context = ssl.create_default_context(cafile=str(home / "trust" / "ca.pem"))
        with (
            socket.create_connection(("127.0.0.1", port), 5) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as secure,
        ):
            version = secure.version()

    assert f"mqtts://127.0.0.1:{port}" == running.where["broker_url"]
    assert version in {"TLSv1.2", "TLSv1.3"}
    assert 0 == running.process.returncode
