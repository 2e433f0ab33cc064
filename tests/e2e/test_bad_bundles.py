"""Bundles that changed, that strangers signed, that were broken before they were signed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.wire.reasons import Reason
from fleet.cli.screen import CommandError
from models import bundle as bundles
from models import keys
from models.bundle import Bundle
from models.layout import Layout
from models.values import Digest
from tests.e2e.scene import Centre, Device, Load, Row, until
from tests.e2e.wares import Model, damaged, flip, packed

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]


def test_what_changed_after_signing_is_never_served(
    island: Centre, make_device: Callable[..., Device], old: Model, new: Model
) -> None:
    """One bit of the manifest, the model, the golden vectors in the registry: the incumbent stays.

    Mended, the rollout completes by itself.
    """
    layout = Layout.create(island.folder / "more")
    made = {}
    for version in ("2.1.0", "2.2.0", "2.3.0"):
        made[version] = packed(new, version, layout, key=island.key)
        island.publish(layout, made[version])
    registry = Layout(island.home / "registry")
    device = _serving(island, make_device, old)
    workers = device.workers()
    model, golden = (layer.digest for layer in made["2.1.0"].manifest.layers)

    with Load(device, old, new) as load:
        with _flipped(registry, made["2.1.0"].digest):
            problem = _put_off(island, device, "2.1.0", made["2.1.0"])
            assert Reason.DIGEST_MISMATCH == problem["reason"]
            with _flipped(registry, model):
                problem = _put_off(island, device, "2.2.0", made["2.2.0"])
                assert Reason.DIGEST_MISMATCH == problem["reason"]
                flip(registry.blob_path(golden))
        assert device.answers(old)
        assert workers == device.workers()
        problem = _put_off(island, device, "2.3.0", made["2.3.0"])
        assert Reason.DIGEST_MISMATCH == problem["reason"]
        assert 0 == load.counts[1]
        assert device.answers(old)
        assert workers == device.workers()

        flip(registry.blob_path(golden))
        island.settled(device, "2.3.0")
    assert [] == load.failed == load.unanswered
    assert device.answers(new)


def test_what_strangers_signed_or_was_broken_before_is_refused(
    island: Centre, make_device: Callable[..., Device], tmp_path: Path, old: Model, new: Model
) -> None:
    """A foreign key, no signature, weights that miss the golden vectors; the incumbent stays."""
    stranger = _stranger(tmp_path)
    layout = Layout.create(tmp_path / "theirs")
    foreign = packed(new, "3.0.0", layout, key=stranger)
    kept = island.store("bundles", "audit"), (island.home / "registry/index.json").read_bytes()
    with pytest.raises(CommandError) as refused:
        island.publish(layout, foreign)
    assert refused.value.why.startswith("SIGNATURE_INVALID")
    assert 3 == len([refused.value.what, refused.value.why, refused.value.next_step])
    # The registry is taken over: what was admitted carries another signature now, or none.
    ours = Layout.create(tmp_path / "ours")
    made: dict[str, Bundle] = {}
    for version in ("3.1.0", "3.2.0"):
        made[version] = packed(new, version, ours, key=island.key)
    made["3.3.0"] = damaged(new, "3.3.0", ours, key=island.key)
    assert kept == (
        island.store("bundles", "audit"),
        (island.home / "registry/index.json").read_bytes(),
    )
    for each in made.values():
        island.publish(ours, each)
    registry = Layout(island.home / "registry")
    for version in ("3.1.0", "3.2.0"):
        for signature in registry.referrers(made[version].digest):
            registry.forget(signature.digest)
    bundles.sign(registry, made["3.1.0"], stranger)

    device = _serving(island, make_device, old)
    workers, index = device.workers(), (device.home / "store/index.json").read_bytes()
    with Load(device, old) as load:
        for version, reason in (
            ("3.1.0", Reason.SIGNATURE_INVALID),
            ("3.2.0", Reason.SIGNATURE_MISSING),
            ("3.3.0", Reason.GOLDEN_MISMATCH),
        ):
            island.roll(version, device)
            told = _refused(island, device, made[version])
            assert reason == told["last_error"]["reason"], told
            assert "1.0.0" == told["active"]["bundle"]["version"]
            assert ["INCUMBENT_KEPT"] == [each["reason"] for each in told["conditions"]]
            _heard(island, device, made[version], reason, "refused")
            if reason != Reason.GOLDEN_MISMATCH:
                assert index == (device.home / "store/index.json").read_bytes()
        load.more(20)
    assert [] == load.failed == load.unanswered
    assert device.answers(old)
    assert workers == device.workers()
    shown = island.skerry("device", "show", device.name)
    assert "GOLDEN_MISMATCH" in shown.stdout
    island.deliver("2.0.0", device)
    assert device.answers(new)


def _serving(centre: Centre, make_device: Callable[..., Device], old: Model) -> Device:
    device = make_device(centre)
    device.start()
    centre.deliver("1.0.0", device)
    assert device.answers(old)
    return device


def _put_off(centre: Centre, device: Device, version: str, bundle: Bundle) -> Row:
    """Roll a version out; return why it was put off, and see that nothing else changed."""
    centre.roll(version, device)

    def look() -> Row | None:
        told = centre.deployment(device)
        here = told["digest"] == bundle.digest and told["phase"] == "accepted"
        return told if here and told["last_error"] else None

    told = until(look, what=f"{version} put off")
    problem: Row = told["last_error"]
    assert "1.0.0" == told["active"]["bundle"]["version"]
    assert ["deferred"] == [each["type"] for each in told["conditions"]]
    _heard(centre, device, bundle, problem["reason"], "accepted")
    return problem


def _refused(centre: Centre, device: Device, bundle: Bundle) -> Row:
    def look() -> Row | None:
        told = centre.deployment(device)
        return told if (told["digest"], told["phase"]) == (bundle.digest, "refused") else None

    return until(look, what="a refusal")


def _heard(centre: Centre, device: Device, bundle: Bundle, reason: str, phase: str) -> None:
    """Wait until the centre has the event that tells of it."""
    wanted = (bundle.digest, reason, phase)
    until(
        lambda: (
            wanted
            in [
                (each.get("digest"), each.get("reason"), each.get("phase"))
                for each in centre.events(device)
            ]
        ),
        what=f"an event with {reason}",
    )


@contextmanager
def _flipped(registry: Layout, digest: Digest) -> Iterator[None]:
    """One bit of a blob is another one for a while."""
    flip(registry.blob_path(digest))
    yield
    flip(registry.blob_path(digest))


def _stranger(folder: Path) -> keys.SigningKey:
    keys.generate(folder / "stranger.key", folder / "stranger.pub")
    return keys.SigningKey.load(folder / "stranger.key")
