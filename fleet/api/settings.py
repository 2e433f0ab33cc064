"""`/api/v1/devices/{device}/settings`: how a device itself runs."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from agent.wire import v1
from agent.wire.limits import WINDOWS_LIMIT
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.wish import Wish
from fleet.settings import SettingsChange


class SettingsWish(Wish):
    """What should be different from now on. What is left out stays as it is."""

    health_period_s: float | None = Field(
        None,
        ge=1,
        le=86400,
        description="Seconds from one health document to the next. Without a connection each of"
        " them is written to the device's disk: a second is hard on an SD card.",
    )
    reconnect_cap_s: float | None = Field(
        None, gt=0, le=3600, description="The longest wait before another try to connect."
    )
    download_rate_bytes_per_s: int | None = Field(
        None,
        ge=0,
        lt=1 << 53,
        description="What may come from the registry in a second, 1024 at least; 0: any.",
    )
    download_windows: list[v1.Window] | None = Field(
        None,
        max_length=WINDOWS_LIMIT,
        description="When it may download, by the clock on a wall in its time zone; none: always.",
    )
    maintenance_windows: list[v1.Window] | None = Field(
        None,
        max_length=WINDOWS_LIMIT,
        description="When what it serves may be changed, by the same clock; none: always.",
    )
    time_zone: str | None = Field(
        None, max_length=64, description="An IANA name, like Europe/Berlin."
    )
    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class SettingsWritten(BaseModel):
    """What the device is asked to run with."""

    device: str
    order: v1.Order = Field(description="Of the document that says it.")
    settings: v1.DeviceSettings


def routes(parts: Parts, operator: object) -> APIRouter:
    """Return the route about devices' settings."""
    router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

    @router.post(
        "/{device}/settings",
        operation_id="setDevice",
        responses=answers(401, 404, 409, body=True),
    )
    def change(
        device: str, wish: SettingsWish, actor: Annotated[str, Depends(operator)]
    ) -> SettingsWritten:
        """Change how a device runs; what it serves stays. It is asked now, or when it is back."""
        wanted = SettingsChange(
            health_period_s=wish.health_period_s,
            reconnect_cap_s=wish.reconnect_cap_s,
            download_rate_bytes_per_s=wish.download_rate_bytes_per_s,
            download_windows=_windows(wish.download_windows),
            maintenance_windows=_windows(wish.maintenance_windows),
            time_zone=wish.time_zone,
        )
        document = parts.tuner.change(device, wanted, actor=actor, reason=wish.reason)
        return SettingsWritten(
            device=document.target, order=document.order, settings=document.settings
        )

    return router


def _windows(wish: list[v1.Window] | None) -> tuple[v1.Window, ...] | None:
    return None if wish is None else tuple(wish)
