"""`/api/v1/fleet/health`: the fleet's numbers and drift, added up over what is asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.api.cursor import cursor, place
from fleet.api.glance import Glance
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.shown import NumbersShown
from fleet.health.drift import Distance, Drift, Level, judge, unknown, worst
from fleet.health.grouped import By, Cell, Summed, group_verdict, grouped
from fleet.health.heard import Heard
from fleet.health.states import State
from fleet.rollouts.errors import PlanError
from fleet.selector import TEXT_LIMIT
from fleet.sentences import explain
from fleet.store import drift
from models.card import DriftReference

_PAGE = 100
_PAGE_LIMIT = 1000
_CURSOR_LIMIT = 2000
_KINDS = tuple(type(each) for each in astuple(Cell()))
_BY = f"{By.DEPLOYMENT},{By.BUNDLE},{By.CLASS}"
_NO_REQUEST = "No request in the last period."

References = Mapping[str, Sequence[DriftReference]]


class DistanceShown(BaseModel):
    """How far one number of the requests is from the card's reference."""

    subject: str = Field(description="As the card names it: input-0-mean, output-0-class.")
    level: Level
    psi: float | None = Field(description="Population stability index; null: too few requests.")
    chance: float | None = Field(
        description="Of a difference like this between two samples of the same (chi-square)."
    )
    requests: int
    least: int = Field(description="How many requests it takes to be judged.")
    strange: int = Field(description="Requests whose number was none: NaN, infinity.")

    @classmethod
    def of(cls, distance: Distance) -> Self:
        """Return a distance as it is shown."""
        return cls(
            subject=distance.subject,
            level=distance.level,
            psi=distance.psi,
            chance=distance.chance,
            requests=distance.requests,
            least=distance.least,
            strange=distance.strange,
        )


class BundleDrift(BaseModel):
    """What is known of the drift of one bundle, over some devices."""

    bundle: str
    version: str
    digest: str
    level: Level = Field(description="The worst of its subjects'.")
    subjects: list[DistanceShown]

    @classmethod
    def of(cls, bundle: v1.BundleRef, judged: Sequence[Distance]) -> Self:
        """Return what was judged of a bundle."""
        return cls(
            bundle=bundle.name,
            version=bundle.version,
            digest=bundle.digest,
            level=worst(judged),
            subjects=[DistanceShown.of(each) for each in judged],
        )


class DeploymentDrift(BundleDrift):
    """What one device told of one deployment's drift, over its last 24 hours that it told of."""

    deployment: str
    revision: int
    now: bool = Field(
        description="Whether it is of what serves, and was told within a day before the last word."
    )
    told_at: str | None = Field(description="Null: all had waited for a connection.")
    since: str = Field(description="When it reached its level.")
    unknown: list[str] = Field(description="Subjects that the card does not have, or otherwise.")


class GroupShown(NumbersShown):
    """The numbers of some devices in their last period, and their drift. Null: all of them."""

    deployment: str | None
    bundle: str | None
    version: str | None
    digest: str | None
    revision: int | None
    class_name: str | None = Field(description="Runtime and version, architecture, accelerator.")
    site: str | None = Field(description="Empty: of devices that have none.")
    state: State = Field(description="ok, degraded, or unknown: nothing was asked of it.")
    reason: str | None = Field(description="Why it is degraded: a code.")
    sentence: str
    next: str | None
    drift_devices: dict[Level, int] = Field(description="Devices by their own level.")
    drift: list[BundleDrift] = Field(description="Of all their requests together, by bundle.")


class FleetHealth(BaseModel):
    """The fleet's numbers, of the devices that are heard."""

    as_of: str
    by: list[By]
    total: GroupShown
    groups: list[GroupShown] = Field(description="In the order of their names.")
    after: str | None = Field(description="Where the next page begins; null: this is the last.")


