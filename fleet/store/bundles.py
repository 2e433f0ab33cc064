"""Bundles the registry holds: digest, name, version, and the card as it was published."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, insert, select

from fleet.store.errors import AmbiguousError, ConflictError, NotFoundError
from fleet.store.tables import bundles


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBundle:
    """A bundle that is in the registry. `card` is its config blob, byte for byte."""

    digest: str
    name: str
    version: str
    card: bytes
    published_at: str


def add(connection: Connection, bundle: PublishedBundle) -> bool:
    """Add a bundle; False when this very one is there already.

    Raises:
        ConflictError: another bundle has its name and version: a version is published once.
    """
    held = connection.execute(
        select(bundles.c.digest).where(
            bundles.c.name == bundle.name, bundles.c.version == bundle.version
        )
    ).scalar_one_or_none()
    if held == bundle.digest:
        return False
    if held is not None:
        raise ConflictError(
            f"{bundle.name}:{bundle.version} is published already with digest {held}"
        )
    connection.execute(
        insert(bundles).values(
            digest=bundle.digest,
            name=bundle.name,
            version=bundle.version,
            card=bundle.card,
            published_at=bundle.published_at,
        )
    )
    return True


def every(connection: Connection) -> Sequence[PublishedBundle]:
    """Return all bundles by name, the newest of each first."""
    query = select(bundles).order_by(bundles.c.name, bundles.c.published_at.desc())
    return [_bundle(row) for row in connection.execute(query)]


def named(connection: Connection, name: str) -> PublishedBundle:
    """Return the bundle written as `name:version` or as its digest.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: only the name was given, and it has several versions.
    """
    query = select(bundles)
    if name.startswith("sha256:"):
        query = query.where(bundles.c.digest == name)
    else:
        model, colon, version = name.partition(":")
        query = query.where(bundles.c.name == model)
        if colon:
            query = query.where(bundles.c.version == version)
    rows = connection.execute(query).all()
    if not rows:
        raise NotFoundError("bundle", name)
    if len(rows) > 1:
        raise AmbiguousError("bundle", name, tuple(f"{row.name}:{row.version}" for row in rows))
    return _bundle(rows[0])


def _bundle(row: Row[*tuple[object, ...]]) -> PublishedBundle:
    return PublishedBundle(
        digest=row.digest,
        name=row.name,
        version=row.version,
        card=row.card,
        published_at=row.published_at,
    )
