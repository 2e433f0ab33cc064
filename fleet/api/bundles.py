"""`GET /api/v1/bundles`: what the registry holds. Publishing is `fleet.registry.publish`."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.store import bundles
from models import card_codec
from models.card import Card
from models.compatibility import (
    Compatibility,
    ContractChange,
    compatibility,
    contract_changes,
)


class BundleSummary(BaseModel):
    """One bundle in a list."""

    digest: str
    name: str
    version: str
    task: str
    formats: list[str] = Field(description="One a variant: float32, int8, …")
    size_bytes: int = Field(description="All variants together.")
    published_at: str


class BundleList(BaseModel):
    """All bundles."""

    bundles: list[BundleSummary]


class DifferenceShown(BaseModel):
    """What a bundle means to the clients of the one before it."""

    before: str = Field(description="As `name:version`.")
    after: str
    verdict: Compatibility = Field(
        description="`drop-in`: who asks the one before goes on as they are."
    )
    changes: list[ContractChange] = Field(description="What clients must know anew.")


class BundleDetail(BundleSummary):
    """One bundle with its card."""

    card: Card


def routes(parts: Parts) -> APIRouter:
    """Return the routes about bundles."""
    router = APIRouter(prefix="/api/v1/bundles", tags=["bundles"])

    @router.get("", operation_id="listBundles", responses=answers(401))
    def every() -> BundleList:
        """List all bundles by name, the newest of each first."""
        return listed(parts)

    @router.get("/{bundle}", operation_id="getBundle", responses=answers(401, 404, 409))
    def one(bundle: str) -> BundleDetail:
        """Show one bundle, by `name:version`, digest, or a name that has one version."""
        return shown(parts, bundle)

    @router.get("/{bundle}/diff", operation_id="diffBundles", responses=answers(401, 404, 409))
    def diff(
        bundle: str,
        before: Annotated[str, Query(description="The one before it.", max_length=256)],
    ) -> DifferenceShown:
        """Say whether clients of the one before can go on with this one, and if not, why."""
        return difference(shown(parts, before).card, shown(parts, bundle).card)

    return router


def difference(before: Card, after: Card) -> DifferenceShown:
    """Return what changes for clients from one card to another."""
    changes = contract_changes(before, after)
    return DifferenceShown(
        before=str(before.ref),
        after=str(after.ref),
        verdict=compatibility(changes),
        changes=list(changes),
    )


def listed(parts: Parts) -> BundleList:
    """Return all bundles by name, the newest of each first."""
    with parts.store.read() as connection:
        found = bundles.every(connection)
    return BundleList(bundles=[_summary(each, card_codec.parse(each.card)) for each in found])


def shown(parts: Parts, bundle: str) -> BundleDetail:
    """Return one bundle with its card.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: only a name was given, and it has several versions.
    """
    with parts.store.read() as connection:
        found = bundles.named(connection, bundle)
    card = card_codec.parse(found.card)
    return BundleDetail(**dict(_summary(found, card)), card=card)


def _summary(bundle: bundles.PublishedBundle, card: Card) -> BundleSummary:
    return BundleSummary(
        digest=bundle.digest,
        name=bundle.name,
        version=bundle.version,
        task=card.task,
        formats=[variant.format for variant in card.variants],
        size_bytes=sum(variant.size_bytes for variant in card.variants),
        published_at=bundle.published_at,
    )
