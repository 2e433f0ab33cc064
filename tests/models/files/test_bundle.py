"""A bundle is accepted whole, signed by a trusted key, or not at all."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models import bundle, card_codec, dsse, keys, manifest, statement
from models.bundle import Bundle
from models.card import Card
from models.errors import ModelError, RefusedError
from models.keys import SigningKey
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.manifest import Descriptor, Manifest
from models.values import Digest, ModelRef, digest_of

MakeCard = Callable[..., Card]
MakeModel = Callable[..., bytes]
GOLDEN = bytes(range(40))
SKOPEO = shutil.which("skopeo") or "skopeo"
SAID = b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"%s","subject":[%s]}'


def reason_of(attempt: Callable[[], object]) -> str:
    """Return the reason code with which an attempt is refused."""
    with pytest.raises(ModelError) as caught:
        attempt()
    return caught.value.reason


def rewritten(layout: Layout, packed: Bundle, **changes: object) -> Digest:
    """Put a manifest with other fields beside a bundle's own, and return its digest."""
    return layout.add(manifest.render(replace(packed.manifest, **changes)))  # type: ignore[arg-type]  # by name


@pytest.fixture
def signed(layout: Layout, packed: Bundle, key: SigningKey) -> Bundle:
    bundle.sign(layout, packed, key)
    return packed


def test_what_is_packed_is_read(layout: Layout, packed: Bundle, model: bytes) -> None:
    """By its digest or its name; the model's layer is the file itself."""
    assert packed == bundle.read(layout, packed.digest)
    assert packed.digest == bundle.find(layout, "digits:1.0.0")
    assert packed.digest == bundle.find(layout, packed.digest)
    assert ModelRef("digits", "1.0.0") == packed.ref
    weights, golden = packed.manifest.layers
    assert (manifest.WEIGHT_TYPE, digest_of(model)) == (weights.media_type, weights.digest)
    assert (manifest.GOLDEN_TYPE, digest_of(GOLDEN)) == (golden.media_type, golden.digest)
    assert manifest.MODEL_CONFIG_TYPE == packed.manifest.config.media_type
    assert packed.size_bytes == len(model) + 40 + packed.manifest.config.size_bytes


def test_packing_the_same_twice_is_the_same_bundle(
    layout: Layout, packed: Bundle, make_card: MakeCard, model: bytes, tmp_path: Path
) -> None:
    """Bytes follow from content alone; a file may be given by its path."""
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    card = make_card(model)
    again = bundle.write(layout, card, {card.variants[0].digest: path}, GOLDEN)

    assert packed == again
    assert 1 == len(layout.entries())


def test_packing_refuses_parts_that_are_not_the_card_s(
    layout: Layout, make_card: MakeCard, model: bytes, make_model: MakeModel
) -> None:
    """And names nothing in the index."""
    card = make_card(model)
    digest = card.variants[0].digest
    other = make_model(dynamic=True)
    lying = replace(
        card,
        variants=(replace(card.variants[0], digest=digest_of(other), size_bytes=len(other)),),
    )
    damaged = model[:-8]
    cases: list[tuple[str, Callable[[], object]]] = [
        ("BUNDLE_INCOMPLETE", lambda: bundle.write(layout, card, {}, GOLDEN)),
        ("DIGEST_MISMATCH", lambda: bundle.write(layout, card, {digest: b"other"}, GOLDEN)),
        ("DIGEST_MISMATCH", lambda: bundle.write(layout, card, {digest: model}, b"other")),
        (
            "BUNDLE_MALFORMED",
            lambda: bundle.write(layout, lying, {digest_of(other): other}, GOLDEN),
        ),
        (
            "SIZE_MISMATCH",
            lambda: bundle.write(
                layout,
                replace(card, variants=(replace(card.variants[0], size_bytes=9),)),
                {digest: model},
                GOLDEN,
            ),
        ),
        (
            "MODEL_MALFORMED",
            lambda: bundle.write(
                layout,
                replace(
                    card,
                    variants=(
                        replace(
                            card.variants[0], digest=digest_of(damaged), size_bytes=len(damaged)
                        ),
                    ),
                ),
                {digest_of(damaged): damaged},
                GOLDEN,
            ),
        ),
    ]
    for reason, attempt in cases:
        assert reason == reason_of(attempt)

    assert () == layout.entries()


