"""`/api/v1/devices`: every device, and all that is known of one."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from agent.wire import codec, v1
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.store import desired, devices, events, health, presence, reported

_EVENTS_SHOWN = 20


class DeviceSummary(BaseModel):
    """One device in a list."""

    id: str
    name: str
    site: str | None = Field(description="What people call its site.")
    labels: dict[str, str]
    online: bool | None = Field(description="Null: it was never heard of.")
    since: str | None = Field(description="Since when it is online or offline, by the centre.")
    agent_version: str | None
    joined_at: str
    deployments: list[v1.ReportedDeployment] = Field(description="As it last reported them.")


class DeviceList(BaseModel):
    """All devices."""

    devices: list[DeviceSummary]


class DeviceDetail(DeviceSummary):
    """All that is known of one device."""

    facts: dict[str, str] = Field(description="What it says of itself.")
    certificate_serial: str
    certificate_expires_at: str
    desired: v1.Desired | None = Field(description="What it should be; null: nothing is wanted.")
    reported: v1.Reported | None = Field(description="What it last said it is.")
    reported_at: str | None
    health: v1.Health | None
    health_at: str | None
    events: list[v1.Event] = Field(description="The latest transitions, the newest first.")


def routes(parts: Parts) -> APIRouter:
    """Return the routes about devices."""
    router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

    @router.get("", operation_id="listDevices", responses=answers(401))
    def every() -> DeviceList:
        """List all devices by name."""
        with parts.store.read() as connection:
            here = {seen.device: seen for seen in presence.every(connection)}
            told = {report.document.device: report for report in reported.every(connection)}
            found = devices.every(connection)
        return DeviceList(
            devices=[_summary(device, here.get(device.id), told.get(device.id)) for device in found]
        )

    @router.get("/{device}", operation_id="getDevice", responses=answers(401, 404, 409))
    def one(device: str) -> DeviceDetail:
        """Show one device, by its id or its name."""
        with parts.store.read() as connection:
            found = devices.named(connection, device)
            seen = presence.held(connection, found.id)
            told = reported.held(connection, found.id)
            wanted = desired.held(connection, found.id)
            feels = health.held(connection, found.id)
            latest = events.of_device(connection, found.id, limit=_EVENTS_SHOWN)
        return DeviceDetail(
            **dict(_summary(found, seen, told)),
            facts=dict(found.facts),
            certificate_serial=found.serial,
            certificate_expires_at=found.certificate_expires_at,
            desired=None if wanted is None else codec.decode(wanted.payload, v1.Desired),
            reported=None if told is None else told.document,
            reported_at=None if told is None else told.received_at,
            health=None if feels is None else feels.document,
            health_at=None if feels is None else feels.received_at,
            events=list(latest),
        )

    return router


def _summary(
    device: devices.Device, seen: presence.Presence | None, told: reported.HeldReport | None
) -> DeviceSummary:
    return DeviceSummary(
        id=device.id,
        name=device.name,
        site=device.site_name,
        labels=dict(device.labels),
        online=None if seen is None else seen.online,
        since=None if seen is None else seen.since,
        agent_version=None if seen is None else seen.agent_version,
        joined_at=device.joined_at,
        deployments=[] if told is None else list(told.document.deployments),
    )
