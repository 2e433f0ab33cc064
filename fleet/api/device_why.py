"""`/api/v1/devices/{device}/why`: why a device is as it is, and where it is in each rollout.

Nothing is decided in here: what was found out elsewhere is put together.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.alerts.cause import Scope
from fleet.api import alerts, health, rollouts
from fleet.api.alerts import AlertShown
from fleet.api.health import DeploymentDrift
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.rollout_shown import Because, RolloutOfTarget, told
from fleet.api.shown import StateShown, shown_at
from fleet.health.drift import Level
from fleet.health.heard import Heard, words
from fleet.health.standing import Standing, standings
from fleet.health.states import Finding, State, findings, verdict
from fleet.known import Known, known
from fleet.rollouts.progress import Cause
from fleet.store import drift, events

_EVENTS_READ = 20
_KEPT = 64
_LONG_S = 1.0
_REST = 4
_FAR = frozenset({Level.ALARM, Level.WATCH})


class Trouble(Because):
    """Something else that is wrong with a device, as it was last heard."""

    state: State
    subject: str = Field(description="Which bundle or deployment it is about; may be empty.")
    since: str

    @classmethod
    def of(cls, state: State, finding: Finding) -> Self:
        """Return what was found, in words."""
        because = told(Cause(code=finding.reason, parameters=finding.parameters))
        return cls(**dict(because), state=state, subject=finding.subject, since=finding.since)


class StandingShown(BaseModel):
    """One deployment of a device: what is wanted, what serves, and why these differ."""

    name: str
    wanted: v1.BundleRef | None = Field(description="Null: nothing under this name.")
    revision: int | None = Field(description="The one that is wanted.")
    serves: v1.BundleRef | None = Field(description="As last heard; null: nothing does.")
    phase: str | None = Field(description="Its last word; null: it has said nothing of it.")
    reached: int | None = Field(description="The revision that this word is about.")
    as_wanted: bool
    because: list[Because] = Field(description="Why not; empty where it is as wanted.")

    @classmethod
    def of(cls, standing: Standing, quarantined: Mapping[str, str]) -> Self:
        """Return how a deployment stands; `quarantined`: why, by the digest of a bundle."""
        wanted, said, found = standing.wanted, standing.told, standing.finding
        causes = [] if found is None else [Cause(code=found.reason, parameters=found.parameters)]
        cause = None if wanted is None else quarantined.get(wanted.bundle.digest)
        if cause is not None and found is not None and found.reason != Reason.QUARANTINED:
            causes.append(Cause(code=Reason.QUARANTINED, parameters={"cause": cause}))
        return cls(
            name=standing.name,
            wanted=None if wanted is None else wanted.bundle,
            revision=None if wanted is None else wanted.revision,
            serves=standing.serves,
            phase=None if said is None else said.phase,
            reached=None if said is None else said.revision,
            as_wanted=found is None,
            because=[told(each) for each in causes],
        )


class DeviceWhy(BaseModel):
    """Why a device is as it is, and why it is where it is in each rollout that is open."""

    id: str
    name: str
    site: str | None
    as_of: str
    heard_at: str | None
    state: StateShown
    also: list[Trouble] = Field(description="What else is wrong with it; the worst first.")
    deployments: list[StandingShown]
    rollouts: list[RolloutOfTarget] = Field(description="The newest first.")
    more_rollouts: bool = Field(description="Whether older ones that are open have it, too.")
    alerts: list[AlertShown] = Field(description="Those open that it is part of.")
    drift: list[DeploymentDrift] = Field(description="Of what serves, where it drifts.")
    last: v1.Event | None = Field(
        description="Its last transition: of a phase, if there was one lately."
    )


_PATIENCE_S = 5.0
"""How long one who asks waits for others: all threads that wait would keep out everybody."""


class Whys:
    """Keeps the last answers that took long: pages look again whenever something moves.

    An open rollout to many devices takes seconds to read. Its answer is kept for some times as
    long as it took, and one is made at a time; what is quick is made anew for everybody.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, DeviceWhy]] = {}

    def of(self, device: str) -> DeviceWhy:
        """Return why a device is as it is. Blocking.

        Raises:
            NotFoundError: there is none with this id or name.
            AmbiguousError: several have the name.
        """
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise HTTPException(503, "others ask of a large rollout at this moment")
        try:
            began = time.perf_counter()  # in a thread there is no loop whose time it could be
            self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > began}
            if device in self._kept:
                return self._kept[device][1]
            made = explained(self._parts, device)
            ended = time.perf_counter()
            if ended - began > _LONG_S and len(self._kept) < _KEPT:
                self._kept[device] = ended + _REST * (ended - began), made
            return made
        finally:
            self._lock.release()


def routes(whys: Whys) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

    @router.get("/{device}/why", operation_id="whyDevice", responses=answers(401, 404, 409))
    def because(device: str) -> DeviceWhy:
        """Say why a device is as it is, what keeps it from what is wanted, and what it waits for.

        Of the rollouts that are open the newest ten that have it are told.
        """
        return whys.of(device)

    return router


def explained(parts: Parts, device: str) -> DeviceWhy:
    """Return why a device is as it is.

    Raises:
        NotFoundError: there is none with this id or name.
        AmbiguousError: several have the name.
    """
    with parts.store.read() as connection:
        found = known(connection, device)
        now = parts.clock()
        moved, more = rollouts.of_target(parts, connection, found.device)
        latest = events.of_device(connection, found.device.id, limit=_EVENTS_READ)
        references = {
            each.digest: drift.references(connection, each.digest) for each in found.drifts
        }
    heard = found.heard
    judged = verdict(heard, now)
    opened = alerts.listed(parts, limit=alerts.PAGE_LIMIT).alerts
    told_drift = health.of_device(heard, references)
    return DeviceWhy(
        id=found.device.id,
        name=found.device.name,
        site=found.device.site_name,
        as_of=shown_at(now),
        heard_at=heard.at,
        state=StateShown.of(heard, judged, shown_at(now)),
        also=[
            Trouble.of(state, each)
            for state, each in findings(heard, now)
            if each != judged.finding
        ],
        deployments=_deployments(found, now),
        rollouts=moved,
        more_rollouts=more,
        alerts=of_device(opened, heard, judged.finding.reason),
        drift=[each for each in told_drift if each.now and each.level in _FAR],
        last=next((each for each in latest if each.kind is v1.EventKind.PHASE), None)
        or next(iter(latest), None),
    )


def _deployments(found: Known, now: datetime) -> list[StandingShown]:
    reported = None if found.told is None else found.told.document
    kept = () if reported is None else reported.quarantined
    quarantined = {each.digest: each.reason for each in kept}
    return [StandingShown.of(each, quarantined) for each in standings(found.heard, now)]


def of_device(opened: Iterable[AlertShown], heard: Heard, reason: str) -> list[AlertShown]:
    """Return the open alerts that a device shows: that name it, or its reason at its place.

    An alert names the first of its devices alone.
    """
    target = heard.target
    bundles = {words(each.active.bundle) for each in heard.deployments if each.active}
    if target.desired is not None:
        bundles |= {words(each.bundle) for each in target.desired.deployments}
    here = {
        Scope.FLEET: {""},
        Scope.SITE: {target.site or ""},
        Scope.BUNDLE: bundles,
        Scope.REASON: {reason},
    }
    return [
        each
        for each in alerts.ordered(opened)
        if target.name in each.names
        or (each.reason == reason and each.subject in here.get(each.scope, ()))
    ]
