"""Publishing a bundle: its blobs by digest, then one request that verifies and records it.

The flow a client follows (all with the operator token, over the API's listener):

1. For each blob of the bundle — every layer, the config (the card), the bundle
   manifest, then each signature manifest with its config and its layers:

       PUT /api/v1/blobs/sha256:<hex>        body: the blob's bytes, Content-Length set
       201 it was stored · 200 it was here already (the body is not needed:
       ask before with HEAD /api/v1/blobs/sha256:<hex>, 200 or 404)

   In any order, as often as wanted; a blob is visible only whole and verified.

2.     POST /api/v1/bundles                  {"digest": "<bundle manifest>",
                                              "signatures": ["<signature manifest>", …]}
       201 {"ref": "digits:1.0.0", "digest": "sha256:…", "signatures": ["sha256:…"]}

   `signatures` may be left out when they are recorded already. Repeating the
   request is harmless and answers 201 again.

Refusals carry the error body of the distribution specification, whose `code` is
a reason code of ours: {"errors": [{"code": "SIGNATURE_INVALID", "message": "…"}]}

    400 a digest or body that can't be read · 401 no token · 408 the body stalled
    409 VERSION_TAKEN: the name and version stand for another digest
    411 no Content-Length · 413 TOO_LARGE · 422 DIGEST_MISMATCH, BUNDLE_INCOMPLETE,
    SIGNATURE_MISSING, SIGNATURE_INVALID, … (what `models.bundle` refuses)
    507 DISK_FULL; nothing of the upload stays

Nothing is recorded that is not signed by a bundle key of this fleet: before step
2 succeeds no tag leads to the bundle, and uploaded blobs that no bundle names
are garbage.
"""

from collections.abc import Sequence

from fastapi import APIRouter

from fleet.ports import Bundles
from fleet.registry.answers import Authorise
from models.keys import PublicKey
from models.layout import Layout


def publish_router(
    layout: Layout, authorise: Authorise, *, keys: Sequence[PublicKey], bundles: Bundles
) -> APIRouter:
    """Return the routes `/api/v1/blobs/{digest}` and `/api/v1/bundles`.

    `authorise` says who publishes (operators only); `keys` are the bundle keys
    of this fleet; `bundles` learns of every bundle recorded.
    """
    raise NotImplementedError((layout, authorise, keys, bundles))
