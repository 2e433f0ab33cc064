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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
from models.keys import admit, load_public
from models.layout import Layout
from tests.conformance.peer import Peer

pytestmark = [pytest.mark.slow, pytest.mark.real("mosquitto", "skopeo", "tflite")]

SKERRY = Path(sys.executable).with_name("skerry")
LIMIT_S = 240.0
"""The demo takes under a minute on two quiet cores; CI shares them."""


@dataclass(frozen=True)
class Shown:
    """A demo that has shown all and stays up: its folder, its lines, its process."""

    folder: Path
    lines: list[str]
    process: subprocess.Popen[str]

    def line(self, step: str) -> str:
        return next(line for line in self.lines if line.split()[1:2] == [step])

    @property
    def agents(self) -> list[Path]:
        return sorted((self.folder / "agents").iterdir())

    def centre(self) -> dict[str, str]:
        for line in (self.folder / "centre.log").read_text().splitlines():
            if line.startswith('{"schema": "skerry.centre/1"'):
                return dict(json.loads(line))
        raise AssertionError("the centre said nothing")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    with subprocess.Popen(
        [SKERRY, "demo", "--keep", folder, "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("Stop") or "✗" in line:
                break
        assert lines, "the demo printed nothing"
        yield Shown(folder=folder, lines=lines, process=process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not [line for line in process.stdout.read().splitlines() if "Traceback" in line]


def test_every_step_is_shown_and_none_fails(shown: Shown) -> None:
    """The demo ends with its addresses, and no claim failed."""
    steps = [line.split()[1] for line in shown.lines if line.startswith("  ✓")]

    assert steps == ["centre", "models", "bundles", "publish", "join", "deploy", "infer"]
    assert not [line for line in shown.lines if "✗" in line]
    assert not [log for log in shown.folder.glob("*.log") if "Traceback" in log.read_text()]


def test_accuracies_are_what_another_client_measures(shown: Shown) -> None:
    """Every device answers the held-back rows as well as the cards and the printed lines say."""
    card = json.loads(_skerry(shown, "bundle", "show", "digits:1.0.0", "-o", "json"))["card"]
    metrics = card["variants"][0]["metrics"]
    quantization = card["inputs"][0]["quantization"]
    rows = np.load(shown.folder / "models" / "rows.npz")
    pixels = rows["pixels"].reshape(-1, 64)
    quantized = np.clip(
        np.round(pixels / quantization["scale"]) + quantization["zero_point"], -128, 127
    ).astype(np.int8)
    seen = {}
    for agent in shown.agents:
        client = triton.InferenceServerClient(_endpoint(shown, agent.name))
        right = 0
        for row, label in zip(quantized, rows["labels"], strict=True):
            given = triton.InferInput(card["inputs"][0]["name"], [1, 64], "INT8")
            given.set_data_from_numpy(row.reshape(1, 64))
            answer = client.infer("digits", [given]).as_numpy(card["outputs"][0]["name"])
            right += int(answer.argmax()) == label
        client.close()
        seen[agent.name] = right / len(quantized)

    assert len(metrics) == 2, "one measurement a runtime"
    assert {metric["samples"] for metric in metrics} == {len(quantized)}
    for accuracy in seen.values():
        assert abs(accuracy - metrics[0]["value"]) <= 0.005
    printed = re.findall(r"(\d+\.\d)%", shown.line("infer"))
    assert printed == [f"{100 * min(seen.values()):.1f}", f"{100 * max(seen.values()):.1f}"]
    assert f"{len(seen) * len(quantized):,} requests" in shown.line("infer")


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
    assert digests == {bundles.find(layout, "digits:1.0.0")}


def test_the_ledgers_say_the_same(shown: Shown) -> None:
    """On every device's disk digits is committed, and its model is the one that was packed."""
    packed = hashlib.sha256((shown.folder / "models" / "int8.tflite").read_bytes()).hexdigest()
    for agent in shown.agents:
        ledger = sqlite3.connect(f"{(agent / 'ledger.db').as_uri()}?mode=ro", uri=True)
        found = ledger.execute("SELECT name, phase FROM deployment").fetchall()
        ledger.close()

        assert found == [("digits", "committed")]
        blob = agent / "store" / "blobs" / "sha256" / packed
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == packed


def test_two_devices_run_the_older_runtime(shown: Shown) -> None:
    """What is printed of the runtimes is what the devices' own facts and reports say."""
    devices = json.loads(_skerry(shown, "device", "ls", "-o", "json"))["devices"]
    runtimes = [device["deployments"][0]["active"]["runtime"] for device in devices]

    assert sum("tflite-runtime" in runtime for runtime in runtimes) == 2
    assert sum("litert" in runtime for runtime in runtimes) == 4
    assert "4 on litert, 2 on tflite" in shown.line("join")


def test_the_registry_holds_what_was_signed(shown: Shown) -> None:
    """All four bundles verify against the fleet's bundle key; skopeo's copy is the same one."""
    layout = Layout(shown.folder / "centre" / "registry")
    key = load_public(shown.folder / "centre" / "trust" / "bundle.pub")
    refs = {
        str(bundles.verify(layout, bundles.find(layout, ref), [key]).ref)
        for ref in (
            "digits:1.0.0",
            "digits-float:1.0.0",
            "digits-dynamic:1.0.0",
            "hey-jarvis:2.0.0",
        )
    }
    copied = Layout(shown.folder / "skopeo-copy")

    assert len(refs) == 4
    assert bundles.find(layout, "digits:1.0.0") in {entry.digest for entry in copied.entries()}


def test_a_second_demo_runs_beside_the_first(shown: Shown) -> None:
    """Another demo finds ports of its own; the first one goes on answering."""
    beside = subprocess.run(
        [SKERRY, "demo", "--once", "--devices", "1"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip

    assert beside.returncode == 0, beside.stdout
    for agent in shown.agents:
        client = triton.InferenceServerClient(_endpoint(shown, agent.name))
        assert client.is_model_ready("digits")
        client.close()


def test_every_address_it_prints_answers(shown: Shown) -> None:
    """The API's reference and the model are where the last lines say; the next command works."""
    urls = re.findall(r"http://\S+", "\n".join(shown.lines[-4:]))
    assert len(urls) == 2
    for url in urls:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # http, by the pattern
            assert json.load(answer)
    ended = subprocess.run(  # noqa: S602  # as a person pastes it
        shown.lines[-2].removeprefix("Next").strip(),
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.count("online") == 6


def test_interrupting_it_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle is no failed claim: 130, and no folder or process stays."""
    with subprocess.Popen(
        [SKERRY, "demo", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        while "centre" not in process.stdout.readline()[:12]:
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(30) == 130

    assert "✗" not in rest
    assert list(tmp_path.glob("skerry-demo-*")) == []


def test_a_claim_that_fails_is_named(tmp_path: Path) -> None:
    """Without a runtime where one is promised the demo ends with 1 and names the step."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    ended = subprocess.run(
        [SKERRY, "demo", "--once", "--tflite-python", broken, "--keep", tmp_path / "kept"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert "✗ models:" in ended.stdout
    assert "✓ bundles" not in ended.stdout


def _skerry(shown: Shown, *words: str) -> str:
    return subprocess.run(
        [SKERRY, *words, "--home", shown.folder / "centre"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


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
