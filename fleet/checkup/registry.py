"""The registry: every bundle that the store lists is there, unharmed and signed.

All bytes are hashed. That takes a second for each some hundred megabytes, and is
what devices would find out otherwise, one by one, in the middle of a rollout.
"""

from collections.abc import Iterator
from pathlib import Path

from fleet.checkup.finding import Finding, not_tried, ok, wrong
from fleet.checkup.store import Kept
from fleet.identity.places import Home
from models import bundle
from models.errors import ModelError
from models.keys import PublicKey, load_public
from models.layout import Layout
from models.values import parse_digest

_CHECK = "registry"


def look(home: Home, kept: Kept | None) -> Iterator[Finding]:
    """Verify every bundle that is listed."""
    if kept is None:
        yield not_tried(_CHECK, "it needs the store")
        return
    if not kept.bundles:
        yield ok(_CHECK, "no bundle is published yet")
        return
    try:
        key = load_public(home.bundle_public)
    except (OSError, ModelError):
        yield not_tried(_CHECK, f"it needs {home.bundle_public}")
        return
    harmed, size_bytes = [], 0
    for ref, digest in kept.bundles:
        verdict = _verify(home.registry, ref, digest, key)
        if isinstance(verdict, Finding):
            harmed.append(verdict)
        else:
            size_bytes += verdict
    yield from harmed
    if not harmed:
        what = "1 bundle" if len(kept.bundles) == 1 else f"{len(kept.bundles)} bundles"
        yield ok(_CHECK, f"{what} whole and signed: {size_bytes / 1e6:.1f} MB hashed")


def _verify(path: Path, ref: str, digest: str, key: PublicKey) -> Finding | int:
    try:
        found = bundle.verify(Layout(path), parse_digest(digest), [key])
    except (ModelError, OSError, ValueError) as error:
        reason = getattr(error, "reason", type(error).__name__)
        return wrong(
            _CHECK,
            f"{ref} can't be given to devices",
            f"{reason}: {error}",
            "publish it again from where it was packed: skerry model publish FOLDER",
        )
    return found.size_bytes