def test_a_file_that_is_too_large_is_not_packed(
    layout: Layout,
    make_card: MakeCard,
    model: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It isn't even read to its end."""
    monkeypatch.setattr("models.bundle.BLOB_LIMIT_BYTES", 100)
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    card = make_card(model)

    assert "TOO_LARGE" == reason_of(
        lambda: bundle.write(layout, card, {card.variants[0].digest: path}, GOLDEN)
    )
    assert () == layout.entries()


def test_names_may_differ_between_card_and_file(
    layout: Layout, make_card: MakeCard, model: bytes
) -> None:
    """Converters rename tensors; types, shapes and scales may not differ."""
    card = make_card(model)
    renamed = replace(card, inputs=(replace(card.inputs[0], name="picture"),))
    reshaped = replace(card, inputs=(replace(card.inputs[0], shape=(1, 8)),))
    files = {card.variants[0].digest: model}

    assert "picture" == bundle.write(layout, renamed, files, GOLDEN).card.inputs[0].name
    assert "BUNDLE_MALFORMED" == reason_of(lambda: bundle.write(layout, reshaped, files, GOLDEN))


def test_a_signed_bundle_is_verified(layout: Layout, signed: Bundle, key: SigningKey) -> None:
    """Its signature is a referrer of the manifest, over an in-toto statement."""
    (found,) = layout.referrers(signed.digest)
    signature = manifest.parse(layout.read(found.digest, MANIFEST_LIMIT_BYTES))
    envelope = dsse.parse(layout.read(signature.layers[0].digest, 1 << 16), 1 << 16)
    said = json.loads(envelope.payload)

    assert signed == bundle.verify(layout, signed.digest, [key.public])
    assert manifest.SIGNATURE_ARTIFACT_TYPE == signature.artifact_type == found.artifact_type
    assert signed.digest == (signature.subject.digest if signature.subject else None)
    assert "https://in-toto.io/Statement/v1" == said["_type"]
    assert [
        {"name": "digits:1.0.0", "digest": {"sha256": signed.digest.removeprefix("sha256:")}}
    ] == said["subject"]
    assert {"litert-quantizer": "0.11.0"} == said["predicate"]["tools"]
    assert statement.parse(envelope.payload).ref == signed.ref


def test_an_unsigned_bundle_is_refused(layout: Layout, packed: Bundle, key: SigningKey) -> None:
    """Reading is not trusting."""
    assert "SIGNATURE_MISSING" == reason_of(
        lambda: bundle.verify(layout, packed.digest, [key.public])
    )


def test_a_foreign_key_is_refused(layout: Layout, signed: Bundle, tmp_path: Path) -> None:
    """And so is everything where nobody is trusted."""
    foreign = keys.generate(tmp_path / "f.key", tmp_path / "f.pub")

    for trusted in ([foreign], []):
        with pytest.raises(RefusedError, match="is not among the"):
            bundle.verify(layout, signed.digest, trusted)


def test_a_bad_signature_does_not_hide_a_good_one(
    layout: Layout, packed: Bundle, key: SigningKey, tmp_path: Path
) -> None:
    """Anybody may add a referrer."""
    keys.generate(tmp_path / "f.key", tmp_path / "f.pub")
    bundle.sign(layout, packed, SigningKey.load(tmp_path / "f.key"))
    bundle.sign(layout, packed, key)

    assert packed == bundle.verify(layout, packed.digest, [key.public])


def test_one_byte_changed_after_signing_is_noticed(
    layout: Layout, signed: Bundle, key: SigningKey
) -> None:
    """In whatever part: manifest, card, model, golden vectors, signature, envelope."""
    (signature,) = layout.referrers(signed.digest)
    envelope = manifest.parse(layout.read(signature.digest, MANIFEST_LIMIT_BYTES)).layers[0]
    parts = [
        signed.digest,
        signed.manifest.config.digest,
        *(layer.digest for layer in signed.manifest.layers),
        signature.digest,
        envelope.digest,
    ]
    assert 6 == len(set(parts))
    for digest in parts:
        path = layout.blob_path(digest)
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            changed = bytearray(whole)
            changed[at] ^= 0x20
            path.write_bytes(changed)
            # Opened anew: what an earlier look remembered must not help.
            again = Layout(layout.path)
            code = reason_of(lambda seen=again: bundle.verify(seen, signed.digest, [key.public]))  # type: ignore[misc]  # bound now
            assert code in {"DIGEST_MISMATCH", "SIGNATURE_MISSING"}, (digest, at)
        path.write_bytes(whole)

    assert signed == bundle.verify(layout, signed.digest, [key.public])


def test_a_part_that_is_missing_is_named(layout: Layout, signed: Bundle, key: SigningKey) -> None:
    """So that it can be fetched."""
    for part in (signed.manifest.config, *signed.manifest.layers):
        path = layout.blob_path(part.digest)
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(RefusedError, match=part.digest[:11]) as caught:
            bundle.verify(layout, signed.digest, [key.public])
        assert "BUNDLE_INCOMPLETE" == caught.value.reason
        path.write_bytes(whole)


def _referrer(layout: Layout, about: Digest, envelope: bytes, **changes: object) -> Digest:
    """Add a hand-made signature of `about`."""
    layout.add(envelope)
    layout.add(manifest.EMPTY)
    subject = Descriptor(
        media_type=manifest.MANIFEST_TYPE, digest=about, size_bytes=layout.size_bytes(about)
    )
    made = Manifest(
        config=manifest.descriptor_of(manifest.EMPTY, manifest.EMPTY_TYPE),
        layers=(manifest.descriptor_of(envelope, manifest.ENVELOPE_TYPE),),
        artifact_type=manifest.SIGNATURE_ARTIFACT_TYPE,
        subject=subject,
    )
    raw = manifest.render(replace(made, **changes))  # type: ignore[arg-type]  # by name
    layout.add(raw)
    layout.record(manifest.descriptor_of(raw, manifest.MANIFEST_TYPE))
    return digest_of(raw)


def test_a_signature_of_another_bundle_is_refused(
    layout: Layout, packed: Bundle, make_card: MakeCard, model: bytes, key: SigningKey
) -> None:
    """Copied beside this one, or over this one under another name, or of another kind."""
    card = make_card(model, version="2.0.0")
    other = bundle.write(layout, card, {card.variants[0].digest: model}, GOLDEN)
    provenance = packed.card.provenance

    def signed(payload: bytes, kind: str = dsse.BUNDLE_PAYLOAD_TYPE) -> bytes:
        return dsse.render(key.sign(kind, payload))

    right = statement.render(packed.ref, packed.digest, provenance)
    cases = {
        "is over sha256": signed(statement.render(other.ref, other.digest, provenance)),
        "the card says digits:1.0.0": signed(
            statement.render(other.ref, packed.digest, provenance)
        ),
        "is expected": signed(right, dsse.DESIRED_PAYLOAD_TYPE),
        "statement is not JSON": signed(b"anything"),
        "the envelope is not JSON": b"{",
    }
    for why, envelope in cases.items():
        made = _referrer(layout, packed.digest, envelope)
        with pytest.raises(RefusedError, match=why):
            bundle.verify(layout, packed.digest, [key.public])
        layout.forget(made)
    _referrer(layout, packed.digest, signed(right), layers=())
    assert "SIGNATURE_INVALID" == reason_of(
        lambda: bundle.verify(layout, packed.digest, [key.public])
    )


def test_another_s_referrer_is_no_signature(
    layout: Layout, packed: Bundle, key: SigningKey
) -> None:
    """An artifact about the bundle (a scan, a note) is left alone."""
    _referrer(layout, packed.digest, b"a note", artifact_type="text/plain")

    assert "SIGNATURE_MISSING" == reason_of(
        lambda: bundle.verify(layout, packed.digest, [key.public])
    )


def test_a_manifest_that_lies_is_refused(layout: Layout, packed: Bundle, model: bytes) -> None:
    """Even one that somebody would sign."""
    weights, golden = packed.manifest.layers
    config = packed.manifest.config
    cases = {
        "BUNDLE_MALFORMED": rewritten(layout, packed, artifact_type="text/plain"),
        "BUNDLE_INCOMPLETE": rewritten(layout, packed, layers=(weights,)),
        "SIZE_MISMATCH": rewritten(
            layout, packed, layers=(replace(weights, size_bytes=len(model) + 1), golden)
        ),
        "CARD_MALFORMED": rewritten(layout, packed, config=golden),
    }
    for reason, digest in cases.items():
        assert reason == reason_of(lambda seen=digest: bundle.read(layout, seen))  # type: ignore[misc]  # bound now
    assert "BUNDLE_INCOMPLETE" == reason_of(
        lambda: bundle.read(layout, rewritten(layout, packed, layers=(golden,)))
    )
    assert "BUNDLE_MALFORMED" == reason_of(
        lambda: bundle.read(
            layout,
            rewritten(layout, packed, layers=(replace(weights, media_type="text/plain"), golden)),
        )
    )
    assert "SIZE_MISMATCH" == reason_of(
        lambda: bundle.read(layout, rewritten(layout, packed, config=replace(config, size_bytes=1)))
    )
    assert packed == bundle.read(layout, packed.digest)


def test_golden_vectors_of_another_size_are_refused(layout: Layout, packed: Bundle) -> None:
    """The card says how many bytes they have."""
    card = replace(packed.card, golden=replace(packed.card.golden, size_bytes=41))
    config = card_codec.render(card)
    layout.add(config)
    digest = rewritten(
        layout, packed, config=manifest.descriptor_of(config, manifest.MODEL_CONFIG_TYPE)
    )

    assert "SIZE_MISMATCH" == reason_of(lambda: bundle.read(layout, digest))


def test_what_is_not_there_is_said_with_what_is(layout: Layout, packed: Bundle) -> None:
    """A person mistypes a name."""
    with pytest.raises(RefusedError, match=r"there is digits:1\.0\.0"):
        bundle.find(layout, "digit:1.0.0")
    with pytest.raises(RefusedError) as caught:
        bundle.find(layout, digest_of(b"gone"))
    assert "NOT_FOUND" == caught.value.reason
    assert "NOT_FOUND" == reason_of(lambda: bundle.read(layout, digest_of(b"gone")))
    assert packed.digest == bundle.find(layout, str(packed.ref))


def test_a_copy_carries_its_signatures(
    layout: Layout, signed: Bundle, key: SigningKey, tmp_path: Path
) -> None:
    """And is verified at the other end like the original; copying again changes nothing."""
    target = Layout.create(tmp_path / "stick")
    copied = bundle.copy(layout, target, signed.digest)
    again = bundle.copy(layout, target, signed.digest)

    assert signed == copied == again
    assert signed == bundle.verify(target, bundle.find(target, "digits:1.0.0"), [key.public])
    assert sorted(map(repr, layout.entries())) == sorted(map(repr, target.entries()))


def test_a_damaged_bundle_is_not_copied(layout: Layout, signed: Bundle, tmp_path: Path) -> None:
    """The target's index never names it."""
    target = Layout.create(tmp_path / "stick")
    blob = layout.blob_path(signed.manifest.layers[1].digest)
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + b"!")
    assert "DIGEST_MISMATCH" == reason_of(lambda: bundle.copy(layout, target, signed.digest))
    blob.unlink()
    assert "BUNDLE_INCOMPLETE" == reason_of(lambda: bundle.copy(layout, target, signed.digest))

    assert () == target.entries()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"_type":"x","predicateType":"urn:skerry:bundle:v1-draft"}',
        SAID % (b"urn:other", b""),
        SAID % (b"urn:skerry:bundle:v1-draft", b""),
        SAID % (b"urn:skerry:bundle:v1-draft", b'{"name":"x","digest":{"sha256":"1"}}'),
        SAID % (b"urn:skerry:bundle:v1-draft", b'{"name":"x:1.0.0","digest":{"sha512":"1"}}'),
    ],
)
def test_what_is_no_statement_about_a_bundle_is_refused(raw: bytes) -> None:
    """A signature over something else of ours is not one over a bundle."""
    assert "BUNDLE_MALFORMED" == reason_of(lambda: statement.parse(raw))


@pytest.mark.real("skopeo")
def test_skopeo_reads_and_copies_a_bundle(
    layout: Layout, signed: Bundle, key: SigningKey, tmp_path: Path
) -> None:
    """A stock tool finds it by `name:version`, and copies it byte for byte, there and back."""

    def skopeo(*arguments: str) -> bytes:
        done = subprocess.run([SKOPEO, *arguments], capture_output=True, check=False, timeout=60)
        assert 0 == done.returncode, done.stderr.decode()
        return done.stdout

    here, there = f"oci:{layout.path}:digits:1.0.0", f"oci:{tmp_path}/there:digits:1.0.0"
    raw = layout.read(signed.digest, MANIFEST_LIMIT_BYTES)
    assert raw == skopeo("inspect", "--raw", here)
    assert json.loads(layout.read(signed.manifest.config.digest, 1 << 20)) == json.loads(
        skopeo("inspect", "--raw", "--config", here)
    )
    skopeo("copy", here, there)
    copied = Layout(tmp_path / "there")
    assert signed == bundle.read(copied, bundle.find(copied, "digits:1.0.0"))
    skopeo("copy", there, here)

    assert signed == bundle.verify(layout, bundle.find(layout, "digits:1.0.0"), [key.public])
