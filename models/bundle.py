"""Bundles: a model's files, card and golden vectors as one signed OCI artifact. Blocking.

The manifest's digest is the bundle's. `read` believes nothing: every part is
there, is what its digest names, and every variant's own signature is the
card's. `verify` also wants a signature by a trusted key over exactly this
manifest. A signature is an OCI referrer, so it can be added, copied and served
without touching what it is about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models import card_codec, dsse, statement, tflite
from models import manifest as oci
from models.card import Card, Tensor, Variant
from models.errors import ModelError, RefusedError
from models.layout import Layout
from models.limits import (
    BLOB_LIMIT_BYTES,
    CARD_LIMIT_BYTES,
    ENVELOPE_LIMIT_BYTES,
    MANIFEST_LIMIT_BYTES,
)
from models.values import Digest, ModelRef, digest_of, parse_digest, short

if TYPE_CHECKING:
    from models.keys import PublicKey, SigningKey

_REFERRERS_LIMIT = 32  # signatures looked at; each costs a verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was read. `digest` is its manifest's."""

    ref: ModelRef
    digest: Digest
    manifest: oci.Manifest
    card: Card

    @property
    def size_bytes(self) -> int:
        """Bytes of all its parts: what a device that has none of them must fetch."""
        return self.manifest.config.size_bytes + sum(
            layer.size_bytes for layer in self.manifest.layers
        )


def write(
    layout: Layout, card: Card, files: Mapping[Digest, bytes | Path], golden: bytes
) -> Bundle:
    """Put a bundle into a layout under `name:version`, and return it as a reader sees it.

    `files` holds the content of each of the card's variants.

    Raises:
        RefusedError: a part is missing or isn't the card's, or the whole isn't what `read` accepts.
        TransientError: `DISK_FULL`.
    """
    layers = []
    for number, variant in enumerate(card.variants):
        if variant.digest not in files:
            raise RefusedError(
                "BUNDLE_INCOMPLETE", f"the {variant.format} variant's file wasn't given"
            )
        content = _content(files[variant.digest])
        if digest_of(content) != variant.digest:
            raise RefusedError(
                "DIGEST_MISMATCH", f"the file given for the {variant.format} variant isn't it"
            )
        layout.add(content)
        title = f"{card.ref.name}-{number}-{variant.format}.tflite"
        layers.append(_layer(content, oci.WEIGHT_TYPE, title))
    if digest_of(golden) != card.golden.digest:
        raise RefusedError("DIGEST_MISMATCH", "the golden vectors given aren't the card's")
    layout.add(golden)
    layers.append(_layer(golden, oci.GOLDEN_TYPE, f"{card.ref.name}-golden.bin"))
    config = card_codec.render(card)
    layout.add(config)
    manifest = oci.Manifest(
        config=oci.descriptor_of(config, oci.MODEL_CONFIG_TYPE),
        layers=tuple(layers),
        artifact_type=oci.MODEL_ARTIFACT_TYPE,
    )
    digest = layout.add(oci.render(manifest))
    bundle = read(layout, digest)
    layout.record(_entry(layout, bundle))
    return bundle


def read(layout: Layout, digest: Digest) -> Bundle:
    """Return the bundle whose manifest has this digest, after looking at every byte of it.

    Raises:
        RefusedError: `BUNDLE_INCOMPLETE` (it says what is missing), `BUNDLE_MALFORMED`,
            `SIZE_MISMATCH`, `CARD_MALFORMED`, `MODEL_…`: what is there is no bundle.
        CorruptError: `DIGEST_MISMATCH`: a part has become something else.
    """
    manifest = oci.parse(layout.read(digest, MANIFEST_LIMIT_BYTES))
    if manifest.artifact_type != oci.MODEL_ARTIFACT_TYPE:
        raise RefusedError(
            "BUNDLE_MALFORMED",
            f"{short(digest)} is no model: its artifact type is {manifest.artifact_type!r}",
        )
    card = card_codec.parse(_part(layout, manifest.config, CARD_LIMIT_BYTES))
    wanted = {variant.digest: variant for variant in card.variants}
    golden_seen = False
    for layer in manifest.layers:
        content = _part(layout, layer, BLOB_LIMIT_BYTES)
        variant = wanted.pop(layer.digest, None)
        if variant is not None:
            _check_variant(card, variant, layer, content)
        if layer.digest == card.golden.digest:
            _check_size("the golden vectors", layer.size_bytes, card.golden.size_bytes)
            golden_seen = True
    if wanted:
        raise RefusedError(
            "BUNDLE_INCOMPLETE",
            f"the card's variant {short(next(iter(wanted)))} is no layer of the bundle",
        )
    if not golden_seen:
        raise RefusedError("BUNDLE_INCOMPLETE", "the golden vectors are no layer of the bundle")
    return Bundle(ref=card.ref, digest=digest, manifest=manifest, card=card)


