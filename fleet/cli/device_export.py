"""`skerry device export`: what devices should be, onto a stick that somebody carries to them.

A stick is an OCI image layout with the bundles and their signatures, and in `desired/` the signed
document of each device: the same bytes that it would get over the network.
"""

from pathlib import Path
from typing import Annotated

import typer

from agent.wire import codec, v1
from agent.wire.codec import WireError
from agent.wire.limits import DOCUMENT_LIMIT_BYTES
from agent.wire.stick import document_path
from fleet.cli.options import CentreOptions, at_centre
from fleet.cli.screen import CommandError, ExitCode, note
from fleet.client import Centre
from models import dsse, durable
from models import manifest as oci
from models.errors import ModelError, RefusedError
from models.layout import Layout
from models.limits import BLOB_LIMIT_BYTES, INDEX_LIMIT_BYTES, MANIFEST_LIMIT_BYTES
from models.values import Digest, digest_of, parse_digest


@at_centre
def export(
    centre: CentreOptions,
    device: Annotated[list[str], typer.Argument(help="Ids or names.")],
    *,
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="A new folder, or one exported before.")
    ],
) -> None:
    """Write what devices should be, and the bundles for it, to be carried to them.

    At the device: `skerry-agent apply FOLDER`. Where a rollout only waits for a device to be in
    reach, it asks it by this: the same waves, the same gates.
    """
    try:
        with centre.connect() as api:
            documents = [
                api.bytes_of("api", "v1", "devices", each, "export", method="POST")
                for each in device
            ]
            wanted = [_desired(each) for each in documents]
            stick = Layout.create(to)
            for bundle in {each.bundle for desired in wanted for each in desired.deployments}:
                note(f"{bundle.name}:{bundle.version}")
                _bring(api, stick, bundle)
            for desired, document in zip(wanted, documents, strict=True):
                path = to / document_path(desired.target)
                durable.make_directory(path.parent)
                durable.write(path, document)
    except (ModelError, WireError) as error:
        raise _not_exported(error.reason, str(error)) from error
    except OSError as error:
        why = f"{error.filename or to}: {error.strerror}"
        raise _not_exported("TO", why, ExitCode.NOT_ALLOWED) from error
    for desired in wanted:
        typer.echo(f"exported: {desired.target}: {desired.order}")
    note(f"at the device: skerry-agent apply {to}")


def _desired(envelope: bytes) -> v1.Desired:
    signed = dsse.parse(envelope, DOCUMENT_LIMIT_BYTES)
    return codec.decode(dsse.expect(signed, dsse.DESIRED_PAYLOAD_TYPE), v1.Desired)


def _bring(api: Centre, stick: Layout, bundle: v1.BundleRef) -> None:
    """Copy a bundle with its signatures; what is there already is not asked for again."""
    digest = parse_digest(bundle.digest)
    _manifest(api, stick, bundle, digest)
    index = api.bytes_of("v2", bundle.name, "referrers", digest, limit_bytes=INDEX_LIMIT_BYTES)
    for signature in oci.parse_index(index):
        if signature.artifact_type == oci.SIGNATURE_ARTIFACT_TYPE:
            _manifest(api, stick, bundle, signature.digest)


def _manifest(api: Centre, stick: Layout, bundle: v1.BundleRef, digest: Digest) -> None:
    raw = api.bytes_of("v2", bundle.name, "manifests", digest, limit_bytes=MANIFEST_LIMIT_BYTES)
    manifest = oci.parse(raw)
    for part in (manifest.config, *manifest.layers):
        if not stick.has_whole(part.digest):
            limit_bytes = min(part.size_bytes, BLOB_LIMIT_BYTES)
            content = api.bytes_of("v2", bundle.name, "blobs", part.digest, limit_bytes=limit_bytes)
            _keep(stick, content, part.digest)
    _keep(stick, raw, digest)
    named = manifest.artifact_type == oci.MODEL_ARTIFACT_TYPE
    stick.record(
        oci.descriptor_of(
            raw,
            oci.MANIFEST_TYPE,
            annotations={oci.REF_NAME: f"{bundle.name}:{bundle.version}"} if named else None,
            artifact_type=manifest.artifact_type,
        )
    )


def _keep(stick: Layout, content: bytes, digest: Digest) -> None:
    if digest_of(content) != digest:
        raise RefusedError("DIGEST_MISMATCH", f"the centre sent something else for {digest}")
    stick.add(content)


def _not_exported(reason: str, why: str, exit_code: ExitCode = ExitCode.BAD) -> CommandError:
    return CommandError(
        "nothing was exported",
        f"{reason}: {why}"[:250],
        "name a new folder with room for the bundles: --to FOLDER",
        exit_code,
    )