def routes(parts: Parts, glance: Glance) -> APIRouter:
    """Return the route about the fleet's health."""
    router = APIRouter(prefix="/api/v1/fleet", tags=["fleet"])

    @router.get("/health", operation_id="getFleetHealth", responses=answers(401))
    def now(
        by: Annotated[
            str,
            Query(description=f"Any of {', '.join(By)}, with commas.", max_length=TEXT_LIMIT),
        ] = _BY,
        after: Annotated[str, Query(max_length=_CURSOR_LIMIT)] = "",
        limit: Annotated[int, Query(ge=1, le=_PAGE_LIMIT)] = _PAGE,
    ) -> FleetHealth:
        """Show requests, errors, latency and drift, added up over groups of devices."""
        wanted = _by(by)
        start = Cell(*place(after, _KINDS, of="after")) if after else None
        seen = glance.look()
        found = grouped(seen.cells, wanted)
        rest = [cell for cell in found if start is None or cell > start]
        shown, more = rest[:limit], len(rest) > limit
        everything = grouped(seen.cells).get(Cell(), Summed())
        # A bundle of a group is one of the fleet's.
        known = _references(parts, [bundle.digest for bundle in everything.counts])
        return FleetHealth(
            as_of=seen.shown.as_of,
            by=wanted,
            total=_shown(Cell(), everything, [], known),
            groups=[_shown(cell, found[cell], wanted, known) for cell in shown],
            after=cursor(astuple(shown[-1])) if more else None,
        )

    return router


def of_device(heard: Heard, references: References) -> list[DeploymentDrift]:
    """Return what a device told of the drift of its deployments."""
    of_now = {each.deployment for _, each in heard.drifting()}
    return [_told(heard, each, references, now=each.deployment in of_now) for each in heard.drift]


def _told(heard: Heard, told: Drift, references: References, *, now: bool) -> DeploymentDrift:
    bundle = heard.named(told.deployment, told.digest)
    return DeploymentDrift(
        **dict(BundleDrift.of(bundle, told.judged)),
        deployment=told.deployment,
        revision=told.revision,
        now=now,
        told_at=told.told_at,
        since=told.since,
        unknown=list(unknown(references.get(told.digest, ()), told.counts)),
    )


def _shown(cell: Cell, summed: Summed, by: Sequence[By], references: References) -> GroupShown:
    judged = {
        bundle: judge(references.get(bundle.digest, ()), counts)
        for bundle, counts in summed.counts.items()
    }
    verdict = group_verdict(
        summed.numbers, [each for distances in judged.values() for each in distances]
    )
    why = None if verdict.reason is None else explain(verdict.reason, verdict.parameters)
    silent = _NO_REQUEST if verdict.state is State.UNKNOWN else ""
    named = By.BUNDLE in by
    return GroupShown(
        **dict(NumbersShown.of(summed.numbers)),
        deployment=cell.deployment if By.DEPLOYMENT in by else None,
        bundle=cell.bundle if named else None,
        version=cell.version if named else None,
        digest=cell.digest if named else None,
        revision=cell.revision if By.REVISION in by else None,
        class_name=cell.class_name if By.CLASS in by else None,
        site=cell.site if By.SITE in by else None,
        state=verdict.state,
        reason=verdict.reason,
        sentence=silent if why is None else why.meaning,
        next=None if why is None else why.next_step,
        drift_devices={level: summed.drifting.get(level, 0) for level in Level},
        drift=[BundleDrift.of(bundle, distances) for bundle, distances in judged.items()],
    )


def _references(parts: Parts, digests: Sequence[str]) -> References:
    with parts.store.read() as connection:
        return {digest: drift.references(connection, digest) for digest in digests}


def _by(text: str) -> list[By]:
    """Return what groups are told apart by.

    Raises:
        PlanError: MALFORMED: one of them is nothing that there is.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    strange = [word for word in words if word not in set(By)]
    if strange:
        raise PlanError(Reason.MALFORMED, f"by: {strange[0][:80]!r} is none of {', '.join(By)}")
    return list(dict.fromkeys(map(By, words)))