def sign(layout: Layout, bundle: Bundle, key: "SigningKey") -> oci.Descriptor:
    """Add a signature of a bundle to its layout, and return its manifest's descriptor.

    Raises:
        TransientError: `DISK_FULL`; the index is as it was.
    """
    envelope = dsse.render(
        key.sign(
            dsse.BUNDLE_PAYLOAD_TYPE,
            statement.render(bundle.ref, bundle.digest, bundle.card.provenance),
        )
    )
    layout.add(oci.EMPTY)
    layout.add(envelope)
    raw = oci.render(
        oci.Manifest(
            config=oci.descriptor_of(oci.EMPTY, oci.EMPTY_TYPE),
            layers=(oci.descriptor_of(envelope, oci.ENVELOPE_TYPE),),
            artifact_type=oci.SIGNATURE_ARTIFACT_TYPE,
            subject=oci.Descriptor(
                media_type=oci.MANIFEST_TYPE,
                digest=bundle.digest,
                size_bytes=layout.size_bytes(bundle.digest),
            ),
        )
    )
    layout.add(raw)
    descriptor = oci.descriptor_of(
        raw, oci.MANIFEST_TYPE, artifact_type=oci.SIGNATURE_ARTIFACT_TYPE
    )
    layout.record(descriptor)
    return descriptor


def verify(layout: Layout, digest: Digest, keys: "Sequence[PublicKey]") -> Bundle:
    """Return the bundle whose manifest has this digest, if a trusted key signed exactly that.

    Raises:
        RefusedError: `SIGNATURE_MISSING`, `SIGNATURE_INVALID`, or as `read`.
        CorruptError: as `read`.
    """
    statements = _signed_statements(layout, digest, keys)
    bundle = read(layout, digest)
    if not any(each.ref == bundle.ref for each in statements):
        raise RefusedError(
            "SIGNATURE_INVALID",
            f"the signature is over {statements[0].ref}, and the card says {bundle.ref}",
        )
    return bundle


def find(layout: Layout, text: str) -> Digest:
    """Return the digest of the bundle called `name:version`, or of that digest.

    Raises:
        RefusedError: `NOT_FOUND`; the message lists what is there.
    """
    try:
        digest = parse_digest(text)
    except ValueError:
        names = {entry.ref_name: entry.digest for entry in layout.entries() if entry.ref_name}
        if text in names:
            return names[text]
        there = ", ".join(sorted(names)[:10]) or "nothing"
        raise RefusedError(
            "NOT_FOUND", f"{text[:80]!r} is not in {layout.path}; there is {there}"
        ) from None
    if not layout.has(digest):
        raise RefusedError("NOT_FOUND", f"{short(digest)} is not in {layout.path}")
    return digest


def copy(source: Layout, target: Layout, digest: Digest) -> Bundle:
    """Copy a bundle with its signatures, and return it as read from the target.

    The index of the target names it only when all of it is there.

    Raises:
        RefusedError: as `read`.
        CorruptError: as `read`; the target's index is as it was.
        TransientError: `DISK_FULL`; the target's index is as it was.
    """
    _copy_manifest(source, target, digest)
    bundle = read(target, digest)
    signatures = source.referrers(digest)
    for signature in signatures:
        _copy_manifest(source, target, signature.digest)
    target.record(_entry(target, bundle))
    for signature in signatures:
        target.record(signature)
    return bundle


def _copy_manifest(source: Layout, target: Layout, digest: Digest) -> None:
    raw = source.read(digest, MANIFEST_LIMIT_BYTES)
    manifest = oci.parse(raw)
    for part in (*manifest.layers, manifest.config):
        if not source.has(part.digest):
            raise RefusedError("BUNDLE_INCOMPLETE", f"{short(part.digest)} is not in {source.path}")
        target.add_file(source.blob_path(part.digest), part.digest)
    target.add(raw)


