"""The registry: every bundle that the store lists is there, of the right size, unharmed and signed.

Of every bundle each part is looked for. Then bytes are hashed, the newest bundle first, for
that is what the next rollout brings; what has rotted is else found by devices, one by one, in
the middle of it. Past `HASHED_BYTES` no other is begun: who asks waits for the answer, and
wants the others' findings, too. How much it was is said.
"""

from collections.abc import Iterator, Sequence

from agent.wire.words import size
from fleet.checkup.finding import Finding, not_tried, ok, wrong
from fleet.checkup.store import Kept
from fleet.identity.places import Home
from fleet.wording import count
from models import bundle, manifest
from models.errors import ModelError, RefusedError
from models.keys import load_public
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.values import Digest, parse_digest

HASHED_BYTES = 4_000_000_000
"""Half a minute on a small machine, some seconds on a large one."""

_CHECK = "registry"
_TOLD = 3


def look(
    home: Home, kept: Kept | None, where: str = "", *, limit_bytes: int = HASHED_BYTES
) -> Iterator[Finding]:
    """Look at every bundle that is listed. `where` names the centre in a command."""
    if kept is None:
        yield not_tried(_CHECK, "it needs the store")
        return
    if not kept.bundles:
        yield ok(_CHECK, "no bundle is published yet")
        return
    try:
        layout = Layout(home.registry)
        layout.entries()
    except (ModelError, OSError) as error:
        what = f"none of {_bundles(kept.bundles)} can be given to devices"
        hint = f"bring {home.registry} back from a backup, or {_again(where)}"
        yield wrong(_CHECK, what, _said(error), hint)
        return
    try:
        key = load_public(home.bundle_public)
    except (OSError, ModelError):
        yield not_tried(_CHECK, f"it needs {home.bundle_public}")
        return
    harmed: dict[str, str] = {}
    whole = there_bytes = hashed_bytes = 0
    for ref, text in kept.bundles:
        try:
            digest = parse_digest(text)
            there_bytes += _parts(layout, digest)
            if hashed_bytes < limit_bytes:
                hashed_bytes += bundle.verify(layout, digest, [key]).size_bytes
                whole += 1
        except (ModelError, OSError, ValueError) as error:
            harmed[ref] = _said(error)
    yield from _told(harmed, where)
    if harmed:
        return
    if whole == len(kept.bundles):
        yield ok(_CHECK, f"{_bundles(kept.bundles)} whole and signed: {size(hashed_bytes)} hashed")
        return
    newest = f"the newest {count(whole)} whole and signed"
    share = f"{size(hashed_bytes)} of {size(there_bytes)} hashed"
    yield ok(_CHECK, f"{_bundles(kept.bundles)} there, {newest}: {share}")


def _parts(layout: Layout, digest: Digest) -> int:
    """Return how large a bundle is whose parts are all there and of the right size."""
    read = manifest.parse(layout.read(digest, MANIFEST_LIMIT_BYTES))
    sizes = {part.digest: part.size_bytes for part in (read.config, *read.layers)}
    for part, size_bytes in sizes.items():
        if layout.size_bytes(part) != size_bytes:
            raise RefusedError(
                "SIZE_MISMATCH", f"{part} has {layout.size_bytes(part)} bytes, not {size_bytes}"
            )
    return sum(sizes.values())


def _told(harmed: dict[str, str], where: str) -> Iterator[Finding]:
    """Tell of some one by one, and of the others together: a dead disk harms hundreds."""
    for ref, why in list(harmed.items())[:_TOLD]:
        yield wrong(_CHECK, f"{ref} can't be given to devices", why, _again(where))
    if more := list(harmed)[_TOLD:]:
        what = f"{_bundles(more)} more can't be given to devices: {', '.join(more)}"
        why = f"the first of them: {harmed[more[0]]}"
        yield wrong(_CHECK, what, why, f"look at the disk; then {_again(where)}")


def _again(where: str) -> str:
    return f"publish it again from where it was packed: skerry model publish FOLDER{where}"


def _bundles(those: Sequence[object]) -> str:
    return "1 bundle" if len(those) == 1 else f"{count(len(those))} bundles"


def _said(error: Exception) -> str:
    return f"{getattr(error, 'reason', type(error).__name__)}: {error}"
