"""What a signature over a bundle says: an in-toto Statement v1 naming one manifest. Pure.

The manifest names every other byte of the bundle by digest, so one subject is
enough. The predicate repeats where the files came from, for tools that read
statements and not cards.
"""

import json
from dataclasses import dataclass

from models.card import Provenance
from models.errors import RefusedError
from models.limits import ENVELOPE_LIMIT_BYTES
from models.strict_json import load
from models.values import Digest, ModelRef, parse_digest

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:skerry:bundle:v1-draft"

_SUBJECTS_LIMIT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The bundle that was signed: its name and version, and its manifest's digest."""

    ref: ModelRef
    digest: Digest


def render(ref: ModelRef, manifest_digest: Digest, provenance: Provenance) -> bytes:
    """Return the bytes to sign for a bundle."""
    predicate: dict[str, object] = {
        "source": {"digest": _digest_set(provenance.source_digest)},
        "tools": dict(provenance.tools),
    }
    if provenance.calibration_digest is not None:
        predicate["calibration"] = {
            "digest": _digest_set(provenance.calibration_digest),
            "samples": provenance.calibration_samples,
        }
    return json.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": str(ref), "digest": _digest_set(manifest_digest)}],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        },
        separators=(",", ":"),
    ).encode()


def parse(raw: bytes) -> Statement:
    """Return what the statement in `raw` says.

    Raises:
        RefusedError: `TOO_LARGE`, or `BUNDLE_MALFORMED`: not a statement about one bundle.
    """
    fields = load(
        raw, what="the statement", reason="BUNDLE_MALFORMED", limit_bytes=ENVELOPE_LIMIT_BYTES
    )
    for name, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if fields.text(name) != expected:
            raise fields.wrong(f"{name!r} is {fields.text(name)[:80]!r}, not {expected!r}")
    subjects = fields.list_of_fields("subject", limit=_SUBJECTS_LIMIT)
    if not subjects:
        raise fields.wrong("it has no subject")
    try:
        return Statement(
            ref=ModelRef.parse(subjects[0].text("name")),
            digest=parse_digest("sha256:" + subjects[0].fields("digest").text("sha256")),
        )
    except ValueError as error:
        raise RefusedError("BUNDLE_MALFORMED", f"the statement's subject: {error}") from error


def _digest_set(digest: Digest) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}
