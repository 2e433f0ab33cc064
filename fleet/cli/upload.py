"""Sends a bundle's blobs and then the bundle to the centre (see `fleet.registry.publish`)."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx

from fleet.cli.screen import CommandError, ExitCode
from fleet.client import Connection
from models import manifest as oci
from models.bundle import Bundle
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from models.values import Digest, short

_CHUNK_BYTES = 256 * 1024
_ANSWER_LIMIT_BYTES = 1024 * 1024
_TIMEOUT_S = 60.0
_EXITS = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    422: ExitCode.REFUSED,
}
_NEXT = {
    "UNAUTHORIZED": "say where the operator token is: --token-file or SKERRY_TOKEN_FILE",
    "VERSION_TAKEN": "pack it under a new --version",
    "SIGNATURE_INVALID": "sign it with the fleet's bundle key: skerry model sign",
    "SIGNATURE_MISSING": "sign it with the fleet's bundle key: skerry model sign",
    "DISK_FULL": "free some room where the centre lives",
}


def upload(
    layout: Layout,
    bundle: Bundle,
    *,
    url: str | None,
    token_file: Path | None,
    ca: Path | None,
    home: Path,
) -> int:
    """Send what the centre hasn't got, then have it verify and record the bundle.

    Returns how many bytes were sent; sending again sends nothing twice.

    Raises:
        CommandError: the centre can't be reached, or refuses.
    """
    connection = Connection.find(home=home, url=url, token_file=token_file, ca=ca)
    signatures = [entry.digest for entry in layout.referrers(bundle.digest)]
    sent = 0
    try:
        with httpx.Client(
            base_url=connection.url,
            headers={"Authorization": f"Bearer {connection.token}"},
            timeout=_TIMEOUT_S,
            verify=_trust(connection),
            trust_env=False,
        ) as client:
            for digest in _blobs(layout, [*signatures, bundle.digest]):
                sent += _send(client, layout, digest)
            body = {"digest": bundle.digest, "signatures": signatures}
            _check(client.post("/api/v1/bundles", json=body), f"{bundle.ref}")
    except httpx.HTTPError as error:
        raise CommandError(
            f"no answer from the centre at {connection.url}",
            f"UNREACHABLE: {str(error) or type(error).__name__}",
            "check that it runs (skerry up) and the address: --centre",
            ExitCode.UNREACHABLE,
        ) from error
    return sent


def _blobs(layout: Layout, manifests: list[Digest]) -> Iterator[Digest]:
    """Yield every blob that these manifests name, and then the manifests: parts first."""
    seen: set[Digest] = set()
    for manifest in manifests:
        content = oci.parse(layout.read(manifest, MANIFEST_LIMIT_BYTES))
        for digest in (
            *(part.digest for part in (*content.layers, content.config)),
            manifest,
        ):
            if digest not in seen:
                seen.add(digest)
                yield digest


def _send(client: httpx.Client, layout: Layout, digest: Digest) -> int:
    where = f"/api/v1/blobs/{digest}"
    there = client.head(where)
    if there.status_code == httpx.codes.OK:
        return 0
    if there.status_code != httpx.codes.NOT_FOUND:
        _check(there, short(digest))
    size = layout.size_bytes(digest)
    answer = client.put(
        where,
        content=_chunks(layout.blob_path(digest)),
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
    )
    _check(answer, short(digest))
    return size


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _check(answer: httpx.Response, what: str) -> None:
    if answer.is_success:
        return
    code, message = "REFUSED", f"it answered {answer.status_code}"
    try:
        said = json.loads(answer.content[:_ANSWER_LIMIT_BYTES])["errors"][0]
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, LookupError, TypeError):
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # a HEAD has no body
            code, message = "UNAUTHORIZED", "it doesn't know this operator token"
        else:
            message += ", and not as a centre does"
    raise CommandError(
        f"the centre refused {what}: {message}",
        code,
        _NEXT.get(code, "see the centre's log"),
        _EXITS.get(answer.status_code, ExitCode.BAD),
    )


def _trust(connection: Connection) -> ssl.SSLContext | bool:
    if connection.ca is None or not connection.url.startswith("https:"):
        return True
    try:
        return ssl.create_default_context(cafile=str(connection.ca))
    except (OSError, ssl.SSLError) as error:
        raise CommandError(
            f"{connection.ca} is no certificate",
            "CA_UNREADABLE",
            "say where the fleet's CA is: --ca or SKERRY_CA",
            ExitCode.USAGE,
        ) from error