def _signed_statements(
    layout: Layout, digest: Digest, keys: "Sequence[PublicKey]"
) -> list[statement.Statement]:
    """Return what trusted keys said of this digest; at least one statement."""
    found = []
    refused: ModelError | None = None
    for entry in layout.referrers(digest)[:_REFERRERS_LIMIT]:
        try:
            signature = oci.parse(layout.read(entry.digest, MANIFEST_LIMIT_BYTES))
            if signature.artifact_type != oci.SIGNATURE_ARTIFACT_TYPE:
                continue
            found.append(_statement(layout, signature, digest, keys))
        except ModelError as error:
            # One bad signature must not hide a good one; with no good one, it is the reason.
            refused = error
    if found:
        return found
    if refused is not None:
        raise refused
    raise RefusedError("SIGNATURE_MISSING", f"{short(digest)} carries no signature")


def _statement(
    layout: Layout, signature: oci.Manifest, digest: Digest, keys: "Sequence[PublicKey]"
) -> statement.Statement:
    from models.keys import admit  # noqa: PLC0415  # a reader without keys needs no cryptography

    envelopes = [layer for layer in signature.layers if layer.media_type == oci.ENVELOPE_TYPE]
    if len(envelopes) != 1:
        raise RefusedError(
            "SIGNATURE_INVALID", f"the signature has {len(envelopes)} envelopes, not 1"
        )
    raw = _part(layout, envelopes[0], ENVELOPE_LIMIT_BYTES)
    payload, _ = admit(raw, dsse.BUNDLE_PAYLOAD_TYPE, keys, limit_bytes=ENVELOPE_LIMIT_BYTES)
    said = statement.parse(payload)
    if said.digest != digest:
        raise RefusedError(
            "SIGNATURE_INVALID",
            f"the signature is over {short(said.digest)}, not over {short(digest)}",
        )
    return said


def _check_variant(card: Card, variant: Variant, layer: oci.Descriptor, content: bytes) -> None:
    if layer.media_type != oci.WEIGHT_TYPE:
        raise RefusedError(
            "BUNDLE_MALFORMED", f"the {variant.format} variant's layer is {layer.media_type[:80]!r}"
        )
    _check_size(f"the {variant.format} variant", layer.size_bytes, variant.size_bytes)
    file = tflite.read(content)
    for called, own, declared in (
        ("inputs", file.inputs, card.inputs),
        ("outputs", file.outputs, card.outputs),
    ):
        if _nameless(own) != _nameless(declared):
            raise RefusedError(
                "BUNDLE_MALFORMED",
                f"the {variant.format} variant has other {called} than the card says",
            )


def _nameless(tensors: Sequence[Tensor]) -> list[Tensor]:
    # By position: converters rename tensors between formats, and a card may call them better.
    return [replace(tensor, name="") for tensor in tensors]


def _part(layout: Layout, part: oci.Descriptor, limit_bytes: int) -> bytes:
    if not layout.has(part.digest):
        raise RefusedError("BUNDLE_INCOMPLETE", f"{short(part.digest)} is not in {layout.path}")
    content = layout.read(part.digest, limit_bytes)
    _check_size(short(part.digest), len(content), part.size_bytes)
    return content


def _check_size(what: str, is_bytes: int, said_bytes: int) -> None:
    if is_bytes != said_bytes:
        raise RefusedError("SIZE_MISMATCH", f"{what} has {is_bytes} bytes, not {said_bytes}")


def _layer(content: bytes, media_type: str, title: str) -> oci.Descriptor:
    return oci.descriptor_of(
        content, media_type, annotations={oci.TITLE: title, oci.FILE_PATH: title}
    )


def _entry(layout: Layout, bundle: Bundle) -> oci.Descriptor:
    return oci.Descriptor(
        media_type=oci.MANIFEST_TYPE,
        digest=bundle.digest,
        size_bytes=layout.size_bytes(bundle.digest),
        annotations={oci.REF_NAME: str(bundle.ref)},
        artifact_type=oci.MODEL_ARTIFACT_TYPE,
    )


def _content(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    with source.open("rb") as file:
        content = file.read(BLOB_LIMIT_BYTES + 1)
    if len(content) > BLOB_LIMIT_BYTES:
        raise RefusedError("TOO_LARGE", f"{source} has more than {BLOB_LIMIT_BYTES} bytes")
    return content
