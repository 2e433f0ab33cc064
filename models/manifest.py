"""OCI manifests and indexes as values, and the media types a bundle uses. Pure.

OCI image specification 1.1; ModelPack v1 for what a model's parts are called.
A manifest is read once and kept as bytes wherever its digest matters: rendering
what was parsed need not give the same bytes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models.limits import INDEX_LIMIT_BYTES, MANIFEST_LIMIT_BYTES
from models.strict_json import Fields, load
from models.values import Digest, digest_of

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"

MODEL_ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
GOLDEN_TYPE = "application/vnd.cncf.model.dataset.v1.raw"

SIGNATURE_ARTIFACT_TYPE = "application/vnd.skerry.signature.v1+json"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"

REF_NAME = "org.opencontainers.image.ref.name"
"""An entry's name in its index. Here `name:version`, so that `oci:DIR:name:version` finds it."""

TITLE = "org.opencontainers.image.title"
FILE_PATH = "org.cncf.model.filepath"

_LAYERS_LIMIT = 256
_ENTRIES_LIMIT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a blob is: its type, digest and size."""

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None

    @property
    def ref_name(self) -> str | None:
        """The name this entry has in its index."""
        return self.annotations.get(REF_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An OCI image manifest. `subject` is what it is about, where it is a referrer."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def descriptor_of(
    content: bytes,
    media_type: str,
    *,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str | None = None,
) -> Descriptor:
    """Return the descriptor of `content`."""
    return Descriptor(
        media_type=media_type,
        digest=digest_of(content),
        size_bytes=len(content),
        annotations=annotations or {},
        artifact_type=artifact_type,
    )


def parse(raw: bytes) -> Manifest:
    """Return the manifest in `raw`.

    Raises:
        RefusedError: `TOO_LARGE`, or `BUNDLE_MALFORMED`: it is no OCI image manifest.
    """
    fields = load(
        raw, what="the manifest", reason="BUNDLE_MALFORMED", limit_bytes=MANIFEST_LIMIT_BYTES
    )
    if fields.whole("schemaVersion") != 2:  # noqa: PLR2004  # the only one there is
        raise fields.wrong("'schemaVersion' is not 2")
    if fields.text_or("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
        raise fields.wrong(f"'mediaType' is not {MANIFEST_TYPE}")
    subject = fields.fields_or_none("subject")
    return Manifest(
        config=_descriptor(fields.fields("config")),
        layers=tuple(
            _descriptor(each) for each in fields.list_of_fields("layers", limit=_LAYERS_LIMIT)
        ),
        artifact_type=fields.text_or("artifactType", "") or None,
        subject=_descriptor(subject) if subject else None,
        annotations=fields.texts("annotations"),
    )


def render(manifest: Manifest) -> bytes:
    """Return a manifest's bytes."""
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE}
    if manifest.artifact_type is not None:
        document["artifactType"] = manifest.artifact_type
    document["config"] = _document(manifest.config)
    document["layers"] = [_document(layer) for layer in manifest.layers]
    if manifest.subject is not None:
        document["subject"] = _document(manifest.subject)
    if manifest.annotations:
        document["annotations"] = dict(manifest.annotations)
    return _dump(document)


def parse_index(raw: bytes) -> tuple[Descriptor, ...]:
    """Return the entries of the index in `raw`.

    Raises:
        RefusedError: `TOO_LARGE`, or `BUNDLE_MALFORMED`: it is no OCI image index.
    """
    fields = load(raw, what="the index", reason="BUNDLE_MALFORMED", limit_bytes=INDEX_LIMIT_BYTES)
    if fields.whole("schemaVersion") != 2:  # noqa: PLR2004  # the only one there is
        raise fields.wrong("'schemaVersion' is not 2")
    return tuple(
        _descriptor(each) for each in fields.list_of_fields("manifests", limit=_ENTRIES_LIMIT)
    )


def render_index(entries: Iterable[Descriptor]) -> bytes:
    """Return the bytes of an index of `entries` (also what a registry answers for referrers)."""
    return _dump(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [_document(entry) for entry in entries],
        }
    )


def _descriptor(fields: Fields) -> Descriptor:
    return Descriptor(
        media_type=fields.text("mediaType"),
        digest=fields.digest("digest"),
        size_bytes=fields.whole("size"),
        annotations=fields.texts("annotations"),
        artifact_type=fields.text_or("artifactType", "") or None,
    )


def _document(descriptor: Descriptor) -> dict[str, object]:
    document: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size_bytes,
    }
    if descriptor.artifact_type is not None:
        document["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    return document


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
