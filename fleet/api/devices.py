"""`/api/v1/devices`: every device, and all that is known of one."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from agent.wire import v1
from fleet.api import health
from fleet.api.access import OPERATOR
from fleet.api.cursor import cursor, place
from fleet.api.glance import Glance
from fleet.api.health import DeploymentDrift
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.search import FIELD_WORDS, SELECTOR_WORDS, parse, place_of
from fleet.api.shown import NumbersShown, ServedNumbers, StateShown, shown_at
from fleet.health.states import Verdict, verdict
from fleet.health.sums import of_device, of_served
from fleet.known import Known, known
from fleet.selector import TEXT_LIMIT
from fleet.store import devices, drift, events
from fleet.store.errors import NotFoundError

PAGE_LIMIT = 1000
"""Devices of a page at the most, some 400 bytes each."""

_CURSOR_LIMIT = 1000
_EVENTS_SHOWN = 20


class DeviceSummary(BaseModel):
    """One device in a list."""

    id: str
    name: str
    site: str | None = Field(description="What people call its site.")
    labels: dict[str, str]
    state: StateShown
    heard_at: str | None = Field(description="When it last said anything, by the centre's clock.")
    online: bool | None = Field(description="Null: it was never heard of.")
    since: str | None = Field(description="Since when it is online or offline, by the centre.")
    agent_version: str | None
    joined_at: str
    deployments: list[v1.ReportedDeployment] = Field(description="As it last reported them.")
    serves: list[v1.BundleRef] = Field(description="As last heard.")
    numbers: NumbersShown | None = Field(description="Of its last period; null: none came yet.")


class DeviceList(BaseModel):
    """Devices by name, a page of them."""

    as_of: str
    devices: list[DeviceSummary]
    after: str | None = Field(description="Where the next page begins; null: this is the last.")


class DeviceDetail(DeviceSummary):
    """All that is known of one device."""

    as_of: str
    facts: dict[str, str] = Field(description="What it says of itself.")
    certificate_serial: str
    certificate_expires_at: str
    desired: v1.Desired | None = Field(description="What it should be; null: nothing is wanted.")
    reported: v1.Reported | None = Field(description="What it last said it is.")
    reported_at: str | None
    health: v1.Health | None
    health_at: str | None
    health_late: bool = Field(description="Whether it waited: it says how the device was then.")
    served: list[ServedNumbers] = Field(description="The last period of each deployment.")
    drift: list[DeploymentDrift] = Field(description="How far each is from its card's reference.")
    events: list[v1.Event] = Field(description="The latest transitions, the newest first.")


def routes(parts: Parts, glance: Glance) -> APIRouter:
    """Return the routes about devices."""
    router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

    @router.get("", operation_id="listDevices", responses=answers(401))
    def every(
        selector: Annotated[str, Query(description=SELECTOR_WORDS, max_length=TEXT_LIMIT)] = "",
        field: Annotated[str, Query(description=FIELD_WORDS, max_length=TEXT_LIMIT)] = "",
        after: Annotated[str, Query(max_length=_CURSOR_LIMIT)] = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = PAGE_LIMIT,
    ) -> DeviceList:
        """List the devices that match by name, a page at a time; by default all."""
        wanted = parse(selector, field)
        start = place(after, (str, str), of="after") if after else ("", "")
        seen = glance.look()
        found = wanted.among(seen.every, seen.at, limit=limit + 1, after=tuple(start))
        shown, more = found[:limit], len(found) > limit
        return DeviceList(
            as_of=shown_at(seen.at),
            devices=[summary(*each, seen.at) for each in shown],
            after=cursor(place_of(shown[-1])) if more else None,
        )

    @router.get("/{device}", operation_id="getDevice", responses=answers(401, 404, 409))
    def one(device: str) -> DeviceDetail:
        """Show one device, by its id or its name."""
        return detail(parts, device)

    @router.post(
        "/{device}/export",
        operation_id="exportDevice",
        response_class=Response,
        responses=answers(401, 404, 409),
    )
    def carry(device: str) -> Response:
        """Return the signed document of one device, for somebody who carries it there.

        Where a rollout only waits for the device to be in reach, it asks it by this document.
        """
        with parts.store.read() as connection:
            found = devices.named(connection, device)
        envelope = parts.executor.carry(found.id, actor=OPERATOR)
        if envelope is None:
            raise NotFoundError("desired document of", device)
        return Response(envelope, media_type="application/json")

    return router


def detail(parts: Parts, device: str) -> DeviceDetail:
    """Return all that is known of one device.

    Raises:
        NotFoundError: there is none with this id or name.
        AmbiguousError: several have the name.
    """
    with parts.store.read() as connection:
        found = known(connection, device)
        latest = events.of_device(connection, found.device.id, limit=_EVENTS_SHOWN)
        references = {
            each.digest: drift.references(connection, each.digest) for each in found.drifts
        }
    now = parts.clock()
    return DeviceDetail(
        **dict(summary(found, verdict(found.heard, now), now)),
        as_of=shown_at(now),
        facts=dict(found.device.facts),
        certificate_serial=found.device.serial,
        certificate_expires_at=found.device.certificate_expires_at,
        desired=found.wanted,
        reported=None if found.told is None else found.told.document,
        reported_at=None if found.told is None else found.told.received_at,
        health=None if found.feels is None else found.feels.document,
        health_at=None if found.feels is None else found.feels.received_at,
        health_late=found.feels is not None and found.feels.late,
        served=[ServedNumbers.of_served(*each) for each in of_served(found.heard)],
        drift=health.of_device(found.heard, references),
        events=list(latest),
    )


def summary(found: Known, judged: Verdict, now: datetime) -> DeviceSummary:
    """Return a device as it is listed."""
    heard = found.heard
    numbers = of_device(heard)
    return DeviceSummary(
        id=found.device.id,
        name=found.device.name,
        site=found.device.site_name,
        labels=dict(found.device.labels),
        state=StateShown.of(heard, judged, shown_at(now)),
        heard_at=heard.at,
        online=None if found.seen is None else found.seen.online,
        since=None if found.seen is None else found.seen.since,
        agent_version=None if found.seen is None else found.seen.agent_version,
        joined_at=found.device.joined_at,
        deployments=list(heard.deployments),
        serves=list(heard.serving()),
        numbers=None if numbers is None else NumbersShown.of(numbers),
    )
