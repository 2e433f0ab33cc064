"""`make demo` shows what it says: every figure it prints is derived again, from outside.

From outside means: a subscription at the broker, Open Inference Protocol
requests by another client than the demo's, the devices' ledgers and the
centre's registry as they lie on disk.
"""

import datetime as dt
import hashlib
import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind, every_device
from fleet.broker.address import Address
from models import bundle as bundles
from models import dsse
from models.build.evaluate import Dataset, accuracy
from models.keys import admit, load_public
from models.layout import Layout
from tests.conformance.peer import Peer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("mosquitto", "skopeo", "tflite"),
    pytest.mark.timeout(300),
]

SKERRY = Path(sys.executable).with_name("skerry")
STEPS = (
    "centre", "models", "bundles", "publish", "join", "deploy", "waves", "bad model", "cable",
    "health",
)  # fmt: skip
TFLITE_PYTHON = Path(sys.prefix).with_name(".venv-tflite") / "bin" / "python"
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "SKERRY_ASCII": ""}
LIMIT_S = 400.0
"""The demo takes a minute and a quarter on two quiet cores; CI shares them."""


@dataclass(frozen=True)
class Shown:
    """A demo that has shown all and stays up: its folder, its lines, its process."""

    folder: Path
    lines: list[str]
    process: subprocess.Popen[str]

    @property
    def steps(self) -> dict[str, str]:
        """What is said of each step, by its name, in the order in which they were shown."""
        return {line[4:14].strip(): line[14:] for line in self.lines if line[:4] in _SHOWN}

    @property
    def agents(self) -> list[Path]:
        return sorted((self.folder / "agents").iterdir())

    def centre(self) -> dict[str, str]:
        found = {}
        for line in (self.folder / "centre.log").read_text().splitlines():
            if line.startswith('{"schema": "skerry.centre/1"'):
                found = dict(json.loads(line))  # the last time it was started
        return found

    def devices(self) -> dict[str, dict[str, Any]]:
        listed = json.loads(_skerry(self, "device", "ls", "-o", "json"))["devices"]
        return {device["name"]: device for device in listed}

    def rollouts(self) -> dict[str, dict[str, Any]]:
        """Return every rollout in full, by the version it brings."""
        listed = json.loads(_skerry(self, "rollout", "ls", "-o", "json"))["rollouts"]
        return {
            each["bundle"]["version"]: json.loads(
                _skerry(self, "rollout", "show", each["id"], "-o", "json")
            )
            for each in listed
        }

    def stored(self, device: str) -> list[dict[str, Any]]:
        """Return a device's events as they lie in the centre's store, in the order they came."""
        rows = _rows(
            self.folder / "centre" / "store.db",
            f"SELECT document FROM events WHERE device = '{device}' ORDER BY rowid",  # noqa: S608  # our own id
        )
        return [json.loads(document) for (document,) in rows]


