"""A stick carried to a device with no network: the same documents, the same rules, one way in."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from agent.cli import main
from agent.clock import now
from agent.fetch.job import Credentials
from agent.home import Home as Folder
from agent.perform.supply import Origin, StoreSupply
from agent.state import Machine
from agent.technician import held_desired
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from models import keys
from models.bundle import Bundle
from models.layout import Layout
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Deployed, Home, Publish, Registry, until

Capsys = pytest.CaptureFixture[str]


@dataclass
class Stick:
    """A stick for one device."""

    path: Path
    home: Home
    registry: Registry
    bundle: Bundle

    @property
    def document(self) -> Path:
        return self.path / "desired" / "d-1.json"

    def apply(self) -> int:
        return main(["apply", str(self.path), "--home", str(self.home.path)])


Carry = Callable[..., Stick]


@pytest.fixture
def carry(
    home: Home, registry: Registry, publish: Publish, deployed: Deployed, tmp_path: Path
) -> Carry:
    """Put a document that wants a version, and all that the registry has now, on the stick."""

    def put(generation: int = 1, version: str = "1.0.0", revision: int = 1) -> Stick:
        made = publish(version)
        stick = Stick(tmp_path / "stick", home, registry, made)
        shutil.copytree(registry.layout.path, stick.path, dirs_exist_ok=True)
        stick.document.parent.mkdir(exist_ok=True)
        stick.document.write_bytes(home.envelope(generation, deployed(made, revision)))
        return stick

    return put


def test_a_device_that_nothing_reaches_is_brought_forward_by_a_stick(
    agent: Agent, carry: Carry, capsys: Capsys
) -> None:
    """Twice is once, an older one is refused aloud; the registry is never asked."""
    assert 0 == carry(1).apply()
    until(lambda: agent.serves() == "1.0.0")
    stick = carry(2, "2.0.0", 2)
    assert 0 == stick.apply()
    until(lambda: agent.serves() == "2.0.0")
    assert 0 == stick.apply()
    assert 7 == carry(1).apply()

    told = capsys.readouterr()
    assert told.out.splitlines() == [
        *("brought: dense:1.0.0", "applied: epoch 0, generation 1"),
        *("brought: dense:2.0.0", "applied: epoch 0, generation 2"),
        "held already: epoch 0, generation 2",
    ]
    assert "STALE_GENERATION: epoch 0, generation 1 is older than what is held" in told.err
    assert "2.0.0" == agent.serves()
    assert [] == stick.registry.asked
    assert not Folder(stick.home.path).applied.exists()
    assert not Folder(stick.home.path).expected.exists()


@pytest.mark.real("mosquitto")
def test_reconnecting_changes_nothing(agent: Agent, centre: Centre, carry: Carry) -> None:
    """What the centre has retained for it is what the stick brought, byte for byte."""
    stick = carry(1)
    envelope = stick.document.read_bytes()
    ledger = stick.home.path / "ledger.db"
    assert 0 == stick.apply()
    until(lambda: centre.phase() == (Phase.COMMITTED, 1))
    pids = {each.pid for each in agent.workers()}
    before = held_desired(ledger)

    centre.say(Kind.DESIRED, envelope)
    centre.say(Kind.DESIRED, carry(2).document.read_bytes())
    until(lambda: held_desired(ledger) != before)
    centre.say(Kind.DESIRED, envelope)
    until(lambda: centre.last_error() == "STALE_GENERATION")
    assert {each.pid for each in agent.workers()} == pids, "it serves on as it was"
    assert 7 == carry(1).apply(), "and a stick is held to the same"
    assert [] == stick.registry.asked


@pytest.mark.real("mosquitto")
def test_a_stick_needs_no_download_window(
    agent: Agent, centre: Centre, carry: Carry, home: Home, deployed: Deployed
) -> None:
    """By the network it waits until the window opens; carried there it serves at once."""
    stick = carry()
    at = now()
    later = tuple(f"{at + timedelta(hours=hours):%H:00}" for hours in (12, 13))
    window = v1.Window(days=tuple(v1.Weekday), start=later[0], end=later[1])
    envelope = home.envelope(1, deployed(stick.bundle), windows=(window,))
    centre.say(Kind.DESIRED, envelope)
    until(lambda: waits(centre) == "DOWNLOAD_WINDOW_CLOSED")
    assert agent.serves() is None
    stick.document.write_bytes(envelope)
    assert 0 == stick.apply()
    until(lambda: agent.serves() == "1.0.0")
    assert [] == stick.registry.asked


def waits(centre: Centre) -> str | None:
    """Return the reason for which a deployment is put off."""
    for each in centre.reported.deployments if centre.reported else ():
        for condition in each.conditions:
            if condition.type == "deferred":
                return condition.reason
    return None


def test_a_stick_applied_while_no_agent_runs_waits_for_the_next(
    agent: Agent, carry: Carry, capsys: Capsys
) -> None:
    """All of it is on the device: the stick may go."""
    agent.stop()
    stick = carry()
    assert 0 == stick.apply()
    assert "no agent runs here" in capsys.readouterr().err
    shutil.rmtree(stick.path)
    agent.start()
    until(lambda: agent.serves() == "1.0.0")
    assert [] == stick.registry.asked


def _another_document(stick: Stick) -> None:
    stick.document.write_bytes(stick.home.envelope(1, target="d-2"))


def _another_fleet(stick: Stick) -> None:
    stick.document.write_bytes(stick.home.envelope(1, fleet="other"))


def _another_kind(stick: Stick) -> None:
    stick.document.write_bytes(stick.home.envelope(1, kind="application/vnd.skerry.other"))


def _forged(stick: Stick) -> None:
    folder = stick.home.path.parent
    keys.generate(folder / "forger.key", folder / "forger.pub")
    stick.document.write_bytes(
        stick.home.envelope(1, key=keys.SigningKey.load(folder / "forger.key"))
    )


def _too_long(stick: Stick) -> None:
    stick.document.write_bytes(b"{" * 1_000_000)


def _a_pipe(stick: Stick) -> None:
    stick.document.unlink()
    os.mkfifo(stick.document)


def _nothing_for_us(stick: Stick) -> None:
    stick.document.rename(stick.document.with_name("d-2.json"))


def _no_bundle(stick: Stick) -> None:
    for blob in (stick.path / "blobs" / "sha256").iterdir():
        blob.unlink()


def _no_signature(stick: Stick) -> None:
    layout = Layout(stick.path)
    for entry in layout.entries():
        if entry.ref_name is None:
            layout.forget(entry.digest)


def _a_flipped_bit(stick: Stick) -> None:
    largest = max((stick.path / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def _no_layout(stick: Stick) -> None:
    (stick.path / "oci-layout").unlink()


@pytest.mark.parametrize(
    ("harm", "reason", "code"),
    [
        (_another_document, "WRONG_TARGET", 7),
        (_another_fleet, "WRONG_FLEET", 7),
        (_another_kind, "WRONG_KIND", 7),
        (_forged, "SIGNATURE_INVALID", 7),
        (_too_long, "TOO_LARGE", 7),
        (_a_pipe, "MALFORMED", 7),
        (_nothing_for_us, "NOT_FOUND", 3),
        (_no_bundle, "BUNDLE_INCOMPLETE", 7),
        (_no_signature, "SIGNATURE_MISSING", 7),
        (_a_flipped_bit, "DIGEST_MISMATCH", 7),
        (_no_layout, "BUNDLE_MALFORMED", 7),
    ],
)
def test_what_is_wrong_with_a_stick_is_said_and_changes_nothing(
    carry: Carry, capsys: Capsys, harm: Callable[[Stick], None], reason: str, code: int
) -> None:
    """Three lines, and no byte of it is on the device."""
    stick = carry()
    harm(stick)
    Layout.create(stick.home.path / "store")
    before = _tree(stick.home.path)
    assert code == stick.apply()
    what, why, _after = capsys.readouterr().err.splitlines()
    assert what == "nothing on the stick was applied"
    assert why.startswith(f"{reason}: "), why
    assert _tree(stick.home.path) == before


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_what_a_stick_is_bringing_is_not_collected(carry: Carry) -> None:
    """An agent that cleans its store meanwhile leaves it; without the note it would not."""
    stick = carry()
    assert 0 == stick.apply()
    folder, digest = Folder(stick.home.path), stick.bundle.digest
    nobody = Credentials(key="none", certificate="none", ca="none")
    origin = Origin(registry_url=stick.registry.url, keys=(), credentials=nobody)
    machine = Machine(architecture="x86_64", library="litert", library_version="1")
    supply = StoreSupply(folder, origin, machine)
    store = Layout(folder.store)
    await supply.collect([])
    assert store.has_whole(digest)
    assert store.referrers(digest)
    folder.expected.unlink()
    await supply.collect([])
    assert not store.has(digest)
