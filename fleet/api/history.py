"""`/api/v1/devices/{device}/events`, `…/changes`: what it told, and what people did about it."""

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from agent.wire import v1
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.store import audit, devices, events, presence

_PAGE = 100
_PAGE_LIMIT = 500  # of 8 KB at most


@dataclass(frozen=True, slots=True, kw_only=True)
class EventShown(v1.Event):
    """An event as the device told it, and how it came."""

    late: bool
    received_at: str

    @classmethod
    def of(cls, kept: events.KeptEvent) -> Self:
        """Return a kept event."""
        told = {each.name: getattr(kept.event, each.name) for each in fields(kept.event)}
        return cls(**told, late=kept.late, received_at=kept.received_at)


class EventPage(BaseModel):
    """Some events of one ledger of one device, in the order of their numbers."""

    device: str
    ledger: str | None = Field(description="Null: it has told nothing.")
    events: list[EventShown] = Field(
        description="`late`: no connection could be made before it was told."
    )
    more: bool = Field(description="Whether there are others on the side that was not asked for.")
    acked: dict[str, int] = Field(
        description="By ledger: the number up to which all are committed and acknowledged."
    )


class ChangeShown(BaseModel):
    """What somebody changed about a device, or asked of it."""

    number: int
    at: str = Field(description="By the centre's clock.")
    actor: str
    action: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ChangePage(BaseModel):
    """Some entries of the audit about one device, the newest first."""

    device: str
    changes: list[ChangeShown]
    before: int | None = Field(description="Where the next page begins; null: this is the last.")


def routes(parts: Parts) -> APIRouter:
    """Return the route about what devices told."""
    router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

    @router.get(
        "/{device}/events", operation_id="listDeviceEvents", responses=answers(401, 404, 409)
    )
    def told(
        device: str,
        *,
        ledger: Annotated[
            str | None, Query(description="By default the one it numbers in now.", max_length=256)
        ] = None,
        after: Annotated[int, Query(description="Those with higher numbers.", ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=_PAGE_LIMIT)] = _PAGE,
        newest: Annotated[
            bool, Query(description="The last ones, whatever `after` says; still in order.")
        ] = False,
        transitions: Annotated[bool, Query(description="Leave out health that waited.")] = False,
    ) -> EventPage:
        """List what a device told, in order: transitions, and health that had to wait."""
        with parts.store.read() as connection:
            found = devices.named(connection, device)
            marks = events.marks(connection, found.id)
            here = presence.held(connection, found.id)
            of_ledger = ledger or (here and here.ledger) or next(iter(marks), "")
            page = (
                events.newest(
                    connection, found.id, of_ledger, limit=limit + 1, transitions=transitions
                )
                if newest
                else events.after(
                    connection, found.id, of_ledger, after, limit=limit + 1, transitions=transitions
                )
            )
        shown = page[-limit:] if newest else page[:limit]
        return EventPage(
            device=found.id,
            ledger=of_ledger or None,
            events=[EventShown.of(each) for each in shown],
            more=len(page) > limit,
            acked=dict(marks),
        )

    @router.get(
        "/{device}/changes", operation_id="listDeviceChanges", responses=answers(401, 404, 409)
    )
    def changed(
        device: str,
        *,
        before: Annotated[
            int | None, Query(description="Where the page before ended.", ge=0, lt=1 << 63)
        ] = None,
        action: Annotated[
            str | None, Query(description="Only these, like `command.ask`.", max_length=64)
        ] = None,
        limit: Annotated[int, Query(ge=1, le=_PAGE_LIMIT)] = _PAGE,
    ) -> ChangePage:
        """List what people changed about a device and asked of it, the newest first."""
        with parts.store.read() as connection:
            found = devices.named(connection, device)
            entries = audit.latest(
                connection, limit=limit + 1, about=found.id, action=action, before=before
            )
        shown = [ChangeShown.model_validate(asdict(each)) for each in entries[:limit]]
        return ChangePage(
            device=found.id,
            changes=shown,
            before=shown[-1].number if len(entries) > limit else None,
        )

    return router