_SHOWN = ("  ✓ ", "  ↶ ")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    with subprocess.Popen(
        [SKERRY, "demo", "--keep", folder, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith(("Stop", "  ✗ ")):
                break
        assert lines, "the demo printed nothing"
        yield Shown(folder=folder, lines=lines, process=process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not [line for line in process.stdout.read().splitlines() if "Traceback" in line]


def test_every_step_is_shown_and_none_fails(shown: Shown) -> None:
    """The demo ends with its addresses, and no claim failed."""
    assert STEPS == tuple(shown.steps)
    assert not [line for line in shown.lines if line.startswith("  ✗")]
    assert not [log for log in shown.folder.glob("*.log") if "Traceback" in log.read_text()]
    assert ", 0 failed." in shown.lines[-5]


def test_accuracies_are_what_another_client_measures(shown: Shown) -> None:
    """Every device answers the held-back rows as well as the cards and the printed lines say."""
    card = json.loads(_skerry(shown, "bundle", "show", "digits:2.0.0", "-o", "json"))["card"]
    metrics = card["variants"][0]["metrics"]
    rows = np.load(shown.folder / "models" / "rows.npz")
    pixels = rows["pixels"].reshape(-1, 64)
    seen = {}
    for agent in shown.agents:
        client = triton.InferenceServerClient(_endpoint(shown, agent.name))
        right = 0
        for row, label in zip(pixels, rows["labels"], strict=True):
            given = triton.InferInput(card["inputs"][0]["name"], [1, 64], "FP32")
            given.set_data_from_numpy(row.reshape(1, 64))
            answer = client.infer("digits", [given]).as_numpy(card["outputs"][0]["name"])
            right += int(answer.argmax()) == label
        client.close()
        seen[agent.name] = right / len(pixels)

    assert len(metrics) == 2, "one measurement a runtime"
    assert {metric["samples"] for metric in metrics} == {len(pixels)}
    for share in seen.values():
        assert abs(share - metrics[0]["value"]) <= 0.005
    printed = f"{min(seen.values()):.1%}"
    assert f"2.0.0 int8 {printed} / {printed}" in shown.steps["models"]
    assert f"{printed} right, as measured" in shown.steps["waves"]
    assert f"{len(seen) * len(pixels):,} answers" in shown.steps["deploy"]


def test_the_first_version_is_worse_and_the_bad_one_at_chance(shown: Shown) -> None:
    """Another build of the same rows on both runtimes gives the printed accuracies."""
    held_back = Dataset(name="again", npz=(shown.folder / "models" / "rows.npz").read_bytes())
    here = there = 0.0
    for version, form in (("1.0.0", "int8"), ("3.0.0", "dynamic range")):
        content = (shown.folder / "models" / f"{version}.tflite").read_bytes()
        here, there = (
            accuracy(content, held_back, python=str(python)).value
            for python in (sys.executable, TFLITE_PYTHON)
        )

        assert f"{version} {form} {here:.1%} / {there:.1%}" in shown.steps["models"]
    assert there < 0.2 < here
    assert f"right on {here:.1%} of the rows here, {there:.1%} there" in shown.steps["bad model"]


def test_the_broker_says_the_same(shown: Shown) -> None:
    """A subscription of our own finds six devices here, each with digits committed as desired."""
    centre = shown.centre()
    address = Address.parse(centre["broker_url"])
    observer = Peer(address, "observer", tls=_observer(shown.folder / "centre" / "trust"))
    assert observer.connect(clean=True).connected, observer.why_not
    observer.subscribe(
        *(every_device("fleet", kind) for kind in (Kind.REPORTED, Kind.PRESENCE, Kind.DESIRED))
    )
    observer.until(lambda: len(observer.messages) >= 18)
    held = {str(message.topic): bytes(message.payload) for message in observer.messages}
    observer.leave()
    key = load_public(shown.folder / "centre" / "trust" / "desired.pub")
    digests, devices = set(), set()
    for topic, payload in held.items():
        device, kind = topic.split("/")[3:]
        if kind == Kind.PRESENCE:
            assert codec.decode(payload, v1.Birth).device == device
            devices.add(device)
        elif kind == Kind.DESIRED:
            signed, _ = admit(payload, dsse.DESIRED_PAYLOAD_TYPE, [key], limit_bytes=8192)
            assert codec.decode(signed, v1.Desired).target == device
        else:
            reported = codec.decode(payload, v1.Reported)
            (digits,) = reported.deployments
            assert (digits.name, digits.phase) == ("digits", Phase.COMMITTED)
            assert digits.active is not None
            digests.add(digits.active.bundle.digest)

    assert len(devices) == len(shown.agents) == 6
    layout = Layout(shown.folder / "centre" / "registry")
    assert digests == {bundles.find(layout, "digits:2.0.0")}


def test_the_ledgers_say_the_same(shown: Shown) -> None:
    """On every device's disk digits is committed, and its model is the one that was packed."""
    packed = hashlib.sha256((shown.folder / "models" / "2.0.0.tflite").read_bytes()).hexdigest()
    for agent in shown.agents:
        found = _rows(agent / "ledger.db", "SELECT name, phase FROM deployment")

        assert found == [("digits", "committed")]
        blob = agent / "store" / "blobs" / "sha256" / packed
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == packed


def test_two_devices_run_the_older_runtime(shown: Shown) -> None:
    """What is printed of the runtimes is what the devices' own facts and reports say."""
    runtimes = [
        device["deployments"][0]["active"]["runtime"] for device in shown.devices().values()
    ]

    assert sum("tflite-runtime" in runtime for runtime in runtimes) == 2
    assert sum("litert" in runtime for runtime in runtimes) == 4
    assert "4 on litert, 2 on tflite" in shown.steps["join"]


def test_the_registry_holds_what_was_signed(shown: Shown) -> None:
    """All three bundles verify against the fleet's bundle key; skopeo's copy is the same one."""
    layout = Layout(shown.folder / "centre" / "registry")
    key = load_public(shown.folder / "centre" / "trust" / "bundle.pub")
    refs = {
        str(bundles.verify(layout, bundles.find(layout, ref), [key]).ref)
        for ref in ("digits:1.0.0", "digits:2.0.0", "digits:3.0.0")
    }
    copied = Layout(shown.folder / "skopeo-copy")

    assert len(refs) == 3
    assert bundles.find(layout, "digits:2.0.0") in {entry.digest for entry in copied.entries()}


def test_the_better_version_came_in_waves(shown: Shown) -> None:
    """The rollout's own record: a canary of each class first, all committed, every gate passed."""
    rollout = shown.rollouts()["2.0.0"]
    sizes = [wave["targets"] for wave in rollout["waves"]]
    first = [each for each in rollout["targets"] if each["wave"] == 1]

    assert ("done", "careful") == (rollout["state"], rollout["policy"])
    assert {"passed"} == {wave["state"] for wave in rollout["waves"]}
    assert {"committed": 6} == rollout["counts"]
    assert {each["class_name"] for each in rollout["targets"]} == {
        each["class_name"] for each in first
    }
    assert 2 == len(first)
    assert f"in waves of {', '.join(map(str, sizes))}, a canary" in shown.steps["waves"]


def test_only_a_canary_ever_served_the_bad_model(shown: Shown) -> None:
    """By the devices' own events in the store: one of each class was asked, and nobody else.

    The one that refused it never served it; the other one did for a while, if at all.
    """
    rollout = shown.rollouts()["3.0.0"]
    names = {device["id"]: name for name, device in shown.devices().items()}
    digest = rollout["bundle"]["digest"]
    met: dict[str, set[str]] = {}
    for device, name in names.items():
        phases = {
            event["phase"]
            for event in shown.stored(device)
            if event.get("digest") == digest and event.get("phase")
        }
        if phases:
            met[name] = phases
    served = {name for name, phases in met.items() if phases & {"probation", "committed"}}
    refused = {name for name, phases in met.items() if "refused" in phases}
    canaries = {each["name"] for each in rollout["targets"] if each["wave"] == 1}
    spared = {each["name"] for each in rollout["targets"] if each["state"] == "not-asked"}

    assert ("rolled-back", "CANARY_FAILED") == (rollout["state"], rollout["cause"]["code"])
    assert "GOLDEN_MISMATCH" == rollout["cause"]["parameters"]["cause"]
    assert canaries == set(met)
    assert served <= canaries - refused
    assert 1 == len(refused) == len(canaries) - 1
    assert set(names.values()) - canaries == spared
    assert f"{refused.pop()} (tflite" in shown.steps["bad model"]
    who = f"only {', '.join(served)}" if served else "nobody"  # the gate may be faster
    assert f"{who} ever served it" in shown.steps["bad model"]


def test_the_outbox_arrived_whole(shown: Shown) -> None:
    """Ledger and store of the killed device, by their files: every number once, in order."""
    name = re.search(r"; (\S+), killed meanwhile, served 2\.0\.0 again", shown.steps["cable"])[1]  # type: ignore[index]  # it is there, or this fails
    device = shown.devices()[name]["id"]
    meta = dict(_rows(shown.folder / "agents" / name / "ledger.db", "SELECT name, value FROM meta"))
    numbers = [event["number"] for event in shown.stored(device)]
    kinds = Counter(event["kind"] for event in shown.stored(device))
    held, arrived = (
        int(re.search(pattern, shown.steps["cable"])[1])  # type: ignore[index]  # as above
        for pattern in (r"its outbox of (\d+) records", r"arrived whole: (\d+) of")
    )

    assert list(range(1, len(numbers) + 1)) == numbers
    assert int(meta["next"]) - 1 >= arrived >= held >= 200
    assert len(numbers) >= arrived
    assert {meta["id"]} == {event["ledger"] for event in shown.stored(device)}
    assert 3 <= kinds["boot"], "killed twice"
    assert 2 <= kinds["worker"]
    assert 100 <= kinds["hold"]
    assert 5 <= kinds["health"]


def test_its_screens_say_how_each_device_is(shown: Shown) -> None:
    """Each device has a row with its version, runtime and quantiles; the centre says the same."""
    text = "\n".join(shown.lines)
    for name, device in shown.devices().items():
        (row,) = [line for line in shown.lines if line.split()[2:3] == [name]]
        (digits,) = device["deployments"]

        assert "2.0.0" in row
        assert "ok" in row
        assert digits["active"]["runtime"].split()[0] in text
        assert "ok" == device["state"]["word"]


def test_it_ends_with_the_fleet_s_health_and_alerts(shown: Shown) -> None:
    """As they are typed, and as they are said once more: one alert, of the bad rollout."""
    typed = [line for line in shown.lines if line.startswith("$ ")]
    assert ["$ skerry fleet status", "$ skerry fleet health", "$ skerry alert ls"] == typed
    assert shown.lines[shown.lines.index(typed[1]) + 1].startswith("✓ ok   6 devices")
    listed = json.loads(_skerry(shown, "alert", "ls", "-o", "json"))["alerts"]
    (back,) = [each for each in listed if each["rule"] == "SkerryRolloutRolledBack"]
    assert shown.rollouts()["3.0.0"]["id"] == back["subject"]
    said = " ".join(shown.lines[shown.lines.index(typed[2]) :])
    assert back["title"] in said
    assert f"{back['id']}   SkerryRolloutRolledBack   open" in said
    assert "one alert says that 3.0.0 went back" in shown.steps["health"]


def test_a_second_demo_runs_beside_the_first(shown: Shown) -> None:
    """Another demo, of one device, finds ports of its own; the first one goes on answering."""
    beside = subprocess.run(
        [SKERRY, "demo", "--once", "--devices", "1"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, env=ENVIRONMENT,
    )  # fmt: skip

    assert beside.returncode == 0, beside.stdout
    for agent in shown.agents:
        client = triton.InferenceServerClient(_endpoint(shown, agent.name))
        assert client.is_model_ready("digits")
        client.close()


def test_every_address_it_prints_answers(shown: Shown) -> None:
    """Page and model are where the last lines say, the key opens the API, the command works."""
    page, model = re.findall(r"http://\S+", "\n".join(shown.lines[-4:]))
    address, _, key = page.partition("/#t=")
    with urllib.request.urlopen(page, timeout=10) as answer:  # noqa: S310  # http, by the pattern
        assert answer.headers["Content-Type"].startswith("text/html")
    with urllib.request.urlopen(model, timeout=10) as answer:  # noqa: S310  # as above
        assert ["2.0.0"] == json.load(answer)["versions"]
    opened = urllib.request.Request(  # noqa: S310  # as above
        f"{address}/api/v1/devices", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(opened, timeout=10) as answer:  # noqa: S310  # as above
        assert 6 == len(json.load(answer)["devices"])
    ended = subprocess.run(  # noqa: S602  # as a person pastes it
        shown.lines[-2].removeprefix("Next").strip(),
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=ENVIRONMENT,
    )
    assert "✓ 6 ok" in ended.stdout


def _skerry(shown: Shown, *words: str) -> str:
    return subprocess.run(
        [SKERRY, *words, "--home", shown.folder / "centre"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def _endpoint(shown: Shown, name: str) -> str:
    for line in (shown.folder / f"{name}.log").read_text().splitlines():
        said = json.loads(line)
        if said["event"] == "serving":
            return str(said["addresses"][0])
    raise AssertionError(f"{name} does not say where it serves")


def _observer(trust: Path) -> ssl.SSLContext:
    """Return the identity of somebody who only watches, signed by the demo's own authority."""
    authority = x509.load_pem_x509_certificate((trust / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((trust / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.fromtimestamp(time.time(), dt.UTC)  # noqa: TID251  # a real certificate
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "observer")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(signer, hashes.SHA256())
    )
    path = trust.parent / "observer.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(cafile=str(trust / "ca.pem"))
    context.load_cert_chain(path)
    return context
